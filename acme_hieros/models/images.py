"""What the shape of an image says."""

from collections.abc import Sequence
import math

# Below that it is a board rather than a photograph or a screen.
LEAST_SIDE = 8

# A matrix with longer rows or columns, by this factor, is a list of vectors;
# what is shorter by it than both sides of an image is no side.
_LONGEST = 4

# Gray, a stack of two, colours, colours and opacity or a stack of four.
_MOST_CHANNELS = 4


def channels_come_first(shape: Sequence[int]) -> bool:
  """Whether an image of this shape is [channels, height, width].

  No shape can tell for sure. What goes before a square is the channels, where
  pictures have fewer channels than that has sides. One axis that is small
  beside two long ones is that of the channels, where it is no larger than
  pictures have channels, or the other two are far longer; all else is [height,
  width, channels]. So (4, 84, 84), (12, 210, 160), (3, 7, 7) and (119, 8, 8)
  have their channels first, and boards as (7, 7, 20) or (2, 6, 13) have them
  last.
  """
  channels, height, width = shape
  side = min(height, width)
  if height == width > _MOST_CHANNELS:
    return channels != side
  return channels < side >= LEAST_SIDE and (
    channels <= _MOST_CHANNELS or _LONGEST * channels <= side
  )


def may_be_gray(shape: Sequence[int]) -> bool:
  """Whether a matrix of this shape can be an image without channels."""
  return LEAST_SIDE <= min(shape) and max(shape) <= _LONGEST * min(shape)


def axes(shape: Sequence[int]) -> tuple[int, int]:
  """The axes of height and width of an image with two to four.

  Of four they are the neighbours whose shorter one is longest; where that
  leaves a choice, those in the middle, of a stack of images with their channels
  last, and then those at the end.
  """
  if len(shape) == 2:
    return 0, 1
  if len(shape) == 3:
    return (1, 2) if channels_come_first(shape) else (0, 1)
  first = max((1, 2, 0), key=lambda i: min(shape[i : i + 2]))
  return first, first + 1


def laid_out(shape: Sequence[int]) -> tuple[int, int, int]:
  """[height, width, channels] of an image; frames of a stack are channels."""
  height, width = (shape[axis] for axis in axes(shape))
  return height, width, math.prod(shape) // (height * width)
