"""Choices, of whatever structure, as one vector."""

from typing import Any

from dm_env import specs
import numpy as np
import tree


class OneHots:
  """Makes a vector, float32 [n], of a value with a spec, nested or not.

  Each whole number is one-hot among those that its bounds allow; floats are as
  they are. A mapping's parts come in the order of their keys.

  spec: of the vectors.
  """

  def __init__(self, spec: Any):
    """Creates it; ValueError for whole numbers without bounds."""
    self._parts = [_part(leaf) for leaf in tree.flatten(spec)]
    size = sum(size for size, _ in self._parts)
    if any(offsets is None for _, offsets in self._parts):
      self.spec = specs.Array((size,), np.float32)
    else:
      self.spec = specs.BoundedArray((size,), np.float32, 0, 1)

  def __call__(self, value: Any) -> np.ndarray:
    vector = np.zeros(self.spec.shape, np.float32)
    start = 0
    for (size, offsets), leaf in zip(
      self._parts, tree.flatten(value), strict=True
    ):
      if offsets is None:
        vector[start : start + size] = np.ravel(leaf)
      else:
        vector[start + offsets + np.ravel(leaf)] = 1
      start += size
    return vector


def _part(spec: specs.Array) -> tuple[int, np.ndarray | None]:
  """Its length, and where in it the zero of each number is; None of floats."""
  if np.issubdtype(spec.dtype, np.floating):
    return int(np.prod(spec.shape)), None
  if isinstance(spec, specs.BoundedArray):
    bounds = spec.minimum, spec.maximum
  elif np.dtype(spec.dtype) == bool:
    bounds = 0, 1
  else:
    raise ValueError(f'{spec} will not do: whole numbers have to have bounds.')
  low, high = (
    np.broadcast_to(bound, spec.shape).astype(np.int64).ravel()
    for bound in bounds
  )
  ends = np.cumsum(high - low + 1)
  return int(ends[-1]), ends - high - 1
