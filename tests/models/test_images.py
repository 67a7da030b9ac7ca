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
  (12, 210, 160),
  (6, 48, 64),
  (3, 7, 7),  # A grid world's, turned.
  (119, 8, 8),  # A chess board's planes.
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
  (10, 10, 10),
  (10, 4, 4),
]


@pytest.mark.parametrize('shape', CHANNELS_FIRST + CHANNELS_LAST, ids=str)
def test_channels_are_where_the_shape_has_them(shape):
  first = images.channels_come_first(shape)
  assert first == (shape in CHANNELS_FIRST)


@pytest.mark.parametrize(
  'shape,axes,laid_out',
  [
    # Gray.
    ((84, 84), (0, 1), (84, 84, 1)),
    ((4, 84, 84), (1, 2), (84, 84, 4)),
    ((84, 84, 3), (0, 1), (84, 84, 3)),
    # Stacks: channels last, first, and frames last.
    ((4, 96, 64, 3), (1, 2), (96, 64, 12)),
    ((4, 84, 84, 1), (1, 2), (84, 84, 4)),
    ((4, 3, 64, 64), (2, 3), (64, 64, 12)),
    ((64, 64, 3, 4), (0, 1), (64, 64, 12)),
    ((16, 10, 10, 4), (1, 2), (10, 10, 64)),
    ((3, 7, 7, 3), (1, 2), (7, 7, 9)),
  ],
)
def test_height_and_width_are_found_in_other_forms(shape, axes, laid_out):
  assert images.axes(shape) == axes
  assert images.laid_out(shape) == laid_out


@pytest.mark.parametrize(
  'shape,may_be',
  [
    ((84, 84), True),
    ((210, 160), True),
    ((8, 8), True),
    ((21, 79), True),
    ((7, 84), False),
    ((12, 84), False),
    ((4, 128), False),
  ],
)
def test_which_matrices_may_be_gray_images(shape, may_be):
  assert images.may_be_gray(shape) == may_be


@pytest.mark.parametrize('shape', [(84, 84), (4, 84, 84, 3)], ids=str)
def test_no_image_is_silently_a_vector(shape):
  with pytest.raises(ValueError, match='checked makes it'):
    spaces.observation_spaces(specs.Array(shape, np.uint8))


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
