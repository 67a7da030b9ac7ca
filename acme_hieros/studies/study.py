"""A study: a question, and the runs that answer it, as a file says them."""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import difflib
import itertools
import os
import re
from typing import Any

import tomli

from acme_hieros import config as config_lib
from acme_hieros.environments import make_environment

# Fields of a run that are not of the agent's configuration, with the flags of
# `hieros train`, and what is read as their type.
_FIELDS: Mapping[str, tuple[str, type]] = {
  'environment': ('env', str),
  'preset': ('preset', str),
  'system': ('system', str),
  'seed': ('seed', int),
  'num_steps': ('num_steps', int),
  'cpu_minutes': ('cpu_minutes', float),
  'launch': ('launch', str),
  'num_actors': ('num_actors', int),
  'num_evaluators': ('num_evaluators', int),
  'envs_per_actor': ('envs_per_actor', int),
  'checkpoint_minutes': ('checkpoint_minutes', float),
  'keep_checkpoints': ('keep_checkpoints', int),
  'picture_minutes': ('picture_minutes', float),
}

_KINDS = {str: 'a word', int: 'a whole number', float: 'a number'}

_DEFAULTS = {'system': 'hieros', 'seed': 0, 'cpu_minutes': 0.0}

_OPTION = 'environment_options.'

# More steps than CPU minutes allow.
_ENDLESS = 10**9

# Bytes that a name of a directory may have, with some room.
_LONGEST_NAME = 200

TEXTS = ('question', 'expected', 'source', 'cost')


@dataclasses.dataclass(frozen=True)
class Needs:
  """What one run needs, and how long it takes.

  minutes: of a run, where somebody knows; None where nobody does.
  """

  cpus: int = 1
  gpus: int = 0
  memory_gb: float = 2.0
  minutes: float | None = None


@dataclasses.dataclass(frozen=True)
class Evaluation:
  """How a finished run is evaluated; without episodes it is not."""

  episodes: int = 100
  environments: int = 8
  seed: int = 0


@dataclasses.dataclass(frozen=True)
class Answer:
  """How the question is answered.

  compare: the field whose values are compared, 'name' for those of the list;
    empty where there is nothing to compare.
  against: the value that all others are compared with.
  """

  compare: str = ''
  against: Any = None


@dataclasses.dataclass(frozen=True)
class Run:
  """One run of a study.

  name: that tells it from all others, and is its directory's.
  values: its fields by their names, as `train` has them; those of the agent and
    of the environment's options with dots. 'name' is that in the list.
  config: of the agent.
  """

  name: str
  values: Mapping[str, Any]
  config: config_lib.HierosConfig

  @property
  def num_steps(self) -> int:
    return self.values.get('num_steps', _ENDLESS)

  @property
  def cpu_minutes(self) -> float:
    return float(self.values['cpu_minutes'])

  @property
  def environment_options(self) -> Mapping[str, Any]:
    return {
      name.removeprefix(_OPTION): value
      for name, value in self.values.items()
      if name.startswith(_OPTION)
    }

  def identity(self) -> Mapping[str, Any]:
    """As `runs.Run.identity`."""
    return {
      'environment': self.values['environment'],
      'environment_options': self.environment_options,
      'seed': self.values['seed'],
      'agent': config_lib.to_dict(self.config),
    }

  def training(self, workdir: str) -> list[str]:
    """What `python` is told to begin the run, or to go on with it."""
    values = {**self.values, 'num_steps': self.num_steps}
    return [
      '-m',
      'acme_hieros',
      'train',
      '--auto_resume',
      f'--workdir={workdir}',
      *(
        f'--{flag}={values[name]}'
        for name, (flag, _) in _FIELDS.items()
        if name in values
      ),
      *(f'--env_option={n}={v!r}' for n, v in self.environment_options.items()),
      *(f'--override={n}={_text(v)}' for n, v in _overrides(values).items()),
    ]

  def evaluating(self, workdir: str, evaluation: Evaluation) -> list[str]:
    """What `python` is told to evaluate it."""
    return [
      '-m',
      'acme_hieros',
      'evaluate',
      f'--workdir={workdir}',
      f'--env={self.values["environment"]}',
      f'--episodes={evaluation.episodes}',
      f'--envs={evaluation.environments}',
      f'--seed={evaluation.seed}',
    ]


