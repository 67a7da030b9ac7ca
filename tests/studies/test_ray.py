"""Sweeps on a Ray cluster of two nodes, where the extra ray is there."""

import csv
import os
import signal
import sys
import threading
import time

import jax
import numpy as np
import pretended_runs
import pytest

import acme_hieros
from acme_hieros.studies import ray_cluster, study, sweep, sweeping

STUDY = {
  **pretended_runs.SMALL,
  'grid': {'depth': [1, 2], 'seed': [0, 1, 2, 3, 4, 5]},
  'needs': {'memory_gb': 0.1},
}


def test_without_ray_it_is_asked_for(monkeypatch, tmp_path):
  monkeypatch.setitem(sys.modules, 'ray', None)
  with pytest.raises(
    ValueError, match="ray is missing; pip install '.\\[ray]'"
  ):
    sweep.sweep(STUDY, workdir=str(tmp_path), ray='auto')


def start_cluster(cpus):
  """Two nodes with so many cores each."""
  from ray import cluster_utils

  # What is lost shall be missed soon.
  found = cluster_utils.Cluster(
    initialize_head=True,
    head_node_args={
      'num_cpus': cpus,
      '_system_config': {
        'health_check_failure_threshold': 3,
        'health_check_period_ms': 1000,
        # Where tests run, others may be at work as well.
        'agent_register_timeout_ms': 300_000,
        'worker_register_timeout_seconds': 300,
        'worker_niceness': 0,
      },
    },
  )
  found.other = found.add_node(num_cpus=cpus)
  return found


@pytest.fixture
def cluster(pretended, monkeypatch):
  """Two nodes for two pretended runs each."""
  pytest.importorskip('ray')
  path = pretended.program.parent
  for name, value in pretended_runs.pretend_everywhere(path).items():
    monkeypatch.setenv(name, value)
  found = start_cluster(cpus=2)
  yield found
  found.shutdown()


@pytest.fixture
def go(cluster, pretended, monkeypatch):
  monkeypatch.setattr(sweep, 'report', lambda *unused_arguments: 'a page')
  return lambda: sweep.sweep(
    STUDY, workdir=str(pretended.workdir), ray=cluster.address
  )


def wait_for(condition):
  deadline = time.time() + 120
  while not condition():
    assert time.time() < deadline
    time.sleep(0.1)


def once(pretended):
  """Whether each run was evaluated once, as is whoever came to its end."""
  names = [c['run'] for c in pretended.calls if c['what'] == 'evaluate']
  return len(names) == len(set(names)) == 12


def begun(pretended):
  return len(list(pretended.workdir.glob('runs/*/config.json')))


def test_a_lost_machine_moves_its_runs(
  cluster, go, pretended, capsys, monkeypatch
):
  pretended.switch('slow')
  lost = []

  class LostError(sweeping.LostError):
    def __init__(self, *args):
      super().__init__(*args)
      lost.append(self)

  monkeypatch.setattr(sweeping, 'LostError', LostError)

  def lose():
    wait_for(lambda: begun(pretended) == 4)
    cluster.remove_node(cluster.other, allow_graceful=False)
    # Until then what runs there could still come to its end.
    wait_for(lambda: len(lost) == 2)
    pretended.switch('slow', on=False)

  thread = threading.Thread(target=lose)
  thread.start()
  outcome = go()
  thread.join()
  assert outcome.exit_code == 0 and once(pretended)
  assert capsys.readouterr().out.count('Its machine was lost') == 2
  # What is lost is no fault of the run.
  assert all(run['tries'] == 0 for run in pretended.status['runs'])


def test_ctrl_c_saves_all_and_the_same_call_goes_on(go, pretended):
  pretended.switch('slow')

  def interrupt():
    wait_for(lambda: begun(pretended) == 4)
    time.sleep(1)
    os.kill(os.getpid(), signal.SIGINT)

  thread = threading.Thread(target=interrupt)
  thread.start()
  outcome = go()
  thread.join()
  assert outcome.exit_code == 130
  assert pretended.status['counts']['interrupted'] == 4
  pretended.switch('slow', on=False)
  assert go().exit_code == 0 and once(pretended)


def test_what_will_not_do_is_one_sentence(cluster, pretended, tmp_path):
  with pytest.raises(ValueError, match='which no machine of the cluster has'):
    ray_cluster.Cluster(cluster.address, study.Needs(cpus=99), str(tmp_path))
  found = ray_cluster.Cluster(
    cluster.address, study.Needs(memory_gb=0.1), str(pretended.workdir)
  )
  # As on a machine that does not see the directory.
  os.remove(found._connection.mark)
  program = found.start(['-c', 'pass'], str(tmp_path / 'log'))
  with pytest.raises(ValueError, match='all machines share'):
    wait_for(lambda: program.poll() is not None)
  found.close()


def test_no_cluster_is_one_sentence(tmp_path, monkeypatch):
  pytest.importorskip('ray')
  monkeypatch.delenv('RAY_ADDRESS', raising=False)
  with pytest.raises(ValueError, match='no Ray cluster at --ray=auto'):
    ray_cluster.Cluster('auto', study.Needs(), str(tmp_path))


@pytest.mark.timeout(1200)
def test_runs_do_what_they_do_one_by_one_bit_for_bit(tmp_path, monkeypatch):
  pytest.importorskip('ray')
  monkeypatch.setattr(sweep, 'report', lambda *unused_arguments: 'a page')
  monkeypatch.setenv('PYTHONPATH', os.getcwd())
  real = {
    'name': 'equal',
    'run': {
      'environment': 'debug/catch',
      'preset': 'tiny',
      'num_steps': 240,
      'picture_minutes': 0,
    },
    'grid': {'depth': [1, 2]},
    'needs': {'memory_gb': 0.1},
    'evaluation': {'episodes': 4},
  }
  found = start_cluster(cpus=1)
  try:
    ray = sweep.sweep(real, workdir=str(tmp_path / 'ray'), ray=found.address)
  finally:
    found.shutdown()
  alone = sweep.sweep(real, workdir=str(tmp_path / 'alone'), at_once=1)
  assert ray.exit_code == alone.exit_code == 0

  def read(path):
    with open(path, newline='') as file:
      rows = list(csv.DictReader(file))
    return [{k: row[k] for k in row if k != 'walltime'} for row in rows]

  logs = sorted((tmp_path / 'alone').glob('runs/*/logs/*.csv'))
  assert len(logs) >= 5  # Of both episodes and level 0, of one level 1.
  for log in logs:
    other = tmp_path / 'ray' / log.relative_to(tmp_path / 'alone')
    assert read(log) == read(other), log
  for run in (tmp_path / 'alone' / 'runs').iterdir():
    states = [
      acme_hieros.load(str(path)).learned.state
      for path in (run, tmp_path / 'ray' / 'runs' / run.name)
    ]
    assert all(level.steps > 0 for level in states[0])
    jax.tree.map(np.testing.assert_array_equal, *states)
