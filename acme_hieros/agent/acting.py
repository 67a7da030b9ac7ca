"""The actor: Acme's GenericActor on the hierarchy's policy."""

from acme import adders
from acme.agents.jax import actors
from acme.jax import networks as networks_lib
from acme.jax import variable_utils
import dm_env
import jax
import numpy as np

from acme_hieros.agent.networks import HierosPolicy

# Actors work on the CPU, wherever the learner works.
_BACKEND = 'cpu'


class HierosActor(actors.GenericActor):
  """A GenericActor that also looks at an episode's last observation.

  Acme's loops ask for no action there, but the upper levels' replay needs to
  know what they saw at the end.
  """

  def __init__(
    self,
    policy: HierosPolicy,
    random_key: networks_lib.PRNGKey,
    variable_client: variable_utils.VariableClient | None,
    adder: adders.Adder | None = None,
  ):
    """Creates an actor; see `actors.GenericActor`."""
    super().__init__(
      policy, random_key, variable_client, adder, backend=_BACKEND
    )
    self._end = jax.jit(policy.end, backend=_BACKEND)
    self._action_dtype = policy.action_dtype

  def select_action(
    self, observation: networks_lib.Observation
  ) -> networks_lib.Action:
    # JAX has no 64 bits, and the environment may ask for them.
    action = super().select_action(observation)
    return np.asarray(action, self._action_dtype)

  def observe(
    self, action: networks_lib.Action, next_timestep: dm_env.TimeStep
  ):
    if self._adder:
      extras = self._get_extras(self._state)
      if next_timestep.last():
        extras = extras._replace(
          end=self._end(self._params, next_timestep.observation, self._state)
        )
      self._adder.add(action, next_timestep, extras=jax.device_get(extras))
