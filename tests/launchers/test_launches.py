"""Programs of several nodes, from the command line to the files."""

import csv
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
from smallest import OVERRIDES

SCRIPT = pathlib.Path(__file__).parents[2] / 'launchers' / 'run_hieros.py'

NODES = ['replay', 'coordinator', 'learner', 'actor_0', 'actor_1']
STEPS = 600


def begin(*arguments):
  """Starts the launcher."""
  return subprocess.Popen(
    [sys.executable, str(SCRIPT), *arguments],
    env={
      **os.environ,
      'JAX_DISABLE_MOST_OPTIMIZATIONS': '1',
      'JAX_PLATFORMS': 'cpu',
    },
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def launch(*arguments):
  """Runs the launcher; returns what it says."""
  process = begin(*arguments)
  said, line = process.communicate()
  assert process.returncode == 0, said + line
  return said, line


def read_csv(path):
  with open(path) as file:
    return list(csv.DictReader(file))


def flags(path, *arguments):
  return [
    '--preset=tiny',
    '--env=debug/catch',
    '--env_option=observation=vector',
    '--env_option=rows=5',
    '--num_actors=2',
    '--envs_per_actor=2',
    f'--num_steps={STEPS}',
    f'--workdir={path}',
    *(f'--override={name}={value}' for name, value in OVERRIDES.items()),
    *arguments,
  ]


def check(path, nodes, steps=STEPS):
  summary = json.loads((path / 'summary.json').read_text())
  assert not summary['interrupted']
  # Actors hear of the end now and then.
  assert steps <= summary['steps'] < 1.5 * steps
  # One update for each step: the replay ratio.
  assert 0.95 <= summary['updates'] / summary['steps'] <= 1.05
  rows = read_csv(path / 'logs' / 'episodes.csv')
  assert len(rows) == summary['episodes']
  # A ball falls through 5 rows in 4 steps.
  assert {row['episode_length'] for row in rows} == {'4'}
  assert set(json.loads((path / 'nodes' / 'pids.json').read_text())) == set(
    nodes
  )
  for node in nodes:
    assert 'done' in (path / 'nodes' / f'{node}.log').read_text(), node


@pytest.mark.timeout(300)
def test_processes_run_and_are_resumed(tmp_path):
  path = tmp_path / 'run'
  said, line = launch(*flags(path, '--launch=local_mp'))
  assert 'Finished' in said
  # The live line is not interrupted by what nodes say.
  assert 'step/s' in line and 'Reverb' not in line and 'I1' not in line
  check(path, NODES)
  before = json.loads((path / 'summary.json').read_text())
  said, _ = launch('--resume', f'--workdir={path}', f'--num_steps={2 * STEPS}')
  assert f'Continuing after {before["steps"]} steps' in said
  check(path, NODES, 2 * STEPS)
  after = json.loads((path / 'summary.json').read_text())
  assert after['seconds'] > before['seconds']
  # Replay, counts and learner went on: nothing was learned twice.
  steps = [
    int(row['learner_steps']) for row in read_csv(path / 'logs' / 'level_0.csv')
  ]
  assert steps == sorted(set(steps)) and steps[-1] > before['updates']


@pytest.mark.timeout(300)
def test_threads_run_and_an_evaluator_watches(tmp_path):
  path = tmp_path / 'run'
  launch(*flags(path, '--launch=local_mt', '--num_evaluators=1'))
  check(path, [*NODES, 'evaluator_0'])
  rows = read_csv(path / 'logs' / 'evaluation.csv')
  assert rows and {row['evaluator'] for row in rows} == {'0'}
  # An episode for each new policy, at most.
  steps = [int(row['learner_steps']) for row in rows]
  assert steps[0] > 0 and steps == sorted(steps)
  assert all(-1 <= float(row['episode_return']) <= 1 for row in rows)


@pytest.mark.timeout(300)
@pytest.mark.parametrize('launch_type', ['local_mt', 'local_mp'])
def test_ctrl_c_saves(tmp_path, launch_type):
  path = tmp_path / 'run'
  process = begin(
    *flags(path, f'--launch={launch_type}', '--num_steps=1000000')
  )

  def updates():
    try:
      progress = json.loads((path / 'progress.json').read_text())
    except FileNotFoundError:
      return 0
    return progress['now']['counts']['learner_steps']

  while updates() < 5:
    assert process.poll() is None
    time.sleep(0.2)
  process.send_signal(signal.SIGINT)
  said, line = process.communicate()
  assert process.returncode == 130, said + line
  assert 'Interrupted after' in said and 'died' not in line
  summary = json.loads((path / 'summary.json').read_text())
  assert summary['interrupted'] and summary['updates'] >= 5
  (checkpoint,) = (path / 'checkpoints').glob('*/learner.npz')
  with np.load(checkpoint) as file:
    metadata = json.loads(file['metadata'].tobytes())
  assert metadata['counts']['actor_steps'] == summary['steps']
  pids = json.loads((path / 'nodes' / 'pids.json').read_text()).values()
  assert not any(map(psutil.pid_exists, pids))
