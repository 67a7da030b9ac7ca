"""Runs of the launcher that are trained to marks and evaluated there.

What benchmarks that take hours have in common: each run is a process on one
core of the CPU, a row a mark is kept in a table, and the same call goes on with
whatever was interrupted.
"""

import collections
from collections.abc import Callable, Iterator, Mapping, Sequence
import contextlib
import csv
import dataclasses
import datetime
import os
import signal
import sys
import time
from typing import Any, NamedTuple

import numpy as np

from acme_hieros import config as config_lib
from acme_hieros.experiments import console
from acme_hieros.scores import atari as atari_scores
from acme_hieros.studies import processes, progress
import benchmarks
from benchmarks import commits, tables

# Of an evaluation's summary.
STATISTICS = (
  'episodes',
  'mean',
  'standard_error',
  'median',
  'human_normalised',
)

COLUMNS = (
  'game',
  'seed',
  'mark',
  'steps',
  'updates',
  'cpu_seconds',
  'wall_seconds',
  *STATISTICS,
  'random',
  'human',
  'commit',
  'date',
  'configuration',
)

# Of a training episode: steps, updates and seconds of the run until its end.
EPISODE_COLUMNS = (
  'game',
  'seed',
  'steps',
  'updates',
  'walltime',
  'episode_return',
)


CPU = 'CPU minutes'

# More steps than CPU minutes allow.
_ENDLESS = 10**9

_EVALUATION_SEED = 0
_EVALUATION_ENVIRONMENTS = 8
_CHECKPOINT_MINUTES = 5

_POLL_SECONDS = 0.2

# As of a program that Ctrl-C ends.
INTERRUPTED = 130


class RunError(RuntimeError):
  """A row cannot be made; the message says why."""


class Mark(NamedTuple):
  """Where a run is evaluated.

  amount: of CPU minutes or steps. stretch: of it, since the mark before.
  """

  amount: float
  unit: str
  stretch: float

  def __str__(self) -> str:
    return f'{self.amount:.12g} {self.unit}'

  def flags(self) -> list[str]:
    """Of a run that ends there."""
    steps, cpu_minutes = self.end()
    return [f'--cpu_minutes={cpu_minutes}', f'--num_steps={steps}']

  def end(self) -> tuple[int, float]:
    """Steps and CPU minutes that end it."""
    if self.unit == CPU:
      return _ENDLESS, self.amount
    return self.amount, 0.0


@dataclasses.dataclass(frozen=True)
class Plan:
  """What is to be done with every game and seed.

  name: that tells it from others; empty where it is alone.
  marks: ascending.
  episodes: played at each.
  configuration: of the agent, in words.
  flags: the same for the launcher.
  workdir: in which the runs have theirs.
  table: of results.
  played: of training episodes.
  """

  name: str
  marks: Sequence[Mark]
  episodes: int
  configuration: str
  flags: Sequence[str]
  workdir: str
  table: tables.Table
  played: tables.Table


def environment_flags(name: str, options: Mapping[str, Any]) -> list[str]:
  """Of the launcher, that say which environment it is."""
  return [
    f'--env={name}',
    *(f'--env_option={k}={v}' for k, v in options.items()),
  ]


def make_plan(
  *,
  marks: Sequence[Mark],
  episodes: int,
  preset: str,
  system: str,
  values: Mapping[str, Any],
  workdir: str,
  table: tables.Table,
  played: str,
  name: str = '',
  options: Mapping[str, Any] | None = None,
) -> Plan:
  """A plan for a configuration.

  Args:
    marks, episodes, workdir, table, name: as of the plan.
    preset, system: of the agent.
    values: of fields that are replaced.
    played: path of the table of training episodes.
    options: of the environments of all runs, told with the configuration.

  Raises:
    ValueError: there is no such configuration, or the path is of another table.
  """
  config = config_lib.override(config_lib.preset(preset, system), values)
  return Plan(
    name=name,
    marks=marks,
    episodes=episodes,
    configuration=', '.join(
      [
        config_lib.describe(config),
        *(f'{option}={value}' for option, value in (options or {}).items()),
      ]
    ),
    flags=[
      f'--preset={preset}',
      f'--system={system}',
      *(f'--override={field}={value}' for field, value in values.items()),
    ],
    workdir=workdir,
    table=table,
    played=tables.Table(played, EPISODE_COLUMNS),
  )


