"""What each learner step gets from the tables."""

from acme_hieros import compat  # noqa: F401, I001  Comes before Acme.

from acme import specs
from acme.adders.reverb import base as reverb_base
import numpy as np
import pytest
import reverb
import tree

from acme_hieros import config as config_lib
from acme_hieros.agent import networks as networks_lib
from acme_hieros.environments import make_environment
from acme_hieros.replay import datasets, tables

DEPTH = 3
MIN_SIZE = 3

# Something that waits for a table waits forever.
pytestmark = pytest.mark.timeout(60)


class Replay:
  """The tables of an agent, which ticks every 2 steps, and a writer."""

  def __init__(
    self, observation='both', min_size=MIN_SIZE, prefetch=True, upper_ratio=1
  ):
    self.config = config_lib.override(
      config_lib.preset('tiny'),
      {
        'depth': DEPTH,
        'batch_size': 5,
        'sequence_length': 4,
        'subgoals.duration': 2,
        'replay.min_size': min_size,
        'replay.upper_ratio': upper_ratio,
      },
    )
    environment = make_environment('debug/catch', observation=observation)
    spec = specs.make_environment_spec(environment)
    networks = networks_lib.make_networks(self.config, spec)
    self.step_specs = [
      tables.step_spec(networks, spec, level) for level in range(DEPTH)
    ]
    self._server = reverb.Server(
      tables.make_tables(self.config, networks, spec), port=None
    )
    self._client = reverb.Client(f'localhost:{self._server.port}')
    self.dataset = datasets.LevelDataset(self._client, self.config, prefetch)
    self._values = 0

  def fill(self, level, sequences):
    """Writes sequences of steps that are numbered from 1 by their rewards."""
    length = self.config.sequence_length
    with self._client.trajectory_writer(num_keep_alive_refs=length) as writer:
      for i in range(sequences + length - 1):
        self._values += 1
        writer.append(
          tree.map_structure(
            lambda s: np.full(s.shape, self._values % 2, s.dtype),
            self.step_specs[level],
          )._replace(reward=np.float32(self._values))
        )
        if i >= length - 1:
          writer.create_item(
            tables.table_name(level),
            1.0,
            tree.map_structure(lambda x: x[-length:], writer.history),
          )
      writer.flush()

  def empty(self, level):
    self._client.reset(tables.table_name(level))

  def due(self, steps):
    """Which levels get a batch, for one step after another."""
    return [
      [batch is not None for batch in next(self.dataset)] for _ in range(steps)
    ]


@pytest.fixture(scope='module')
def replay():
  """Tables of which all can be sampled."""
  replay = Replay()
  for level in range(DEPTH):
    replay.fill(level, MIN_SIZE)
  return replay


# The steps at which each of the levels learns.
SCHEDULE = [[True, t % 2 == 0, t % 4 == 0] for t in range(8)]


def test_level_l_is_due_every_k_to_the_l_steps(replay):
  assert replay.dataset.ready()
  assert replay.due(8) == SCHEDULE


@pytest.mark.parametrize(
  'upper_ratio, periods', [(2, (1, 1, 2)), (3, (1, 1, 1)), (9, (1, 1, 1))]
)
def test_upper_levels_learn_more_often_but_no_more_than_level_0(
  upper_ratio, periods
):
  replay = Replay(upper_ratio=upper_ratio)
  for level in range(DEPTH):
    replay.fill(level, MIN_SIZE)
  assert replay.due(8) == [[t % n == 0 for n in periods] for t in range(8)]


def test_steps_with_nothing_ready_do_not_count():
  replay = Replay()
  assert not replay.dataset.ready()
  assert replay.due(3) == [[False] * DEPTH] * 3
  replay.fill(2, MIN_SIZE)
  assert replay.due(1) == [[False] * DEPTH]  # Level 0 is what counts.
  for level in range(2):
    replay.fill(level, MIN_SIZE)
  assert replay.due(8) == SCHEDULE


def test_a_table_one_short_is_skipped_and_not_waited_for():
  replay = Replay()
  replay.fill(0, MIN_SIZE)
  replay.fill(1, MIN_SIZE - 1)
  assert replay.due(4) == [[True, False, False]] * 4
  replay.fill(1, 1)
  assert replay.due(4) == [[True, t % 2 == 0, False] for t in range(4)]


