"""What of a batch is told to devices that share its rows.

One device stands for several: `jax.vmap` has the same axis.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from acme_hieros import config as config_lib
from acme_hieros.models import (
  actor_critic,
  distributions,
  shares,
  spaces,
  subgoals,
)
from acme_hieros.models import level as level_lib
from benchmarks import batches, full_size

DEVICES = 3
KEY = jax.random.PRNGKey(0)

# What JAX calls what devices wait for each other in.
EXCHANGES = {'psum', 'all_gather', 'all_to_all', 'ppermute', 'reduce_scatter'}
LOOPS = {'scan', 'while'}


def each(function, *whole, axis=0):
  """What each device has: [devices, ...]; the arguments are of all rows."""
  split = [np.stack(np.split(x, DEVICES, axis)) for x in whole]
  return jax.vmap(function, axis_name=shares.AXIS)(*split)


def numbers(*shape):
  rng = np.random.default_rng(0)
  return rng.normal(size=shape).astype(np.float32)


def test_one_device_alone_has_everything():
  x = numbers(6, 2)
  assert shares.number() == 1
  for function in (shares.mean, shares.total, shares.gather):
    assert function(x) is x
  drawn = shares.draw(jax.random.normal, KEY, (6, 2))
  np.testing.assert_array_equal(drawn, jax.random.normal(KEY, (6, 2)))


def test_each_knows_how_many_they_are():
  assert list(each(lambda x: x * 0 + shares.number(), np.ones(3))) == [3.0] * 3


def test_means_and_sums_are_those_of_all():
  x = numbers(6, 2)
  means = each(lambda x: shares.mean({'a': jnp.mean(x, 0), 'b': jnp.max(x)}), x)
  np.testing.assert_allclose(means['a'], [x.mean(0)] * DEVICES, rtol=1e-5)
  best = x.reshape(DEVICES, -1).max(1)
  np.testing.assert_allclose(means['b'], [best.mean()] * DEVICES, rtol=1e-5)
  sums = each(lambda x: shares.total(jnp.sum(x, 0)), x)
  np.testing.assert_allclose(sums, [x.sum(0)] * DEVICES, rtol=1e-5)


def test_what_is_gathered_is_what_all_have():
  x = numbers(6, 2)
  for gathered in each(shares.gather, x):
    np.testing.assert_array_equal(gathered.reshape(6, 2), x)


def test_gradients_of_a_mean_are_together_those_of_the_whole():
  x, weights = numbers(6, 2), numbers(2)

  def loss(weights, x):
    # Neither is the mean of what each device says.
    mean = shares.mean(jnp.mean(jnp.tanh(x @ weights)))
    return jnp.exp(3.0 * mean) + jnp.square(mean)

  whole, gradient = jax.value_and_grad(loss)(weights, x)
  losses, gradients = each(
    lambda x: jax.value_and_grad(loss)(jnp.asarray(weights), x), x
  )
  np.testing.assert_allclose(losses, [whole] * DEVICES, rtol=1e-5)
  assert np.ptp(gradients, 0).max() > 0.1  # Each is of its own rows.
  np.testing.assert_allclose(gradients.mean(0), gradient, rtol=1e-5)


@pytest.mark.parametrize('sample', [jax.random.uniform, jax.random.normal])
def test_rows_have_the_random_numbers_of_the_whole(sample):
  drawn = each(lambda x: shares.draw(sample, KEY, x.shape), np.zeros((6, 4, 2)))
  np.testing.assert_array_equal(drawn.reshape(6, 4, 2), sample(KEY, (6, 4, 2)))


def test_rows_may_stand_behind_others_and_come_again():
  whole = jax.random.normal(KEY, (5, 2 * 6, 4)).reshape(5, 2, 6, 4)
  drawn = each(
    lambda x: shares.draw(
      jax.random.normal, KEY, (5, 2 * len(x), 4), shares.Rows(1, 2)
    ),
    np.zeros(6),
  )
  for i, own in enumerate(drawn):
    np.testing.assert_array_equal(
      own.reshape(5, 2, 2, 4), whole[:, :, 2 * i : 2 * i + 2]
    )


def test_statistics_of_behaviour_are_those_of_all():
  x, weight = numbers(4, 6), np.abs(numbers(4, 6))
  for range_ in each(actor_critic.percentile_range, x, axis=1):
    assert range_ == actor_critic.percentile_range(x)
  mean = np.average(x, weights=weight)
  deviation = np.sqrt(np.average((x - mean) ** 2, weights=weight))
  told = each(actor_critic.moments, x, weight, axis=1)
  np.testing.assert_allclose(told[0], [mean] * DEVICES, rtol=1e-5)
  np.testing.assert_allclose(told[1], [deviation] * DEVICES, rtol=1e-5)


def test_information_is_that_in_the_whole_batch():
  log_probs = jax.nn.log_softmax(3.0 * numbers(6, 4, 5, 3))
  whole = distributions.mutual_information(log_probs)
  told = each(distributions.mutual_information, log_probs)
  # What the inputs of one device say about each other is less.
  alone = distributions.mutual_information(log_probs[:2])
  assert not np.isclose(alone, whole, rtol=1e-2)
  np.testing.assert_allclose(told.mean(), whole, rtol=1e-5)


def test_rarity_is_that_in_the_whole_batch():
  # What is alone on one device may be common on the others.
  z = jax.nn.one_hot(1 * (numbers(4, 8) > 0), 2)[jnp.array([0, 1, 1, 1, 2, 3])]
  whole = subgoals.rarity(z, 1.0)
  told = each(lambda rows: subgoals.rarity(rows, 1.0), z)
  np.testing.assert_allclose(told.reshape(6), whole, rtol=1e-4)
  assert not np.allclose(subgoals.rarity(z[:2], 1.0), whole[:2], rtol=0.1)


def test_an_update_that_is_shared_is_that_of_one_device(config):
  # With all that is told of whole batches in `small`.
  config = config_lib.override(
    config,
    {
      'batch_size': DEVICES,
      'world_model.direct_prior': True,
      'world_model.information_scale': 5.0,
      'world_model.overshooting': 2,
      'actor_critic.advantage_scale': 'deviation',
      'actor_critic.replay_scale': 0.3,
      'actor_critic.replay_actor_scale': 1.0,
      'subgoals.practice': 0.5,
      'subgoals.information_scale': 2.0,
    },
  )
  level = level_lib.Level(
    config, {'body': spaces.Vector((3,))}, spaces.Discrete((), 3)
  )
  batch = batches.draw(config, level)
  state = level_lib.draw(level.init, KEY)
  new, metrics = jax.jit(level.update)(state, batch)
  together = jax.vmap(level.update, (None, 0), axis_name=shares.AXIS)
  rows = jax.tree.map(lambda x: x[:, None], batch)
  news, told = jax.jit(together)(state, rows)
  for name, value in metrics.items():
    np.testing.assert_allclose(
      told[name], [value] * DEVICES, rtol=1e-4, atol=1e-6, err_msg=name
    )
  for x, y in zip(jax.tree.leaves(news), jax.tree.leaves(new)):
    assert all(np.array_equal(one, x[0]) for one in x)
    scale = max(1e-9, 1e-3 * np.max(np.abs(y)))
    np.testing.assert_allclose(x[0], y, rtol=0, atol=scale)


def exchanges(jaxpr, looping=False):
  """Names of exchanges in the order of a program; of those in loops, 'loop'."""
  for equation in jaxpr.eqns:
    name = equation.primitive.name
    if name in EXCHANGES:
      yield 'loop' if looping else name
    for inner in jax.core.jaxprs_in_params(equation.params):
      yield from exchanges(inner, looping or name in LOOPS)


@pytest.mark.parametrize(
  'preset, index',
  [('tiny', 0), ('tiny', 1), ('atari100k', 0), ('atari100k', 2)],
)
def test_exchanges_are_few_and_none_is_in_a_loop(preset, index):
  # XLA has a CPU's devices begin what they exchange in one order. Those in a
  # loop would come in any, and devices wait for each other in different ones.
  _check_exchanges(config_lib.preset(preset), index)


@pytest.mark.parametrize('system', ['director', 'dreamerv3', 'r2i'])
def test_nor_are_those_of_other_systems(system):
  _check_exchanges(config_lib.preset('tiny', system), 0)


def test_nor_are_those_of_attention():
  config = config_lib.preset('tiny')
  _check_exchanges(
    config_lib.override(config, {'world_model.core': 'attention'}), 1
  )


def _check_exchanges(config, index):
  level = full_size.make_agent(config).levels[index]
  own = batches.draw(
    config_lib.override(config, {'batch_size': config.batch_size // 2}), level
  )
  state = jax.eval_shape(level.init, KEY)
  program = jax.make_jaxpr(level.update, axis_env=[(shares.AXIS, 2)])(
    state, own, np.float32(1.0)
  )
  found = list(exchanges(program.jaxpr))
  assert 'loop' not in found
  assert 3 <= len(found) <= 20
