"""What the learner does with batches, and that its state is everything."""

import threading

import jax
import numpy as np
import pytest
from scripted_learner import Setup, assert_equal, differ
import tree

from acme_hieros.agent import learning
from acme_hieros.models import level as level_lib
from acme_hieros.storage import arrays


@pytest.fixture(scope='module')
def setups(make_config):
  """Two learners that began with different seeds."""
  return [Setup(make_config(), seed) for seed in range(2)]


@pytest.fixture
def setup(setups):
  """The first learner, as it was at its beginning."""
  setup = setups[0]
  setup.learner.restore(setup.fresh)
  setup.records.get('level_0', []).clear()
  setup.records.get('level_1', []).clear()
  return setup


@pytest.mark.parametrize('through_file', [False, True])
def test_a_restored_learner_continues_bit_for_bit(
  setups, setup, through_file, tmp_path
):
  other = setups[1]
  other.learner.restore(other.fresh)
  assert differ(setup.fresh, other.fresh)
  setup.steps(range(2))
  saved = setup.learner.save()
  assert differ(saved, setup.fresh)
  if through_file:
    path = str(tmp_path / 'checkpoint.npz')
    arrays.save(path, saved, {})
    saved, _ = arrays.load(path, other.learner.save())
  other.learner.restore(saved)
  for one in (setup, other):
    one.steps(range(2, 5))
  assert_equal(setup.learner.save(), other.learner.save())
  assert_equal(
    setup.learner.get_variables(['policy']),
    other.learner.get_variables(['policy']),
  )


def test_nothing_is_compiled_after_the_first_steps(
  setup, compilations, monkeypatch
):
  monkeypatch.setattr(learning, 'DIAGNOSIS_PERIOD', 2)

  def work(seeds):
    setup.steps(seeds)
    setup.learner.restore(setup.learner.save())
    setup.learner.get_variables(['policy'])

  work(range(4))
  jax.jit(lambda x: x + 1)(1)
  assert compilations  # It would be noticed.
  compilations.clear()
  work(range(4, 9))
  assert not compilations


def test_saved_states_outlive_later_steps(setup):
  setup.steps([0])
  saved = setup.learner.save()
  copy = jax.tree.map(np.array, saved)
  setup.steps([1])
  assert_equal(saved, copy)
  assert differ(saved, setup.learner.save())


def test_published_parameters_outlive_later_steps(setup):
  setup.steps([1])
  (given,) = setup.learner.get_variables(['policy'])
  copy = jax.tree.map(np.array, given)
  setup.steps([1, 3])
  assert_equal(jax.tree.map(np.array, given), copy)
  (newer,) = setup.learner.get_variables(['policy'])
  for one, other in zip(given, newer):
    assert differ(level_lib.unpack_policy(one), level_lib.unpack_policy(other))


def test_published_parameters_are_those_of_the_state(setup):
  setup.steps([1])
  (given,) = setup.learner.get_variables(['policy'])
  for packed, state in zip(given, setup.learner.save()):
    policy = level_lib.unpack_policy(packed)
    assert_equal(policy.actor, state.params.actor)
    for module, values in policy.world_model.items():
      assert_equal(values, state.params.world_model[module])


def test_as_many_variables_as_names(setup):
  assert len(setup.learner.get_variables(['policy', 'policy'])) == 2
  assert setup.learner.get_variables([]) == []


def test_unknown_variables_are_refused_by_name(setup):
  with pytest.raises(ValueError, match="'critic'.*policy"):
    setup.learner.get_variables(['policy', 'critic'])


def test_a_begun_step_leaves_its_caller_alone(setup, monkeypatch):
  """Actors get what it learned with the next, whenever it has ended."""
  may_end = threading.Event()
  update = setup.learner._updates[0]

  def slowly(*args):
    assert may_end.wait(60.0)
    return update(*args)

  monkeypatch.setattr(setup.learner, '_updates', [slowly, None])

  def given():
    (policies,) = setup.learner.get_variables(['policy'])
    return jax.tree.map(np.array, policies)

  before = given()
  setup.begin(setup.batch(0), None)
  assert_equal(given(), before)
  assert not setup.records['level_0']
  may_end.set()
  # Nor does a checkpoint change what is given, or miss what was begun.
  learned = setup.learner.save()
  assert int(learned[0].steps) == 1 and len(setup.records['level_0']) == 1
  assert_equal(given(), before)
  setup.begin(setup.batch(0, seed=1), None)
  assert_equal(
    level_lib.unpack_policy(given()[0]).actor, learned[0].params.actor
  )
  setup.learner.finish()
  assert int(setup.learner.save()[0].steps) == 2
  assert len(setup.records['level_0']) == 2


def test_a_nan_is_told_once_and_late(setup):
  wrong = setup.batch(0)
  wrong.start_of_episode[:] = False
  wrong.reward[0, 1] = np.nan
  setup.begin(wrong, None)
  with pytest.raises(learning.NonFiniteLossError):
    setup.learner.begin()
  assert_equal(setup.learner.save(), setup.fresh)


