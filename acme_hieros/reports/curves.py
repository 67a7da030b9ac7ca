"""Curves over environment steps, and those of several runs brought together."""

from collections.abc import Mapping, Sequence
import re
from typing import NamedTuple

import numpy as np

# Points of a curve.
_POINTS = 100
# A point of a learning curve looks back over this share of all steps.
WINDOW = 0.05
# What is said of the beginning or the end of a run is over this share of it.
EDGE = 0.1


class Curve(NamedTuple):
  """Values of several runs at the same steps.

  steps: [N]; values: [runs, N], NaN where a run has none yet.
  """

  steps: np.ndarray
  values: np.ndarray

  @property
  def mean(self) -> np.ndarray:
    """[N]; NaN where a run is missing: a mean of fewer would jump."""
    return np.mean(self.values, 0)


def learning_curve(
  runs: Sequence[tuple[np.ndarray, np.ndarray]], num_steps: int
) -> Curve:
  """Mean returns of the episodes that ended shortly before each point.

  Args:
    runs: for each run the steps at which episodes ended, ascending, and their
      returns; at least one.
    num_steps: of each of them.

  Returns:
    At each point the mean return of the episodes that ended in the WINDOW
    before it; of the last one that ended if none did.
  """
  # Actors of several processes go a little further.
  last_step = max([num_steps, *(steps[-1] for steps, _ in runs)])
  grid = np.linspace(0, last_step, _POINTS + 1)[1:]
  values = np.full((len(runs), len(grid)), np.nan)
  for row, (steps, returns) in zip(values, runs):
    last = np.searchsorted(steps, grid, 'right')
    first = np.searchsorted(steps, grid - WINDOW * num_steps, 'right')
    first = np.minimum(first, last - 1)
    for i in np.flatnonzero(last):
      row[i] = np.mean(returns[first[i] : last[i]])
  return Curve(grid, values)


def resample(runs: Sequence[tuple[np.ndarray, np.ndarray]]) -> Curve | None:
  """Brings what runs logged at steps of their own to common ones.

  Args:
    runs: for each run its steps, ascending, and values, some of them NaN.

  Returns:
    Interpolated values between the first and the last step that all of them
    reach; None if a run has no value or they do not overlap.
  """
  known = [(s[np.isfinite(v)], v[np.isfinite(v)]) for s, v in runs]
  if not known or not all(len(steps) for steps, _ in known):
    return None
  first = max(steps[0] for steps, _ in known)
  last = min(steps[-1] for steps, _ in known)
  if first > last:
    return None
  grid = np.linspace(first, last, _POINTS) if first < last else np.array([last])
  return Curve(grid, np.array([np.interp(grid, *run) for run in known]))


def edge(steps: np.ndarray, values: np.ndarray, at_end: bool) -> float:
  """Mean of the values in the first or last EDGE of the steps; NaN without."""
  known = np.isfinite(values)
  steps, values = steps[known], values[known]
  if not len(steps):
    return np.nan
  width = EDGE * (steps[-1] - steps[0])
  near = steps >= steps[-1] - width if at_end else steps <= steps[0] + width
  return float(np.mean(values[near]))


# Columns in one plot: more lines cannot be told apart.
_MOST_COLUMNS = 4


class Group(NamedTuple):
  """Columns that belong into one plot.

  name: what they have in common, 'subgoal_similarity'.
  columns: what tells each from the others, 'start', to its column.
  numbered: whether it is a number, as in 'open_loop_error_50'.
  """

  name: str
  columns: Mapping[str, str]
  numbered: bool


def group(columns: Sequence[str]) -> Sequence[Group]:
  """Groups columns by their names.

  Names that differ in a number at their end are one curve over that number. Of
  the others those that end in the same word measure the same thing, and so
  share an axis, up to _MOST_COLUMNS of them.
  """
  numbered, worded = {}, {}
  for column in columns:
    match = re.fullmatch(r'(.+)_(\d+)', column)
    if match:
      numbered.setdefault(match[1], {})[match[2]] = column
    else:
      worded.setdefault(column.split('_')[-1], []).append(column)
  groups = [
    _name(members[i : i + _MOST_COLUMNS])
    for members in worded.values()
    for i in range(0, len(members), _MOST_COLUMNS)
  ]
  for name, members in numbered.items():
    ordered = dict(sorted(members.items(), key=lambda item: int(item[0])))
    groups.append(Group(name, ordered, True))
  return sorted(groups, key=lambda group: group.name)


def _name(columns: Sequence[str]) -> Group:
  """A group by what is common to the words of its columns, front and back."""
  if len(columns) == 1:
    return Group(columns[0], {columns[0]: columns[0]}, False)
  words = [column.split('_') for column in columns]
  shortest = min(map(len, words))
  front = _common(words, shortest - 1)
  back = _common([w[::-1] for w in words], shortest - front)
  return Group(
    '_'.join(words[0][:front] + words[0][-back:]),
    {
      # A column that is nothing but what they share keeps its name.
      '_'.join(w[front : len(w) - back]) or column: column
      for w, column in zip(words, columns)
    },
    False,
  )


def _common(words: Sequence[Sequence[str]], most: int) -> int:
  """Length of the longest beginning that all share, up to `most`."""
  for i in range(most):
    if len({w[i] for w in words}) > 1:
      return i
  return most
