"""Fields by their dotted names: to replace, to read and to write them."""

import ast
from collections.abc import Mapping, Sequence
import dataclasses
import difflib
import math
from typing import Any, get_args, get_origin, get_type_hints

from acme_hieros.config.fields import (
  ACTOR_CORE_PARTS,
  CORE_PARTS,
  HierosConfig,
  plain,
)


def override(config: HierosConfig, values: Mapping[str, Any]) -> HierosConfig:
  """Returns `config` with fields replaced by their dotted names.

  Args:
    config: the configuration to start from; it is not changed.
    values: dotted field name to value. Strings are read as the field's type:
      '3', '1e-4', 'true', '24,48,96'.

  Raises:
    ValueError: one sentence that names an unknown field, a value of the wrong
      type, or a combination that cannot work.
  """
  nested: dict[str, Any] = {}
  for name, value in values.items():
    *parents, leaf = name.split('.')
    node = nested
    for parent in parents:
      node = node.setdefault(parent, {})
      if not isinstance(node, dict):
        raise ValueError(f'{name!r} is given both as a field and as a part.')
    if isinstance(node.get(leaf), dict):
      raise ValueError(f'{name!r} is given both as a field and as a part.')
    # A copy: later names may go into it.
    node[leaf] = dict(value) if isinstance(value, Mapping) else value
  config = _replace(config, nested, config, '')
  for group, parts in (
    ('world_model', CORE_PARTS),
    ('actor_critic', ACTOR_CORE_PARTS),
  ):
    core = getattr(config, group).core
    _check_core(group, core, parts, nested.get(group, {}))
  return config


def _check_core(
  group: str,
  core: str,
  parts: Mapping[str, Sequence[str]],
  given: Mapping[str, Any],
):
  """Raises ValueError if a field is given that the chosen core does not read.

  Args:
    group: what has the core.
    core: that it has.
    parts: which each core reads, or fields of them as 'part.field'.
    given: values of the group.
  """
  if core not in parts:
    return
  known = {name.partition('.')[0] for own in parts.values() for name in own}
  for part in sorted(given.keys() & known):
    for field in given[part]:
      name = f'{part}.{field}'
      users = [c for c, own in parts.items() if part in own or name in own]
      if core not in users:
        raise ValueError(
          f'{group}.{name} is not of {group}.core={core}: set '
          f'{group}.core={" or ".join(users)}, or leave it out.'
        )


def to_dict(config: HierosConfig) -> dict:
  """The configuration as nested plain values, ready for JSON."""
  return dataclasses.asdict(config)


def from_dict(values: Mapping[str, Any]) -> HierosConfig:
  """The inverse of `to_dict`; fields that are absent keep their defaults."""
  default = HierosConfig()
  if not isinstance(values, Mapping):
    raise ValueError(f'A configuration is a mapping, not {values!r}.')
  return _replace(default, values, default, '')


def field_names(config: Any, prefix: str = '') -> Sequence[str]:
  """The dotted names of all fields."""
  return list(fields_by_name(config, prefix))


def fields_by_name(config: Any, prefix: str = '') -> Mapping[str, Any]:
  """All values by their dotted names."""
  values: dict[str, Any] = {}
  for field in dataclasses.fields(config):
    value = getattr(config, field.name)
    name = prefix + field.name
    if dataclasses.is_dataclass(value):
      values.update(fields_by_name(value, name + '.'))
    else:
      values[name] = value
  return values


def _replace(config, nested: Mapping[str, Any], root, prefix: str):
  """Rebuilds a dataclass with the nested values, so that it checks itself."""
  hints = get_type_hints(type(config))
  changes = {}
  for name, value in nested.items():
    path = prefix + name
    if name not in hints:
      known = field_names(root)
      # The last part alone is what people remember: offer it wherever it is.
      close = [k for k in known if k.split('.')[-1] == path.split('.')[-1]]
      close = close or difflib.get_close_matches(path, known, n=3, cutoff=0.6)
      raise ValueError(
        f'Unknown configuration field {path!r}; '
        + (
          f'did you mean {" or ".join(close)}?'
          if close
          else f'the parts are {", ".join(hints)}.'
        )
      )
    if dataclasses.is_dataclass(hints[name]):
      if not isinstance(value, Mapping):
        parts = ', '.join(field_names(getattr(config, name), path + '.'))
        raise ValueError(
          f'{path}={value!r}: {path} is a group; set one of its fields: '
          f'{parts}.'
        )
      changes[name] = _replace(getattr(config, name), value, root, path + '.')
    else:
      changes[name] = _coerce(path, value, hints[name])
  try:
    return dataclasses.replace(config, **changes)
  except ValueError as error:
    # A part's checks begin with the field's own name; say where it is.
    raise ValueError(f'{prefix}{error}') from None


def _coerce(path: str, value: Any, hint: Any) -> Any:
  """Reads `value` as the type of the field `path`."""
  value = plain(value)
  wanted = {
    int: 'a whole number',
    float: 'a number',
    bool: 'true or false',
    str: 'a word',
    tuple[int, ...]: 'whole numbers separated by commas, as in 24,48',
    tuple[float, ...]: 'numbers separated by commas, as in 0,0.5',
  }[hint]
  error = ValueError(f'{path}={value!r}: {path} takes {wanted}.')
  if hint is str:
    if not isinstance(value, str):
      raise error
    return value
  if isinstance(value, str):
    text = {'true': 'True', 'false': 'False'}.get(value.lower(), value)
    try:
      value = ast.literal_eval(text)
    except Exception:  # It has half a dozen of its own.
      raise error from None
  try:
    if get_origin(hint) is tuple:
      several = value if isinstance(value, (tuple, list)) else (value,)
      if not several:
        raise error
      return tuple(_as_number(v, get_args(hint)[0]) for v in several)
    return _as_number(value, hint)
  except (TypeError, OverflowError):
    raise error from None


def _as_number(value: Any, kind: Any) -> Any:
  """The value, if it is a finite one of its kind, or raises TypeError."""
  if kind is float and type(value) is int:
    value = float(value)
  if type(value) is not kind or not math.isfinite(value):
    raise TypeError
  return value
