"""Whether what a run will store fits into memory, told before it is full."""

from collections.abc import Callable
import contextlib
import pathlib

import numpy as np
import psutil

from acme_hieros import process

# Steps between two looks, and looks before anything is said.
_PERIOD = 500
_LEAST_LOOKS = 20

# Of a container, in both versions of cgroups: its limit, what it has, and what
# it has of files, in its statistics.
_LIMITS = (
  ('memory.max', 'memory.current', 'inactive_file'),
  (
    'memory.limit_in_bytes',
    'memory.usage_in_bytes',
    'total_inactive_file',
  ),
)

_GIB = 2**30


class Forecast:
  """Foretells from its growth how much memory the replay of a run will need."""

  def __init__(
    self,
    most_steps: int,
    used: Callable[[], int],
    free: Callable[[], int],
  ):
    """Nothing is known at first.

    Args:
      most_steps: that replay will hold, if the run goes on to its end.
      used: bytes that those processes have that hold it.
      free: bytes that are left to them.
    """
    self._most_steps = most_steps
    self._used, self._free = used, free
    self._steps: list[int] = []
    self._bytes: list[int] = []

  def look(self, steps: int) -> str | None:
    """Looks now and then, as long as replay grows.

    Args:
      steps: that are stored.

    Returns:
      A sentence, once, if memory will be full before replay is.
    """
    if steps >= self._most_steps or (
      self._steps and steps < self._steps[-1] + _PERIOD
    ):
      return None
    self._steps.append(steps)
    self._bytes.append(self._used())
    if len(self._steps) < _LEAST_LOOKS:
      return None
    # The first half has most of what comes once, as compiled programs, and what
    # comes once later is in one of the last two quarters.
    quarter = len(self._steps) // 4
    growth = min(
      np.polyfit(self._steps[part], self._bytes[part], 1)[0]
      for part in (slice(-2 * quarter, -quarter), slice(-quarter, None))
    )
    free = self._free()
    if growth * (self._most_steps - steps) <= free:
      return None
    self._most_steps = 0  # That was all.
    fitting = steps + int(free / growth)
    return (
      f'Replay grows by {growth / 1024:.1f} KiB a step, and {free / _GIB:.1f} '
      f'GiB of memory are free: it is full after {fitting:,} steps, and the '
      'system ends the run. Begin one that stores less, with '
      f'replay.capacity={int(0.9 * fitting)} or below.'
    )


def used(*processes: psutil.Process) -> int:
  """Bytes of memory that these have, as far as they still are."""
  total = 0
  for one in processes:
    with contextlib.suppress(psutil.Error):
      total += one.memory_info().rss
  return total


def siblings() -> list[psutil.Process]:
  """All that were started by who has started this one; it is among them."""
  parent = psutil.Process().parent()
  return parent.children() if parent else [psutil.Process()]


def free(root: pathlib.Path = process.ROOT) -> int:
  """Bytes that this machine, and the containers this process is in, have left.

  Args:
    root: of the file system where Linux tells of containers (cgroups).
  """
  left = [psutil.virtual_memory().available]
  for place in process.control_groups('memory', root):
    for most, now, files in _LIMITS:
      # There may be no limit, or 'max'.
      with contextlib.suppress(ValueError):
        limit, usage = (int(process.read(place / n)) for n in (most, now))
        statistics = process.read(place / 'memory.stat').splitlines()
        # What was read of files goes where memory is needed.
        kept = dict(line.split() for line in statistics).get(files, 0)
        left.append(max(0, limit - usage + int(kept)))
  return min(left)
