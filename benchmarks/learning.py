"""Shows that Hieros learns: small environments, three seeds each.

  python -m benchmarks.learning
  python -m benchmarks.learning --case=catch --seeds=1
  python -m benchmarks.learning --system=rssm --case=catch --case=recall

Each run is one of the launcher's; its files stay in --workdir. A row a run is
kept in benchmarks/results/<name>.csv, and what has one is not run again; the
same command goes on with what was interrupted. Prints one line a run and,
last, one JSON line. Exits with 1 if a run misses its mark.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import datetime
import json
import os
import signal
import subprocess
import sys
import time
from typing import Any

from absl import app, flags
import jax
import numpy as np

from acme_hieros import (
  command_line,
  compat,  # noqa: F401  Comes before Acme.
)
from acme_hieros import config as config_lib
from acme_hieros.agent import networks as networks_lib
from acme_hieros.experiments import console, runs
from acme_hieros.models import level
import benchmarks
from benchmarks import campaign, commits, tables

_CASES = flags.DEFINE_multi_string(
  'case', [], 'Cases to run; default: all. May be repeated.'
)
_SYSTEM = flags.DEFINE_string('system', 'hieros', 'What is computed.')
_SEEDS = flags.DEFINE_integer('seeds', 3, 'Runs of each case.')
_WORKDIR = flags.DEFINE_string('workdir', 'runs/learning', 'Where the runs go.')
_NAME = flags.DEFINE_string('name', 'learning', 'Of the table.')
_RESULTS = flags.DEFINE_string(
  'results', benchmarks.RESULTS, 'Where the table goes.'
)

_PRESET = 'tiny'

COLUMNS = (
  'case',
  'system',
  'seed',
  'mean_return',
  'mark',
  'flags',
  'early',
  'late',
  'minutes',
  'cpu_minutes',
  'passed',
  'commit',
  'date',
)

_POLL_SECONDS = 0.2


@dataclasses.dataclass(frozen=True)
class Case:
  """A run of the launcher and the mean return its last 100 episodes must have.

  cpu_minutes: of learning that it may take; None if that does not count.
  balls: of each episode, by which the returns are divided.
  late_loss: how much less a ball may bring late in an episode than early; then
    episodes are played by what was learned. None if they are short.
  by_core: more flags for systems with such a memory.
  """

  flags: Sequence[str]
  mark: float
  cpu_minutes: float | None = None
  balls: int = 1
  late_loss: float | None = None
  by_core: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)

  def flags_of(self, system: str) -> list[str]:
    """Flags of the launcher for a run of this system, but for its name."""
    core = config_lib.preset(_PRESET, system).world_model.core
    return [*self.flags, *self.by_core.get(core, ())]


_RECALL = (
  # Noise adds up in a memory of 15 steps: a small, sharp code, a memory that
  # its readers can follow, and a policy that may settle. Cue and answer are two
  # weak signals in h whose product is the reward: one wide layer finds it, two
  # narrow ones do not.
  '--override=world_model.categoricals=4',
  '--override=world_model.posterior_init_scale=8',
  '--override=world_model.core_learning_rate_scale=0.1',
  '--override=world_model.head_layers=1',
  '--override=world_model.head_units=256',
  '--override=world_model.free_nats=1',
  '--override=actor_critic.entropy_scale=0.01',
)

# An S5 remembers from its first update on. An S3M has to learn to, as fast as
# all else is learned; GRUs take long.
_FAST_CORE = ('--override=world_model.core_learning_rate_scale=1',)
_LONGER = ('--num_steps=20000',)

CASES = {
  'catch': Case(
    [
      '--env=debug/catch',
      '--depth=1',
      '--num_steps=15000',
      # The policy that is sampled from is the one that is measured.
      '--override=actor_critic.entropy_scale=0.02',
    ],
    0.9,
    15.0,
  ),
  'catch_depth2': Case(
    [
      '--env=debug/catch',
      '--depth=2',
      '--num_steps=10000',
      '--override=actor_critic.entropy_scale=0.02',
      # The subgoals of a level that has not learned yet are random: whoever
      # follows them misses balls.
      '--override=actor_critic.subgoal_weight=0.1',
    ],
    0.8,
  ),
  # Episodes of ten times what a memory holds. What counts is whether the agent
  # acts as well in their second half as in the first T steps.
  'catch_long': Case(
    [
      '--env=debug/catch',
      '--env_option=balls=60',
      '--depth=1',
      '--num_steps=15000',
      '--override=actor_critic.entropy_scale=0.02',
      # The length of an episode says nothing of its end.
      '--override=actor_critic.discount=0.9',
    ],
    # Of all balls from the first on, when nothing had been learned.
    0.2,
    balls=60,
    late_loss=0.03,
  ),
  'recall': Case(
    [
      '--env=debug/recall',
      '--env_option=delay=15',
      '--depth=1',
      '--num_steps=10000',
      *_RECALL,
    ],
    0.9,
    by_core={'s3m': _FAST_CORE, 'gru': _LONGER, 'block_gru': _LONGER},
  ),
  'recall_60': Case(
    [
      '--env=debug/recall',
      '--env_option=delay=60',
      '--depth=1',
      '--num_steps=40000',
      # A batch holds sixteen answers; half as many taught nothing.
      '--override=replay.ratio=160',
      '--override=batch_size=8',
      # An actor's memory is never shorter than half of a sequence.
      '--override=sequence_length=128',
      *_RECALL,
    ],
    0.9,
    by_core={'s3m': _FAST_CORE},
  ),
}


def main(argv):
  command_line.refuse_arguments(argv)
  unknown = set(_CASES.value) - set(CASES)
  if unknown:
    sys.exit(
      f'learning: unknown case {sorted(unknown)[0]!r}; known: '
      f'{", ".join(CASES)}.'
    )
  path = os.path.join(_RESULTS.value, f'{_NAME.value}.csv')
  try:
    config_lib.preset(_PRESET, _SYSTEM.value)
    table = tables.Table(path, COLUMNS)
  except ValueError as error:
    sys.exit(f'learning: {error}')
  rows = []
  for name in _CASES.value or CASES:
    case_flags = CASES[name].flags_of(_SYSTEM.value)
    for seed in range(_SEEDS.value):
      known = table.of(
        case=name,
        system=_SYSTEM.value,
        seed=seed,
        mark=CASES[name].mark,
        flags=' '.join(case_flags),
      )
      if not known:
        table.put([run(name, case_flags, seed)])
        known = table.rows[-1:]
      rows += known
      print(describe(known[0]), flush=True)
  print(json.dumps(rows))
  sys.exit(0 if all(row['passed'] == 'True' for row in rows) else 1)


def run(name: str, case_flags: Sequence[str], seed: int) -> Mapping[str, Any]:
  """Trains, and returns a row; ends this process if the launcher fails."""
  case = CASES[name]
  commit = commits.find_commit()
  workdir = os.path.join(_WORKDIR.value, f'{name}-{_SYSTEM.value}-{seed}')
  command = [
    sys.executable,
    benchmarks.LAUNCHER,
    f'--preset={_PRESET}',
    f'--system={_SYSTEM.value}',
    f'--seed={seed}',
    f'--workdir={workdir}',
    '--auto_resume',
    *case_flags,
  ]
  code = call(command)
  if code:
    sys.exit(f'learning: {name}, seed {seed}: exit code {code}.')
  with open(os.path.join(workdir, 'summary.json')) as file:
    summary = json.load(file)
  mean = summary['mean_return'] / case.balls
  passed = mean >= case.mark and (
    case.cpu_minutes is None or summary['cpu_seconds'] <= 60 * case.cpu_minutes
  )
  early = late = None
  if case.late_loss is not None:
    early, late = early_and_late(workdir)
    passed &= late >= early - case.late_loss
  return {
    'case': name,
    'system': _SYSTEM.value,
    'seed': seed,
    'mean_return': mean,
    'mark': case.mark,
    'flags': ' '.join(case_flags),
    'early': early,
    'late': late,
    'minutes': round(summary['seconds'] / 60, 2),
    'cpu_minutes': round(summary['cpu_seconds'] / 60, 2),
    'passed': passed,
    'commit': commit,
    'date': datetime.date.today().isoformat(),
  }


def call(command: Sequence[str]) -> int:
  """The exit code of a launcher; ends this process when a signal ends both."""
  with console.Interruption() as interruption:
    # Ctrl-C is for this process, which tells the other once.
    process = subprocess.Popen(command, start_new_session=True)
    try:
      while process.poll() is None and not interruption.requested:
        time.sleep(_POLL_SECONDS)
      if interruption.requested:
        process.send_signal(signal.SIGINT)
        process.wait()
    finally:
      process.kill()
  if interruption.requested:
    sys.exit(campaign.INTERRUPTED)
  return process.returncode


def describe(row: Mapping[str, str]) -> str:
  """A row, in a line."""
  line = (
    f'{row["case"]}, {row["system"]}, seed {row["seed"]}: mean return '
    f'{float(row["mean_return"]):.3f} (mark {row["mark"]}), '
    f'{row["cpu_minutes"]} CPU minutes'
  )
  if row['late']:
    early, late = float(row['early']), float(row['late'])
    line += f'; a ball early {early:.3f}, late {late:.3f}'
  return line


def early_and_late(workdir: str, episodes: int = 40) -> tuple[float, float]:
  """Mean reward of a ball in the first T steps, and in the second half.

  Args:
    workdir: of a run on catch, whose newest checkpoint plays.
    episodes: to play, all at once.
  """
  learned = runs.read_learned(workdir)
  policy = networks_lib.make_batch_policy(learned.networks)
  params = [level.policy_params(state.params) for state in learned.state]
  select_actions = jax.jit(policy.select_actions)
  state = policy.init(jax.random.PRNGKey(0), episodes)
  environments = [
    learned.run.make_environment(seed) for seed in range(episodes)
  ]
  timesteps = [environment.reset() for environment in environments]
  rewards = []
  while not timesteps[0].last():  # All episodes are of one length.
    observations = jax.tree.map(
      lambda *x: np.stack(x), *(t.observation for t in timesteps)
    )
    starting = np.array([t.first() for t in timesteps])
    actions, state = select_actions(params, observations, state, starting)
    timesteps = [
      environment.step(action)
      for environment, action in zip(environments, np.asarray(actions))
    ]
    rewards.append([t.reward for t in timesteps])
  rewards = np.array(rewards)
  parts = (
    rewards[: learned.run.config.sequence_length],
    rewards[len(rewards) // 2 :],
  )
  return tuple(float(part[part != 0].mean()) for part in parts)


if __name__ == '__main__':
  app.run(main)