@pytest.mark.parametrize(
  'min_size,needed', [(40, [40, 20, 10]), (12, [12, 6, 5]), (4, [4, 4, 4])]
)
def test_upper_levels_wait_for_as_many_environment_steps_or_for_a_batch(
  min_size, needed
):
  """A step takes 2 steps of the level below, and a batch 5 sequences."""
  replay = Replay(min_size=min_size)
  for level, count in enumerate(needed):
    replay.fill(level, count - 1)
  assert replay.due(1) == [[False] * DEPTH]
  for level in range(DEPTH):
    replay.fill(level, 1)
    there = [i <= level for i in range(DEPTH)]
    # The first step at which every level is due.
    replay.dataset.step = 0
    assert replay.due(1) == [there]


@pytest.mark.parametrize('prefetch', [True, False])
def test_a_table_that_somebody_empties_is_waited_for_no_more(
  prefetch, monkeypatch
):
  monkeypatch.setattr(datasets, '_MOST_SECONDS', 0.2)
  replay = Replay(prefetch=prefetch)
  replay.fill(0, MIN_SIZE)
  assert replay.due(2) == [[True, False, False]] * 2
  replay.empty(0)
  # A few batches may have been drawn before.
  drawn = [due[0] for due in replay.due(8)]
  assert drawn == sorted(drawn, reverse=True) and not drawn[-1]
  steps = replay.dataset.step
  replay.fill(0, MIN_SIZE)
  assert replay.due(1) == [[True, False, False]]
  assert replay.dataset.step == steps + 1


def test_batches_have_the_names_shapes_and_types_of_the_spec(replay):
  batches = next(b for b in replay.dataset if b[2] is not None)
  lengths = (replay.config.batch_size, replay.config.sequence_length)
  for batch, spec in zip(batches, replay.step_specs):
    tree.assert_same_structure(batch, spec)
    tree.map_structure(
      lambda x, s: np.testing.assert_equal(
        (x.shape, x.dtype), (lengths + tuple(s.shape), s.dtype)
      ),
      batch,
      spec,
    )


def test_sequences_come_out_as_they_went_in(replay):
  batch, *_ = next(replay.dataset)
  assert (np.diff(batch.reward, axis=1) == 1).all()
  odd = (batch.reward % 2)[..., None]
  np.testing.assert_array_equal(
    batch.observation['vector'], np.broadcast_to(odd, (5, 4, 3))
  )


def test_every_sequence_is_drawn():
  replay = Replay()
  replay.fill(0, 10)
  firsts = {
    int(first)
    for _ in range(60)
    for first in next(replay.dataset)[0].reward[:, 0]
  }
  assert firsts == set(range(1, 11))


def test_windows_are_stored_as_one_byte_a_categorical(replay):
  for spec in replay.step_specs[1:]:
    assert spec.observation['stoch'].dtype == np.uint8
  assert replay.step_specs[0].observation['image'].dtype == np.uint8


def test_foreign_batches_leave_out_what_hieros_does_not_know():
  def step(starts, discounts, **extras):
    return reverb_base.Step(
      observation=np.zeros((1, len(starts), 2), np.float32),
      action=np.zeros((1, len(starts)), np.int32),
      reward=np.zeros((1, len(starts)), np.float32),
      discount=np.array([discounts], np.float32),
      start_of_episode=np.array([starts], bool),
      extras=extras,
    )

  def batches(step):
    return datasets.foreign_batches(iter([reverb.ReplaySample((), step)]))

  # A termination, a truncation, an episode of one step.
  whole = step(
    [1, 0, 0, 1, 0, 0, 1, 0, 1], [1, 0, 0, 1, 1, 0, 0, 0, 1], core_state=3
  )
  ((batch,),) = batches(whole)
  assert batch.extras == {}
  np.testing.assert_array_equal(batch.discount, whole.discount)
  for starts, discounts in (
    ([1, 0, 0, 0], [1, 0, 0, 0]),  # After a termination.
    ([1, 0, 0, 0, 0], [1, 1, 0, 0, 0]),  # After a truncation.
    ([1, 0, 0], [0, 0, 0]),  # After an episode of one step.
  ):
    with pytest.raises(ValueError, match='EndBehavior.CONTINUE'):
      next(batches(step(starts, discounts)))
