"""Products with choices."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from acme_hieros.models.ops import linear


def draw(rows, count, classes, seed=0):
  """Indices, some outside the classes, and their one-hot values."""
  index = np.random.default_rng(seed).integers(-1, classes + 1, (rows, count))
  return index, np.eye(classes + 1)[index][..., :-1]


# A few rows and many, one choice, columns in blocks that come out even and do
# not, and what is not looked up: few classes, few numbers, many choices.
@pytest.mark.parametrize(
  'rows, count, classes, columns',
  [
    (1, 4, 3, 6),
    (16, 1, 5, 6),
    (2, 300, 2, 6),
    (40, 33, 20, 1),
    (40, 33, 20, 256),
    (100, 1, 8, 7),
    (100, 9, 8, 300),
    (17, 8, 8, 6),
    (200, 5, 4, 6),
    (100, 130, 8, 6),
  ],
)
def test_choices_are_multiplied_as_one_hot_numbers(
  rows, count, classes, columns
):
  index, onehot = draw(rows, count, classes)
  rng = np.random.default_rng(1)
  weights = rng.normal(size=(count * classes, columns))
  out = rng.normal(size=(rows, columns))
  choices = linear.one_hots(jnp.asarray(index), classes)
  np.testing.assert_array_equal(choices.value, onehot)

  @jax.jit
  def product(value, weights):
    choices_ = linear.OneHots(choices.chosen, value)
    y = linear.select(choices_, weights)
    return jnp.sum(y * out), y

  (d_value, d_weights), y = jax.grad(product, (0, 1), has_aux=True)(
    choices.value, jnp.asarray(weights, jnp.float32)
  )
  flat = onehot.reshape(rows, -1)
  for one, other in (
    (y, flat @ weights),
    (d_weights, flat.T @ out),
    (d_value, (out @ weights.T).reshape(onehot.shape)),
  ):
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_several_inputs_count_as_one_that_joins_them():
  index, onehot = draw(24, 4, 5)
  numbers = np.random.default_rng(1).normal(size=(24, 3)).astype(np.float32)
  module = hk.without_apply_rng(hk.transform(lambda x: linear.Linear(7)(x)))
  inputs = (linear.one_hots(jnp.asarray(index), 5), jnp.asarray(numbers))
  params = module.init(jax.random.PRNGKey(0), inputs)
  weights = params['linear']
  joined = np.concatenate([onehot.reshape(24, -1), numbers], -1)
  np.testing.assert_allclose(
    module.apply(params, inputs),
    joined @ np.concatenate([weights['w_0'], weights['w_1']]),
    rtol=1e-4,
    atol=1e-5,
  )
  # Drawn with the variance of all 23 inputs, not of each.
  wide = (linear.one_hots(jnp.zeros((1, 20)), 20), jnp.zeros((1, 100)))
  for w in jax.tree.leaves(module.init(jax.random.PRNGKey(0), wide)):
    if w.ndim == 2:
      np.testing.assert_allclose(np.std(w), 500**-0.5, rtol=0.15)


def test_choices_that_are_given_have_no_gradient():
  choices = linear.one_hots(jnp.zeros((1, 2)), 3)

  def total(value, numbers):
    inputs = linear.stop_gradient(
      (linear.OneHots(choices.chosen, value), numbers)
    )
    return jnp.sum(inputs[0].value) + jnp.sum(inputs[1])

  gradients = jax.grad(total, (0, 1))(choices.value, jnp.ones((1, 2)))
  assert all(not np.any(g) for g in gradients)
