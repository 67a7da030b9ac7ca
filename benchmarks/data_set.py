"""Plays an environment, and keeps the steps for world models to learn from.

  python -m benchmarks.data_set --env=minatar/Breakout --path=breakout.npz
  python -m benchmarks.data_set --policy=runs/krull --path=krull.npz \\
      --env=atari/Krull --steps=50000

Actions are random, or those of a run's policy.
"""

from collections.abc import Callable, Sequence
import sys
from typing import Any

from absl import app, flags
import jax
import numpy as np

from acme_hieros import command_line
from acme_hieros.agent import networks as networks_lib
from acme_hieros.environments import make_environment
from acme_hieros.experiments import runs
from acme_hieros.models import level as level_lib
from acme_hieros.models import spaces
from benchmarks import world_models

_ENV = flags.DEFINE_string('env', 'minatar/Breakout', 'What is played.')
_ENV_OPTION = flags.DEFINE_multi_string(
  'env_option', [], 'An option of the environment, as name=value.'
)
_POLICY = flags.DEFINE_string(
  'policy', None, 'The work directory of a run that plays; default: at random.'
)
_STEPS = flags.DEFINE_integer('steps', 20_000, 'To play.', lower_bound=1000)
_SEED = flags.DEFINE_integer('seed', 0, 'Random seed.')
_PATH = flags.DEFINE_string('path', None, 'The .npz file to write.')


def main(argv: Sequence[str]):
  command_line.refuse_arguments(argv)
  try:
    if not _PATH.value:
      raise ValueError('--path has to name the file that is written.')
    options = command_line.read_options(_ENV_OPTION)
    environment = make_environment(_ENV.value, _SEED.value, **options)
    action = spaces.action_space(environment.action_spec())
    choose = (
      play_learned(_POLICY.value, _SEED.value)
      if _POLICY.value
      else world_models.play_randomly(action, _SEED.value)
    )
    data = world_models.DataSet(
      _ENV.value,
      world_models.play(environment, choose, _STEPS.value),
      spaces.observation_spaces(environment.observation_spec()),
      action,
    )
    world_models.save(_PATH.value, data)
  except (ValueError, OSError) as error:
    sys.exit(f'data_set: {error}')
  print(
    f'{_PATH.value}: {_STEPS.value} steps of {_ENV.value}, '
    f'{data.steps.start_of_episode.sum()} episodes begun, '
    f'{data.steps.reward.mean():.4g} reward a step.'
  )


def play_learned(workdir: str, seed: int) -> Callable[[Any, bool], np.ndarray]:
  """For `world_models.play`: actions of the policy that a run has learned."""
  learned = runs.read_learned(workdir)
  policy = networks_lib.make_batch_policy(learned.networks)
  params = [level_lib.policy_params(s.params) for s in learned.state]
  select_actions = jax.jit(policy.select_actions)
  state = policy.init(jax.random.PRNGKey(seed), 1)

  def choose(observation, first):
    nonlocal state
    batch = {name: x[None] for name, x in observation.items()}
    chosen, state = select_actions(params, batch, state, np.array([first]))
    return np.asarray(chosen[0])

  return choose


if __name__ == '__main__':
  app.run(main)