@dataclasses.dataclass(frozen=True)
class Study:
  """A question and its runs, those of the first seed first.

  name: of the file and its variant. question, expected, source, cost: in words,
  empty where nobody has said them.
  """

  name: str
  runs: Sequence[Run]
  needs: Needs
  evaluation: Evaluation
  answer: Answer
  question: str = ''
  expected: str = ''
  source: str = ''
  cost: str = ''

  def groups(self) -> Mapping[str, str]:
    """The name of each run that is compared, and what it is one of."""
    field = self.answer.compare
    return {
      run.name: label(field, run.values[field])
      for run in self.runs
      if field in run.values
    }


def read(
  source: str | os.PathLike | Mapping[str, Any], variant: str = ''
) -> Study:
  """Reads a study.

  Args:
    source: path of a TOML file; or what would be in it, and a 'name'.
    variant: of its `variants`, whose tables take the place of the study's own;
      empty for the study itself.

  Raises:
    ValueError: a sentence about what is wrong with it.
  """
  if isinstance(source, Mapping):
    content = dict(source)
    name = content.pop('name', 'study')
  else:
    name = os.path.splitext(os.path.basename(source))[0]
    content = _read_file(source)
  if not isinstance(name, str) or _word(name) != name:
    raise ValueError(f'{name!r} is no name of a study: use letters and digits.')
  try:
    return _study(name, content, variant)
  except ValueError as error:
    raise ValueError(f'The study {name}: {error}') from error


def check_environments(study: Study):
  """Raises ValueError, a sentence, where one cannot be made here."""
  tried = []
  for run in study.runs:
    made = (run.values['environment'], run.environment_options)
    if made not in tried:
      tried.append(made)
      make_environment(made[0], run.values['seed'], **made[1]).close()


def label(field: str, value: Any) -> str:
  """What a group of runs is called: 'depth=2', or a word that says enough."""
  return str(value) if field in ('name', 'system') else f'{field}={value}'


def _read_file(path: str | os.PathLike) -> Mapping[str, Any]:
  try:
    with open(path, 'rb') as file:
      return tomli.load(file)
  except OSError as error:
    raise ValueError(
      f'{path} cannot be read ({error.strerror}); name the file of a study.'
    ) from error
  except ValueError as error:
    raise ValueError(f'{path} is no TOML: {error}.') from error


def _study(name: str, content: Mapping[str, Any], variant: str) -> Study:
  content = dict(content)
  variants = content.pop('variants', {})
  if variant:
    if variant not in variants:
      raise ValueError(
        f'it has no variant {variant!r}; there '
        + (f'are {", ".join(variants)}.' if variants else 'is none.')
      )
    content |= variants[variant]
    name = f'{name}-{variant}'
  kinds = {text: str for text in TEXTS} | {'list': list}
  kinds |= {
    table: dict for table in ('run', 'grid', 'needs', 'evaluation', 'answer')
  }
  for key, value in content.items():
    _known(key, kinds)
    if not isinstance(value, kinds[key]):
      what = {str: 'a text', dict: f'a table, [{key}]'}
      raise ValueError(
        f'{key} has to be {what.get(kinds[key], f"tables, [[{key}]]")}.'
      )
  runs = _runs(content)
  study = Study(
    name=name,
    runs=runs,
    needs=_make(Needs, 'needs', content),
    evaluation=_make(Evaluation, 'evaluation', content),
    answer=_make(Answer, 'answer', content),
    **{text: content[text].strip() for text in TEXTS if text in content},
  )
  _check_answer(study)
  return study


def _check_answer(study: Study):
  field, against = study.answer.compare, study.answer.against
  if not field:
    return
  found = set(study.groups().values())
  if label(field, against) not in found or len(found) < 2:
    raise ValueError(
      f'[answer] compares {field} with {against!r}, but the runs have '
      f'{", ".join(sorted(found)) or "no such field"}.'
    )


def _make(kind: type, table: str, content: Mapping[str, Any]) -> Any:
  """A dataclass of the values of a table."""
  values = content.get(table, {})
  known = {field.name: field for field in dataclasses.fields(kind)}
  for name, value in values.items():
    _known(f'{table}.{name}', [f'{table}.{field}' for field in known])
    wanted = known[name].type
    if wanted is Any:
      continue
    if wanted is str:
      if not isinstance(value, str):
        raise ValueError(f'{table}.{name}={value!r} has to be a word.')
      continue
    if type(value) not in (int, float) or value < 0:
      raise ValueError(f'{table}.{name}={value!r} has to be a number, not < 0.')
    if wanted is int and type(value) is not int:
      raise ValueError(f'{table}.{name}={value!r} has to be a whole number.')
  return kind(**values)


