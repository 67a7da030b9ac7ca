"""What the work directories of finished runs hold."""

from collections.abc import Mapping, Sequence
import csv
import dataclasses
import glob
import json
import math
import os
import re
from typing import Any, NamedTuple

import numpy as np

from acme_hieros import config as config_lib
from acme_hieros.experiments import episodes, json_lines, workdirs

# The columns of a CSV file by name, each float64 [rows].
Table = Mapping[str, np.ndarray]

_EPISODE_COLUMNS = ('actor_steps', 'episode_return')

# Of what a level logs while it learns, that which tells whether the hierarchy
# works.
_SHARE = '_advantage_share'


class ResultError(ValueError):
  """A run cannot be reported; the message says why, as 'it has no episodes.'"""


class Score(NamedTuple):
  """What a run is worth: a mean return, and where it is from.

  standard_error: of the mean over episodes; None for a single one.
  steps: environment steps that the parameters had learned from, at most.
  """

  mean: float
  standard_error: float | None
  episodes: int
  steps: int
  source: str


class Evaluation(NamedTuple):
  """The episodes of one checkpoint, by sampled or by likeliest actions."""

  checkpoint: str
  steps: int
  deterministic: bool
  episodes: int
  mean: float
  standard_error: float | None


@dataclasses.dataclass(frozen=True)
class Result:
  """A finished run.

  path: of its work directory, as it was named.
  environment: its name, 'atari/Krull'.
  options: of the environment, where it has other than its own.
  num_steps: that it made.
  cpu_minutes: that ended it, by how many steps it had made then; 0 if its steps
    did.
  num_environments: that filled the replay at once.
  seconds: that it took.
  episodes: 'actor_steps' and 'episode_return' of those it learned from.
  evaluations: oldest checkpoint first.
  evaluator: as `episodes`, of those that evaluators played while it learned.
  shares: of each level: the reward streams' shares of its actor's advantage.
  diagnostics: of each level, what it measured of itself.
  pictures: files of the newest set.
  picture_steps: environment steps before it.
  """

  path: str
  environment: str
  options: Mapping[str, Any]
  config: config_lib.HierosConfig
  seed: int
  num_steps: int
  cpu_minutes: float
  num_environments: int
  updates: int
  seconds: float
  episodes: Table
  evaluations: Sequence[Evaluation]
  evaluator: Table
  shares: Sequence[Table]
  diagnostics: Sequence[Table]
  pictures: Sequence[str]
  picture_steps: int | None

  @property
  def task(self) -> str:
    """The environment with its options, which make it another one."""
    options = ', '.join(f'{n}={v}' for n, v in sorted(self.options.items()))
    return f'{self.environment} ({options})' if options else self.environment

  @property
  def evaluated(self) -> bool:
    """Whether the score is from an evaluation."""
    return not all(e.deterministic for e in self.evaluations)

  @property
  def score(self) -> Score:
    """By the newest evaluation of the sampling policy, or by training."""
    if self.evaluated:
      last = [e for e in self.evaluations if not e.deterministic][-1]
      return Score(
        last.mean,
        last.standard_error,
        last.episodes,
        last.steps,
        f'evaluation of checkpoint {last.checkpoint}: '
        f'{_count(last.episodes, "episode")}',
      )
    returns = self.episodes['episode_return'][-episodes.RECENT :]
    return Score(
      float(np.mean(returns)),
      episodes.standard_error(returns),
      len(returns),
      int(self.episodes['actor_steps'][-1]),
      f'training: its last {_count(len(returns), "episode")}',
    )


