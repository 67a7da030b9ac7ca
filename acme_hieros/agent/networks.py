"""The hierarchy for an environment, and its policy as an Acme actor core."""

from collections.abc import Callable, Sequence
import dataclasses
import functools
from typing import Any

from acme import specs
from acme.agents.jax import actor_core
import numpy as np

from acme_hieros.agent import adders
from acme_hieros.config import HierosConfig
from acme_hieros.models import hierarchy, spaces


def make_networks(
  config: HierosConfig, environment: specs.EnvironmentSpec
) -> hierarchy.Hierarchy:
  """Builds the hierarchy; raises ValueError if no encoder or actor fits."""
  return hierarchy.Hierarchy(
    config,
    observation=spaces.observation_spaces(environment.observations),
    action=spaces.action_space(environment.actions),
  )


@dataclasses.dataclass
class HierosPolicy(actor_core.ActorCore[hierarchy.ActorState, adders.Extras]):
  """An actor core that can also say how an episode's end looks to each level.

  end: (params, last observation, state) -> the upper levels' windows.
  action_dtype: of the environment's action spec.
  """

  end: Callable[[Any, Any, hierarchy.ActorState], Sequence[hierarchy.Window]]
  action_dtype: np.dtype


def make_policy(
  networks: hierarchy.Hierarchy, deterministic: bool = False
) -> HierosPolicy:
  """The hierarchy's policy.

  Args:
    networks: from `make_networks`.
    deterministic: take the likeliest actions and subgoals instead of sampling;
      the stochastic state is sampled all the same.
  """

  def flat_observation(function):

    @functools.wraps(function)
    def wrapped(params, observation, state):
      return function(params, spaces.flatten_observation(observation), state)

    return wrapped

  return HierosPolicy(
    init=networks.initial_state,
    select_action=flat_observation(
      functools.partial(networks.step, deterministic=deterministic)
      if deterministic
      else networks.step
    ),
    get_extras=lambda state: adders.Extras(steps=state.steps),
    end=flat_observation(networks.end),
    action_dtype=networks.action.dtype,
  )
