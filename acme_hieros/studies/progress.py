"""How far a run is, by what its work directory holds."""

from collections.abc import Mapping
import os
from typing import Any, NamedTuple

import numpy as np

from acme_hieros.scores import statistics
from acme_hieros.storage import reading, workdirs

# Bytes at the end of a log that hold its last episodes.
_TAIL = 2**14


class BeyondError(ValueError):
  """A run was to go on for longer than is asked for now."""


class Progress(NamedTuple):
  """Steps so far, the seconds that they took, and the mean of last returns."""

  steps: int
  seconds: float
  mean_return: float | None


def has_ended(workdir: str, num_steps: int, cpu_minutes: float) -> bool:
  """Whether a run has come to this end.

  Args:
    workdir: of the run, if there is one.
    num_steps, cpu_minutes: see `runs.Run`.

  Raises:
    BeyondError: it was to go on for longer; the message is its end.
    WorkdirError: there is something else.
  """
  directory = workdirs.Workdir(workdir)
  config = directory.read_config()
  if config is None:
    return False
  ends = (config.get('num_steps', 0), config.get('cpu_minutes', 0.0))
  # No such end is the last of all.
  if ends[0] > num_steps or (ends[1] or np.inf) > (cpu_minutes or np.inf):
    raise BeyondError(
      f'{ends[0]} steps' + f' or {ends[1]:g} CPU minutes' * bool(ends[1])
    )
  summary = read_json(directory.summary)
  return (
    ends == (num_steps, cpu_minutes)
    and summary is not None
    and not summary['interrupted']
  )


def newest_evaluation(workdir: str) -> Mapping[str, Any] | None:
  """What the newest evaluated checkpoint has played by sampled actions."""
  directory = workdirs.Workdir(workdir).evaluation
  try:
    # Others than sampled actions have longer names.
    names = [n for n in os.listdir(directory) if n[:-5].isdecimal()]
  except FileNotFoundError:
    return None
  names = [name for name in names if name.endswith('.json')]
  if not names:
    return None
  return read_json(os.path.join(directory, max(names)))


def read(workdir: str) -> Progress:
  """How far it is; at work, that is at the end of its last episode."""
  directory = workdirs.Workdir(workdir)
  summary = read_json(directory.summary)
  if summary is not None:
    return Progress(
      summary['steps'], summary['seconds'], summary['mean_return']
    )
  rows = _last_episodes(os.path.join(directory.logs, 'episodes.csv'))
  if not rows:
    return Progress(0, 0.0, None)
  returns = [float(row['episode_return']) for row in rows]
  last = rows[-1]
  return Progress(
    int(last['actor_steps']), float(last['walltime']), float(np.mean(returns))
  )


def read_json(path: str) -> Mapping[str, Any] | None:
  """A JSON object; None where there is none, or it cannot be read."""
  try:
    values = reading.parse_json(reading.read_bytes(path))
  except (OSError, ValueError):
    return None
  return values if isinstance(values, dict) else None


def _last_episodes(path: str) -> list[Mapping[str, str]]:
  """The last rows of a log that may be growing."""
  try:
    with reading.open_file(path) as file:
      header = file.readline().decode().rstrip('\r\n').split(',')
      start = file.tell()
      end = file.seek(0, os.SEEK_END)
      file.seek(max(start, end - _TAIL))
      text = file.read().decode(errors='replace')
  except OSError:
    return []
  # The first line may be cut off, and what follows the last one be incomplete.
  lines = text.split('\n')[end - start > _TAIL : -1]
  rows = [line.rstrip('\r').split(',') for line in lines]
  return [
    dict(zip(header, row))
    for row in rows[-statistics.RECENT :]
    if len(row) == len(header)
  ]
