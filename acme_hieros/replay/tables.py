"""One Reverb table a level, and what its sequences look like."""

from acme_hieros import compat  # noqa: F401, I001  Comes before Acme.

from typing import Any

from acme import specs
from acme.adders.reverb import base as reverb_base
import numpy as np
import reverb
import tensorflow as tf
import tree

from acme_hieros.config import HierosConfig
from acme_hieros.models import hierarchy, spaces
from acme_hieros.replay import etbs

# The table of environment steps that holds the replay ratio.
STEP_TABLE = 'steps'

# How many steps actors may be ahead of the learner.
_MOST_STEPS_AHEAD = 64


def table_name(level: int) -> str:
  """The table of a level's sequences."""
  return f'level_{level}'


def step_spec(
  networks: hierarchy.Hierarchy, environment: specs.EnvironmentSpec, level: int
) -> reverb_base.Step:
  """What one step of a level's sequences holds, as dm_env specs."""
  own = networks.levels[level]

  def array(space) -> specs.Array:
    return specs.Array(space.shape, space.dtype)

  extras = {'log_prob': specs.Array((), np.float32)}
  if own.subgoal_space:
    extras['subgoal'] = specs.Array(own.subgoal_space.shape, np.uint8)
  return reverb_base.Step(
    observation=environment.observations
    if level == 0
    else {name: array(space) for name, space in own.observation_spaces.items()},
    action=_actions(networks.action_space, environment.actions)
    if level == 0
    else array(own.action_space),
    reward=specs.Array((), np.float32),
    discount=specs.Array((), np.float32),
    start_of_episode=specs.Array((), bool),
    extras=extras,
  )


def _actions(space: spaces.ActionSpace, spec: Any) -> Any:
  """The spec, nested as actors nest their actions."""
  if not isinstance(space, spaces.Joint):
    return spec
  return space.nested(spaces.flatten_observation(spec))


def signature(spec: Any, sequence_length: int) -> Any:
  """The Reverb signature of sequences of such steps."""
  return tree.map_structure_with_path(
    lambda path, s: tf.TensorSpec(
      (sequence_length,) + tuple(s.shape), s.dtype, '/'.join(map(str, path))
    ),
    spec,
  )


def make_step_table(config: HierosConfig) -> reverb.Table:
  """Creates the table by which Reverb holds the replay ratio.

  Actors put an item into it for each environment step, and the learner takes a
  sample for each of its own; whoever is ahead waits. This holds the ratio for
  every level, since each is due at every so many of the learner's steps.
  Limiters of the levels' own tables could not: the end of an episode adds a
  sequence to each, so that their rates depend on how long episodes are.
  """
  ratio = config.updates_per_step
  owed_from = ratio * config.replay.min_size
  return reverb.Table(
    name=STEP_TABLE,
    sampler=reverb.selectors.Uniform(),
    remover=reverb.selectors.Fifo(),
    max_size=config.replay.min_size,
    rate_limiter=reverb.rate_limiters.SampleToInsertRatio(
      samples_per_insert=ratio,
      min_size_to_sample=config.replay.min_size,
      # The learner is never ahead of what it owes. Actors are, so that they
      # can act while it learns.
      error_buffer=(
        owed_from,
        # Reverb asks for so much at least, of a difference, which is rounded.
        owed_from + 1.001 * max(2.0, 2.0 * ratio, ratio * _MOST_STEPS_AHEAD),
      ),
    ),
    signature=tf.TensorSpec((1,), bool),
  )


def make_tables(
  config: HierosConfig,
  networks: hierarchy.Hierarchy,
  environment: specs.EnvironmentSpec,
  seed: int | None = None,
) -> list[reverb.Table]:
  """Creates a table a level, level 0 first; the oldest sequences leave first.

  Args:
    config: of the agent.
    networks: whose levels' steps the tables hold.
    environment: of level 0.
    seed: decides the draws of ETBS; None: a random one. Reverb's own samplers
      cannot be seeded.
  """
  if config.replay.sampler == 'etbs':
    make_table = etbs.make_table
    seeds = np.random.SeedSequence(seed).generate_state(config.depth, np.uint64)
    samplers = [etbs.Etbs(config.replay.temperature, s) for s in seeds.tolist()]
  else:
    make_table = reverb.Table
    samplers = [reverb.selectors.Uniform() for _ in range(config.depth)]
  return [
    make_table(
      name=table_name(level),
      sampler=sampler,
      remover=reverb.selectors.Fifo(),
      max_size=config.replay.capacity,
      rate_limiter=reverb.rate_limiters.MinSize(config.least_sequences(level)),
      signature=signature(
        step_spec(networks, environment, level), config.sequence_length
      ),
    )
    for level, sampler in enumerate(samplers)
  ]
