"""Resizing images by area interpolation, exactly."""

import math

import numpy as np


class AreaResize:
  """Resizes uint8 images, [height, width, channels].

  A pixel of the result is the mean of the area that it covers, to which an
  input pixel adds in proportion to the part of it that is covered. All of it
  is integer arithmetic: the mean is exact, halves are rounded up, and every
  machine gives the same image. (It is also plain NumPy without matrix products,
  whose threads would compete with those of the learner.)
  """

  def __init__(self, source: tuple[int, int], target: tuple[int, int]):
    """From so many rows and columns to so many."""
    rows, row_weights, row_total = _taps(source[0], target[0])
    columns, column_weights, column_total = _taps(source[1], target[1])
    # One tap of every pixel at a time: [(which input pixels, weights), ...].
    self._rows = list(zip(rows, row_weights[..., None, None], strict=True))
    self._columns = list(zip(columns, column_weights[..., None], strict=True))
    self._total = row_total * column_total

  def __call__(self, image: np.ndarray) -> np.ndarray:
    image = sum(weight * image[index] for index, weight in self._rows)
    image = sum(weight * image[:, index] for index, weight in self._columns)
    image = (2 * image + self._total) // (2 * self._total)
    return image.astype(np.uint8, order='C')


def _taps(source: int, target: int) -> tuple[np.ndarray, np.ndarray, int]:
  """The input pixels under each pixel of the result, along one axis.

  Args:
    source: The number of input pixels.
    target: The number of pixels of the result.

  Returns:
    Input pixels and the lengths of them that are covered, both int32
    [taps, target], and the sum of a pixel's lengths.
  """
  # In this unit of length the pixels of both images have integer lengths, and
  # those of the input come out as long as the result has pixels.
  unit = math.gcd(source, target)
  input_length, length = target // unit, source // unit
  start = np.arange(target, dtype=np.int32) * length
  stop = start + length
  first = start // input_length
  taps = int((-(-stop // input_length) - first).max())
  pixels = first + np.arange(taps, dtype=np.int32)[:, None]
  overlap = np.minimum(stop, (pixels + 1) * input_length) - np.maximum(
    start, pixels * input_length
  )
  # Taps beyond the last covered pixel weigh nothing, but must exist.
  return np.minimum(pixels, source - 1), np.maximum(overlap, 0), length
