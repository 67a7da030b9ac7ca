"""A file of arrays is complete or absent, and says what is wrong with it."""

import builtins
import errno
import os
import pickle
import re
import tracemalloc
from typing import NamedTuple
import zipfile

import jax
import numpy as np
import pytest

from acme_hieros.storage import arrays


class Pair(NamedTuple):
  left: np.ndarray
  right: tuple


def make_tree(scale=1):
  return {
    'floats': np.arange(6, dtype=np.float32).reshape(2, 3) * scale,
    'complex': np.array([1 + 2j, -3j], np.complex64),
    'pair': Pair(np.uint32([7, 8]), (np.int32(3), {})),
    'empty': np.zeros((0, 4), np.float32),
    'nan': np.float32(np.nan),
  }


METADATA = {'counts': {'steps': 3}, 'best': None, 'recent': [1.5, -2.0]}


@pytest.fixture
def path(tmp_path):
  path = str(tmp_path / 'checkpoint.npz')
  arrays.save(path, make_tree(), METADATA)
  return path


def assert_refused(path, template=None):
  """Loading gives one sentence that names the file."""
  with pytest.raises(arrays.ArraysError) as caught:
    arrays.load(path, template or make_tree())
  sentence = str(caught.value)
  assert path in sentence and '\n' not in sentence and sentence.endswith('.')
  return sentence


def test_what_is_saved_is_what_is_loaded(path):
  tree, metadata = arrays.load(path, make_tree(scale=0))
  assert metadata == METADATA
  assert jax.tree.structure(tree) == jax.tree.structure(make_tree())
  for one, other in zip(jax.tree.leaves(tree), jax.tree.leaves(make_tree())):
    assert one.dtype == other.dtype and one.shape == other.shape
    np.testing.assert_array_equal(one, other)


def test_nothing_else_is_left_in_the_directory(path, tmp_path):
  assert os.listdir(tmp_path) == ['checkpoint.npz']


@pytest.mark.parametrize(
  'function', ['numpy.lib.format.write_array', 'os.fsync', 'os.replace']
)
def test_a_failure_while_writing_leaves_the_old_file(
  path, tmp_path, monkeypatch, function
):
  def fail(*unused_arguments, **unused_fields):
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(function, fail)
  with pytest.raises(OSError, match='No space'):
    arrays.save(path, make_tree(scale=2), {})
  monkeypatch.undo()
  assert os.listdir(tmp_path) == ['checkpoint.npz']
  assert arrays.load(path, make_tree())[1] == METADATA


def test_a_missing_file_is_refused(tmp_path):
  assert 'There is no' in assert_refused(str(tmp_path / 'none.npz'))


def test_a_file_cut_anywhere_is_refused(path):
  with open(path, 'rb') as file:
    content = file.read()
  for length in range(0, len(content), 37):
    with open(path, 'wb') as file:
      file.write(content[:length])
    assert 'damaged' in assert_refused(path)


def test_a_flipped_bit_never_passes_for_other_values(path):
  with open(path, 'rb') as file:
    content = file.read()
  for i in range(len(content)):
    damaged = bytearray(content)
    damaged[i] ^= 1 << i % 8
    with open(path, 'wb') as file:
      file.write(damaged)
    try:
      tree, metadata = arrays.load(path, make_tree())
    except arrays.ArraysError:
      continue
    # A byte that nothing depends on, such as a date.
    assert metadata == METADATA
    jax.tree.map(np.testing.assert_array_equal, tree, make_tree())


@pytest.mark.parametrize('kind', ['text', 'npy', 'npz', 'pickle', 'directory'])
def test_a_file_of_another_kind_is_refused(path, kind):
  os.remove(path)
  if kind == 'directory':
    os.mkdir(path)
  else:
    with open(path, 'wb') as file:
      if kind == 'text':
        file.write(b'not an archive')
      elif kind == 'npy':
        np.save(file, np.zeros(3))
      elif kind == 'npz':
        np.savez(file, a=np.zeros(3))
      else:
        pickle.dump(make_tree(), file)
  assert_refused(path)


@pytest.mark.parametrize(
  'name,value',
  [
    ('floats', np.zeros((3, 2), np.float32)),
    ('floats', np.zeros((2, 3), np.float64)),
    ('more', np.zeros(1)),
    ('nan', None),
  ],
)
def test_the_checkpoint_of_another_agent_is_refused(path, name, value):
  sentence = assert_refused(path, {**make_tree(), name: value})
  assert re.search(rf"another agent.*\['{name}'\]", sentence)


def test_what_wrote_other_arrays_can_be_told(path):
  with pytest.raises(arrays.OtherArraysError) as caught:
    arrays.load(path, {**make_tree(), 'more': np.zeros(1)})
  assert caught.value.metadata == METADATA


def pack(path, entries, compression=zipfile.ZIP_STORED):
  """Writes an archive of other headers or packing than `arrays.save`."""
  with zipfile.ZipFile(path, 'w', compression) as archive:
    for name, content in entries.items():
      archive.writestr(f'{name}.npy', content)


def unpack(path):
  with zipfile.ZipFile(path) as archive:
    return {n.removesuffix('.npy'): archive.read(n) for n in archive.namelist()}


@pytest.mark.parametrize('bomb', ['compressed', 'header', 'metadata'])
def test_nothing_is_unpacked_that_is_larger_than_it_must_be(path, bomb):
  entries = unpack(path)
  huge = 1 << 28
  if bomb == 'compressed':
    entries["['nan']"] += bytes(huge)
    pack(path, entries, zipfile.ZIP_DEFLATED)
  elif bomb == 'header':
    # It says that there is more than there is.
    name, more = "['floats']", b"'shape': (%d, 3), }" % huge
    less = b"'shape': (2, 3), }"
    less += b' ' * (len(more) - len(less))
    assert less in entries[name]
    entries[name] = entries[name].replace(less, more)
    pack(path, entries)
  else:
    entries['metadata'] = b'{' * huge
    pack(path, entries, zipfile.ZIP_DEFLATED)
  assert os.path.getsize(path) < huge / 100
  tracemalloc.start()
  try:
    assert_refused(path)
    assert tracemalloc.get_traced_memory()[1] < huge / 100
  finally:
    tracemalloc.stop()


@pytest.mark.parametrize(
  'number', [errno.EIO, errno.ESTALE, errno.EACCES, errno.EMFILE]
)
def test_a_file_that_cannot_be_read_is_not_called_damaged(
  path, monkeypatch, number
):
  def fail(*unused_arguments, **unused_fields):
    raise OSError(number, os.strerror(number))

  # When it is opened, and when it is read.
  with monkeypatch.context() as patch:
    patch.setattr(builtins, 'open', fail)
    with pytest.raises(OSError) as caught:
      arrays.load(path, make_tree())
    assert caught.value.errno == number
  monkeypatch.setattr(zipfile.ZipExtFile, 'read', fail)
  with pytest.raises(OSError) as caught:
    arrays.load(path, make_tree())
  assert caught.value.errno == number
