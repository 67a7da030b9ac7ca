"""A tree of arrays in one .npz file, complete or absent."""

from collections.abc import Mapping
import errno
import json
import math
from typing import Any
import zipfile

import jax
import numpy as np

from acme_hieros.storage import files

_METADATA = 'metadata'


# Errors of the system that speak of the file, not of reading it. A damaged
# archive sends its reader to places that no file has (EINVAL).
_NO_FILE = (None, errno.EINVAL, errno.EISDIR, errno.ENOTDIR)


class ArraysError(ValueError):
  """A file cannot be used; the message says why."""


class OtherArraysError(ArraysError):
  """A file holds other arrays than were expected, and these metadata."""

  def __init__(self, message: str, metadata: Mapping[str, Any]):
    super().__init__(message)
    self.metadata = metadata


def save(path: str, tree: Any, metadata: Mapping[str, Any]):
  """Writes a file; an older one stays until the new one is complete.

  Args:
    path: of the file.
    tree: arrays, nested in dicts and tuples.
    metadata: plain values, stored as JSON.

  Raises:
    OSError: it could not be written; whatever was there before still is.
  """
  arrays = {
    name: np.asarray(leaf) for name, leaf in _named_leaves(tree).items()
  }
  arrays[_METADATA] = np.frombuffer(
    json.dumps(metadata).encode(), dtype=np.uint8
  )
  with files.replacing(path, 'wb') as file:
    # As np.savez does, which on a full disk leaves the archive to complain when
    # it is collected.
    with zipfile.ZipFile(file, 'w') as archive:
      for name, array in arrays.items():
        with archive.open(f'{name}.npy', 'w', force_zip64=True) as entry:
          np.lib.format.write_array(entry, array, allow_pickle=False)


def load(path: str, template: Any) -> tuple[Any, Mapping[str, Any]]:
  """Reads a file.

  Nothing is unpacked that is not of the size it must have.

  Args:
    path: of the file.
    template: a tree of arrays, or of their shapes and types, to expect.

  Returns:
    The tree, and the metadata.

  Raises:
    ArraysError: the file is absent or damaged.
    OtherArraysError: it is whole, and of another agent.
    OSError: it could not be read, and may be whole.
  """
  try:
    with open(path, 'rb') as file, zipfile.ZipFile(file) as archive:
      # Reading an entry checks its sum, so damage shows here.
      return _load(path, archive, template)
  except ArraysError:
    raise
  except FileNotFoundError:
    raise ArraysError(f'There is no {path}.') from None
  except Exception as error:  # A damaged archive raises nearly anything.
    if isinstance(error, OSError) and error.errno not in _NO_FILE:
      raise
    raise ArraysError(f'{path} is damaged ({error}).') from error


def _load(path: str, archive: zipfile.ZipFile, template: Any):
  entries = {
    entry.filename.removesuffix('.npy'): entry for entry in archive.infolist()
  }
  if any(
    # Nothing of ours is compressed, so nothing is larger than the file.
    entry.compress_type != zipfile.ZIP_STORED
    or entry.file_size != entry.compress_size
    for entry in entries.values()
  ):
    raise ArraysError(f'{path} is damaged (it is not what it was packed as).')
  with archive.open(entries.pop(_METADATA)) as entry:
    metadata = json.loads(
      np.lib.format.read_array(entry, allow_pickle=False).tobytes()
    )
  expected = _named_leaves(template)  # Only shapes and types are looked at.
  wrong = sorted(entries.keys() ^ expected.keys()) or [
    name
    for name, value in expected.items()
    if _read_header(archive, entries[name]) != (value.shape, value.dtype)
  ]
  if wrong:
    raise OtherArraysError(
      f'{path} belongs to another agent or version: {len(wrong)} of its arrays '
      f'do not fit, {wrong[0]} first.',
      metadata,
    )
  leaves = []
  for name in expected:
    with archive.open(entries[name]) as entry:
      leaves.append(np.lib.format.read_array(entry, allow_pickle=False))
  return jax.tree.structure(template).unflatten(leaves), metadata


def _read_header(
  archive: zipfile.ZipFile, entry: zipfile.ZipInfo
) -> tuple[tuple[int, ...], np.dtype]:
  """The shape and type of an array that its entry has just the room for."""
  with archive.open(entry) as file:
    version = np.lib.format.read_magic(file)
    if version != (1, 0):
      raise ValueError(f'{entry.filename} has the unknown version {version}')
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    size = math.prod(shape) * dtype.itemsize
    if file.tell() + size != entry.file_size:
      raise ValueError(f'{entry.filename} has not the size of its array')
  return shape, dtype


def _named_leaves(tree: Any) -> Mapping[str, Any]:
  leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
  return {jax.tree_util.keystr(path): leaf for path, leaf in leaves}
