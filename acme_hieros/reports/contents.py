"""What can be said of finished runs: their scores, how sure, and why.

`make` gives plain values, ready for JSON; `pages` draws and prints them.
"""

from collections.abc import Iterable, Mapping, Sequence
import dataclasses
import itertools
import json
import os
from typing import Any

import numpy as np

from acme_hieros import config as config_lib
from acme_hieros.command_line import counted
from acme_hieros.reports import aggregates, curves, published, results
from acme_hieros.scores import atari as atari_scores
from acme_hieros.scores import references
from acme_hieros.storage import reading

# Characters of a name that would not fit into a plot.
_LONG = 70

# Characters of a reason, which may quote what was damaged.
_LONG_REASON = 500

# Columns that count; all others are measured.
_COUNTS = ('actor_steps', 'actor_episodes', 'learner_steps')


@dataclasses.dataclass(frozen=True)
class System:
  """Runs of one configuration and length.

  label: what it is, in full.
  name: the same, short enough for a plot.
  """

  label: str
  name: str
  runs: Sequence[results.Result]

  def of(self, task: str) -> Sequence[results.Result]:
    """Its runs of one environment, by seed."""
    return [run for run in self.runs if run.task == task]

  @property
  def tasks(self) -> Sequence[str]:
    return list(dict.fromkeys(run.task for run in self.runs))

  @property
  def num_steps(self) -> int:
    """Of the longest run, where their CPU time ended them."""
    return max(run.num_steps for run in self.runs)


def read(
  paths: Iterable[str],
) -> tuple[Sequence[System], Sequence[Mapping[str, str]]]:
  """Reads work directories.

  Returns:
    The systems, in the order in which they are named, and, as 'path' and
    'reason', what is left out.
  """
  runs, left_out, seen = [], [], {}
  for path in paths:
    try:
      runs.append(_read(path, seen))
    except results.ResultError as error:
      left_out.append(
        {
          'path': reading.printable(path),
          'reason': _cut(reading.printable(str(error))),
        }
      )
  return _systems(runs), left_out


def _cut(reason: str) -> str:
  return reason if len(reason) <= _LONG_REASON else f'{reason[:_LONG_REASON]} …'


def _read(path: str, seen: dict[tuple, str]) -> results.Result:
  """Reads a run that is unlike those seen, and makes a report of it alone.

  So what is wrong with it is known before it could spoil a report of many.
  """
  run = results.read(path)
  # The same seed is the same run again, and says nothing new.
  identity = (*_identity(run), run.task, run.seed)
  if identity in seen:
    if os.path.samefile(path, seen[identity]):
      raise results.ResultError('it is named twice.')
    raise results.ResultError(
      'it has the seed, environment and configuration of '
      f'{seen[identity]}, and a second run of them proves nothing.'
    )
  try:
    json.dumps(make(_systems([run]), [], 1), allow_nan=False)
  except Exception as error:
    raise results.ResultError(
      f'nothing can be said of what it holds ({error!r:.200}).'
    ) from error
  seen[identity] = path
  return run


def make(
  systems: Sequence[System],
  left_out: Sequence[Mapping[str, str]],
  replications: int,
) -> Mapping[str, Any]:
  """Everything that a page shows, as plain values.

  Args:
    systems: at least one.
    left_out: as `read` returns it.
    replications: of the bootstrap.
  """
  tasks = list(dict.fromkeys(task for s in systems for task in s.tasks))
  games = [task for task in tasks if _reference(systems, task)]
  others = [task for task in tasks if task not in games]
  return {
    'confidence': aggregates.CONFIDENCE,
    'replications': replications,
    'systems': [
      {
        'label': system.label,
        'name': system.name,
        'num_steps': system.num_steps,
        'environments': system.tasks,
        'runs': len(system.runs),
      }
      for system in systems
    ],
    'runs': [_run(system, run) for system in systems for run in system.runs],
    'left_out': list(left_out),
    'atari': _atari(systems, games, replications) if games else None,
    'environments': [
      {
        'environment': task,
        'system': system.name,
        'runs': len(system.of(task)),
        'scores': [run.score.mean for run in system.of(task)],
        **_estimates(
          np.array([[run.score.mean] for run in system.of(task)]),
          aggregates.OVER_RUNS,
          replications,
        ),
      }
      for task in others
      for system in systems
      if system.of(task)
    ],
    'improvement': _improvement(systems, others, replications),
    'curves': [
      {
        'environment': task,
        'references': _references(systems, task),
        'systems': [_curve(s, task) for s in systems if s.of(task)],
      }
      for task in tasks
    ],
    'diagnostics': [
      entry
      for task in tasks
      for level in range(_depth(systems, task))
      for entry in _diagnostics(systems, task, level)
    ],
    'pictures': [
      {
        'system': system.name,
        'environment': run.task,
        'seed': run.seed,
        'path': run.path,
        'steps': run.picture_steps,
        'files': list(run.pictures),
      }
      for system in systems
      for run in system.runs
      if run.pictures
    ],
  }


