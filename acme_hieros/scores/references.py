"""Scores that returns can be set against, of any family of environments."""

from collections.abc import Mapping
import types
from typing import Any

from acme_hieros.scores import atari

# Pasukonis et al., Memory Maze (2210.13383), as the package's README has them:
# a human's score, and that of an oracle that knows the maze.
_MEMORY_MAZE: Mapping[str, Mapping[str, float]] = {
  '9x9': {'nothing': 0.0, 'human': 26.4, 'oracle': 34.8},
  '11x11': {'nothing': 0.0, 'human': 44.3, 'oracle': 58.0},
  '13x13': {'nothing': 0.0, 'human': 55.5, 'oracle': 74.5},
  '15x15': {'nothing': 0.0, 'human': 67.7, 'oracle': 87.7},
}

# Tassa et al., DM Control (1801.00690), section 2: 1,000 steps, each with a
# reward from 0 to 1. Morad et al., POPGym (2303.01859), section 3: all returns
# lie between -1 and 1.
_RANGES: Mapping[str, Mapping[str, float]] = {
  'dmc': {'least': 0.0, 'most': 1000.0},
  'popgym': {'least': -1.0, 'most': 1.0},
}


# Options of an environment that nobody has chosen.
_NONE: Mapping[str, Any] = types.MappingProxyType({})


def references(
  environment: str, options: Mapping[str, Any] = _NONE
) -> Mapping[str, float]:
  """Scores by whose they are, lowest first; nothing where there are none.

  Args:
    environment: its full name, 'atari/Krull'.
    options: of the environment; a `time_limit` bounds what DM Control can pay.
  """
  family, _, name = environment.partition('/')
  if family == 'atari' and name in atari.REFERENCES:
    random, human = atari.REFERENCES[name]
    return {'random play': random, 'human': human}
  if family == 'memory_maze':
    return _MEMORY_MAZE.get(name, {})
  # What the package computes of a linear system has no bounds.
  known = {} if name.startswith('lqr_') else _RANGES.get(family, {})
  limit = _number(options.get('time_limit'))
  if family == 'dmc' and known and limit:
    return {**known, 'most': min(known['most'], limit)}
  return known


def unscaled(score: float, options: Mapping[str, Any]) -> float:
  """A score in others' rewards, whatever the option `reward_scale` is."""
  return score / (_number(options.get('reward_scale')) or 1.0)


def _number(value: Any) -> float | None:
  """The value where it is a number; files may hold anything."""
  return float(value) if isinstance(value, (int, float)) else None


def normalised(
  environment: str, score: float, options: Mapping[str, Any] = _NONE
) -> float | None:
  """0 for the lowest of `references`, 1 for the second; None without any.

  Args:
    environment: its full name, 'atari/Krull'.
    score: undiscounted return of an episode, or a mean of them, unscaled.
    options: of the environment.
  """
  scores = list(references(environment, options).values())
  if not scores:
    return None
  return (score - scores[0]) / (scores[1] - scores[0])


def scale(environment: str) -> str:
  """What normalised scores mean: '0: random play, 1: human'."""
  names = list(references(environment))
  return f'0: {names[0]}, 1: {names[1]}'
