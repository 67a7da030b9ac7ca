"""Acts by what was learned, in one environment or in many at once."""

from collections.abc import Mapping, Sequence
import functools
from typing import Any

import jax
import numpy as np

from acme_hieros.models import hierarchy, spaces
from acme_hieros.models import level as level_lib
from acme_hieros.models.ops import backend
from acme_hieros.policies import exports


class Policy:
  """An agent that acts and no longer learns.

  It remembers what has happened in each environment; say `reset` where an
  episode starts. It works on the CPU.

  Example:
    policy = acme_hieros.load('catch.safetensors')
    action = policy.act(observation)

  Attributes:
    networks: the functions of the agent; their `act` is all that acting is.
    params: what they take, of each level.
    about: where it is from: 'environment', 'environment_options', 'steps',
      'updates', 'checkpoint'.
  """

  def __init__(
    self,
    networks: hierarchy.Hierarchy,
    params: Sequence[level_lib.PackedPolicy],
    about: Mapping[str, Any],
    deterministic: bool = False,
    seed: int = 0,
  ):
    """Creates a policy, before its first step.

    Args:
      networks: the functions of the agent.
      params: of each level, from `level.policy_params`.
      about: where it is from.
      deterministic: take the likeliest actions and subgoals, instead of
        sampling.
      seed: of its actions.
    """
    self.networks = networks
    self._cpu = jax.local_devices(backend='cpu')[0]
    self.params = jax.device_put(tuple(params), self._cpu)
    self.about = dict(about)
    self._key = jax.device_put(jax.random.PRNGKey(seed), self._cpu)
    self._init = jax.jit(networks.initial_state, static_argnums=1)
    # What is put on the CPU is computed there.
    self._act = jax.jit(
      backend.for_cpu(
        functools.partial(networks.act, deterministic=deterministic)
      )
    )
    self._state: hierarchy.ActorState | None = None
    self._starting = np.ones(0, bool)

  def act(self, observation: Any) -> Any:
    """Chooses an action for each environment by what it shows.

    Args:
      observation: of one environment, as it returns it; or of N, each array [N,
        ...]. Until the next `reset` there are as many of them.

    Returns:
      The action, as the environment takes it; each array [N, ...] of N.

    Raises:
      ValueError: one sentence about an observation of another kind.
    """
    rows, count = self._read(observation)
    number = 1 if count is None else count
    if not number:
      raise ValueError('Observations are of 0 environments; one is the least.')
    if self._state is None:
      self._state = self._init(self._key, number)
      self._starting = np.ones(number, bool)
    if len(self._starting) != number:
      raise ValueError(
        f'Observations are of {number} environments, after those of '
        f'{len(self._starting)}: reset() forgets these.'
      )
    actions, self._state = self._act(
      self.params, rows, self._state, self._starting
    )
    self._starting = np.zeros_like(self._starting)
    chosen = self.networks.action_space.to_numpy(actions)
    return chosen if count else jax.tree.map(lambda x: x[0], chosen)

  def reset(self, environments: int | Sequence[int] | None = None):
    """Forgets the past: an episode starts.

    Args:
      environments: where one does; None: everywhere, and their number may
        change. Before anything was seen they all start.

    Raises:
      ValueError: there is no such environment.
    """
    if self._state is None:
      return
    if environments is None:
      self._key, self._state = self._state.key, None
      return
    count = len(self._starting)
    which = np.atleast_1d(environments)
    if which.size and (
      which.dtype.kind not in 'iu' or which.min() < 0 or which.max() >= count
    ):
      raise ValueError(
        f'reset({environments!r}) will not do: it takes the numbers of the '
        f'{count} environments, which begin with 0.'
      )
    self._starting[which.astype(int)] = True

  def export(self, path: str):
    """Writes what acting needs to a file, which `acme_hieros.load` reads.

    There is no code in it: parameters by name, and as text the configuration,
    what is seen and done, and where it is from. Reading it takes JAX, Haiku and
    Optax, and no Acme.

    Args:
      path: of the file; it has to end in .safetensors.

    Raises:
      ValueError: it does not, or cannot be written.
    """
    exports.save(path, self.networks, self.params, self.about)

  def _read(self, observation: Any) -> tuple[dict[str, np.ndarray], int | None]:
    """The arrays of an observation [N, ...], and N; None for a single one."""
    flat = spaces.flatten_observation(observation)
    wanted = self.networks.observation_spaces
    missing = [name for name in wanted if name not in flat]
    if missing:
      raise ValueError(
        f'The observation has {", ".join(flat)}, but no {", ".join(missing)}.'
      )
    arrays = {n: _as_shown(n, s, flat[n]) for n, s in wanted.items()}
    counts = {
      len(x) if x.ndim > len(wanted[n].shape) else None
      for n, x in arrays.items()
    }
    if len(counts) > 1:
      raise ValueError(
        'The parts of the observation are of different numbers of environments.'
      )
    (count,) = counts
    if count is None:
      arrays = {name: array[None] for name, array in arrays.items()}
    return arrays, count


def _as_shown(
  name: str, space: spaces.ObservationSpace, value: Any
) -> np.ndarray:
  """An array of one environment or several; ValueError if it does not fit."""
  array = np.asarray(value)
  shape, dtype = tuple(space.shape), space.dtype
  if array.shape[-len(shape) or array.ndim :] != shape or (
    array.ndim - len(shape) not in (0, 1)
  ):
    raise ValueError(
      f'The observation {name!r} has the shape {array.shape}; it has to be '
      f'{shape}, or {("N", *shape)} of N environments.'.replace("'N'", 'N')
    )
  if (
    isinstance(space, spaces.OneHot)
    and not ((array >= 0) & (array < space.classes)).all()
  ):
    raise ValueError(
      f'The observation {name!r} has choices that are not among 0 to '
      f'{space.classes - 1}.'
    )
  if array.dtype != dtype:
    kinds = 'biuf' if dtype.kind == 'f' else 'biu'
    if array.dtype.kind not in kinds or (
      dtype.kind != 'f' and not (array.astype(dtype) == array).all()
    ):
      raise ValueError(
        f'The observation {name!r} is of the type {array.dtype}, where {dtype} '
        'is wanted, which cannot hold it.'
      )
    array = array.astype(dtype)
  if dtype.kind == 'f' and not np.isfinite(array).all():
    raise ValueError(f'The observation {name!r} has numbers that are none.')
  return array