def _identity(run: results.Result) -> tuple:
  """What runs of one system share."""
  return (
    config_lib.describe(run.config),
    run.num_environments,
    f'{run.cpu_minutes:g} CPU minutes'
    if run.cpu_minutes
    else f'{run.num_steps:,} steps',
  )


def _systems(runs: Sequence[results.Result]) -> Sequence[System]:
  grouped = {}
  for run in runs:
    grouped.setdefault(_identity(run), []).append(run)
  lengths = {length for _, _, length in grouped}
  systems, names = [], {}
  for (description, at_once, length), members in grouped.items():
    preset, *fields = description.split(', ')
    beside = []
    if at_once > 1:
      beside.append(f'{at_once} environments at once')
    if len(lengths) > 1:
      beside.append(length)
    name = ', '.join([preset, *map(_short, fields), *beside])
    if len(name) > _LONG:
      changed = f'{counted(len(fields), "field")} changed'
      name = ', '.join([preset, changed, *beside])
    names[name] = names.get(name, 0) + 1
    if names[name] > 1:
      name += f' ({names[name]})'
    members = sorted(members, key=lambda run: run.seed)
    systems.append(System(', '.join([description, *beside]), name, members))
  return systems


def _short(field: str) -> str:
  """'depth=1' of 'a.b.depth=1', or as much as tells it from other fields."""
  *path, last = field.partition('=')[0].split('.')
  names = config_lib.field_names(config_lib.HierosConfig())
  while path and sum(f'.{name}'.endswith(f'.{last}') for name in names) > 1:
    last = f'{path.pop()}.{last}'
  return last + field[field.index('=') :]


def _run(system: System, run: results.Result) -> Mapping[str, Any]:
  score = run.score
  return {
    'path': run.path,
    'system': system.name,
    'environment': run.task,
    'seed': run.seed,
    'num_steps': run.num_steps,
    'episodes': len(run.episodes['episode_return']),
    'updates': run.updates,
    'seconds': run.seconds,
    'score': score.mean,
    'standard_error': score.standard_error,
    'score_episodes': score.episodes,
    'score_steps': score.steps,
    'score_source': score.source,
    'human_normalised': _human_normalised(run),
    'normalised': normalised(run),
  }


def normalised(run: results.Result) -> float | None:
  """Its score by `references`."""
  return references.normalised(run.environment, _unscaled(run), run.options)


def _human_normalised(run: results.Result) -> float | None:
  return atari_scores.human_normalised(run.environment, _unscaled(run))


def _unscaled(run: results.Result) -> float:
  return references.unscaled(run.score.mean, run.options)


def _reference(
  systems: Sequence[System], task: str
) -> atari_scores.Reference | None:
  """Scores of random play and of a human, where somebody has measured them."""
  environment = _environment(systems, task)
  if atari_scores.human_normalised(environment, 0.0) is None:
    return None
  return atari_scores.REFERENCES[environment.partition('/')[2]]


def _references(systems: Sequence[System], task: str) -> Mapping[str, float]:
  """Scores by whose they are, lowest first, in the rewards of the task."""
  run = next(r for s in systems for r in s.runs if r.task == task)
  if 'reward_scale' in run.options:
    return {}
  return references.references(run.environment, run.options)


def _environment(systems: Sequence[System], task: str) -> str:
  """The name of a task without the options."""
  return next(r.environment for s in systems for r in s.runs if r.task == task)


def _game(systems: Sequence[System], task: str) -> str:
  return _environment(systems, task).partition('/')[2]


def _depth(systems: Sequence[System], task: str) -> int:
  return max(run.config.depth for s in systems for run in s.of(task))


def _estimates(
  scores: np.ndarray, statistics: Mapping, replications: int
) -> Mapping[str, Any]:
  found = aggregates.estimate(scores, statistics, replications)
  return {name: estimate._asdict() for name, estimate in found.items()}


