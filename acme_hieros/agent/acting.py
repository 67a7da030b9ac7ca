"""Actors: Acme's GenericActor on the hierarchy's policy, and one for many."""

from collections.abc import Callable, Sequence
import dataclasses
from typing import Any

from acme import adders as adders_lib
from acme import types
from acme.agents.jax import actors
from acme.jax import networks as networks_lib
from acme.jax import variable_utils
import dm_env
from dm_env import specs
import jax
import numpy as np
import tree

from acme_hieros.agent import networks as hieros_networks
from acme_hieros.agent.adders import Extras
from acme_hieros.environments import checking
from acme_hieros.models import hierarchy, spaces
from acme_hieros.models.ops import backend

# Actors work on the CPU, wherever the learner works.
_BACKEND = 'cpu'


class HierosActor(actors.GenericActor):
  """A GenericActor that also looks at an episode's last observation.

  Acme's loops ask for no action there, but the upper levels' replay needs to
  know what they saw at the end.

  In these loops an environment may be anybody's. What its networks or replay
  would choke on raises `checking.UnfitValueError` before it reaches them.
  """

  def __init__(
    self,
    policy: hieros_networks.HierosPolicy,
    random_key: networks_lib.PRNGKey,
    variable_client: variable_utils.VariableClient | None,
    adder: adders_lib.Adder | None = None,
  ):
    """Creates an actor; see `actors.GenericActor`."""
    # GenericActor compiles it itself.
    policy = dataclasses.replace(
      policy, select_action=backend.for_cpu(policy.select_action)
    )
    super().__init__(
      policy, random_key, variable_client, adder, backend=_BACKEND
    )
    self._end = _jit(policy.end)
    self._action_space = policy.action_space
    self._checker = checking.Checker(
      None,
      {name: _spec(space) for name, space in policy.observation_spaces.items()},
    )

  def select_action(
    self, observation: networks_lib.Observation
  ) -> networks_lib.Action:
    return self._action_space.to_numpy(super().select_action(observation))

  def observe_first(self, timestep: dm_env.TimeStep):
    self._check_observation(timestep)
    super().observe_first(timestep)

  def observe(
    self, action: networks_lib.Action, next_timestep: dm_env.TimeStep
  ):
    self._check_observation(next_timestep)
    self._checker.reward(next_timestep.reward)
    self._checker.discount(next_timestep.discount)
    if self._adder:
      extras = self._get_extras(self._state)
      if next_timestep.last():
        end = self._end(self._params, next_timestep.observation, self._state)
        extras = extras._replace(end=jax.device_get(end))
      self._adder.add(action, next_timestep, extras=extras)

  def _check_observation(self, timestep: dm_env.TimeStep):
    self._checker.observation(spaces.flatten_observation(timestep.observation))


def _spec(space: spaces.ObservationSpace) -> specs.Array:
  """What arrays in a space have to be like."""
  if isinstance(space, spaces.OneHot):
    return specs.BoundedArray(space.shape, space.dtype, 0, space.classes - 1)
  # JAX has no 64 bits.
  dtype = jax.dtypes.canonicalize_dtype(space.dtype)
  if dtype != space.dtype and dtype.kind in 'iu':
    limits = np.iinfo(dtype)
    return specs.BoundedArray(space.shape, space.dtype, limits.min, limits.max)
  return specs.Array(space.shape, space.dtype)


class BatchActor:
  """Acts in N environments at once, with one call of the policy for all.

  Each has a recurrent state and an adder of its own; their episodes start and
  end independently.
  """

  def __init__(
    self,
    policy: hieros_networks.BatchPolicy,
    random_key: networks_lib.PRNGKey,
    variable_client: variable_utils.VariableClient,
    adders: Sequence[adders_lib.Adder | None],
  ):
    """Creates an actor.

    Args:
      policy: what to do in all environments.
      random_key: of its actions.
      variable_client: gives the policy's parameters.
      adders: of each environment; None where nothing is to be stored.
    """
    self._variable_client = variable_client
    self._adders = adders
    self._action_space = policy.action_space
    self._select_actions = _jit(policy.select_actions)
    self._level_steps = policy.level_steps
    self._end = _jit(policy.end)
    init = jax.jit(policy.init, static_argnums=1, backend=_BACKEND)
    self._state = init(random_key, len(adders))
    self._starting = np.ones(len(adders), bool)

  @property
  def state(self) -> hierarchy.ActorState:
    """What it remembers of all environments, after its last actions."""
    return self._state

  def observe_first(self, index: int, timestep: dm_env.TimeStep):
    """An episode starts in one of the environments."""
    self._starting[index] = True
    if self._adders[index]:
      self._adders[index].add_first(timestep)

  def select_actions(
    self, observations: Sequence[types.NestedArray]
  ) -> Sequence[types.NestedArray]:
    """Chooses an action for each environment by its observation."""
    actions, self._state = self._select_actions(
      self._variable_client.params,
      _stack(observations),
      self._state,
      self._starting,
    )
    self._starting = np.zeros_like(self._starting)
    actions = self._action_space.to_numpy(actions)
    return [
      tree.map_structure(lambda x, i=i: x[i], actions)
      for i in range(len(self._adders))
    ]

  def observe(
    self,
    actions: Sequence[types.NestedArray],
    timesteps: Sequence[dm_env.TimeStep | None],
  ):
    """Stores what came of the actions.

    Args:
      actions: as they were taken.
      timesteps: what they led to; None where an environment broke down, whose
        episode is over without an end.
    """
    steps = self._level_steps(self._state)
    end = None
    for i, (adder, action, timestep) in enumerate(
      zip(self._adders, actions, timesteps)
    ):
      if adder is None:
        continue
      if timestep is None:
        adder.reset()
        continue
      extras = Extras(steps=hieros_networks.row(steps, i))
      if timestep.last():
        if end is None:
          end = self._look_at_ends(timesteps)
        extras = extras._replace(end=hieros_networks.row(end, i))
      adder.add(action, timestep, extras)

  def update(self, wait: bool = False):
    """Fetches newer parameters now and then."""
    self._variable_client.update(wait)

  def fetch(self):
    """Fetches the newest parameters at once."""
    self._variable_client.update_and_wait()

  def _look_at_ends(self, timesteps: Sequence[dm_env.TimeStep | None]) -> Any:
    """The upper levels' windows; they count where an episode has ended."""
    some = next(t.observation for t in timesteps if t is not None)
    observations = [some if t is None else t.observation for t in timesteps]
    return jax.device_get(
      self._end(self._variable_client.params, _stack(observations), self._state)
    )


def _jit(function: Callable) -> Callable:
  return jax.jit(backend.for_cpu(function), backend=_BACKEND)


def _stack(values: Sequence[types.NestedArray]) -> types.NestedArray:
  return tree.map_structure(lambda *rows: np.stack(rows), *values)