def read_cores(names: Sequence[str]) -> list[int]:
  """Cores of the CPU as --cores names them; without any, all there are.

  Raises:
    ValueError: this process may not use one.
  """
  usable = {str(core): core for core in processes.usable_cores()}
  for core in names:
    if core not in usable:
      raise ValueError(
        f'--cores={core}: this process may use {", ".join(usable)}.'
      )
  return [usable[core] for core in dict.fromkeys(names or usable)]


def read_marks(
  cpu_minutes: Sequence[str], steps: Sequence[str] = ()
) -> list[Mark]:
  """The marks as --cpu_minutes or --steps have them.

  Raises:
    ValueError: they are not ascending numbers, or are both there or absent.
  """
  if bool(cpu_minutes) == bool(steps):
    raise ValueError('The marks are either --cpu_minutes or --steps.')
  flag, texts, kind, unit = (
    ('steps', steps, int, 'steps')
    if steps
    else ('cpu_minutes', cpu_minutes, float, CPU)
  )
  try:
    amounts = [kind(text) for text in texts]
  except ValueError:
    amounts = [0]
  marks = [
    Mark(amount, unit, amount - before)
    for before, amount in zip([0, *amounts], amounts)
  ]
  if not all(mark.stretch > 0 for mark in marks):
    raise ValueError(
      f'--{flag}={",".join(texts)}: write ascending numbers, as in 30,60.'
    )
  return marks