# --- Atari games, in units of the human --------------------------------------


def _atari(
  systems: Sequence[System], games: Sequence[str], replications: int
) -> Mapping[str, Any]:
  return {
    'aggregates': [
      _aggregate(system, played, replications)
      for system in systems
      if (played := [game for game in games if system.of(game)])
    ],
    'improvement': _improvement(systems, games, replications),
    'games': [_compare(systems, game) for game in sorted(games)],
    'differences': [
      sentence
      for system in systems
      if (played := [game for game in games if system.of(game)])
      for sentence in _differences(systems, system, played)
    ],
    'published': [entry._asdict() for entry in published.AGGREGATES],
    'published_games': [entry._asdict() for entry in published.BY_GAME],
  }


def _aggregate(
  system: System, games: Sequence[str], replications: int
) -> Mapping[str, Any]:
  """Aggregates over games that need the same number of runs of each."""
  runs, not_counted = _balanced(system, games)
  scores = np.array([[_human_normalised(run) for run in row] for row in runs])
  return {
    'system': system.name,
    'games': list(games),
    'runs_per_game': len(scores),
    'not_counted': [run.path for run in not_counted],
    **_estimates(scores, aggregates.OVER_GAMES, replications),
  }


def _balanced(
  system: System, tasks: Sequence[str]
) -> tuple[Sequence[Sequence[results.Result]], Sequence[results.Result]]:
  """As many runs of each task, those with the lowest seeds, and the rest."""
  by_task = [system.of(task) for task in tasks]
  count = min(map(len, by_task))
  rows = list(zip(*(runs[:count] for runs in by_task)))
  return rows, [run for runs in by_task for run in runs[count:]]


def _compare(systems: Sequence[System], task: str) -> Mapping[str, Any]:
  """One game: what each system reached, and what others have published."""
  game, reference = _game(systems, task), _reference(systems, task)
  environment = _environment(systems, task)
  ours = []
  for system in systems:
    runs = system.of(task)
    if runs:
      mean = float(np.mean([run.score.mean for run in runs]))
      ours.append(
        {
          'system': system.name,
          'runs': len(runs),
          'score': mean,
          'human_normalised': atari_scores.human_normalised(environment, mean),
        }
      )
  return {
    'environment': task,
    'game': game,
    'random': reference.random,
    'human': reference.human,
    'systems': ours,
    'published': [
      {
        'system': entry.system,
        'score': entry.by_game[game],
        'human_normalised': atari_scores.human_normalised(
          environment, entry.by_game[game]
        ),
      }
      for entry in published.BY_GAME
      if game in entry.by_game
    ],
  }


def _differences(
  systems: Sequence[System], system: System, tasks: Sequence[str]
) -> Sequence[str]:
  """In what a system's runs are not the published benchmark."""
  said = []
  if system.num_steps != published.STEPS:
    said.append(
      f'{system.num_steps:,} environment steps a run instead of '
      f'{published.STEPS:,}'
    )
  games = {_game(systems, task) for task in tasks}
  among = games & set(atari_scores.ATARI_100K)
  if len(among) < len(atari_scores.ATARI_100K):
    named = f' ({", ".join(sorted(among))})' if 0 < len(among) <= 3 else ''
    said.append(
      f'{len(among)} of the {len(atari_scores.ATARI_100K)} games{named}'
    )
  if games - among:
    said.append(
      f'games that are not among them: {", ".join(sorted(games - among))}'
    )
  count = min(len(system.of(task)) for task in tasks)
  if count < 3:
    said.append(f'{counted(count, "run")} a game instead of 3 to 5')
  runs = [run for task in tasks for run in system.of(task)]
  trained = [run for run in runs if not run.evaluated]
  evaluated = [run for run in runs if run.evaluated]
  for of, what in (
    (
      trained,
      f'scores from training episodes instead of {published.EPISODES} episodes '
      'of the final policy',
    ),
    (
      [r for r in evaluated if r.score.episodes < published.EPISODES],
      f'scores from fewer than {published.EPISODES} episodes',
    ),
    (
      [r for r in evaluated if r.score.steps < r.num_steps],
      'scores of checkpoints before the last step',
    ),
  ):
    if of:
      among = f'{len(of)} of {len(runs)} ' * (len(of) < len(runs))
      said.append(among + what)
  if any(run.options for run in runs):
    said.append('environments with options of their own')
  if not said:
    return []
  return [f'{system.name}: {"; ".join(said)}.']


