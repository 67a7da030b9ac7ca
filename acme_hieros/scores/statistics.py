"""What the returns of episodes come to."""

from collections.abc import Sequence
import math

import numpy as np

# The mean return is over so many of the last episodes.
RECENT = 100


def standard_error(returns: Sequence[float]) -> float | None:
  """Of the mean of returns; None for a single one."""
  if len(returns) < 2:
    return None
  return float(np.std(returns, ddof=1)) / math.sqrt(len(returns))
