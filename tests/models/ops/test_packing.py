"""Trees in few arrays come out as they went in."""

import pickle
from typing import NamedTuple

import jax
import numpy as np
import pytest

from acme_hieros.models.ops import packing


def test_packed_parameters_are_the_same():
  rng = np.random.default_rng(0)
  tree = {
    name: {'w': rng.normal(size=shape).astype(np.float32)}
    for name, shape in (
      ('small', (3, 2)),
      ('large', (64, 64)),
      ('scalar', ()),
      ('larger', (5000,)),
    )
  }
  packed = jax.jit(packing.pack)(tree)
  assert len(jax.tree.leaves(packed)) == 3
  # It travels between processes.
  packed = pickle.loads(pickle.dumps(jax.device_get(packed)))
  unpacked = jax.jit(packing.unpack)(packed)
  assert jax.tree.structure(unpacked) == jax.tree.structure(tree)
  jax.tree.map(np.testing.assert_array_equal, unpacked, tree)


def test_packed_parameters_are_copies():
  params = {'a': {'w': np.ones(5000, np.float32), 'b': np.ones(5, np.float32)}}
  params = jax.device_put(params)
  packed = packing.pack(params)
  jax.jit(lambda x: jax.tree.map(lambda y: y + 1, x), donate_argnums=0)(params)
  assert params['a']['b'].is_deleted()
  np.testing.assert_array_equal(packed.small, np.ones(5))
  np.testing.assert_array_equal(packed.large[0], np.ones(5000))


class Tree(NamedTuple):
  """Arrays of several types, and none."""

  numbers: np.ndarray
  parts: tuple
  nothing: None = None


def tree(rows):
  rng = np.random.default_rng(0)
  return Tree(
    rng.normal(size=(rows, 2, 3)).astype(np.float32),
    (
      {'bytes': rng.integers(0, 256, (rows, 5), np.uint8)},
      rng.integers(-(2**24), 2**24, rows, np.int32),
      rng.random((rows, 1)) < 0.5,
      rng.normal(size=(rows, 0)).astype(np.float32),
    ),
  )


@pytest.mark.parametrize('on', ['numpy', 'jax'])
def test_packed_rows_are_the_same(on):
  rows = packing.Rows(jax.eval_shape(lambda: tree(1)))
  given = tree(4)
  packed = jax.jit(rows.pack)(given)
  assert packed.shape == (4, 6 + 5 + 1 + 1) and packed.dtype == np.float32
  if on == 'numpy':
    unpacked = rows.unpack(np.asarray(packed))
    assert all(isinstance(x, np.ndarray) for x in jax.tree.leaves(unpacked))
  else:
    unpacked = jax.jit(rows.unpack)(packed)
  assert jax.tree.structure(unpacked) == jax.tree.structure(given)
  for one, two in zip(jax.tree.leaves(unpacked), jax.tree.leaves(given)):
    assert one.dtype == two.dtype
    np.testing.assert_array_equal(one, two)


def test_a_row_holds_its_own_part_of_each_array():
  rows = packing.Rows(tree(1))
  given = tree(4)
  alone = rows.unpack(np.asarray(rows.pack(given))[2:3])
  for one, two in zip(jax.tree.leaves(alone), jax.tree.leaves(given)):
    np.testing.assert_array_equal(one[0], two[2])
