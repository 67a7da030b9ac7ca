"""Where the channels of an image are, by its shape."""

from dm_env import specs
import numpy as np
import pytest

from acme_hieros.models import images, spaces

CHANNELS_FIRST = [
  (4, 84, 84),  # Four gray frames.
  (1, 84, 84),
  (3, 64, 64),
  (3, 210, 160),
  (4, 96, 128),
  (12, 84, 84),  # Four frames of colours.
  (16, 64, 64),
]
CHANNELS_LAST = [
  (84, 84, 4),
  (84, 84, 1),
  (64, 64, 3),
  (210, 160, 3),
  (64, 64, 12),
  (16, 16, 10),  # MinAtar.
  (16, 24, 1),
  (4, 4, 3),
  (1, 1, 3),
  (7, 7, 3),  # Boards of grid worlds, also with more kinds than cells in a row.
  (7, 7, 20),
  (2, 6, 13),
  (5, 9, 21),
  (8, 8, 119),
]


@pytest.mark.parametrize('shape', CHANNELS_FIRST + CHANNELS_LAST, ids=str)
def test_channels_are_where_the_shape_has_them(shape):
  first = images.channels_come_first(shape)
  assert first == (shape in CHANNELS_FIRST)


@pytest.mark.parametrize('shape', CHANNELS_FIRST, ids=str)
def test_networks_refuse_such_images_and_say_what_to_do(shape):
  with pytest.raises(ValueError) as error:
    spaces.observation_spaces({'eye': specs.Array(shape, np.uint8)})
  channels, height, width = shape
  for word in ("'eye'", str(shape), str((height, width, channels)), 'checked'):
    assert word in str(error.value)


def test_vectors_of_vectors_are_no_images():
  spec = specs.Array((12, 84), np.uint8)
  assert spaces.observation_spaces(spec)['observation'].shape == (12, 84)