def read(path: str) -> Result:
  """Reads the work directory of a finished run.

  Raises:
    ResultError: there is none, the run is not finished, or a file is damaged or
      of another version.
  """
  if not os.path.isdir(path):
    raise ResultError(
      'it is a file; name the work directory that the file is in.'
      if os.path.exists(path)
      else 'there is no such directory.'
    )
  workdir = workdirs.Workdir(path)
  if not os.path.exists(workdir.config):
    raise ResultError(_no_run(workdir.path))
  # Runs of one process once did not say how many they were, and none ended by
  # its CPU time.
  found = {
    'num_actors': 1,
    'envs_per_actor': 1,
    'cpu_minutes': 0.0,
    **_read_json(workdir, workdir.config),
  }
  environment = _get(found, 'environment', str, 'config.json')
  options = _get(found, 'environment_options', dict, 'config.json')
  agent = _get(found, 'agent', dict, 'config.json')
  seed = _get(found, 'seed', int, 'config.json')
  num_steps = _get(found, 'num_steps', int, 'config.json')
  try:
    config = config_lib.from_dict(agent)
  except ValueError as error:
    raise ResultError(
      f'its config.json is of another version or damaged: {error}'
    ) from error
  summary = _read_summary(workdir, num_steps)
  cpu_minutes = 0.0
  if _get(summary, 'steps', int, 'summary.json') < num_steps:
    num_steps = summary['steps']
    cpu_minutes = _number(found, 'cpu_minutes', 'config.json')
  log = _read_table(workdir, os.path.join(workdir.logs, 'episodes.csv'))
  played = _episodes(log, 'logs/episodes.csv')
  if not len(played['episode_return']):
    raise ResultError(f'no episode ended in its {num_steps:,} steps.')
  picture_steps, pictures = _newest_pictures(workdir)
  return Result(
    path=path,
    environment=environment,
    options=options,
    config=config,
    seed=seed,
    num_steps=num_steps,
    cpu_minutes=cpu_minutes,
    num_environments=_get(found, 'num_actors', int, 'config.json')
    * _get(found, 'envs_per_actor', int, 'config.json'),
    updates=_get(summary, 'updates', int, 'summary.json'),
    seconds=float(_get(summary, 'seconds', (int, float), 'summary.json')),
    episodes=played,
    evaluations=_read_evaluations(workdir),
    evaluator=_read_evaluator(workdir),
    shares=[
      {
        # A copy, since of thousands of numbers only these are needed.
        column: values.copy()
        for column, values in table.items()
        if column == 'actor_steps' or column.endswith(_SHARE)
      }
      for table in _read_levels(workdir, config.depth, 'level_{}.csv')
    ],
    diagnostics=_read_levels(workdir, config.depth, 'level_{}_diagnostics.csv'),
    pictures=pictures,
    picture_steps=picture_steps,
  )


def _no_run(path: str) -> str:
  reason = 'it holds no run: it has no config.json'
  below = sorted(glob.glob('*/config.json', root_dir=path))
  if below:
    inside = os.path.dirname(below[0])
    return f'{reason}, but {inside} in it has one; name the runs themselves.'
  return reason + '.'


def _read_summary(workdir: workdirs.Workdir, num_steps: int) -> Mapping:
  """What came of the run; raises ResultError if it has not come to its end."""
  if not os.path.exists(workdir.summary):
    raise ResultError(
      'it is unfinished: it has no summary.json '
      + (
        '(--resume continues it, unless it is running).'
        if glob.glob('*', root_dir=workdir.checkpoints)
        else 'and no checkpoint; run it anew, unless it is running.'
      )
    )
  summary = _read_json(workdir, workdir.summary)
  if _get(summary, 'interrupted', bool, 'summary.json'):
    steps = _get(summary, 'steps', int, 'summary.json')
    raise ResultError(
      f'it is unfinished: interrupted after {steps:,} of {num_steps:,} steps '
      '(--resume continues it).'
    )
  return summary


def _read_evaluations(workdir: workdirs.Workdir) -> Sequence[Evaluation]:
  """All evaluations of checkpoints, oldest checkpoint first."""
  evaluations = []
  for file in glob.glob('*.json', root_dir=workdir.evaluation):
    if file == 'evaluator.json':
      continue  # Of many policies, one episode each.
    path = os.path.join(workdir.evaluation, file)
    name = os.path.relpath(path, workdir.path)
    found = _read_json(workdir, path)
    error = found.get('standard_error')
    if error is not None:
      error = _number(found, 'standard_error', name)
    evaluations.append(
      Evaluation(
        checkpoint=_get(found, 'checkpoint', str, name),
        steps=_get(found, 'steps', int, name),
        deterministic=_get(found, 'deterministic', bool, name),
        episodes=_get(found, 'episodes', int, name),
        mean=_number(found, 'mean', name),
        standard_error=error,
      )
    )
  return sorted(evaluations, key=lambda e: (e.steps, e.checkpoint))


