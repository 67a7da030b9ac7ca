"""What the episodes of a run returned."""

import collections
from collections.abc import Mapping
from typing import Any, NamedTuple

from acme.utils import loggers
import numpy as np

from acme_hieros.scores import statistics


class Episode(NamedTuple):
  """An episode that has ended.

  terminated: rather than truncated. environment_index: of the environments that
  its actor acts in.
  """

  episode_return: float
  episode_length: int
  terminated: bool
  environment_index: int


class EpisodeLog:
  """Logs episodes, and keeps the returns of the last ones."""

  def __init__(self, logger: loggers.Logger):
    self._logger = logger
    self._returns = collections.deque(maxlen=statistics.RECENT)
    self._best: float | None = None

  @property
  def last(self) -> float | None:
    return self._returns[-1] if self._returns else None

  def summary(self) -> Mapping[str, float | None]:
    """last_return, mean_return of the last ones, best_return of all.

    All are None before there are any.
    """
    return {
      'last_return': self.last,
      'mean_return': float(np.mean(self._returns)) if self._returns else None,
      'best_return': self._best,
    }

  def add(self, episode: Episode, counts: Mapping[str, int], seconds: float):
    """Takes in an episode.

    Args:
      episode: that has ended.
      counts: actor_steps and actor_episodes, this episode included.
      seconds: of the run, so far.
    """
    self._returns.append(episode.episode_return)
    if self._best is None or episode.episode_return > self._best:
      self._best = episode.episode_return
    self._logger.write(
      {
        'actor_steps': counts['actor_steps'],
        'actor_episodes': counts['actor_episodes'],
        'episode_return': episode.episode_return,
        'episode_length': episode.episode_length,
        'terminated': float(episode.terminated),
        'walltime': seconds,
      }
    )

  def save(self) -> Mapping[str, Any]:
    """Plain values for a checkpoint."""
    return {'recent_returns': list(self._returns), 'best_return': self._best}

  def restore(self, state: Mapping[str, Any]):
    """Continues from what `save` returned, among other things."""
    self._returns.extend(state['recent_returns'])
    self._best = state['best_return']
