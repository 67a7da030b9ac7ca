"""A policy in one file: parameters by name, and as text what they are for."""

from collections.abc import Mapping, Sequence
import json
import os
from typing import Any

import jax
import numpy as np

from acme_hieros import config as config_lib
from acme_hieros import version
from acme_hieros.models import hierarchy, spaces
from acme_hieros.models import level as level_lib
from acme_hieros.models.ops import packing
from acme_hieros.storage import safetensors

SUFFIX = '.safetensors'

# Of what the file says; another layout gets another number.
_FORMAT = 'acme_hieros policy 1'

_KINDS = {
  kind.__name__: kind
  for kind in (
    *spaces.ObservationSpace.__args__,
    *spaces.ActionSpace.__args__,
  )
}

# Between level, part, module and name.
_SEPARATOR = ':'


def save(
  path: str,
  networks: hierarchy.Hierarchy,
  params: Sequence[level_lib.PackedPolicy],
  about: Mapping[str, Any],
):
  """Writes a policy.

  Args:
    path: of the file.
    networks: the functions of the agent.
    params: of each level.
    about: where it is from; what JSON can hold.

  Raises:
    ValueError: the file would not be known by its name, or cannot be written.
  """
  path = os.path.expanduser(path)
  if not path.endswith(SUFFIX):
    raise ValueError(f'{path} has to end in {SUFFIX}, by which it is known.')
  arrays = _named(
    jax.device_get([level_lib.unpack_policy(own) for own in params])
  )
  metadata = {
    'format': _FORMAT,
    'version': version.VERSION,
    'config': json.dumps(config_lib.to_dict(networks.config)),
    'observation_spaces': json.dumps(
      {n: _to_json(s) for n, s in networks.observation_spaces.items()}
    ),
    'action_space': json.dumps(_to_json(networks.action_space)),
    'about': json.dumps(dict(about)),
  }
  try:
    safetensors.save(path, arrays, metadata)
  except OSError as error:
    raise ValueError(
      f'{path} cannot be written ({error.strerror}); choose another place.'
    ) from error


def load(
  path: str,
) -> tuple[
  hierarchy.Hierarchy, Sequence[level_lib.PackedPolicy], dict[str, Any]
]:
  """What was given to `save`.

  Raises:
    ValueError: one sentence about a file that is damaged, something else, or of
      another version.
  """
  try:
    arrays, metadata = safetensors.load(os.path.expanduser(path))
  except OSError as error:
    raise ValueError(f'{path} cannot be read ({error.strerror}).') from error
  if metadata.get('format') != _FORMAT:
    raise ValueError(
      f'{path} holds no policy of acme_hieros that this version, '
      f'{version.VERSION}, can read.'
    )
  try:
    networks = hierarchy.Hierarchy(
      config_lib.from_dict(json.loads(metadata['config'])),
      {
        name: _from_json(space)
        for name, space in json.loads(metadata['observation_spaces']).items()
      },
      _from_json(json.loads(metadata['action_space'])),
    )
    about = json.loads(metadata['about'])
  except (ValueError, KeyError, TypeError, AttributeError) as error:
    raise ValueError(
      f'{path} was written by version {metadata.get("version")} of acme_hieros '
      f'and cannot be read by this one, {version.VERSION}: {error}'
    ) from error
  wanted = _named(jax.eval_shape(lambda: _draw(networks)))
  if {n: x.shape for n, x in wanted.items()} != {
    n: x.shape for n, x in arrays.items()
  }:
    raise ValueError(
      f'{path} does not hold the parameters that its configuration asks for.'
    )
  params = [
    level_lib.PackedPolicy(
      *(
        packing.pack(_part(arrays, i, part))
        for part in level_lib.PackedPolicy._fields
      )
    )
    for i in range(len(networks.levels))
  ]
  return networks, params, about


def _draw(networks: hierarchy.Hierarchy) -> list[level_lib.PolicyParams]:
  """Parameters of the shapes that there have to be."""
  return [
    level_lib.unpack_policy(level_lib.policy_params(state.params))
    for state in networks.init(jax.random.PRNGKey(0))
  ]


def _named(levels: Sequence[level_lib.PolicyParams]) -> dict[str, Any]:
  return {
    _SEPARATOR.join((f'level_{i}', part, module, name)): array
    for i, own in enumerate(levels)
    for part, modules in own._asdict().items()
    for module, arrays in modules.items()
    for name, array in arrays.items()
  }


def _part(arrays: Mapping[str, np.ndarray], level: int, part: str) -> dict:
  """Of `_named` one part, by module and name."""
  modules: dict[str, dict[str, np.ndarray]] = {}
  for key, array in arrays.items():
    index, own, module, name = key.split(_SEPARATOR)
    if (index, own) == (f'level_{level}', part):
      modules.setdefault(module, {})[name] = array
  return modules


def _to_json(value: Any) -> Any:
  """A space, or what it is made of: a kind, and what it holds.

  Raises:
    ValueError: a nested action is of a type that only its program has.
  """
  if isinstance(value, np.dtype):
    return str(value)
  if isinstance(value, Mapping):
    return {
      'kind': 'dict',
      'items': [[k, _to_json(v)] for k, v in value.items()],
    }
  if type(value) in (list, tuple):
    items = [_to_json(v) for v in value]
    return {'kind': 'list', 'items': items} if type(value) is list else items
  if type(value) in _KINDS.values():
    fields = {name: _to_json(v) for name, v in value._asdict().items()}
    return {'kind': type(value).__name__, **fields}
  if isinstance(value, tuple):
    raise ValueError(
      f'Actions that are nested in a {type(value).__name__} cannot be '
      'exported: nest them in dicts, lists and tuples.'
    )
  return value


def _from_json(value: Any) -> Any:
  """The inverse of `_to_json`."""
  if isinstance(value, list):
    return tuple(map(_from_json, value))
  if not isinstance(value, dict):
    return value
  if value['kind'] == 'dict':
    return {key: _from_json(v) for key, v in value['items']}
  if value['kind'] == 'list':
    return [_from_json(v) for v in value['items']]
  fields = {
    name: np.dtype(v) if name == 'dtype' else _from_json(v)
    for name, v in value.items()
    if name != 'kind'
  }
  return _KINDS[value['kind']](**fields)