def _read_evaluator(workdir: workdirs.Workdir) -> Table:
  """Likeliest actions while the run was at work: an episode for a policy."""
  path = workdir.evaluation_file('evaluator', 'jsonl')
  name = os.path.relpath(path, workdir.path)
  try:
    records = json_lines.read(path)
    table = {
      column: np.array([float(record[column]) for record in records])
      for column in _EPISODE_COLUMNS
    }
  except (OSError, KeyError, TypeError, ValueError) as error:
    raise ResultError(f'its {name} is damaged ({error!r}).') from error
  return _episodes(table, name)


def _read_levels(
  workdir: workdirs.Workdir, depth: int, name: str
) -> Sequence[Table]:
  """The log of each level; without columns where there is none."""
  paths = [os.path.join(workdir.logs, name.format(i)) for i in range(depth)]
  return [_read_table(workdir, path) for path in paths]


def _newest_pictures(
  workdir: workdirs.Workdir,
) -> tuple[int | None, Sequence[str]]:
  """Steps of the newest set of pictures, and its files."""
  root = workdir.pictures
  sets = [
    name for name in glob.glob('*', root_dir=root) if re.fullmatch(r'\d+', name)
  ]
  for name in sorted(sets, key=int, reverse=True):
    files = [
      os.path.join(root, name, file)
      for kind in ('png', 'gif')
      for file in glob.glob(f'*.{kind}', root_dir=os.path.join(root, name))
    ]
    if files:
      return int(name), sorted(files)
  return None, ()


def _read_json(workdir: workdirs.Workdir, path: str) -> Mapping[str, Any]:
  name = os.path.relpath(path, workdir.path)
  try:
    with open(path) as file:
      values = json.load(file)
  except (OSError, ValueError) as error:
    raise ResultError(f'its {name} cannot be read ({error}).') from error
  if not isinstance(values, dict):
    raise ResultError(f'its {name} is damaged: it holds no fields.')
  return values


def _read_table(workdir: workdirs.Workdir, path: str) -> Table:
  """The columns of a CSV file; none if there is no file or it is empty."""
  name = os.path.relpath(path, workdir.path)
  try:
    with open(path, newline='') as file:
      rows = list(csv.reader(file))
  except FileNotFoundError:
    return {}
  except (OSError, ValueError, csv.Error) as error:
    raise ResultError(f'its {name} cannot be read ({error}).') from error
  if not rows:
    return {}
  header, *rows = rows
  try:
    if any(len(row) != len(header) for row in rows):
      raise ValueError('lines differ in length')
    values = np.array(rows, np.float64).reshape((-1, len(header)))
  except ValueError as error:
    raise ResultError(f'its {name} is damaged ({error}).') from error
  return dict(zip(header, values.T))


def _episodes(table: Table, name: str) -> Table:
  """The columns that are used, in the order of steps."""
  if not table:
    return {column: np.zeros(0) for column in _EPISODE_COLUMNS}
  for column in _EPISODE_COLUMNS:
    if column not in table:
      raise ResultError(
        f'its {name} is of another version or damaged: it has no {column}.'
      )
    if not np.all(np.isfinite(table[column])):
      raise ResultError(f'its {name} is damaged: a {column} is no number.')
  order = np.argsort(table['actor_steps'], kind='stable')
  return {column: table[column][order] for column in _EPISODE_COLUMNS}


def _get(
  values: Mapping[str, Any], field: str, kind: type | tuple, name: str
) -> Any:
  """A field of that type; a bool is no number."""
  value = values.get(field)
  kinds = kind if isinstance(kind, tuple) else (kind,)
  if type(value) not in kinds:
    raise ResultError(
      f'its {name} is of another version or damaged: it has no {field!r} that '
      'could be used.'
    )
  return value


def _number(values: Mapping[str, Any], field: str, name: str) -> float:
  value = float(_get(values, field, (int, float), name))
  if not math.isfinite(value):
    raise ResultError(f'its {name} is damaged: its {field} is no number.')
  return value


def _count(number: int, thing: str) -> str:
  return f'{number:,} {thing}' + 's' * (number != 1)
