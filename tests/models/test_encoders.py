"""What holds for how images become numbers and numbers images."""

import dataclasses
import functools
import math

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from acme_hieros.models import encoders, spaces, world_model
from acme_hieros.models.ops import linear

IMAGE = spaces.Image((16, 24, 3))
SEEN = {'eye': IMAGE, 'body': spaces.Vector((3,))}
CHOICES = spaces.Discrete((), 3)


@pytest.fixture(scope='module')
def patched(config):
  """Patches of 4 pixels, and one halving: 2 x 3 cells."""
  return dataclasses.replace(
    config.world_model, patch_size=4, cnn_depths=(4, 6), categoricals=12
  )


def images(*shape, seed=0):
  rng = np.random.default_rng(seed)
  return rng.integers(0, 256, (*shape, *IMAGE.shape)).astype(np.uint8)


def test_patches_are_squares_of_the_image_and_fit_together_again():
  x = jnp.asarray(np.random.default_rng(0).normal(size=(2, *IMAGE.shape)))
  patches = encoders.to_patches(x, 4)
  assert patches.shape == (2, 4, 6, 48)
  np.testing.assert_array_equal(
    patches[1, 2, 5].reshape(4, 4, 3), x[1, 8:12, 20:24]
  )
  np.testing.assert_array_equal(encoders.from_patches(patches, 4), x)


@pytest.mark.parametrize('share', [0.0, 0.5, 10.0])
def test_all_changed_pixels_together_weigh_a_share_of_the_image(share):
  still = np.broadcast_to(images(1, 1), (2, 5, *IMAGE.shape)).copy()
  still[0] = still[0] // 4 + 90
  moving = still.copy()
  # A square of 2 x 3 pixels walks through the first sequence.
  for t in range(5):
    moving[0, t, 4:6, 2 + 3 * t : 5 + 3 * t] = 255
  weights = np.asarray(encoders.change_weights(jnp.asarray(moving), share))
  np.testing.assert_array_equal(weights[1], 1.0)
  pixels = IMAGE.shape[0] * IMAGE.shape[1]
  # Where it was at other times the mean is another than the background, too.
  changed = weights[0] > 1.0
  for t in range(5):
    assert share == 0.0 or changed[t, 4:6, 2 + 3 * t : 5 + 3 * t].all()
    assert not changed[t, :4].any() and not changed[t, 6:].any()
    np.testing.assert_allclose(
      weights[0, t].sum() - pixels, share * pixels, rtol=1e-4
    )


def test_running_means_are_means_of_all_that_came(config, draw):
  model = world_model.make_world_model(config.world_model, SEEN, CHOICES, 5)
  params = draw(model.init)
  batches = [images(2, 3, seed=seed) for seed in range(4)]
  track = jax.jit(functools.partial(encoders.track_means, space=SEEN))
  for steps, batch in enumerate(batches):
    before, params = params, track(params, {'eye': batch}, steps=steps)
  expected = np.mean([batch / 255.0 - 0.5 for batch in batches], (0, 1, 2))
  module = 'world_model/~/image_mean_0'
  np.testing.assert_allclose(params[module]['mean'], expected, atol=1e-5)
  for name, others in before.items():
    if name != module:
      jax.tree.map(np.testing.assert_array_equal, others, params[name])
  # After long they still follow, slowly.
  later = track(params, {'eye': np.full_like(batches[0], 255)}, steps=10**6)
  np.testing.assert_allclose(
    later[module]['mean'],
    expected + 1e-3 * (0.5 - expected),
    atol=1e-5,
  )


def test_no_gradient_reaches_the_means(config, draw):
  model = world_model.make_world_model(config.world_model, SEEN, CHOICES, 5)
  params = draw(model.init)
  shape = (1, 3)
  sequence = world_model.Sequence(
    {'eye': jnp.asarray(images(*shape)), 'body': jnp.ones((*shape, 3))},
    jnp.zeros(shape, jnp.int32),
    jnp.ones(shape),
    jnp.ones(shape),
    jnp.zeros(shape, bool),
  )
  gradient, _ = jax.jit(jax.grad(model.loss, has_aux=True))(
    params, jax.random.PRNGKey(0), sequence
  )
  size = jax.tree.map(lambda x: np.abs(x).max(), gradient)
  assert size['world_model/~/image_mean_0']['mean'] == 0.0
  assert size['world_model/~/encoder/~/downsample']['w'] > 0.0


