"""What the shape of an image says."""

from collections.abc import Sequence

# Below that it is a board rather than a photograph or a screen.
_LEAST_SIDE = 8

# Gray, a stack of two, colours, colours and opacity or a stack of four.
_MOST_CHANNELS = 4


def channels_come_first(shape: Sequence[int]) -> bool:
  """Whether an image of this shape is [channels, height, width].

  No shape can tell for sure. One axis that is small beside two long ones is
  that of the channels, where it is no larger than pictures have channels, or
  the other two are a square; all else is [height, width, channels]. So (4, 84,
  84) and (12, 84, 84) have their channels first, and boards as (7, 7, 20) or
  (2, 6, 13) have them last.
  """
  channels, height, width = shape
  side = min(height, width)
  return channels < side >= _LEAST_SIDE and (
    channels <= _MOST_CHANNELS or height == width
  )
