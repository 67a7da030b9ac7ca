"""What a level believes in given states, to be looked at."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from acme_hieros.models import distributions, spaces, subgoals, world_model
from acme_hieros.models import level as level_lib
from acme_hieros.models.ops import linear

Array = jax.Array


class Beliefs(NamedTuple):
  """Of a level in N of its states.

  reward: that came with the state, as learned and predicted, [N].
  continuation: predicted, [N].
  value: by reward stream, [N].
  goal: the decoded subgoal that it was given, [N, D] in symlog space; None at
    the top.
  novelty: reward for the state, [N]; None where there is no such stream.
  observation: decoded, as the spaces encode it, by name, [N, ...].
  """

  reward: Array
  continuation: Array
  value: dict[str, Array]
  goal: Array | None
  novelty: Array | None
  observation: dict[str, Array]


def examine(
  level: level_lib.Level,
  params: level_lib.Params,
  key: Array,
  state: world_model.State,
  code: Array | None,
) -> Beliefs:
  """Asks all heads of a level.

  Args:
    level: the level.
    params: all of its parameters.
    key: random key.
    state: [N, ...].
    code: one-hot subgoals that it has, [N, G]; None at the top.
  """
  prediction = level.world_model.predict(params.world_model, state)
  inputs = level.policy_inputs(prediction.features, code)
  goal = novelty = None
  if level.autoencoder and code is not None:
    goal = level.autoencoder.decode(params.autoencoder, code)
  if level.has_novelty:
    novelty = level.novelty(params, key, state.deter, state.output)
  return Beliefs(
    reward=prediction.reward,
    continuation=prediction.continuation,
    value={
      name: level.behaviour.value(params.critics[name], inputs)
      for name in level.streams
    },
    goal=goal,
    novelty=novelty,
    observation=level.world_model.decode(params.world_model, state),
  )


def picture_subgoals(
  levels: Sequence[level_lib.Level],
  params: Sequence[level_lib.Params],
  goal: Array,
  states: world_model.State,
) -> tuple[dict[str, Array], Array, Array]:
  """Decodes subgoals of the highest of some levels down to the environment.

  A subgoal is an h and says nothing of z, which the decoder wants, too: it gets
  the z of the known state whose h is most similar. What that level's decoder
  then shows is the window of the level below, whose newest state is decoded in
  turn.

  Args:
    levels: from level 0 to the one that the subgoals are for.
    params: of these levels.
    goal: decoded subgoals [N, D], in symlog space.
    states: known states [M, ...] of the highest of the levels.

  Returns:
    The observations of level 0, as its spaces encode them, by name [N, ...];
    for each subgoal the index of the most similar known state [N] and its
    similarity [N].
  """
  similarity = subgoals.similarity(goal[:, None], states.deter[None])
  nearest = jnp.argmax(similarity, 1)
  stoch = jax.tree.map(lambda x: x[nearest], states.stoch)
  deter = distributions.symexp(goal)
  for i in reversed(range(len(levels))):
    state = levels[i].world_model.initial_context(len(goal)).state
    state = state._replace(stoch=stoch, deter=deter)
    seen = levels[i].world_model.decode(params[i].world_model, state)
    if i:
      stoch, deter = _newest(seen, levels[i].observation_spaces)
  return seen, nearest, jnp.max(similarity, 1)


def _newest(
  window: dict[str, Array],
  observation: Mapping[str, spaces.ObservationSpace],
) -> tuple[linear.OneHots, Array]:
  """The last z and h, [N, ...], of decoded windows."""
  space = observation['stoch']
  assert isinstance(space, spaces.OneHot)
  last = window['stoch'].reshape((-1, *space.shape, space.classes))[:, -1]
  stoch = linear.one_hots(jnp.argmax(last, -1), space.classes)
  deter = window['deter'].reshape((-1, *observation['deter'].shape))[:, -1]
  return stoch, distributions.symexp(deter)
