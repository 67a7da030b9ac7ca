"""What the fields mean: the comments above them in `fields.py`."""

from collections.abc import Mapping
import dataclasses
import functools
import inspect
import re
import typing

from acme_hieros.config import fields

_FIELD = re.compile(r'  (\w+): ')


def meanings() -> Mapping[str, str]:
  """The meaning of each field of `HierosConfig`, by its dotted name.

  A comment is about the fields below it, up to the next comment.
  """
  return dict(_of_part(fields.HierosConfig, ''))


def _of_part(part: type, prefix: str):
  hints = typing.get_type_hints(part)
  for field in dataclasses.fields(part):
    kind = hints[field.name]
    if dataclasses.is_dataclass(kind):
      yield from _of_part(typing.cast(type, kind), f'{prefix}{field.name}.')
    else:
      yield prefix + field.name, _meaning(part, field.name)


def _meaning(part: type, name: str) -> str:
  """From the class that has the field, or from one above it."""
  for kind in part.__mro__:
    if name in vars(kind).get('__annotations__', {}):
      return _comments(kind)[name]
  raise AttributeError(f'{part.__name__} has no field {name!r}.')


@functools.cache
def _comments(part: type) -> Mapping[str, str]:
  """The comment of each field that a class itself has."""
  found, comment, in_comment = {}, '', False
  for line in inspect.getsource(part).splitlines():
    text = line.strip()
    if text.startswith('#'):
      comment = f'{comment} {text[2:]}' if in_comment else text[2:]
    elif field := _FIELD.match(line):
      found[field[1]] = comment
    elif text.startswith('def '):
      break
    in_comment = text.startswith('#')
  return found
