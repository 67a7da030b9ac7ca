"""What holds for the convolutions that are written as matrix products."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from acme_hieros.models import convolution

SIDES = [(1, 1), (3, 5), (6, 2)]


def draw(shape, seed=0):
  return jnp.asarray(np.random.default_rng(seed).normal(size=shape), np.float32)


def convolve(image, kernel):
  """XLA's own, with a kernel as `downsample` takes it, [16C, D]."""
  depth = kernel.shape[-1]
  kernel = kernel.reshape(2, 2, 2, 2, -1, depth).transpose(0, 2, 1, 3, 4, 5)
  return jax.lax.conv_general_dilated(
    image,
    kernel.reshape(4, 4, -1, depth),
    (2, 2),
    ((1, 1), (1, 1)),
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )


def assert_near(one, other):
  np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('height,width', SIDES)
def test_downsample_and_its_gradients_are_the_strided_convolution(
  height, width
):
  kernel = draw((48, 5))
  image = draw((2, 2 * height, 2 * width, 3), 1)
  y, gradients = jax.vjp(convolution.downsample, image, kernel)
  expected, expected_gradients = jax.vjp(convolve, image, kernel)
  assert_near(y, expected)
  direction = draw(y.shape, 2)
  for one, other in zip(gradients(direction), expected_gradients(direction)):
    assert_near(one, other)


@pytest.mark.parametrize('height,width', SIDES)
def test_upsample_is_the_adjoint_of_the_strided_convolution(height, width):
  kernel = draw((5, 48))
  x = draw((2, height, width, 5), 1)

  def adjoint(x, kernel):
    image = jnp.zeros((2, 2 * height, 2 * width, 3))
    return jax.vjp(lambda image: convolve(image, kernel.T), image)[1](x)[0]

  y, gradients = jax.vjp(convolution.upsample, x, kernel)
  expected, expected_gradients = jax.vjp(adjoint, x, kernel)
  assert_near(y, expected)
  direction = draw(y.shape, 2)
  for one, other in zip(gradients(direction), expected_gradients(direction)):
    assert_near(one, other)


@pytest.mark.parametrize('height,width', SIDES)
def test_fold_and_unfold_are_adjoint(height, width):
  x = draw((2, 2 * height, 2 * width, 3))
  y = draw((2, height, width, 48), 1)
  assert_near(
    jnp.sum(convolution.unfold(x) * y), jnp.sum(x * convolution.fold(y))
  )


@pytest.mark.parametrize('number', [1, 31, 64, 70])
def test_pieces_give_what_the_whole_gives(number):
  module = hk.without_apply_rng(
    hk.transform(lambda x: convolution.in_pieces(convolution.Downsample(5), x))
  )
  x = draw((number, 4, 6, 3))
  params = module.init(jax.random.PRNGKey(0), x)
  assert_near(
    module.apply(params, x),
    convolve(x, params['downsample']['w']),
  )
  gradient = jax.grad(lambda p: jnp.sum(module.apply(p, x) ** 2))(params)
  expected = jax.grad(lambda w: jnp.sum(convolve(x, w) ** 2))(
    params['downsample']['w']
  )
  np.testing.assert_allclose(
    gradient['downsample']['w'], expected, rtol=1e-3, atol=1e-2
  )


def test_upsample_module_doubles_the_sides_and_adds_its_bias():
  module = hk.without_apply_rng(
    hk.transform(lambda x: convolution.Upsample(3, with_bias=True)(x))
  )
  x = jnp.zeros((2, 3, 5, 4))
  params = module.init(jax.random.PRNGKey(0), x)
  params['upsample']['b'] = jnp.array([1.0, 2.0, 3.0])
  y = module.apply(params, x)
  assert y.shape == (2, 6, 10, 3)
  np.testing.assert_array_equal(y, np.broadcast_to([1.0, 2.0, 3.0], y.shape))
