"""What holds for the convolutions, in each of the forms that they take."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from acme_hieros.models.ops import backend as backend_lib
from acme_hieros.models.ops import convolution, tiling

# Images that are convolved by neighbourhoods: of few channels, not of tiles of
# 4x4 pixels, or of too few tiles; and images that are convolved by tiles.
NEIGHBOURHOODS = [
  *[(2, 2, 2, 3), (2, 6, 10, 3), (2, 12, 4, 1), (1, 16, 32, 2)],
  *[(34, 30, 8, 16), (1, 8, 8, 16)],
]
TILES = [(128, 4, 4, 16), (32, 8, 12, 17), (16, 16, 8, 40)]


@pytest.fixture(params=['cpu', 'gpu'])
def backend(request, monkeypatch):
  """What the functions take for the device that they are for."""
  monkeypatch.setattr(jax, 'default_backend', lambda: request.param)
  return request.param


def draw(shape, seed=0):
  return jnp.asarray(np.random.default_rng(seed).normal(size=shape), np.float32)


def convolve(image, kernel):
  """The definition, as a sum over the pixels of the kernel."""
  _, height, width, _ = image.shape
  image = jnp.pad(image, ((0, 0), (1, 1), (1, 1), (0, 0)))
  return sum(
    jnp.einsum(
      'nhwc,cd->nhwd',
      image[:, i : i + height : 2, j : j + width : 2],
      kernel[i, j],
      precision='highest',
    )
    for i in range(4)
    for j in range(4)
  )


def assert_near(one, other):
  np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('shape', NEIGHBOURHOODS + TILES)
def test_downsample_and_its_gradients_are_the_convolution(shape, backend):
  image, kernel = draw(shape), draw((4, 4, shape[-1], 5), 1)
  y, gradients = jax.vjp(convolution.downsample, image, kernel)
  expected, expected_gradients = jax.vjp(convolve, image, kernel)
  assert_near(y, expected)
  direction = draw(y.shape, 2)
  for one, other in zip(gradients(direction), expected_gradients(direction)):
    assert_near(one, other)


@pytest.mark.parametrize('shape', NEIGHBOURHOODS + TILES)
def test_upsample_and_its_gradients_are_the_transpose(shape, backend):
  n, height, width, channels = shape
  x = draw((n, height // 2, width // 2, 5))
  kernel = draw((4, 4, channels, 5), 1)

  def transpose(x, kernel):
    image = jnp.zeros(shape)
    return jax.vjp(lambda image: convolve(image, kernel), image)[1](x)[0]

  y, gradients = jax.vjp(convolution.upsample, x, kernel)
  expected, expected_gradients = jax.vjp(transpose, x, kernel)
  assert_near(y, expected)
  direction = draw(y.shape, 2)
  for one, other in zip(gradients(direction), expected_gradients(direction)):
    assert_near(one, other)


def test_gradients_of_upsample_are_convolutions_of_downsample():
  """JAX would derive another, with a kernel as large as the image."""
  image, kernel = draw((2, 8, 12, 3)), draw((4, 4, 3, 5))
  small = draw((2, 4, 6, 5))

  def convolutions(function, x, y):
    pull_back = backend_lib.for_accelerator(
      lambda x, kernel, y: jax.vjp(function, x, kernel)[1](y)
    )
    equations = jax.make_jaxpr(pull_back)(x, kernel, y).eqns
    return {
      (*(v.aval.shape for v in equation.invars), str(equation.params))
      for equation in equations
      if equation.primitive.name == 'conv_general_dilated'
    }

  down = convolutions(convolution.downsample, image, small)
  up = convolutions(convolution.upsample, small, image)
  assert len(down) == 3 and len(up) >= 2 and up <= down


def draw_like(shapes, seed):
  leaves, structure = jax.tree.flatten(shapes)
  return jax.tree.unflatten(
    structure, [draw(leaf.shape, seed + i) for i, leaf in enumerate(leaves)]
  )


@pytest.mark.parametrize(
  'function,adjoint,shape',
  [
    *((convolution.unfold, convolution.fold, s) for s in NEIGHBOURHOODS),
    *((tiling.tile, tiling.untile, s) for s in TILES),
    *((tiling.spread, tiling.collect, s) for s in TILES),
  ],
)
def test_pairs_are_adjoint_and_each_the_gradient_of_the_other(
  function, adjoint, shape
):
  x = draw(shape)
  y = draw_like(jax.eval_shape(function, x), 1)

  def inner(one, other):
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return sum(np.vdot(np.float64(x), np.float64(y)) for x, y in pairs)

  assert_near(inner(function(x), y), inner(x, adjoint(y)))
  assert_near(jax.vjp(function, x)[1](y)[0], adjoint(y))
  jax.tree.map(assert_near, jax.vjp(adjoint, y)[1](x)[0], function(x))


def test_tiles_save_products():
  image, kernel = draw((8, 16, 16, 64)), draw((4, 4, 64, 64))
  compiled = jax.jit(convolution.downsample).lower(image, kernel).compile()
  products = 2 * 8 * 8 * 8 * 16 * 64 * 64
  assert compiled.cost_analysis()['flops'] < 0.7 * products


@pytest.mark.parametrize('number', [1, 31, 64, 70])
def test_pieces_give_what_the_whole_gives(number, monkeypatch):
  # Up to 31 images.
  monkeypatch.setattr(convolution, '_GATHERED_AT_A_TIME', 31 * 4 * 72)
  monkeypatch.setattr(jax, 'default_backend', lambda: 'cpu')
  sizes = []

  def apply(x):
    layer = convolution.Downsample(5)

    def piece(x):
      sizes.append(len(x))
      return layer(x)

    return convolution.in_pieces(piece, (4, 6, 3), x)

  module = hk.without_apply_rng(hk.transform(apply))
  x = draw((number, 4, 6, 3))
  params = module.init(jax.random.PRNGKey(0), x)
  sizes.clear()
  assert_near(module.apply(params, x), convolve(x, params['downsample']['w']))
  assert set(sizes) == {{1: 1, 31: 31, 64: 16, 70: 14}[number]}
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
