"""What holds for the decoder's transposed convolution."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from acme_hieros.models import convolution


@pytest.mark.parametrize('height,width', [(1, 1), (3, 5), (6, 2)])
def test_upsample_is_the_adjoint_of_the_strided_convolution(height, width):
  rng = np.random.default_rng(0)
  kernel = jnp.asarray(rng.normal(size=(4, 4, 3, 5)), jnp.float32)
  x = jnp.asarray(rng.normal(size=(2, height, width, 5)), jnp.float32)

  def downsample(image):
    return jax.lax.conv_general_dilated(
      image,
      kernel,
      (2, 2),
      ((1, 1), (1, 1)),
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    )

  image = jnp.zeros((2, 2 * height, 2 * width, 3))
  _, adjoint = jax.vjp(downsample, image)
  np.testing.assert_allclose(
    convolution.upsample(x, kernel), adjoint(x)[0], rtol=1e-4, atol=1e-4
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
