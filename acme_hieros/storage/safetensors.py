"""Arrays by name in one file, which many programs read (safetensors).

Eight bytes say how long a header of JSON is, which says where in the rest each
array lies. Nothing in such a file is ever run.
"""

from collections.abc import Mapping
import json

import numpy as np

from acme_hieros.storage import files

# The format's names of NumPy's types.
_NAMES = {
  np.dtype(dtype): name
  for name, dtype in {
    'F64': '<f8',
    'F32': '<f4',
    'F16': '<f2',
    'I64': '<i8',
    'I32': '<i4',
    'I16': '<i2',
    'I8': 'i1',
    'U64': '<u8',
    'U32': '<u4',
    'U16': '<u2',
    'U8': 'u1',
    'BOOL': '?',
  }.items()
}
_TYPES = {name: dtype for dtype, name in _NAMES.items()}

_METADATA = '__metadata__'


def save(
  path: str, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]
):
  """Writes a file; an older one stays until it is whole.

  Raises:
    OSError: it cannot be written.
  """
  header, start = {_METADATA: dict(metadata)}, 0
  for name, array in arrays.items():
    end = start + array.nbytes
    header[name] = {
      'dtype': _NAMES[array.dtype],
      'shape': list(array.shape),
      'data_offsets': [start, end],
    }
    start = end
  text = json.dumps(header).encode()
  text += b' ' * (-len(text) % 8)  # So that the arrays are aligned.
  with files.replacing(path, 'wb') as file:
    file.write(len(text).to_bytes(8, 'little'))
    file.write(text)
    for array in arrays.values():
      file.write(np.ascontiguousarray(array).tobytes())


def load(path: str) -> tuple[dict[str, np.ndarray], dict[str, str]]:
  """Arrays and metadata of a file.

  Raises:
    ValueError: it is no such file, or damaged.
    OSError: it cannot be read.
  """
  with open(path, 'rb') as file:
    content = file.read()
  try:
    start = 8 + int.from_bytes(content[:8], 'little')
    header = json.loads(content[8:start])
    metadata = header.pop(_METADATA, {})
    arrays = {}
    for name, about in header.items():
      first, last = about['data_offsets']
      # Less than is wanted raises.
      arrays[name] = np.frombuffer(
        content[start + first : start + last], _TYPES[about['dtype']]
      ).reshape(about['shape'])
  except (ValueError, KeyError, TypeError, AttributeError) as error:
    raise ValueError(
      f'{path} is damaged, or no safetensors file ({error!r:.100}).'
    ) from error
  return arrays, metadata