class Run:
  """A game and a seed.

  missing: marks whose rows are not in the table.
  since: when the work at the first of them began; None where nobody works.
  log: of what its processes say.
  """

  def __init__(
    self, game: str, seed: int, plan: Plan, environment: Sequence[str]
  ):
    """Plans a run.

    Args:
      game: as the table calls it.
      seed: of the run.
      plan: what is to be done.
      environment: flags of the launcher that say which it is.
    """
    self._game = game
    self._seed = seed
    self._environment = environment
    self.plan = plan
    rows = plan.table.of(game=game, seed=seed, configuration=plan.configuration)
    found = {row['mark'] for row in rows}
    self.missing = [mark for mark in plan.marks if str(mark) not in found]
    self.since: float | None = None
    label = f'{game.replace("/", "_")}-{seed}'
    self._workdir = os.path.join(plan.workdir, label)
    self.log = f'{self._workdir}.log'

  def __str__(self) -> str:
    name = f', {self.plan.name}' * bool(self.plan.name)
    return f'{self._game}{name}, seed {self._seed}'

  def commands(
    self, report: Callable[['Run', Mark, Mapping[str, Any]], None]
  ) -> Iterator[Sequence[str]]:
    """What makes the missing rows: a command, and when it has ended well more.

    Args:
      report: is told each row when it is in the table.

    Raises:
      RunError: a row cannot be made.
    """
    while self.missing:
      mark = self.missing[0]
      self.since = time.monotonic()
      commit = commits.find_commit()
      if not self._has_come_to(mark):
        yield self._training(mark)
        if not self._has_come_to(mark):
          raise RunError(f'it ended before {mark}.')
      yield [
        benchmarks.EVALUATOR,
        f'--workdir={self._workdir}',
        f'--episodes={self.plan.episodes}',
        f'--envs={_EVALUATION_ENVIRONMENTS}',
        f'--seed={_EVALUATION_SEED}',
      ]
      row = self._make_row(mark, commit)
      played = self.plan.played
      played.put(
        self._make_episodes(), played.of(game=self._game, seed=self._seed)
      )
      self.plan.table.put([row])
      report(self, mark, row)
      del self.missing[0]
    self.since = None

  def _training(self, mark: Mark) -> Sequence[str]:
    """To the mark; what there is of the run goes on."""
    begun = os.path.exists(os.path.join(self._workdir, 'config.json'))
    return [
      benchmarks.LAUNCHER,
      *self._environment,
      f'--seed={self._seed}',
      f'--workdir={self._workdir}',
      f'--checkpoint_minutes={_CHECKPOINT_MINUTES}',
      '--picture_minutes=0',
      *self.plan.flags,
      *mark.flags(),
      *(['--resume'] if begun else []),
    ]

  def _has_come_to(self, mark: Mark) -> bool:
    """Whether the run has ended at the mark.

    Raises:
      RunError: it has gone on to a later one.
    """
    try:
      return progress.has_ended(self._workdir, *mark.end())
    except progress.BeyondError as error:
      raise RunError(
        f'it has gone beyond {mark}, whose row was not kept; choose another '
        f'--name, or delete {self._workdir} to train it anew.'
      ) from error

  def _make_row(self, mark: Mark, commit: str) -> Mapping[str, Any]:
    summary = progress.read_json(os.path.join(self._workdir, 'summary.json'))
    evaluation = progress.newest_evaluation(self._workdir)
    if evaluation['steps'] != summary['steps']:
      raise RunError(
        f'its last checkpoint is damaged; delete {self._workdir} to train it '
        'anew.'
      )
    reference = atari_scores.REFERENCES.get(self._game)
    return {
      'game': self._game,
      'seed': self._seed,
      'mark': mark,
      'steps': summary['steps'],
      'updates': summary['updates'],
      'cpu_seconds': round(summary['cpu_seconds'], 1),
      'wall_seconds': round(summary['seconds'], 1),
      **{name: evaluation[name] for name in STATISTICS},
      'random': reference and reference.random,
      'human': reference and reference.human,
      'commit': commit,
      'date': datetime.datetime.now().astimezone().isoformat('T', 'seconds'),
      'configuration': self.plan.configuration,
    }

  def _make_episodes(self) -> list[Mapping[str, Any]]:
    learned = self._read_log('level_0')
    return [
      {
        'game': self._game,
        'seed': self._seed,
        'steps': row['actor_steps'],
        'updates': updates_until(int(row['actor_steps']), learned),
        'walltime': f'{float(row["walltime"]):.1f}',
        'episode_return': row['episode_return'],
      }
      for row in self._read_log('episodes')
    ]

  def _read_log(self, label: str) -> list[tables.Row]:
    path = os.path.join(self._workdir, 'logs', f'{label}.csv')
    with open(path, newline='') as file:
      return list(csv.DictReader(file))


def updates_until(steps: int, log: Sequence[tables.Row]) -> int:
  """How many there were, where a log has only every tenth."""
  if not log:
    return 0
  known = [
    [int(row[name]) for row in log] for name in ('actor_steps', 'learner_steps')
  ]
  return round(np.interp(steps, *known, left=0))


