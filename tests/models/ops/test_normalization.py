"""What holds for layer normalisation with its written-out gradient."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from acme_hieros.models.ops import normalization


def plain(x, scale, offset, silu):
  """The definition, for automatic differentiation."""
  mean = jnp.mean(x, -1, keepdims=True)
  y = (x - mean) / jnp.sqrt(jnp.var(x, -1, keepdims=True) + 1e-5)
  y = y * scale + offset
  return jax.nn.silu(y) if silu else y


def draw(*shape):
  return jnp.asarray(np.random.default_rng(len(shape)).normal(size=shape))


# Without a CPU's products: what an accelerator would run.
@pytest.mark.parametrize('backend', ['cpu', 'gpu'])
@pytest.mark.parametrize('silu', [False, True])
def test_values_and_gradients_are_those_of_the_definition(
  silu, backend, monkeypatch
):
  monkeypatch.setattr(jax, 'default_backend', lambda: backend)
  x = 3.0 * draw(7, 24) + 5.0
  scale, offset = 1.0 + 0.3 * draw(24), 0.5 * draw(24)[::-1]
  y, gradients = jax.vjp(
    lambda *args: normalization.layer_norm(*args, silu), x, scale, offset
  )
  expected, expected_gradients = jax.vjp(
    lambda *args: plain(*args, silu), x, scale, offset
  )
  np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)
  direction = jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape)
  for one, other in zip(gradients(direction), expected_gradients(direction)):
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_a_large_mean_costs_no_digits():
  x = 1000.0 + draw(3, 48)
  y = normalization.layer_norm(x, jnp.ones(48), jnp.zeros(48), False)
  centred = np.asarray(x, np.float64)
  centred -= centred.mean(-1, keepdims=True)
  expected = centred / np.sqrt(np.square(centred).mean(-1, keepdims=True))
  np.testing.assert_allclose(y, expected, atol=1e-3)


@pytest.mark.parametrize('columns', [24, 48, 64])
def test_equal_numbers_become_the_offset(columns):
  x = jnp.full((3, columns), 1000.0)
  y = normalization.layer_norm(x, jnp.ones(columns), jnp.ones(columns), False)
  np.testing.assert_array_equal(y, 1.0)


def test_half_precision_passes_through_and_parameters_stay_whole():
  module = hk.without_apply_rng(
    hk.transform(lambda x: normalization.LayerNorm(silu=True)(x))
  )
  x = draw(2, 3, 24).astype(jnp.bfloat16)
  params = module.init(jax.random.PRNGKey(0), x)
  assert {p.dtype for p in jax.tree.leaves(params)} == {jnp.dtype('float32')}
  y = module.apply(params, x)
  assert y.dtype == jnp.bfloat16 and y.shape == x.shape
  np.testing.assert_allclose(
    y.astype(jnp.float32),
    plain(x.astype(jnp.float32), 1.0, 0.0, True),
    atol=0.02,
  )