# --- any environments --------------------------------------------------------


def _improvement(
  systems: Sequence[System], tasks: Sequence[str], replications: int
) -> Sequence[Mapping[str, Any]]:
  """Of every two systems, over the tasks that both have played."""
  found = []
  for one, other in itertools.combinations(systems, 2):
    shared = [task for task in tasks if one.of(task) and other.of(task)]
    if not shared:
      continue
    scores = [
      np.array([[run.score.mean for run in row] for row in rows])
      for rows, _ in (_balanced(system, shared) for system in (one, other))
    ]
    estimate = aggregates.probability_of_improvement(*scores, replications)
    found.append(
      {
        'system': one.name,
        'over': other.name,
        'environments': shared,
        'runs': [len(matrix) for matrix in scores],
        **estimate._asdict(),
      }
    )
  return found


def _curve(system: System, task: str) -> Mapping[str, Any]:
  runs = system.of(task)
  played = [run.evaluator for run in runs if len(run.evaluator['actor_steps'])]
  return {
    'system': system.name,
    'training': _learning_curve(system, [run.episodes for run in runs]),
    'evaluator': _learning_curve(system, played) if played else None,
    'evaluations': [
      {'path': run.path, **evaluation._asdict()}
      for run in runs
      for evaluation in run.evaluations
    ],
  }


def _learning_curve(
  system: System, tables: Sequence[results.Table]
) -> Mapping[str, Any]:
  curve = curves.learning_curve(
    [(table['actor_steps'], table['episode_return']) for table in tables],
    system.num_steps,
  )
  return _plain(curve)


def _plain(curve: curves.Curve) -> Mapping[str, Any]:
  return {
    'steps': _numbers(curve.steps),
    'mean': _numbers(curve.mean),
    'runs': [_numbers(run) for run in curve.values],
  }


def _numbers(values: np.ndarray) -> Sequence[float | None]:
  """JSON knows no NaN."""
  return [float(value) if np.isfinite(value) else None for value in values]


# --- what the levels log -----------------------------------------------------


def _diagnostics(
  systems: Sequence[System], task: str, level: int
) -> Sequence[Mapping[str, Any]]:
  """What was measured of one level in one environment, a group each."""
  logs = [
    (system, [_measured(run, level) for run in system.of(task)])
    for system in systems
    if any(run.config.depth > level for run in system.of(task))
  ]
  columns = dict.fromkeys(
    column for _, tables in logs for table in tables for column in table
  )
  found = []
  for group in curves.group(list(columns)):
    collect = _over_number if group.numbered else _over_steps
    lines = [
      line for system, tables in logs for line in collect(system, tables, group)
    ]
    if lines:
      found.append(
        {
          'environment': task,
          'level': level,
          'name': group.name,
          'numbered': group.numbered,
          'lines': lines,
        }
      )
  return found


def _measured(
  run: results.Result, level: int
) -> Mapping[str, tuple[np.ndarray, np.ndarray]]:
  """Steps and values by column."""
  if level >= run.config.depth:
    return {}
  return {
    column: (table['actor_steps'], values)
    for table in (run.shares[level], run.diagnostics[level])
    for column, values in table.items()
    if column not in _COUNTS and 'actor_steps' in table
  }


def _over_steps(
  system: System, tables: Sequence[Mapping], group: curves.Group
) -> Sequence[Mapping[str, Any]]:
  """A line for each column."""
  lines = []
  for name, column in group.columns.items():
    curve = curves.resample([t[column] for t in tables if column in t])
    if curve:
      lines.append({'system': system.name, 'column': name, **_plain(curve)})
  return lines


def _over_number(
  system: System, tables: Sequence[Mapping], group: curves.Group
) -> Sequence[Mapping[str, Any]]:
  """A line over the numbers in the columns' names, at the end and before."""
  lines = []
  columns = group.columns.values()
  tables = [t for t in tables if not t.keys().isdisjoint(columns)]
  for when, at_end in (('at the end', True), ('at first', False)):
    values = np.array(
      [
        [
          curves.edge(*t[column], at_end) if column in t else np.nan
          for column in columns
        ]
        for t in tables
      ]
    )
    known = np.all(np.isfinite(values), 0)
    if tables and np.any(known):
      numbers = np.array([float(number) for number in group.columns])
      curve = curves.Curve(numbers[known], values[:, known])
      lines.append({'system': system.name, 'column': when, **_plain(curve)})
  return lines
