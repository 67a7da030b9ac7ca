"""What the work directories of finished runs hold."""

from collections.abc import Mapping, Sequence
import csv
import dataclasses
import io
import os
import re
from typing import Any, NamedTuple

import numpy as np

from acme_hieros import config as config_lib
from acme_hieros.command_line import counted
from acme_hieros.scores import statistics
from acme_hieros.storage import json_lines, reading, workdirs

# The columns of a CSV file by name, each float64 [rows].
Table = Mapping[str, np.ndarray]

_STEPS, _RETURN = _EPISODE_COLUMNS = ('actor_steps', 'episode_return')

# The summary of what one checkpoint has played.
_EVALUATION = re.compile(r'\d+(-deterministic)?\.json')

# Of what a level logs while it learns, that which tells whether the hierarchy
# works.
_SHARE = '_advantage_share'

# Bytes of a JSON file, and of a log, and columns of that.
_MOST_JSON = 2**24
_MOST_LOG = 2**30
_MOST_COLUMNS = 1000

# Of a run; more cannot be told in days.
_MOST_SECONDS = 1e11


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

  path: of its work directory, as it was named, but printable.
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
  pictures: files of the newest set, to be opened.
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
    return reading.printable(
      f'{self.environment} ({options})' if options else self.environment
    )

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
        f'{counted(last.episodes, "episode", ",")}',
      )
    returns = self.episodes['episode_return'][-statistics.RECENT :]
    return Score(
      float(np.mean(returns)),
      statistics.standard_error(returns),
      len(returns),
      int(self.episodes['actor_steps'][-1]),
      f'training: its last {counted(len(returns), "episode", ",")}',
    )


def read(path: str) -> Result:
  """Reads the work directory of a finished run.

  Raises:
    ResultError: there is none, the run is not finished, or a file is damaged or
      of another version.
  """
  try:
    return _read(path)
  except ResultError:
    raise
  except Exception as error:  # Damage that nobody has thought of.
    raise ResultError(f'it cannot be read ({error!r:.200}).') from error


def _read(path: str) -> Result:
  if not os.path.isdir(path):
    raise ResultError(
      'it is a file; name the work directory that the file is in.'
      if os.path.exists(path)
      else 'there is no such directory.'
    )
  workdir = workdirs.Workdir(path)
  values = _read_json(workdir, workdir.config)
  if values is None:
    raise ResultError(_no_run(workdir.path))
  # Runs of one process once did not say how many they were, and none ended by
  # its CPU time.
  found = _Fields(
    'config.json',
    {'num_actors': 1, 'envs_per_actor': 1, 'cpu_minutes': 0.0, **values},
  )
  num_steps = found.count('num_steps', 1)
  try:
    config = config_lib.from_dict(found.get('agent', dict))
  except ValueError as error:
    raise ResultError(
      f'its config.json is of another version or damaged: {error}'
    ) from error
  summary = _read_summary(workdir, num_steps)
  cpu_minutes = 0.0
  if summary.count('steps') < num_steps:
    num_steps = summary.count('steps')
    cpu_minutes = found.number('cpu_minutes', 0.0)
  log = _read_table(workdir, os.path.join(workdir.logs, 'episodes.csv'))
  played = _episodes(log, 'logs/episodes.csv')
  if not len(played['episode_return']):
    raise ResultError(f'no episode ended in its {num_steps:,} steps.')
  picture_steps, pictures = _newest_pictures(workdir)
  return Result(
    path=reading.printable(path),
    environment=found.get('environment', str),
    options=found.get('environment_options', dict),
    config=config,
    seed=found.count('seed'),
    num_steps=num_steps,
    cpu_minutes=cpu_minutes,
    num_environments=found.count('num_actors', 1)
    * found.count('envs_per_actor', 1),
    updates=summary.count('updates'),
    seconds=summary.number('seconds', 0.0, _MOST_SECONDS),
    episodes=played,
    evaluations=_read_evaluations(workdir),
    evaluator=_read_evaluator(workdir),
    shares=[
      {
        # A copy, since of thousands of numbers only these are needed.
        column: values.copy()
        for column, values in table.items()
        if column == _STEPS or column.endswith(_SHARE)
      }
      for table in _read_levels(workdir, config.depth, 'level_{}.csv')
    ],
    diagnostics=_read_levels(workdir, config.depth, 'level_{}_diagnostics.csv'),
    pictures=pictures,
    picture_steps=picture_steps,
  )


def _no_run(path: str) -> str:
  reason = 'it holds no run: it has no config.json'
  for name in sorted(_list(path, '.')):
    if os.path.exists(os.path.join(path, name, 'config.json')):
      return f'{reason}, but {name} in it has one; name the runs themselves.'
  return reason + '.'


def _read_summary(workdir: workdirs.Workdir, num_steps: int) -> '_Fields':
  """What came of the run; raises ResultError if it has not come to its end."""
  values = _read_json(workdir, workdir.summary)
  if values is None:
    raise ResultError(
      'it is unfinished: it has no summary.json '
      + (
        '(--resume continues it, unless it is running).'
        if _list(workdir.checkpoints, 'checkpoints')
        else 'and no checkpoint; run it anew, unless it is running.'
      )
    )
  summary = _Fields('summary.json', values)
  if summary.get('interrupted', bool):
    raise ResultError(
      f'it is unfinished: interrupted after {summary.count("steps"):,} of '
      f'{num_steps:,} steps (--resume continues it).'
    )
  return summary


