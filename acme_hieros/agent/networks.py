"""The hierarchy for an environment, and its policy as an Acme actor core."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import functools
from typing import Any, NamedTuple

from acme import specs
from acme.agents.jax import actor_core
import jax

from acme_hieros.agent import adders
from acme_hieros.config import HierosConfig
from acme_hieros.models import hierarchy, spaces

Array = jax.Array


def make_networks(
  config: HierosConfig, environment: specs.EnvironmentSpec
) -> hierarchy.Hierarchy:
  """Builds the hierarchy; raises ValueError if no encoder or actor fits."""
  return hierarchy.Hierarchy(
    config,
    observation_spaces=spaces.observation_spaces(environment.observations),
    action_space=spaces.action_space(environment.actions),
  )


@dataclasses.dataclass
class HierosPolicy(actor_core.ActorCore[hierarchy.ActorState, adders.Extras]):
  """An actor core that can also say how an episode's end looks to each level.

  end: (params, last observation, state) -> the upper levels' windows.
  observation_spaces: what the environment shows, by name.
  action_space: what it chooses from.
  """

  observation_spaces: Mapping[str, spaces.ObservationSpace]
  end: Callable[[Any, Any, hierarchy.ActorState], Sequence[hierarchy.Window]]
  action_space: spaces.ActionSpace


class BatchPolicy(NamedTuple):
  """The policy of N environments at once, whose episodes start when they do.

  init: (key, N) -> state.
  select_actions: (params, observations [N, ...], state, starting [N]) ->
    (actions [N, ...], state); where an episode starts the past is forgotten.
  level_steps: state -> each level's LevelStep [N, ...], of NumPy's arrays.
  end: (params, observations [N, ...], state) -> windows [N, ...].
  action_space: what it chooses from.
  """

  init: Callable[[Array, int], hierarchy.ActorState]
  select_actions: Callable[
    [Any, Any, hierarchy.ActorState, Array], tuple[Array, hierarchy.ActorState]
  ]
  level_steps: Callable[[hierarchy.ActorState], Sequence[hierarchy.LevelStep]]
  end: Callable[[Any, Any, hierarchy.ActorState], Sequence[hierarchy.Window]]
  action_space: spaces.ActionSpace


def make_batch_policy(
  networks: hierarchy.Hierarchy, deterministic: bool = False
) -> BatchPolicy:
  """The hierarchy's policy in several environments.

  Args:
    networks: from `make_networks`.
    deterministic: take the likeliest actions and subgoals instead of sampling;
      the stochastic state is sampled all the same.
  """

  def end(params, observations, state):
    return networks.end(params, spaces.flatten_observation(observations), state)

  return BatchPolicy(
    init=networks.initial_state,
    select_actions=functools.partial(networks.act, deterministic=deterministic),
    level_steps=lambda state: _level_steps(networks, state),
    end=end,
    action_space=networks.action_space,
  )


def make_policy(
  networks: hierarchy.Hierarchy, deterministic: bool = False
) -> HierosPolicy:
  """The hierarchy's policy in one environment; see `make_batch_policy`."""

  def batch(observation):
    observation = spaces.flatten_observation(observation)
    return {name: value[None] for name, value in observation.items()}

  def select_action(params, observation, state):
    actions, state = networks.step(
      params, batch(observation), state, deterministic
    )
    return row(actions, 0), state

  return HierosPolicy(
    init=functools.partial(networks.initial_state, batch_size=1),
    select_action=select_action,
    get_extras=lambda state: adders.Extras(
      steps=row(_level_steps(networks, state), 0)
    ),
    end=lambda params, observation, state: row(
      networks.end(params, batch(observation), state), 0
    ),
    observation_spaces=networks.observation_spaces,
    action_space=networks.action_space,
  )


def _level_steps(
  networks: hierarchy.Hierarchy, state: hierarchy.ActorState
) -> Sequence[hierarchy.LevelStep]:
  # Not under jit, where slices of JAX's arrays would be slow.
  return networks.level_steps(jax.device_get(state.did))


def row(batch: Any, index: int) -> Any:
  """One environment's part of a tree of [N, ...]."""
  return jax.tree.map(lambda x: x[index, ...], batch)
