"""Sums and maxima beside NumPy's, with their gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from acme_hieros.models.ops import reductions


def draw(*shape):
  return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize('shape', [(7,), (3, 1), (5, 33), (2, 3, 255)])
def test_row_sums_weigh_the_last_axis(shape):
  x = draw(*shape)
  weights = np.arange(shape[-1], dtype=np.float32)
  np.testing.assert_allclose(
    reductions.row_sums(x), x.astype(np.float64).sum(-1), rtol=1e-4, atol=1e-5
  )
  np.testing.assert_allclose(
    reductions.row_sums(x, weights),
    (x.astype(np.float64) * weights).sum(-1),
    rtol=1e-4,
    atol=1e-3,
  )
  gradient = jax.grad(lambda x: reductions.row_sums(x, weights).sum())(x)
  np.testing.assert_array_equal(gradient, np.broadcast_to(weights, shape))


@pytest.mark.parametrize('rows', [1, 4, 1000, 5000])
def test_column_sums_add_the_rows(rows):
  x = draw(rows, 6)
  np.testing.assert_allclose(
    reductions.column_sums(x),
    x.astype(np.float64).sum(0),
    rtol=1e-4,
    atol=1e-4,
  )


@pytest.mark.parametrize('length', [1, 5, 200])
def test_sums_over_time_hold_more_than_their_terms(length):
  x = np.random.default_rng(0).integers(0, 256, (2, length, 3, 4), np.uint8)
  total = reductions.sums_over_time(jnp.asarray(x))
  assert total.dtype == np.float32
  np.testing.assert_array_equal(total, x.astype(int).sum(1))


@pytest.mark.parametrize('columns', [1, 2, 16, 17, 33, 255, 256])
def test_row_max_finds_the_largest_wherever_it_is(columns):
  # The largest is in every place once.
  x = draw(columns, columns) + 100.0 * np.eye(columns, dtype=np.float32)
  largest = reductions.row_max(x)
  np.testing.assert_array_equal(largest[:, 0], x.max(-1))
  gradient = jax.grad(lambda x: jnp.sum(reductions.row_max(x)))(x)
  np.testing.assert_array_equal(gradient, 0.0)
