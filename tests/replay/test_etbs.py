"""ETBS in Reverb's tables: draws, checkpoints, threads, refusals."""

import builtins
import copy
import importlib.metadata
import itertools
import logging
import os
import pickle
import subprocess
import sys
import threading
import time

import etbs_formula
import numpy as np
import pytest
import reverb
import tensorflow as tf

from acme_hieros.replay import etbs


def min_size():
  return reverb.rate_limiters.MinSize(1)


native_only = pytest.mark.skipif(
  etbs.BACKEND != 'native', reason='the native sampler was not built'
)


def fifo():
  return reverb.selectors.Fifo()


def make_table(sampler, max_size=1000, remover=None, **kwargs):
  return etbs.make_table(
    name='table',
    sampler=sampler,
    remover=remover or fifo(),
    max_size=max_size,
    rate_limiter=min_size(),
    signature=tf.TensorSpec([1], tf.int32),
    **kwargs,
  )


def plain_table(sampler):
  """A table of Reverb's own, like that of `make_table`."""
  return reverb.Table(
    'table',
    sampler,
    fifo(),
    1000,
    min_size(),
    signature=tf.TensorSpec([1], tf.int32),
  )


class Server:
  """A server of one table of numbers, with its client."""

  def __init__(self, table, directory=None):
    checkpointer = directory and (
      reverb.platform.checkpointers_lib.DefaultCheckpointer(str(directory))
    )
    self._server = reverb.Server([table], checkpointer=checkpointer)
    self.client = reverb.Client(f'localhost:{self._server.port}')
    self.order = etbs.InsertionOrder(self.client, 'table')

  def __enter__(self):
    return self

  def __exit__(self, *unused_error):
    self._server.stop()

  def insert(self, numbers):
    with self.client.trajectory_writer(1) as writer:
      for number in numbers:
        writer.append(np.int32(number))
        writer.create_item('table', self.order(), writer.history[-1:])
      writer.flush()

  def sample(self, count, temperature=0.3):
    """Numbers, keys and probabilities of that many samples."""
    dataset = etbs.make_dataset(
      self.client.server_address,
      'table',
      etbs.Etbs(temperature),
      100,
      # A native table draws no more than that, so that its seed decides all;
      # the stand-in gives some of them up.
      max_samples=count if etbs.BACKEND == 'native' else -1,
      num_workers_per_iterator=1,
    )
    numbers, keys, probabilities = [], [], []
    for batch in dataset.batch(100).take(count // 100):
      numbers.append(batch.data.numpy().reshape(-1))
      keys.append(batch.info.key.numpy())
      probabilities.append(batch.info.probability.numpy())
    return (
      np.concatenate(numbers),
      np.concatenate(keys),
      np.concatenate(probabilities),
    )


def check_draws(server, numbers, temperature=0.3):
  """Compares a table that holds `numbers`, oldest first, with the formula."""
  # Where there is nothing to choose from, no draw tells more than the first.
  count = 10_000 if len(numbers) > 1 else 100
  drawn, _, probabilities = server.sample(count, temperature)
  ranks = np.searchsorted(numbers, drawn)
  np.testing.assert_array_equal(np.asarray(numbers)[ranks], drawn)
  etbs_formula.check_draws(ranks, probabilities, len(numbers), temperature)


@pytest.mark.parametrize('n', [1, 2, 10, 1000])
def test_a_table_draws_by_the_formula(n):
  with Server(make_table(etbs.Etbs(0.3, seed=n), max_size=n)) as server:
    server.insert(range(n))
    check_draws(server, range(n))
    # The oldest half leaves.
    server.insert(range(n, n + n // 2))
    check_draws(server, range(n // 2, n + n // 2))


@native_only
@pytest.mark.parametrize(
  'temperature,n',
  [
    *itertools.product([0.0, 0.3, 0.7, 1.0], [1, 2, 10, 1000]),
    (0.3, 100_000),
  ],
)
def test_native_tables_draw_by_the_formula(tmp_path, temperature, n):
  """Filled, after evictions, deletions in the middle and two restores."""

  def table():
    return make_table(etbs.Etbs(temperature, seed=n), max_size=n)

  numbers = np.arange(n)
  with Server(table(), tmp_path) as server:
    server.insert(numbers)
    check_draws(server, numbers, temperature)
    server.insert(range(n, n + n // 2))
    numbers = np.arange(n // 2, n + n // 2)
    check_draws(server, numbers, temperature)
    drawn, keys, _ = server.sample(2000, temperature)
    deleted = dict(zip(drawn[: n // 3].tolist(), keys[: n // 3].tolist()))
    server.client.mutate_priorities('table', deletes=list(deleted.values()))
    numbers = np.setdiff1d(numbers, list(deleted))
    check_draws(server, numbers, temperature)
    server.client.checkpoint()
  for _ in range(2):
    with Server(table(), tmp_path) as server:
      check_draws(server, numbers, temperature)
      # The restored table goes on as the old one would have.
      added = numbers[-1] + 1 + np.arange(n // 4)
      server.insert(added)
      numbers = np.concatenate([numbers, added])[-n:]
      check_draws(server, numbers, temperature)
      server.client.checkpoint()


@native_only
@pytest.mark.parametrize(
  'sampler', [reverb.selectors.Prioritized(1.0), reverb.selectors.Uniform()]
)
def test_a_checkpoint_of_another_sampler_becomes_etbs(tmp_path, sampler):
  with Server(plain_table(sampler), tmp_path) as server:
    server.insert(range(1000))
    server.client.checkpoint()
  with Server(make_table(etbs.Etbs(0.7, seed=0)), tmp_path) as server:
    check_draws(server, range(1000), 0.7)


@native_only
def test_a_seed_decides_a_tables_draws():
  def draws(seed):
    with Server(make_table(etbs.Etbs(0.3, seed))) as server:
      server.insert(range(1000))
      return [
        int(sample.data[0]) for (sample,) in server.client.sample('table', 100)
      ]

  assert draws(1) == draws(1)
  assert draws(1) != draws(2)


def test_a_table_survives_checkpoints(tmp_path):
  """With either backend."""
  with Server(make_table(etbs.Etbs(0.3, seed=0)), tmp_path) as server:
    server.insert(range(1200))
    server.client.checkpoint()
  for i in range(2):
    with Server(make_table(etbs.Etbs(0.3, seed=0)), tmp_path) as server:
      newest = 1200 + 100 * i
      check_draws(server, range(newest - 1000, newest))
      server.insert(range(newest, newest + 100))
      check_draws(server, range(newest - 900, newest + 100))
      server.client.checkpoint()
  with Server(make_table(etbs.Etbs(0.3, seed=0)), tmp_path) as server:
    check_draws(server, range(400, 1400))


def test_a_restored_table_without_make_table_is_uniform(tmp_path):
  """Why make_table is needed; this is to fail should Reverb learn better."""
  if etbs.BACKEND != 'native':
    pytest.skip('only the native sampler goes into reverb.Table')

  def table():
    return plain_table(etbs.Etbs(1.0))

  with Server(table(), tmp_path) as server:
    server.insert(range(100))
    assert server.sample(100)[2].max() > 0.011
    server.client.checkpoint()
  with Server(table(), tmp_path) as server:
    with pytest.raises(tf.errors.OpError, match='samples uniformly'):
      server.sample(100)


@native_only
def test_lifo_remover():
  table = make_table(
    etbs.Etbs(0.3, seed=0), max_size=100, remover=reverb.selectors.Lifo()
  )
  with Server(table) as server:
    server.insert(range(150))
    # A full table drops what has just come.
    check_draws(server, range(100))


@native_only
def test_items_leave_after_max_times_sampled():
  with Server(make_table(etbs.Etbs(0.3), max_times_sampled=2)) as server:
    server.insert(range(500))
    drawn = [
      int(sample.data[0]) for (sample,) in server.client.sample('table', 1000)
    ]
    assert sorted(drawn) == sorted(2 * list(range(500)))
    assert server.client.server_info()['table'].current_size == 0


@native_only
def test_a_sampler_of_reverb_knows_a_plain_table_takes_it():
  table = reverb.Table('table', etbs.Etbs(0.7), fifo(), 10, min_size())
  assert 'EtbsSelector(temperature=0.7)' in repr(table)


@native_only
def test_one_sampler_serves_one_table():
  sampler = etbs.Etbs(0.3)
  table = make_table(sampler)
  with pytest.raises(ValueError, match='belongs to a table already'):
    make_table(sampler)
  with pytest.raises(ValueError, match='belongs to a table already'):
    reverb.Table('other', sampler, fifo(), 10, min_size())
  del table
  reverb.Table('other', sampler, fifo(), 10, min_size())


@native_only
def test_a_copy_of_a_sampler_is_for_another_table():
  sampler = etbs.Etbs(0.7, seed=3)
  tables = [make_table(sampler)]
  for copied in (copy.deepcopy(sampler), pickle.loads(pickle.dumps(sampler))):
    assert copied.temperature == 0.7
    tables.append(make_table(copied))


@native_only
def test_writers_samplers_deletions_and_resets_at_once():
  """Two writers, four samplers; ETBS_STRESS_SECONDS=60 for a minute of it."""
  seconds = float(os.environ.get('ETBS_STRESS_SECONDS', 4))
  deadline = time.time() + seconds
  table = make_table(etbs.Etbs(0.3), max_size=200)
  errors, drawn = [], []

  def until_deadline(action):
    def run():
      try:
        while time.time() < deadline:
          action()
      except Exception as error:  # Whatever it is, the test must see it.
        errors.append(error)

    return threading.Thread(target=run)

  with Server(table) as server:
    server.insert(range(200))
    address = server.client.server_address

    def write():
      server.insert(range(50))

    def sample():
      client = reverb.Client(address)
      for (item,) in client.sample('table', 50):
        assert 0 < item.info.probability <= 1
        drawn.append(item.info.key)

    def delete():
      client = reverb.Client(address)
      keys = [item.info.key for (item,) in client.sample('table', 5)]
      client.mutate_priorities('table', deletes=keys)
      time.sleep(0.01)

    def reset():
      time.sleep(seconds / 7)
      server.client.reset('table')
      server.insert(range(50))

    actions = [write] * 2 + [sample] * 4 + [delete, reset]
    threads = [until_deadline(action) for action in actions]
    for thread in threads:
      thread.start()
    while any(thread.is_alive() for thread in threads):
      server.insert(range(50))  # Nobody may wait for an empty table.
      time.sleep(0.1)
    assert not errors
    assert len(drawn) > 100
    server.client.reset('table')
    server.insert(range(1000))
    check_draws(server, range(800, 1000))


def test_a_dataset_refuses_a_table_of_another_backend():
  """It is ETBS here and uniform there, or the other way round."""
  other = (
    reverb.selectors.Uniform()
    if etbs.BACKEND == 'native'
    else reverb.selectors.Prioritized(1.0)
  )
  with Server(plain_table(other)) as server:
    server.insert(range(1, 100))
    with pytest.raises(tf.errors.OpError, match='use the same backend'):
      server.sample(100)


@pytest.mark.parametrize('sampler', [None, reverb.selectors.Uniform()])
def test_make_dataset_takes_no_other_sampler(sampler):
  with Server(make_table(etbs.Etbs(0.3))) as server:
    with pytest.raises(ValueError, match='takes an Etbs'):
      etbs.make_dataset(server.client.server_address, 'table', sampler, 10)


@pytest.mark.parametrize('temperature', [-0.1, 1.1, float('nan'), '0.3', None])
def test_a_temperature_out_of_range_is_refused(temperature):
  with pytest.raises(ValueError, match=r'temperature=.* must lie in \[0, 1\]'):
    etbs.Etbs(temperature)


def test_a_seed_that_is_no_integer_is_refused():
  with pytest.raises(TypeError, match='float'):
    etbs.Etbs(0.3, 1.5)


@pytest.mark.parametrize('seed', [-1, 2**64])
def test_a_seed_out_of_range_is_refused(seed):
  with pytest.raises(ValueError, match='seed='):
    etbs.Etbs(0.3, seed)


@pytest.mark.parametrize('sampler', [None, reverb.selectors.Uniform()])
def test_make_table_takes_no_other_sampler(sampler):
  with pytest.raises(ValueError, match='takes an Etbs'):
    make_table(sampler)


def test_probabilities_are_those_of_the_formula():
  for temperature in (0.0, 0.3, 1.0):
    np.testing.assert_allclose(
      etbs.probabilities(1000, temperature),
      etbs_formula.probabilities(1000, temperature),
      rtol=1e-9,
    )


def foreign_reverb(monkeypatch):
  real = importlib.metadata.version
  monkeypatch.setattr(
    importlib.metadata,
    'version',
    lambda name: '0.9.9' if name == 'dm-reverb' else real(name),
  )


def foreign_registry(monkeypatch):
  for name in [n for n in vars(builtins) if 'pybind11_internals_v3' in n]:
    monkeypatch.delattr(builtins, name)


def not_built(monkeypatch):
  monkeypatch.setitem(sys.modules, 'acme_hieros.replay._native', None)


@pytest.fixture
def choose(monkeypatch, caplog):
  """Chooses a backend as the import does: (its name, what was logged)."""

  def choose(obstacle=None, backend=''):
    caplog.set_level(logging.INFO)
    monkeypatch.setenv(etbs.BACKEND_VARIABLE, backend)
    with monkeypatch.context() as patch:
      if obstacle:
        obstacle(patch)
      native = etbs._choose_backend()
    return 'native' if native else 'python', caplog.messages

  return choose


SAY_BACKEND = """
import logging, sys; logging.basicConfig(level=logging.INFO)
from acme_hieros.replay import etbs
print('BACKEND', etbs.BACKEND)
sys.exit('acme' in sys.modules or 'launchpad' in sys.modules)
"""


def test_it_needs_no_acme_and_logs_its_backend_once():
  done = subprocess.run(
    [sys.executable, '-c', SAY_BACKEND], capture_output=True, text=True
  )
  said = done.stdout + done.stderr
  assert done.returncode == 0, said
  assert f'BACKEND {etbs.BACKEND}' in said
  assert said.count('ETBS:') == 1


@native_only
def test_native_is_chosen(choose):
  assert choose() == ('native', ['ETBS: the native sampler samples.'])


@pytest.mark.parametrize(
  'obstacle, reason',
  [
    (foreign_reverb, 'tested with dm-reverb 0.7.3, and this is 0.9.9'),
    (foreign_registry, 'has no pybind11 registry'),
    (not_built, 'it was not built'),
  ],
)
def test_what_prevents_native_is_logged_once_and_the_stand_in_serves(
  choose, obstacle, reason
):
  if etbs.BACKEND != 'native' and obstacle != not_built:
    pytest.skip('the native sampler was not built')
  backend, (said,) = choose(obstacle)
  assert backend == 'python'
  assert said.startswith('ETBS:') and reason in said


@native_only
def test_native_can_be_forced_on_a_foreign_reverb_that_fits(choose):
  assert choose(foreign_reverb, 'native')[0] == 'native'


@pytest.mark.parametrize('obstacle', [foreign_registry, not_built])
def test_native_cannot_be_forced_where_it_does_not_fit(choose, obstacle):
  with pytest.raises(
    ImportError, match='ACME_HIEROS_ETBS=native, but the native sampler cannot'
  ):
    choose(obstacle, 'native')


def test_an_unknown_backend_is_refused(choose):
  with pytest.raises(ImportError, match="ACME_HIEROS_ETBS='cuda' must be"):
    choose(backend='cuda')


def test_the_stand_in_passes_the_same_tests():
  """The tests of this file that are not of the native sampler alone."""
  if etbs.BACKEND == 'python':
    pytest.skip('this is the stand-in')
  done = subprocess.run(
    [sys.executable, '-m', 'pytest', '-p', 'no:cacheprovider', __file__]
    + ['-k', 'table or refused or formula'],
    env=os.environ | {'ACME_HIEROS_ETBS': 'python'},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stdout
  assert ' passed' in done.stdout
  # Not everything was skipped.
  assert int(done.stdout.split(' passed')[0].split()[-1]) >= 10
