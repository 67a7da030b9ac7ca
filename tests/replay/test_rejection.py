"""What the stand-in for the native ETBS sampler refuses."""

import numpy as np
import pytest
import reverb
import tensorflow as tf

from acme_hieros.replay import rejection


def test_temperature_1_is_refused():
  with pytest.raises(ValueError, match='temperature=1'):
    rejection.check_table(1.0, reverb.selectors.Fifo(), 0)


@pytest.mark.parametrize(
  'remover, max_times_sampled',
  [
    (reverb.selectors.Lifo(), 0),
    (reverb.selectors.Prioritized(1.0), 0),
    (reverb.selectors.Fifo(), 1),
  ],
)
def test_tables_whose_oldest_items_do_not_leave_first_are_refused(
  remover, max_times_sampled
):
  with pytest.raises(ValueError, match='Another remover than Fifo'):
    rejection.check_table(0.3, remover, max_times_sampled)


def draw(priorities, deleted=0, max_size=100, draws=2000):
  """Draws from a uniform table whose items have these priorities."""
  table = reverb.Table(
    'table',
    reverb.selectors.Uniform(),
    reverb.selectors.Fifo(),
    max_size,
    reverb.rate_limiters.MinSize(1),
    signature=tf.TensorSpec([1], tf.int32),
  )
  server = reverb.Server([table])
  client = reverb.Client(f'localhost:{server.port}')
  try:
    with client.trajectory_writer(1) as writer:
      for i, priority in enumerate(priorities):
        writer.append(np.int32(i))
        writer.create_item('table', priority, writer.history[-1:])
    if deleted:
      keys = {
        int(s.data[0]): s.info.key for (s,) in client.sample('table', 2000)
      }
      client.mutate_priorities(
        'table', deletes=[keys[i] for i in range(10, 10 + deleted)]
      )
    dataset = reverb.TrajectoryDataset.from_table_signature(
      client.server_address, 'table', max_in_flight_samples_per_worker=10
    )
    dataset = rejection.time_balanced(
      dataset, client.server_address, 'table', 0.3, in_flight=100
    )
    return [int(s.data[0]) for s in dataset.take(draws)]
  finally:
    server.stop()


def test_numbered_items_are_drawn():
  assert set(draw(range(150))) <= set(range(50, 150))


@pytest.mark.parametrize(
  'priorities',
  [
    [1.0] * 50,  # No numbers at all.
    list(range(50)) * 2,  # Two writers.
    list(range(1, 51)),  # Not from 0.
  ],
)
def test_items_that_are_not_numbered_in_order_are_refused(priorities):
  with pytest.raises(tf.errors.OpError, match='not numbered in the order'):
    draw(priorities)


def test_deletions_are_noticed():
  with pytest.raises(tf.errors.OpError, match='some were deleted'):
    draw(range(50), deleted=20, draws=20_000)
