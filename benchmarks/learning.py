"""Shows that Hieros learns: small environments, three seeds each.

  python -m benchmarks.learning
  python -m benchmarks.learning --case=catch --seeds=1

Each run is one of the launcher's; its files stay in --workdir. Prints one line
a run and, last, one JSON line. Exits with 1 if a run misses its mark.
"""

from collections.abc import Sequence
import dataclasses
import json
import os
import subprocess
import sys

from absl import app, flags
import jax
import numpy as np

from acme_hieros import (
  command_line,
  compat,  # noqa: F401  Comes before Acme.
)
from acme_hieros.experiments import runs
from acme_hieros.models import level, spaces
import benchmarks

_CASES = flags.DEFINE_multi_string(
  'case', [], 'Cases to run; default: all. May be repeated.'
)
_SYSTEM = flags.DEFINE_string('system', 'hieros', 'What is computed.')
_SEEDS = flags.DEFINE_integer('seeds', 3, 'Runs of each case.')
_WORKDIR = flags.DEFINE_string('workdir', 'runs/learning', 'Where the runs go.')


@dataclasses.dataclass(frozen=True)
class Case:
  """A run of the launcher and the mean return its last 100 episodes must have.

  minutes: that it may take on two CPU cores; None if that does not count.
  balls: of each episode, by which the returns are divided.
  late_loss: how much less a ball may bring late in an episode than early; then
    episodes are played by what was learned. None if they are short.
  """

  flags: Sequence[str]
  mark: float
  minutes: float | None = None
  balls: int = 1
  late_loss: float | None = None


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
      # Noise adds up in a memory of 15 steps: a small, sharp code, a memory
      # that its readers can follow, and a policy that may settle. Cue and
      # answer are two weak signals in h whose product is the reward: one wide
      # layer finds it, two narrow ones do not.
      '--override=world_model.categoricals=4',
      '--override=world_model.posterior_init_scale=8',
      '--override=world_model.core_learning_rate_scale=0.1',
      '--override=world_model.head_layers=1',
      '--override=world_model.head_units=256',
      '--override=world_model.free_nats=1',
      '--override=actor_critic.entropy_scale=0.01',
    ],
    0.9,
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
  results = []
  for name in _CASES.value or CASES:
    case = CASES[name]
    for seed in range(_SEEDS.value):
      workdir = os.path.join(_WORKDIR.value, f'{name}-{seed}')
      subprocess.run(
        [
          sys.executable,
          benchmarks.LAUNCHER,
          '--preset=tiny',
          f'--system={_SYSTEM.value}',
          f'--seed={seed}',
          f'--workdir={workdir}',
          *case.flags,
        ],
        check=True,
      )
      with open(os.path.join(workdir, 'summary.json')) as file:
        summary = json.load(file)
      minutes = summary['seconds'] / 60
      mean = summary['mean_return'] / case.balls
      passed = mean >= case.mark and (
        case.minutes is None or minutes <= case.minutes
      )
      results.append(
        {
          'case': name,
          'seed': seed,
          'mean_return': mean,
          'mark': case.mark,
          'minutes': round(minutes, 2),
          'passed': passed,
        }
      )
      print(
        '{case} seed {seed}: mean return {mean_return:.3f} (mark {mark}), '
        '{minutes} minutes'.format(**results[-1]),
        flush=True,
      )
      if case.late_loss is not None:
        early, late = early_and_late(workdir)
        results[-1].update(early=early, late=late)
        results[-1]['passed'] &= late >= early - case.late_loss
        print(f'  a ball early {early:.3f}, late {late:.3f}', flush=True)
  print(json.dumps(results))
  sys.exit(0 if all(result['passed'] for result in results) else 1)


def early_and_late(workdir: str, episodes: int = 40) -> tuple[float, float]:
  """Mean reward of a ball in the first T steps, and in the second half.

  Args:
    workdir: of a run on catch, whose newest checkpoint plays.
    episodes: to play, all at once.
  """
  learned = runs.read_learned(workdir)
  networks = learned.networks
  params = [level.policy_params(state.params) for state in learned.state]
  step = jax.jit(networks.step)
  state = networks.initial_state(jax.random.PRNGKey(0), episodes)
  environments = [
    learned.run.make_environment(seed) for seed in range(episodes)
  ]
  timesteps = [environment.reset() for environment in environments]
  rewards = []
  while not timesteps[0].last():  # All episodes are of one length.
    observation = jax.tree.map(
      lambda *x: np.stack(x),
      *(spaces.flatten_observation(t.observation) for t in timesteps),
    )
    actions, state = step(params, observation, state)
    actions = np.asarray(actions)
    timesteps = [e.step(a) for e, a in zip(environments, actions)]
    rewards.append([t.reward for t in timesteps])
  rewards = np.array(rewards)
  parts = (
    rewards[: learned.run.config.sequence_length],
    rewards[len(rewards) // 2 :],
  )
  return tuple(float(part[part != 0].mean()) for part in parts)


if __name__ == '__main__':
  app.run(main)