@pytest.mark.parametrize('level', range(2))
def test_a_level_without_a_batch_is_left_alone(setup, level):
  batches = [None, None]
  batches[level] = setup.batch(level)
  setup.step(*batches)
  state = setup.learner.save()
  assert_equal(state[1 - level], setup.fresh[1 - level])
  assert int(state[level].steps) == 1
  assert differ(state[level].params, setup.fresh[level].params)


def test_a_step_without_batches_is_no_step(setup):
  before = setup.counter.get_counts()
  setup.step(None, None)
  assert setup.counter.get_counts() == before
  assert_equal(setup.learner.save(), setup.fresh)


def test_each_level_is_announced_once(setup, monkeypatch):
  said = []
  monkeypatch.setattr(setup.learner, '_compiled', set())
  monkeypatch.setattr(setup.learner, 'announce', said.append)
  setup.steps([1, 2, 2])
  assert [sentence.split(',')[0] for sentence in said] == [
    'Compiling level 0',
    'Compiling level 1',
  ]


def test_every_level_logs_all_losses_and_streams(setup):
  before = setup.counter.get_counts().get('steps', 0)
  setup.steps([1, 2])
  wanted = [
    f'{stream}_{what}'
    for stream in ('extrinsic', '{own}')
    for what in ('reward', 'return', 'scale', 'critic_loss')
  ] + [
    f'{name}_loss'
    for name in ('actor', 'critic', 'autoencoder', 'reward', 'continuation')
  ]
  # Below the top subgoals reward; above the bottom, novelty does.
  for level, own, times in ((0, 'subgoal', 2), (1, 'novelty', 1)):
    records = setup.records[f'level_{level}']
    assert len(records) == times
    for record in records:
      missing = {name.format(own=own) for name in wanted} - record.keys()
      assert not missing
      assert all(np.ndim(value) == 0 for value in record.values())
    assert records[0]['steps'] == before + 1


def test_subgoals_count_when_the_level_above_has_learned(setup, monkeypatch):
  """In full after two updates of it, which is what its warmup is here."""
  given = [[], []]

  def watch(level, update):
    def watched(state, batch, guidance):
      given[level].append(float(guidance))
      return update(state, batch, guidance)

    return watched

  updates = setup.learner._updates
  monkeypatch.setattr(
    setup.learner, '_updates', [watch(i, u) for i, u in enumerate(updates)]
  )
  assert setup.config.subgoals.warmup == 2
  # Level 1 learns at every other step, and nobody is above it.
  setup.steps([1, 2, 3])
  saved = setup.learner.save()
  setup.steps([4, 5])
  assert given == [[0.0, 0.5, 0.5, 1.0, 1.0], [1.0, 1.0, 1.0]]
  shares = [
    record['subgoal_advantage_share'] for record in setup.records['level_0']
  ]
  assert shares[0] == 0.0 and all(share > 0.0 for share in shares[1:])

  # A learner that goes on from there knows how far the level above is.
  for learned, guidance in ((saved, 1.0), (setup.fresh, 0.0)):
    setup.learner.restore(learned)
    setup.steps([4])
    assert given[0][-1] == guidance


@pytest.mark.parametrize('level', range(2))
def test_a_nan_names_level_and_loss_and_changes_nothing(setup, level):
  setup.steps([1])
  before = setup.learner.save()
  count = setup.counter.get_counts()
  batches = [None, None]
  batches[level] = setup.batch(level)
  batches[level].start_of_episode[:] = False
  batches[level].reward[0, 1] = np.nan
  with pytest.raises(learning.NonFiniteLossError) as caught:
    setup.step(*batches)
  assert caught.value.level == level
  assert f'level {level}' in str(caught.value)
  assert 'reward_loss' in caught.value.names
  assert caught.value.names[0].endswith('_loss')
  assert all(name in str(caught.value) for name in caught.value.names)
  assert np.isnan(caught.value.batch.sequence.reward[0, 1])
  assert_equal(setup.learner.save(), before)
  assert setup.counter.get_counts()['steps'] == count['steps'] + 1
  setup.steps([1])
  assert differ(setup.learner.save()[level].params, before[level].params)


@pytest.mark.parametrize(
  'rows',
  [
    {'start_of_episode': False, 'discount': 0},
    {'start_of_episode': True, 'discount': 0},
    {'start_of_episode': True, 'reward': 1e6},
    {'start_of_episode': False, 'reward': -1e6, 'discount': 1},
  ],
  ids=str,
)
def test_odd_batches_stay_finite(setup, rows):
  batches = []
  for level in range(2):
    zeros = tree.map_structure(np.zeros_like, setup.batch(level))
    batches.append(
      zeros._replace(
        **{
          name: np.full_like(getattr(zeros, name), value)
          for name, value in rows.items()
        }
      )
    )
  setup.step(*batches)
  leaves = jax.tree.leaves(setup.learner.save())
  assert all(np.isfinite(leaf).all() for leaf in leaves)
  assert [int(state.steps) for state in setup.learner.save()] == [1, 1]


def test_to_batch_keeps_names_and_has_no_subgoal_at_the_top(setup):
  below, top = (learning.to_batch(setup.batch(level)) for level in range(2))
  assert below.subgoal.shape[:2] == below.sequence.reward.shape
  assert top.subgoal is None
  assert below.sequence.observation.keys() == {'observation'}
  assert top.sequence.observation.keys() == {'stoch', 'deter'}