class Progress:
  """Tells each new row, and how long the others may take."""

  def __init__(self, runs: Sequence[Run], workers: int):
    self._runs = runs
    self._workers = workers
    self._rows = sum(len(run.plan.marks) for run in runs)
    self._done = self._rows - sum(len(run.missing) for run in runs)
    # What was done since the start: of CPU minutes or steps, and in how many
    # seconds of a worker.
    self._amount = self._seconds = 0.0

  def report(self, run: Run, mark: Mark, row: Mapping[str, Any]):
    self._done += 1
    self._seconds += time.monotonic() - run.since
    self._amount += mark.stretch
    left = datetime.timedelta(seconds=round(self._seconds_left(run)))
    print(
      f'[{self._done}/{self._rows}, about {left} left] {run}, {mark}: '
      f'{readable(row["mean"], row["standard_error"])}, '
      + (
        ''
        if row['human_normalised'] is None
        else f'human-normalised {row["human_normalised"]:.3f}, '
      )
      + f'{row["steps"]} steps, {row["updates"]} updates, '
      f'{row["cpu_seconds"] / 60:.1f} CPU minutes',
      flush=True,
    )

  def _seconds_left(self, reported: Run) -> float:
    """As if all went on as so far."""
    amount = sum(mark.stretch for run in self._runs for mark in run.missing)
    amount -= reported.missing[0].stretch
    spent = sum(
      time.monotonic() - run.since
      for run in self._runs
      if run.since is not None and run is not reported
    )
    unfinished = sum(bool(run.missing) for run in self._runs)
    seconds = amount * self._seconds / self._amount - spent
    return max(seconds, 0.0) / min(self._workers, unfinished)


class Worker:
  """A core, and the run that is at work there, if one is."""

  def __init__(self, core: int):
    self._core = core
    self.run: Run | None = None
    self._commands = iter(())
    self._process = None
    self._stopping = False

  def start(self, run: Run, teller: Progress):
    """Begins with a run; raises RunError."""
    self.run = run
    self._commands = run.commands(teller.report)
    self._next()

  def poll(self):
    """Goes on with the run if its process has ended.

    Raises:
      RunError: it has failed.
    """
    code = self._process.poll()
    if code is None:
      return
    if not code:
      self._next()
    elif self._stopping:
      self.run = None
    else:
      said = [f'  {line}' for line in processes.read_end(self.run.log)]
      raise RunError(
        '\n'.join(
          [
            f'exit code {code} of {" ".join(self._process.args[1:])}; the last '
            f'lines of {self.run.log}:',
            *said,
          ]
        )
      )

  def _next(self):
    command = next(self._commands, None)
    if command is None or self._stopping:
      self.run = None
      return
    self._process = processes.start(
      command,
      self.run.log,
      [self._core],
      {'JAX_PLATFORMS': 'cpu'},
      benchmarks.ROOT,
    )

  def stop(self):
    """Has the process save and end."""
    self._stopping = True
    if self.run:
      self._process.send_signal(signal.SIGINT)

  def kill(self):
    """Ends the process at once."""
    if self._process:
      self._process.kill()
      self._process.wait()


def work(runs: Sequence[Run], cores: Sequence[int], program: str) -> int:
  """Makes all missing rows, and says so; returns an exit code.

  Args:
    runs: in the order in which they begin.
    cores: of the CPU.
    program: that is at work, to call what fails by it.
  """
  waiting = collections.deque(run for run in runs if run.missing)
  workers = [Worker(core) for core in cores]
  teller = Progress(runs, len(workers))
  code, stopping = 0, False
  with contextlib.ExitStack() as stack:
    for worker in workers:
      stack.callback(worker.kill)
    interruption = stack.enter_context(console.Interruption())
    # A second Ctrl-C.
    stack.enter_context(contextlib.suppress(KeyboardInterrupt))
    while waiting or any(worker.run for worker in workers):
      if interruption.requested and not stopping:
        stopping = True
        waiting.clear()
        for worker in workers:
          worker.stop()
      for worker in workers:
        try:
          if worker.run:
            worker.poll()
          elif waiting:
            worker.start(waiting.popleft(), teller)
        except RunError as error:
          print(
            f'{program}: {worker.run}: {error}', file=sys.stderr, flush=True
          )
          worker.run.missing, worker.run.since = [], None
          worker.run = None
          code = 1
      time.sleep(_POLL_SECONDS)
  return INTERRUPTED if interruption.requested else code


def readable(mean: float, error: float | None) -> str:
  return f'{mean:,.2f}' + ('' if error is None else f' ± {error:,.2f}')
