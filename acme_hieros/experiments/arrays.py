"""A tree of arrays in one .npz file, complete or absent."""

from collections.abc import Mapping
import json
import os
from typing import Any
import zipfile

import jax
import numpy as np

from acme_hieros.experiments import files

_METADATA = 'metadata'


class ArraysError(ValueError):
  """A file cannot be used; the message says why."""


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

  Args:
    path: of the file.
    template: a tree of arrays, or of their shapes and types, to expect.

  Returns:
    The tree, and the metadata.

  Raises:
    ArraysError: the file is absent, damaged, or of another agent.
  """
  if not os.path.exists(path):
    raise ArraysError(f'There is no {path}.')
  try:
    with np.load(path, allow_pickle=False) as file:
      # Reading an entry checks its sum, so damage shows here.
      arrays = {name: file[name] for name in file.files}
    metadata = json.loads(arrays.pop(_METADATA).tobytes())
  except OSError as error:
    raise ArraysError(
      f'{path} cannot be read ({error.strerror or error}).'
    ) from error
  except Exception as error:  # A damaged archive raises nearly anything.
    raise ArraysError(f'{path} is damaged ({error}).') from error
  expected = _named_leaves(template)  # Only shapes and types are looked at.
  wrong = sorted(arrays.keys() ^ expected.keys()) or [
    name
    for name, value in expected.items()
    if arrays[name].shape != value.shape or arrays[name].dtype != value.dtype
  ]
  if wrong:
    raise ArraysError(
      f'{path} belongs to another agent or version: {len(wrong)} of its arrays '
      f'do not fit, {wrong[0]} first.'
    )
  structure = jax.tree.structure(template)
  return structure.unflatten([arrays[name] for name in expected]), metadata


def _named_leaves(tree: Any) -> Mapping[str, Any]:
  leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
  return {jax.tree_util.keystr(path): leaf for path, leaf in leaves}
