"""What precision='bfloat16' changes, and what stays float32."""

import dataclasses

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from acme_hieros.models import hierarchy, spaces, world_model
from acme_hieros.models import level as level_lib
from acme_hieros.models.ops import convolution, linear

SEEN = {'eye': spaces.Image((8, 8, 3)), 'body': spaces.Vector((3,))}


def make_level(config, precision):
  config = dataclasses.replace(config, precision=precision)
  return hierarchy.Hierarchy(config, SEEN, spaces.Discrete((), 3)).levels[0]


@pytest.fixture(scope='module')
def batch(config):
  shape = (config.batch_size, config.sequence_length)
  rng = np.random.default_rng(0)
  return level_lib.Batch(
    world_model.Sequence(
      observation={
        'eye': jnp.asarray(rng.integers(0, 256, (*shape, 8, 8, 3)), jnp.uint8),
        'body': jnp.asarray(rng.normal(size=(*shape, 3)), jnp.float32),
      },
      action=jnp.asarray(rng.integers(0, 3, shape)),
      reward=jnp.asarray(rng.normal(size=shape), jnp.float32),
      discount=jnp.ones(shape),
      start_of_episode=jnp.zeros(shape, bool).at[:, 0].set(True),
    ),
    jnp.zeros((*shape, config.subgoals.categoricals), jnp.uint8),
  )


def dots(jaxpr):
  """Types of the operands of every matrix product, inner functions included."""
  for equation in jaxpr.eqns:
    if equation.primitive.name == 'dot_general':
      yield tuple(str(x.aval.dtype) for x in equation.invars)
    for inner in jax.core.jaxprs_in_params(equation.params):
      yield from dots(inner)


def test_what_is_learned_stays_float32_and_most_products_do_not(config, batch):
  level = make_level(config, 'bfloat16')
  state = jax.eval_shape(level.init, jax.random.PRNGKey(0))
  new, metrics = jax.eval_shape(level.update, state, batch)
  for leaf in jax.tree.leaves((state, new, metrics)):
    assert leaf.dtype in (jnp.float32, jnp.int32, jnp.uint32)
  jaxpr = jax.make_jaxpr(level.update)(state, batch).jaxpr
  kinds = list(dots(jaxpr))
  halves = kinds.count(('bfloat16', 'bfloat16'))
  assert halves > 100
  # No product converts one side to the other's type by accident.
  assert set(kinds) == {('bfloat16',) * 2, ('float32',) * 2}
  jaxpr = jax.make_jaxpr(make_level(config, 'float32').update)(state, batch)
  assert set(dots(jaxpr.jaxpr)) == {('float32', 'float32')}


@pytest.mark.parametrize('core', ['gru', 'block_gru', 's3m', 'hybrid'])
def test_nor_does_one_of_another_core(config, replace, batch, core):
  level = make_level(replace(config, 'world_model', core=core), 'bfloat16')
  params = jax.eval_shape(level.init, jax.random.PRNGKey(0)).params.world_model
  program, (gradient, _) = jax.make_jaxpr(
    jax.grad(level.world_model.loss, has_aux=True), return_shape=True
  )(params, jax.random.PRNGKey(0), batch.sequence)
  assert set(dots(program.jaxpr)) == {('bfloat16',) * 2, ('float32',) * 2}
  kinds = {x.dtype for x in jax.tree.leaves(gradient)}
  assert kinds == {jnp.dtype('float32')}


def test_memory_and_h_are_float32(config, batch):
  level = make_level(config, 'bfloat16')
  params = jax.eval_shape(level.init, jax.random.PRNGKey(0)).params
  state = jax.eval_shape(
    level.world_model.observe,
    params.world_model,
    jax.random.PRNGKey(0),
    batch.sequence.observation,
    jnp.zeros((*batch.sequence.reward.shape, 3)),
    batch.sequence.start_of_episode,
  )
  state = state._replace(stoch=state.stoch.value)
  assert {x.dtype for x in jax.tree.leaves(state)} == {jnp.dtype('float32')}


@pytest.mark.parametrize(
  'make, shape',
  [
    (lambda: convolution.Upsample(3, with_bias=True), (2, 32, 32, 5)),
    (lambda: linear.Linear(3), (8192, 5)),
  ],
  ids=['upsample', 'linear'],
)
def test_a_biass_gradient_counts_every_pixel_and_row(make, shape):
  module = hk.without_apply_rng(hk.transform(lambda x: make()(x)))
  x = jnp.zeros(shape, jnp.bfloat16)
  params = module.init(jax.random.PRNGKey(0), x)
  gradient = jax.grad(
    lambda p: jnp.sum(module.apply(p, x).astype(jnp.float32))
  )(params)
  (of_module,) = gradient.values()
  # bfloat16 cannot count to 257.
  np.testing.assert_array_equal(of_module['b'], 8192)


def test_losses_are_those_of_float32_up_to_rounding(config, batch, draw):
  losses, gradients = {}, {}
  for precision in ('float32', 'bfloat16'):
    level = make_level(config, precision)
    params = draw(lambda key, level=level: level.init(key).params.world_model)

    @jax.jit
    def run(params, level=level):
      (_, extra), gradient = jax.value_and_grad(
        level.world_model.loss, has_aux=True
      )(
        params,
        jax.random.PRNGKey(0),
        batch.sequence,
      )
      return extra[-1], gradient

    losses[precision], tree = run(params)
    gradients[precision] = jnp.concatenate(
      [x.ravel() for x in jax.tree.leaves(tree)]
    )
  for name in ('image_loss', 'vector_loss', 'reward_loss', 'prior_entropy'):
    np.testing.assert_allclose(
      losses['bfloat16'][name], losses['float32'][name], rtol=0.03
    )
  one, two = gradients.values()
  cosine = one @ two / (jnp.linalg.norm(one) * jnp.linalg.norm(two))
  assert cosine > 0.99
