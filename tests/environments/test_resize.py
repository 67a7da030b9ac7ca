"""Area interpolation is exact."""

import math

import numpy as np
from PIL import Image
import pytest

from acme_hieros.environments import resize

_SHAPES = [
  ((210, 160), (64, 64)),
  ((250, 160), (64, 64)),
  ((214, 160), (64, 64)),
  ((210, 160), (84, 84)),
  ((7, 5), (3, 3)),
  ((3, 4), (9, 9)),
  ((16, 16), (16, 16)),
  ((40, 96), (40, 64)),
  ((9, 4), (5, 4)),
]


def brute_force(image: np.ndarray, rows: int, columns: int) -> np.ndarray:
  """Splits pixels until they tile the result's, then averages; halves go up."""
  height, width, channels = image.shape
  split_rows = math.lcm(height, rows) // height
  split_columns = math.lcm(width, columns) // width
  image = image.astype(np.int64).repeat(split_rows, 0).repeat(split_columns, 1)
  tile = (image.shape[0] // rows, image.shape[1] // columns)
  total = image.reshape(rows, tile[0], columns, tile[1], channels).sum((1, 3))
  return np.floor(total / (tile[0] * tile[1]) + 0.5).astype(np.uint8)


def _random_image(height, width):
  rng = np.random.default_rng(height * width)
  return rng.integers(256, size=(height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize('source,target', _SHAPES)
def test_equals_brute_force(source, target):
  image = _random_image(*source)
  resized = resize.AreaResize(source, target)(image)
  assert resized.dtype == np.uint8
  np.testing.assert_array_equal(resized, brute_force(image, *target))


@pytest.mark.parametrize('height,width,size', [(192, 128, 64), (210, 140, 70)])
def test_is_pillows_box_filter_where_that_averages_areas(height, width, size):
  # Pillow counts a pixel wholly or not at all, so the ratios have to be whole;
  # it rounds to 8 bits after each of two passes, so it is off by 1 at most.
  image = _random_image(height, width)
  pillow = Image.fromarray(image).resize((size, size), Image.Resampling.BOX)
  resized = resize.AreaResize((height, width), (size, size))(image)
  difference = np.abs(np.asarray(pillow).astype(int) - resized)
  assert difference.max() <= 1
  assert difference.mean() < 0.25


def test_white_stays_white():
  white = np.full((210, 160, 3), 255, np.uint8)
  assert (resize.AreaResize((210, 160), (64, 64))(white) == 255).all()


def test_same_size_changes_nothing():
  image = _random_image(16, 16)
  np.testing.assert_array_equal(
    resize.AreaResize((16, 16), (16, 16))(image), image
  )


def test_halves_are_rounded_up():
  image = np.array([[0, 1], [1, 0]], np.uint8)[..., None]
  assert resize.AreaResize((2, 2), (1, 1))(image).tolist() == [[[1]]]
