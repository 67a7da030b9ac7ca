"""Plays an environment, and keeps the steps for world models to learn from.

  python -m benchmarks.data_set --env=minatar/Breakout --path=breakout.npz
  python -m benchmarks.data_set --policy=runs/krull --path=krull.npz \\
      --steps=50000

Actions are random, or those of a run's policy, which plays what it has learned.
"""

from collections.abc import Callable, Mapping, Sequence
import os
import sys
from typing import Any

from absl import app, flags
import dm_env
import jax
import numpy as np

from acme_hieros import command_line
from acme_hieros.agent import networks as networks_lib
from acme_hieros.environments import make_environment
from acme_hieros.experiments import runs
from acme_hieros.models import level as level_lib
from acme_hieros.models import spaces
from benchmarks import world_models

_ENV = flags.DEFINE_string(
  'env',
  None,
  'What is played; default: what the run of --policy was, or minatar/Breakout.',
)
_ENV_OPTION = flags.DEFINE_multi_string(
  'env_option',
  [],
  'An option of the environment, as name=value; default: those of the run of '
  '--policy, if it played this environment.',
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
    _check_path(_PATH.value)
    learned = None
    if _POLICY.value:
      learned = runs.read_learned(_POLICY.value, environment=_ENV.value)
    name, environment = _make_environment(learned)
    observation = spaces.observation_spaces(environment.observation_spec())
    action = spaces.action_space(environment.action_spec())
    if learned:
      _check_spaces(learned, name, observation, action)
    choose = (
      play_learned(learned, _SEED.value)
      if learned
      else world_models.play_randomly(action, _SEED.value)
    )
    data = world_models.DataSet(
      name,
      world_models.play(environment, choose, _STEPS.value),
      observation,
      action,
    )
    world_models.save(_PATH.value, data)
  except (ValueError, OSError) as error:
    sys.exit(f'data_set: {error}')
  print(
    f'{_PATH.value}: {_STEPS.value} steps of {name}, '
    f'{data.steps.start_of_episode.sum()} episodes begun, '
    f'{data.steps.reward.mean():.4g} reward a step.'
  )


def _check_path(path: str | None):
  """Raises ValueError if nothing could be written there after all the steps."""
  if not path:
    raise ValueError('--path has to name the file that is written.')
  directory = os.path.dirname(path) or '.'
  if not os.path.isdir(directory):
    raise ValueError(
      f'--path={path} cannot be written: make the directory {directory} first.'
    )
  if os.path.isdir(path):
    raise ValueError(f'--path={path} is a directory: name a file in it.')


def _make_environment(
  learned: runs.Learned | None,
) -> tuple[str, dm_env.Environment]:
  """What the flags name, or else what the run played; and its name."""
  name, options = _ENV.value, {}
  if learned:
    name = name or learned.run.environment_name
    if name == learned.run.environment_name:
      options.update(learned.run.environment_options)
  name = name or 'minatar/Breakout'
  options.update(command_line.read_options(_ENV_OPTION))
  return name, make_environment(name, _SEED.value, **options)


def _check_spaces(
  learned: runs.Learned,
  name: str,
  observation: Mapping[str, spaces.ObservationSpace],
  action: spaces.ActionSpace,
):
  """Raises ValueError if a run's policy cannot play an environment of these."""
  networks = learned.networks
  for what, found, wanted in (
    ('observations', observation, networks.observation_spaces),
    ('actions', action, networks.action_space),
  ):
    if found != wanted:
      raise ValueError(
        f'{name} has other {what} here than {learned.run.environment_name} had '
        f'in {learned.run.workdir}, whose policy cannot play it: leave out '
        '--env and --env_option, or --policy.'
      )


def play_learned(
  learned: runs.Learned, seed: int
) -> Callable[[Any, bool], np.ndarray]:
  """For `world_models.play`: actions of the policy that a run has learned."""
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