def _runs(content: Mapping[str, Any]) -> Sequence[Run]:
  common = _flat(content.get('run', {}))
  grid = _flat(content.get('grid', {}))
  for field, values in grid.items():
    if not isinstance(values, list) or not values:
      raise ValueError(
        f'the grid of {field} is {values!r}: write a list of at least one '
        'value.'
      )
  entries = content.get('list', [{}])
  if not entries or not all(isinstance(entry, Mapping) for entry in entries):
    raise ValueError('[[list]] holds nothing: write a table for each run.')
  if not content.keys() & {'run', 'grid', 'list'}:
    raise ValueError('it has no runs: write [run], [grid] or [[list]].')
  runs: dict[str, Run] = {}
  for entry, values in itertools.product(
    map(_flat, entries), itertools.product(*grid.values())
  ):
    chosen = dict(zip(grid, values))
    # A name says all that the fields beside it do.
    said = {'name': entry['name']} if 'name' in entry else entry
    run = _run({**_DEFAULTS, **common, **chosen, **entry}, {**chosen, **said})
    if run.name in runs:
      raise ValueError(
        f'two runs are called {run.name}: let them differ in a field, or give '
        'each table of [[list]] a name.'
      )
    runs[run.name] = run
  return sorted(runs.values(), key=lambda run: run.values['seed'])


def _run(values: Mapping[str, Any], said: Mapping[str, Any]) -> Run:
  """A run of all its values, whose name has those that are said."""
  for field, value in values.items():
    if field in _FIELDS:
      _check_kind(field, value)
    elif close := difflib.get_close_matches(field, _FIELDS, 1, 0.8):
      raise ValueError(f'there is no field {field}; did you mean {close[0]}?')
  for field in ('environment', 'preset'):
    if field not in values:
      raise ValueError(
        f'no {field} is named: every run needs one, in [run], [grid] or '
        '[[list]].'
      )
  if 'num_steps' not in values and not values['cpu_minutes'] > 0:
    raise ValueError(
      'nothing ends the runs: name num_steps, or cpu_minutes, or both.'
    )
  config = config_lib.override(
    config_lib.preset(values['preset'], values['system']), _overrides(values)
  )
  parts = [values['environment']]
  parts += [said['name']] if 'name' in said else []
  parts += [
    f'{field.removeprefix(_OPTION)}={_text(value)}'
    for field, value in said.items()
    if field not in ('environment', 'name', 'seed')
  ]
  parts.append(f'seed={values["seed"]}')
  name = '-'.join(map(_word, parts))
  if len(name.encode()) > _LONGEST_NAME:
    raise ValueError(
      f'{name[:40]}... is too long for the name of a directory: give each '
      'table of [[list]] a short name.'
    )
  return Run(name, values, config)


def _check_kind(field: str, value: Any):
  kind = _FIELDS[field][1]
  given = float(value) if kind is float and type(value) is int else value
  if type(given) is not kind:
    raise ValueError(f'{field}={value!r} has to be {_KINDS[kind]}.')
  least = 1 if field == 'num_steps' else 0
  if kind is not str and not given >= least:
    raise ValueError(f'{field}={value!r} has to be at least {least}.')


def _overrides(values: Mapping[str, Any]) -> Mapping[str, Any]:
  """Those of the agent's configuration."""
  return {
    field: value
    for field, value in values.items()
    if field not in _FIELDS
    and field != 'name'
    and not field.startswith(_OPTION)
  }


def _flat(table: Mapping[str, Any]) -> dict[str, Any]:
  """The values of nested tables by their dotted names."""
  return dict(_leaves(table, ''))


def _leaves(table: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
  for name, value in table.items():
    if isinstance(value, Mapping):
      yield from _leaves(value, f'{prefix}{name}.')
    else:
      yield prefix + name, value


def _text(value: Any) -> str:
  """As `--override` reads it."""
  if isinstance(value, (list, tuple)):
    return ','.join(map(_text, value))
  return str(value).lower() if isinstance(value, bool) else str(value)


def _word(value: Any) -> str:
  """A part of a file's name."""
  return re.sub(r'[^\w.=+-]+', '_', str(value))


def _known(name: str, names: Any):
  if name not in names:
    close = difflib.get_close_matches(name, names, n=1)
    raise ValueError(
      f'there is no {name}; '
      + (f'did you mean {close[0]}?' if close else f'know {", ".join(names)}.')
    )
