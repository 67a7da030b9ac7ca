"""A learner on two devices does what it does on one.

`test_sharding.py` runs these where JAX has two devices.
"""

import jax
import numpy as np
import pytest
from scripted_learner import Setup, assert_equal, differ

from acme_hieros.agent import learning
from acme_hieros.models import level as level_lib
from acme_hieros.models import shares

BATCH_SIZE = 4

pytestmark = pytest.mark.filterwarnings('error:Some donated buffers')


class Pair:
  """The same learner on one device and on two.

  Attributes:
    seen: how many of its rows a device holds of each array in imagination, by
      the array's name, in the program for two devices.
  """

  def __init__(self, config):
    self.one = Setup(config, 0, jax.local_devices()[:1])
    self.two = Setup(config, 0)
    self.seen = {}
    for level in self.two.networks.levels:
      level.imagine = self._watch(level.imagine)

  def steps(self, seeds):
    for setup in (self.one, self.two):
      for seed in seeds:
        setup.step(*(setup.batch(level, seed) for level in range(2)))

  def _watch(self, imagine):
    def watched(params, key, start, *args):
      trajectory = imagine(params, key, start, *args)
      if len(args) > 3:  # A horizon: that is no update, but a diagnosis.
        return trajectory
      # The flattened batch [B * T] is the first axis, then the second.
      for name, rows in (
        ('start', len(start.deter)),
        ('inputs', trajectory.inputs[1].shape[1]),
        ('action', trajectory.action.shape[1]),
        ('deter', trajectory.deter.shape[1]),
      ):
        self.seen.setdefault(name, set()).add(rows)
      return trajectory

    return watched


@pytest.fixture(scope='module')
def made(make_config):
  assert jax.local_device_count() == 2
  learning.DIAGNOSIS_PERIOD = 3
  return Pair(
    make_config(
      batch_size=BATCH_SIZE,
      # Of means over bins of up to 3 million rounding leaves, at first, nothing
      # but chance, and fewer rows are rounded in another way.
      world_model__reward_head='normal',
      actor_critic__value_head='normal',
    )
  )


@pytest.fixture
def pair(made):
  """Both learners after three updates of each level."""
  for setup in (made.one, made.two):
    setup.learner.restore(made.one.fresh)
    for records in setup.records.values():
      records.clear()
  made.steps(range(3))
  return made


def assert_close(one, other):
  """Compares every array at its own scale.

  Gradients, and even more their squares in Adam's state, are far smaller than
  parameters, and each has a few entries that are nearly zero.
  """
  assert jax.tree.structure(one) == jax.tree.structure(other)
  for (path, x), y in zip(
    jax.tree_util.tree_leaves_with_path(one), jax.tree.leaves(other)
  ):
    np.testing.assert_allclose(
      x,
      y,
      rtol=0,
      atol=max(1e-3 * np.max(np.abs(x)), 1e-9),
      err_msg=jax.tree_util.keystr(path),
    )


def test_learners_begin_the_same(made):
  assert_equal(made.one.fresh, made.two.fresh)


def test_three_updates_give_the_same_states(pair):
  one, two = pair.one.learner.save(), pair.two.learner.save()
  assert_close(one, two)
  for level, (state, fresh) in enumerate(zip(one, pair.one.fresh)):
    assert state.steps == 3
    # The random numbers of the next update do not depend on the devices.
    np.testing.assert_array_equal(state.key, two[level].key)
    # Each device has the same to the last bit.
    for x in jax.tree.leaves(pair.two.learner._states[level]):
      np.testing.assert_array_equal(*(d.data for d in x.addressable_shards))
    for name in (
      'params',
      'slow_critics',
      'optimizers',
      'scales',
    ):
      assert differ(getattr(state, name), getattr(fresh, name)), name


def test_three_updates_log_the_same(pair):
  for label, records in pair.one.records.items():
    assert len(records) == (1 if 'diagnostics' in label else 3)
    for one, two in zip(records, pair.two.records[label], strict=True):
      assert one.keys() == two.keys()
      for name, value in one.items():
        # The absolute term is for what is a difference of larger numbers; a
        # stream without reward has a share of 0, or what rounding leaves.
        atol = 1e-5 if name.endswith('_advantage_share') else 1e-6
        np.testing.assert_allclose(
          value, two[name], rtol=1e-4, atol=atol, err_msg=name
        )


def test_each_device_works_on_its_half_of_the_batch(pair):
  half = BATCH_SIZE // 2 * pair.two.config.sequence_length
  assert pair.seen == dict.fromkeys(
    ('start', 'inputs', 'action', 'deter'), {half}
  )


def test_published_parameters_are_on_one_device(pair):
  (given,) = pair.two.learner.get_variables(['policy'])
  for policy, state in zip(given, pair.two.learner.save()):
    assert all(len(x.devices()) == 1 for x in jax.tree.leaves(policy))
    actor = level_lib.unpack_policy(policy).actor
    assert_equal(actor, state.params.actor)
  copy = jax.tree.map(np.array, given)
  pair.steps([3])
  assert_equal(jax.tree.map(np.array, given), copy)


def test_several_devices_do_the_same_again(pair):
  two = pair.two
  before = two.learner.save()
  two.learner.restore(two.fresh)
  for seed in range(3):
    two.step(*(two.batch(level, seed) for level in range(2)))
  assert_equal(two.learner.save(), before)


@pytest.mark.parametrize('saved_on', ['one', 'two'])
def test_a_saved_state_continues_on_any_number_of_devices(pair, saved_on):
  saved = getattr(pair, saved_on).learner.save()
  copy = jax.tree.map(np.array, saved)
  for setup in (pair.one, pair.two):
    setup.learner.restore(saved)
    assert_equal(setup.learner.save(), copy)
  pair.steps([3, 4])
  assert_close(pair.one.learner.save(), pair.two.learner.save())
  assert pair.one.learner.save()[0].steps == 5
  # Later updates have not overwritten what the caller holds.
  assert_equal(saved, copy)


def test_a_batch_that_two_devices_cannot_share_is_refused():
  devices = jax.local_devices()
  with pytest.raises(ValueError, match='batch_size=5 .*2 devices.*multiple'):
    shares.share_devices(5, devices)
  assert shares.share_devices(5, devices[:1]) == devices[:1]


def test_as_many_cores_as_can_share_a_batch():
  devices = jax.local_devices()
  assert shares.share_devices(4) == devices
  assert shares.share_devices(5) == devices[:1]
  assert shares.fitting_cores(8, 7) == 4
  assert shares.fitting_cores(10, 8) == 5
