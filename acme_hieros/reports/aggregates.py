"""Statistics of runs, with their uncertainty, by `rliable`.

Agarwal et al., Deep Reinforcement Learning at the Edge of the Statistical
Precipice (2108.13264).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from rliable import library, metrics

# Size of the intervals.
CONFIDENCE = 0.95

# Of scores [runs, games], where each has its meaning in units of the human.
OVER_GAMES: Mapping[str, Callable[[np.ndarray], float]] = {
  'mean': metrics.aggregate_mean,
  'median': metrics.aggregate_median,
  'iqm': metrics.aggregate_iqm,
  'optimality_gap': metrics.aggregate_optimality_gap,
}

# Of scores [runs, 1], in units of their own.
OVER_RUNS: Mapping[str, Callable[[np.ndarray], float]] = {
  'mean': np.mean,
  # Over the runs; rliable's is over games, and the mean where there is one.
  'median': np.median,
  'iqm': metrics.aggregate_iqm,
}


class Estimate(NamedTuple):
  """A statistic and its interval, which a single run cannot have."""

  value: float
  low: float | None
  high: float | None


def estimate(
  scores: np.ndarray,
  statistics: Mapping[str, Callable[[np.ndarray], float]],
  replications: int,
) -> Mapping[str, Estimate]:
  """Statistics with stratified bootstrap intervals.

  Args:
    scores: [runs, games]. Runs are drawn anew within each game; which games
      there are is not left to chance.
    statistics: by name, as OVER_GAMES.
    replications: of the bootstrap.
  """

  def all_of_them(scores):
    return np.array([function(scores) for function in statistics.values()])

  values = all_of_them(scores)
  if len(scores) < 2:
    return {
      n: Estimate(float(v), None, None) for n, v in zip(statistics, values)
    }
  intervals = _intervals(scores, all_of_them, replications)
  return {
    name: Estimate(float(value), float(low), float(high))
    for name, value, (low, high) in zip(statistics, values, intervals.T)
  }


def probability_of_improvement(
  ours: np.ndarray, others: np.ndarray, replications: int
) -> Estimate:
  """How often a run of one system beats one of another, mean over games.

  Args:
    ours: scores [runs, games].
    others: [other runs, games], in the same units game by game.
    replications: of the bootstrap.

  Returns:
    An Estimate; a draw counts half.
  """
  value = float(_improvement(ours, others)[0])
  if min(len(ours), len(others)) < 2:
    return Estimate(value, None, None)
  ((low, high),) = _intervals([ours, others], _improvement, replications).T
  return Estimate(value, float(low), float(high))


def _improvement(ours: np.ndarray, others: np.ndarray) -> np.ndarray:
  """[1]. As `rliable.metrics` has it, a hundred times as fast."""
  wins = ours[:, None] > others[None]
  draws = ours[:, None] == others[None]
  return np.array([np.mean(wins + 0.5 * draws)])


def _intervals(
  scores: np.ndarray | Sequence[np.ndarray],
  function: Callable[..., np.ndarray],
  replications: int,
) -> np.ndarray:
  """[2, N] for a function that returns [N]."""
  # rliable draws from NumPy's global generator, whatever it is given.
  before = np.random.get_state()
  # The same runs give the same report.
  np.random.seed(0)
  try:
    _, intervals = library.get_interval_estimates(
      {'': scores},
      function,
      reps=replications,
      confidence_interval_size=CONFIDENCE,
    )
  finally:
    np.random.set_state(before)
  return intervals['']
