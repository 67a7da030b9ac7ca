"""What level 0 expects if it goes on as it would, without looking."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from acme_hieros.models import distributions, hierarchy, spaces, world_model
from acme_hieros.models import level as level_lib

Array = jax.Array


class Dream(NamedTuple):
  """H steps ahead of N environments.

  observation: expected after each action, as the environments would show it, by
    name, [N, H, ...].
  action: as the environments would take it, [N, H, ...].
  reward: that each is expected to bring, as it is learned: its tanh where
    `reward_transform` says so; [N, H].
  continuation: probability that the episode goes on after it, [N, H].
  """

  observation: dict[str, Array]
  action: Array
  reward: Array
  continuation: Array


def dream(
  level: level_lib.Level,
  params: level_lib.Params,
  key: Array,
  memory: hierarchy.LevelMemory,
  code: Array | None,
  steps: int,
  deterministic: bool = False,
) -> Dream:
  """Imagines, from what an actor knows and has just chosen.

  Args:
    level: the lowest.
    params: all of its parameters.
    key: random key.
    memory: of the level after a step, [N, ...].
    code: the subgoal that it has, [N, G], which holds all the time; or None.
    steps: H.
    deterministic: take the likeliest actions instead of sampling.
  """
  acting = level_lib.PolicyParams(
    params.world_model, params.actor, params.manager
  )
  nobody_starts = jnp.zeros(memory.action.shape[:1], bool)

  def step(carry, key):
    state, action, policy = carry
    model_key, act_key = jax.random.split(key)
    state = level.world_model.imagine_step(
      params.world_model, model_key, state, action
    )
    chosen, _, policy = level.act(
      acting, act_key, state, code, policy, nobody_starts, deterministic
    )
    return (state, chosen, policy), (state, action)

  _, imagined = jax.lax.scan(
    step,
    (memory.state, memory.action, memory.policy),
    jax.random.split(key, steps),
  )
  states, actions = jax.tree.map(lambda x: x.swapaxes(0, 1), imagined)
  prediction = level.world_model.predict(params.world_model, states)
  return Dream(
    observation=as_shown(
      level.observation_spaces,
      level.world_model.decode(params.world_model, states),
    ),
    action=level.action_space.decode(actions),
    reward=prediction.reward,
    continuation=prediction.continuation,
  )


def follow(
  level: level_lib.Level,
  params: Any,
  key: Array,
  state: world_model.State,
  action: Array,
) -> tuple[world_model.State, dict[str, Array]]:
  """One step of `diagnostics.forecast`: what an action is expected to lead to.

  Args:
    level: the lowest.
    params: of its world model.
    key: random key.
    state: that it is in, or is expected to be in, [N, ...].
    action: that was taken there, encoded, [N, A].

  Returns:
    The next state, and what it would show, by name, [N, ...].
  """
  state = level.world_model.imagine_step(params, key, state, action)
  decoded = level.world_model.decode(params, state)
  return state, as_shown(level.observation_spaces, decoded)


def as_shown(
  observation_spaces: Mapping[str, spaces.ObservationSpace],
  decoded: Mapping[str, Array],
) -> dict[str, Array]:
  """What a decoder says, [..., any], as environments show it, [..., *shape]."""
  return {
    name: _as_shown(space, decoded[name])
    for name, space in observation_spaces.items()
  }


def _as_shown(space: spaces.ObservationSpace, decoded: Array) -> Array:
  if isinstance(space, spaces.Image):
    pixels = jnp.round(255.0 * jnp.clip(decoded + 0.5, 0.0, 1.0))
    return pixels.astype(jnp.uint8)
  if isinstance(space, spaces.OneHot):
    shape = (*decoded.shape[:-1], *space.shape, space.classes)
    return jnp.argmax(decoded.reshape(shape), -1)
  return distributions.symexp(decoded).reshape(
    (*decoded.shape[:-1], *space.shape)
  )