def _read_evaluations(workdir: workdirs.Workdir) -> Sequence[Evaluation]:
  """All evaluations of checkpoints, oldest checkpoint first."""
  evaluations = []
  for file in _list(workdir.evaluation, 'evaluation'):
    # Not that of evaluators, who have played many policies, an episode each.
    if not _EVALUATION.fullmatch(file):
      continue
    path = os.path.join(workdir.evaluation, file)
    found = _Fields(f'evaluation/{file}', _read_json(workdir, path) or {})
    error = None
    if found.values.get('standard_error') is not None:
      error = found.number('standard_error', 0.0)
    evaluations.append(
      Evaluation(
        checkpoint=reading.printable(found.get('checkpoint', str)),
        steps=found.count('steps'),
        deterministic=found.get('deterministic', bool),
        mean=found.number('mean'),
        episodes=found.count('episodes', 1),
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
  except OSError as error:
    raise ResultError(f'its {name} cannot be read ({error.strerror}).') from (
      error
    )
  lines = [_Fields(name, record) for record in records]
  table = {
    _STEPS: [float(line.count(_STEPS)) for line in lines],
    _RETURN: [line.number(_RETURN) for line in lines],
  }
  return _episodes({c: np.array(v, float) for c, v in table.items()}, name)


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
    name
    for name in _list(root, 'pictures')
    if name.isdecimal() and os.path.isdir(os.path.join(root, name))
  ]
  for name in sorted(sets, key=int, reverse=True):
    files = [
      os.path.join(root, name, file)
      for file in _list(os.path.join(root, name), f'pictures/{name}')
      if file.endswith(('.png', '.gif'))
    ]
    if files:
      return int(name), sorted(files)
  return None, ()


def _list(directory: str, name: str) -> Sequence[str]:
  """What lies in a directory, hidden files apart; nothing if there is none."""
  try:
    return [file for file in os.listdir(directory) if file[0] != '.']
  except FileNotFoundError:
    return []
  except OSError as error:
    raise ResultError(f'its {name} cannot be read ({error.strerror}).') from (
      error
    )


def _read_json(
  workdir: workdirs.Workdir, path: str
) -> Mapping[str, Any] | None:
  """The fields of a JSON file; None if there is no such file."""
  name = os.path.relpath(path, workdir.path)
  try:
    values = reading.parse_json(reading.read_bytes(path, _MOST_JSON))
  except FileNotFoundError:
    return None
  except (OSError, ValueError) as error:
    reason = getattr(error, 'strerror', None) or error
    raise ResultError(f'its {name} cannot be read ({reason}).') from error
  if not isinstance(values, dict):
    raise ResultError(f'its {name} is damaged: it holds no fields.')
  return values


def _read_table(workdir: workdirs.Workdir, path: str) -> Table:
  """The columns of a CSV file, in the order of steps.

  There are none if there is no file, it is empty or it counts no steps.
  """
  name = os.path.relpath(path, workdir.path)
  try:
    text = reading.read_bytes(path, _MOST_LOG).decode('utf-8-sig')
    rows = [row for row in csv.reader(io.StringIO(text, newline='')) if row]
  except FileNotFoundError:
    return {}
  except (OSError, ValueError, csv.Error) as error:
    reason = getattr(error, 'strerror', None) or error
    raise ResultError(f'its {name} cannot be read ({reason}).') from error
  if not rows:
    return {}
  header, *rows = rows
  try:
    if len(set(header)) < len(header):
      raise ValueError('a column is there twice')
    if len(header) > _MOST_COLUMNS:
      raise ValueError(f'it has {len(header):,} columns')
    if any(len(row) != len(header) for row in rows):
      raise ValueError('lines differ in length')
    values = np.array(rows, np.float64).reshape((-1, len(header)))
  except ValueError as error:
    raise ResultError(f'its {name} is damaged ({error}).') from error
  # Of what is logged some numbers are not known, and none is that large.
  values[~(np.abs(values) <= reading.LARGEST)] = np.nan
  table = dict(zip(map(reading.printable, header), values.T))
  if _STEPS not in table:
    return table
  steps = table[_STEPS]
  if not np.all((0 <= steps) & (steps <= reading.MOST_STEPS)):
    raise ResultError(f'its {name} is damaged: an {_STEPS} is no number.')
  order = np.argsort(steps, kind='stable')
  return {column: values[order] for column, values in table.items()}


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
      raise ResultError(f'its {name} is damaged: an {column} is no number.')
  order = np.argsort(table[_STEPS], kind='stable')
  return {column: table[column][order] for column in _EPISODE_COLUMNS}


class _Fields(NamedTuple):
  """The fields of a JSON object, of which each may be damaged.

  name: of the file that it is from.
  """

  name: str
  values: Mapping[str, Any]

  def get(self, field: str, kind: type) -> Any:
    """A field of that type."""
    value = self.values.get(field)
    if type(value) is not kind:
      raise ResultError(
        f'its {self.name} is of another version or damaged: it has no '
        f'{field!r} that could be used.'
      )
    return value

  def number(
    self,
    field: str,
    low: float = -reading.LARGEST,
    high: float = reading.LARGEST,
  ) -> float:
    """A field from low to high."""
    value = self.values.get(field)
    if type(value) is not int:
      value = self.get(field, float)
    if not reading.is_number(value, low, high):
      raise ResultError(
        f'its {self.name} is damaged: its {field} is no number that could be '
        'used.'
      )
    return float(value)

  def count(self, field: str, low: int = 0) -> int:
    """A field that is a whole number of at least `low`."""
    self.get(field, int)
    return int(self.number(field, low, reading.MOST_STEPS))