@pytest.mark.parametrize('patch_size', [1, 4])
def test_what_an_image_always_shows_is_neither_seen_nor_said(
  config, patched, patch_size
):
  settings = patched if patch_size > 1 else config.world_model

  def both(image, latent):
    means = encoders.ImageMeans(SEEN)
    encoder = encoders.Encoder(settings, SEEN, means, jnp.float32)
    decoder = encoders.Decoder(settings, SEEN, means, jnp.float32)
    seen = {'eye': image, 'body': jnp.zeros((len(image), 3))}
    return encoder(seen), decoder(latent)

  init, apply = map(jax.jit, hk.without_apply_rng(hk.transform(both)))
  stoch = linear.one_hots(jnp.zeros((2, settings.categoricals), int), 5)
  latent = stoch, jnp.ones((2, settings.deter_size))
  image = jnp.asarray(images(2) // 2)
  params = init(jax.random.PRNGKey(0), image, latent)
  (embedding, (cells,)), decoded = apply(params, image, latent)
  height, width = (4, 6) if patch_size == 1 else (2, 3)
  assert cells.shape == (2, height * width, settings.cnn_depths[-1])
  np.testing.assert_array_equal(
    cells.reshape(2, -1), embedding[:, : cells[0].size]
  )
  # All is lighter by a fifth, and so is the mean.
  lighter = {**params, 'image_mean_0': {'mean': jnp.full(IMAGE.shape, 0.2)}}
  (again, _), decoded_lighter = apply(lighter, image + 51, latent)
  np.testing.assert_allclose(again, embedding, rtol=1e-4, atol=1e-4)
  np.testing.assert_allclose(
    decoded_lighter['eye'], decoded['eye'] + 0.2, rtol=1e-4, atol=1e-5
  )


def test_a_cell_tells_its_own_categoricals_and_no_others(patched, draw):
  settings = dataclasses.replace(patched, cell_latents=True, unimix=0.0)
  model = world_model.make_world_model(settings, SEEN, CHOICES, 5)
  params = draw(model.init)
  # Only what the cells say.
  params = {
    name: jax.tree.map(np.zeros_like, module)
    if name.startswith('world_model/~/posterior')
    else module
    for name, module in params.items()
  }
  image = images(1, 1)
  other = image.copy()
  # Within the lower right cell, far enough from the others: convolutions of a
  # kernel of 4 reach one patch beyond it.
  other[..., 12:, 20:, :] ^= 255

  observe = jax.jit(model.observe)

  def posterior(image):
    seen = {'eye': jnp.asarray(image), 'body': jnp.zeros((1, 1, 3))}
    state = observe(
      params,
      jax.random.PRNGKey(0),
      seen,
      jnp.zeros((1, 1, 3)),
      jnp.ones((1, 1), bool),
    )
    return np.asarray(state.log_probs[0, 0])

  change = np.abs(posterior(image) - posterior(other)).max(-1)
  # 12 categoricals of 6 cells, two of each, row by row.
  np.testing.assert_allclose(change[:10], 0.0, atol=1e-5)
  assert np.all(change[10:] > 1e-3)


# Of any size.

DEPTHS = (3, 4, 5, 6)


@pytest.mark.parametrize(
  'shape,patch_size,cells,stride,depths',
  [
    # As they are configured, where all divides.
    ((64, 64), 1, (4, 4), 16, DEPTHS),
    ((16, 16), 1, (1, 1), 16, DEPTHS),
    ((16, 32), 1, (1, 2), 16, DEPTHS),
    ((64, 64), 8, (1, 1), 64, DEPTHS),
    # Filled up to the next multiple.
    ((84, 84), 1, (6, 6), 16, DEPTHS),
    ((210, 160), 1, (14, 10), 16, DEPTHS),
    ((65, 64), 1, (5, 4), 16, DEPTHS),
    # Less often, so that something is left.
    ((7, 7), 1, (4, 4), 2, DEPTHS[-1:]),
    ((10, 10), 1, (5, 5), 2, DEPTHS[-1:]),
    ((21, 33), 1, (6, 9), 4, DEPTHS[-2:]),
    ((40, 40), 1, (5, 5), 8, DEPTHS[-3:]),
    ((1, 1), 1, (1, 1), 2, DEPTHS[-1:]),
    # By smaller patches.
    ((7, 7), 8, (4, 4), 2, DEPTHS[-1:]),
    ((10, 10), 8, (4, 4), 3, DEPTHS[-1:]),
    ((84, 84), 8, (6, 6), 16, DEPTHS[-2:]),
    ((3, 5), 8, (3, 5), 1, DEPTHS[-1:]),
  ],
)
def test_there_is_an_encoder_for_every_size(
  config, shape, patch_size, cells, stride, depths
):
  settings = dataclasses.replace(
    config.world_model, patch_size=patch_size, cnn_depths=DEPTHS
  )
  fitted = encoders.fit(settings, spaces.Image((*shape, 3)))
  assert (fitted.cells, fitted.depths) == (cells, depths)
  assert fitted.size == (cells[0] * stride, cells[1] * stride)


@pytest.mark.parametrize('patch_size', [1, 4])
@pytest.mark.parametrize('shape', [(7, 7, 3), (5, 9, 1), (18, 13, 2)])
def test_every_pixel_is_seen_and_said(config, patch_size, shape):
  """Those in a margin that was filled up included."""
  space = {'eye': spaces.Image(shape)}
  settings = dataclasses.replace(config.world_model, patch_size=patch_size)

  def both(image, latent):
    means = encoders.ImageMeans(space)
    encoder = encoders.Encoder(settings, space, means, jnp.float32)
    decoder = encoders.Decoder(settings, space, means, jnp.float32)
    errors = decoder.losses(
      latent, {'eye': image}, {'eye': jnp.ones((len(image), *shape[:2]))}
    )
    return encoder({'eye': image})[0], decoder(latent)['eye'], errors['image']

  init, apply = hk.without_apply_rng(hk.transform(both))
  # A white pixel in each image, and nothing in the last one.
  pixels = np.arange(math.prod(shape))
  image = np.zeros((len(pixels) + 1, *shape), np.uint8)
  image.reshape(len(image), -1)[pixels, pixels] = 255
  stoch = linear.one_hots(jnp.zeros((len(image), 2), int), 5)
  latent = stoch, jnp.ones((len(image), settings.deter_size))
  params = jax.jit(init)(jax.random.PRNGKey(0), image, latent)
  seen, said, error = jax.jit(apply)(params, image, latent)
  assert np.all(np.abs(seen[:-1] - seen[-1]).max(-1) > 1e-4)
  assert said.shape == image.shape
  np.testing.assert_allclose(
    error, np.square(said - (image / 255.0 - 0.5)).sum((1, 2, 3)), rtol=1e-4
  )
  # No pixel is like all others.
  assert np.ptp(np.asarray(said[0])) > 1e-3


@pytest.mark.parametrize('categoricals', [1, 4, 7, 20])
def test_each_categorical_hears_of_one_cell_however_many_there_are(
  patched, draw, categoricals
):
  settings = dataclasses.replace(
    patched, cell_latents=True, unimix=0.0, categoricals=categoricals
  )
  model = world_model.make_world_model(settings, SEEN, CHOICES, 5)
  params = draw(model.init)
  only_cells = {
    name: jax.tree.map(np.zeros_like, module)
    if name.startswith('world_model/~/posterior')
    else module
    for name, module in params.items()
  }
  lower_right = images(1, 1)
  image = lower_right.copy()
  image[..., 12:, 20:, :] ^= 255

  @jax.jit
  def posterior(image):
    seen = {'eye': jnp.asarray(image), 'body': jnp.zeros((1, 1, 3))}
    start = jnp.ones((1, 1), bool)
    before = jnp.zeros((1, 1, 3))
    key = jax.random.PRNGKey(0)
    return model.observe(only_cells, key, seen, before, start).log_probs[0, 0]

  change = np.abs(posterior(image) - posterior(lower_right)).max(-1)
  assert change.shape == (categoricals,)
  # Of 6 cells the last one changed: those that stand for it come last.
  numbers = -(-categoricals // 6) * 6
  cells = np.arange(categoricals) * numbers // categoricals * 6 // numbers
  np.testing.assert_array_equal(change > 1e-4, cells == 5)


def test_vectors_need_no_cells(patched):
  settings = dataclasses.replace(patched, cell_latents=True, categoricals=5)
  body = {'body': SEEN['body']}
  model = world_model.make_world_model(settings, body, CHOICES, 5)
  names = jax.eval_shape(model.init, jax.random.PRNGKey(0))
  assert not any('cells' in name or 'mean' in name for name in names)
