"""Programs of several nodes, from the command line to the files."""

import csv
import ipaddress
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import psutil

from benchmarks import smallest

SCRIPT = pathlib.Path(__file__).parents[2] / 'launchers' / 'run_hieros.py'

NODES = [
  'replay',
  'coordinator',
  'learner',
  'actor_0',
  'actor_1',
  'evaluator_0',
]
STEPS = 1000

# Steps that actors may be ahead of the learner, or store before they report.
SLACK = 64 + 100


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
    '--picture_minutes=0',
    '--num_actors=2',
    '--envs_per_actor=2',
    f'--workdir={path}',
    *smallest.make_flags(replay__ratio=8),  # One update for each step.
    *arguments,
  ]


def listening(pid):
  """Where a process and its children listen, one address for each socket."""
  process = psutil.Process(pid)
  return [
    connection.laddr.ip
    for each in (process, *process.children(recursive=True))
    for connection in each.connections('tcp')
    if connection.status == psutil.CONN_LISTEN
  ]


def interrupt(path, *arguments):
  """Starts a run and presses Ctrl-C after some updates; returns its summary."""
  process = begin(*flags(path, *arguments, '--num_steps=1000000'))

  def updates():
    try:
      progress = json.loads((path / 'progress.json').read_text())
    except FileNotFoundError:
      return 0
    return progress['now']['counts']['learner_steps']

  while updates() < 5:
    assert process.poll() is None
    time.sleep(0.2)
  # Replay, coordinator and learner serve, for this machine alone.
  hosts = [ipaddress.ip_address(host) for host in listening(process.pid)]
  assert len(hosts) == 3
  assert all((host.ipv4_mapped or host).is_loopback for host in hosts), hosts
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
  return summary


def test_threads_stop_at_ctrl_c_and_save(tmp_path):
  interrupt(tmp_path / 'run', '--launch=local_mt', '--depth=1')


def test_processes_stop_at_ctrl_c_and_go_on(tmp_path):
  path = tmp_path / 'run'
  before = interrupt(path, '--launch=local_mp', '--num_evaluators=1')
  said, line = launch(
    '--resume', f'--workdir={path}', f'--num_steps={before["steps"] + STEPS}'
  )
  assert f'Continuing after {before["steps"]} steps' in said
  # The live line is not interrupted by what nodes say.
  assert 'step/s' in line and 'reverb' not in line and 'I1' not in line
  assert 'died' not in line
  after = json.loads((path / 'summary.json').read_text())
  assert not after['interrupted'] and after['seconds'] > before['seconds']
  # Actors hear of the end now and then.
  steps = after['steps'] - before['steps']
  assert STEPS <= steps < 1.5 * STEPS
  # One update for each step, the replay ratio; when it was saved the learner
  # owed some, or actors had some to report.
  updates = after['updates'] - before['updates']
  assert abs(updates - steps) < 0.05 * steps + SLACK
  rows = read_csv(path / 'logs' / 'episodes.csv')
  assert len(rows) == after['episodes']
  numbers = [int(row['actor_episodes']) for row in rows]
  assert numbers == list(range(1, len(rows) + 1))
  # A ball falls through 5 rows in 4 steps.
  assert {row['episode_length'] for row in rows} == {'4'}
  # Replay, counts and learner went on: nothing was learned twice.
  learned = [
    int(row['learner_steps']) for row in read_csv(path / 'logs' / 'level_0.csv')
  ]
  assert learned == sorted(set(learned)) and learned[-1] > before['updates']
  # An episode for each new policy, at most.
  with open(path / 'evaluation' / 'evaluator.jsonl') as file:
    lines = [json.loads(line) for line in file]
  assert [line['episode'] for line in lines] == list(range(len(lines)))
  played = [line['learner_steps'] for line in lines]
  assert played and played == sorted(set(played))
  assert all(line['episode_return'] in (-1, 1) for line in lines)
  summary = json.loads((path / 'evaluation' / 'evaluator.json').read_text())
  last = [line['episode_return'] for line in lines[-100:]]
  assert summary['episodes'] == len(last)
  np.testing.assert_allclose(summary['mean'], np.mean(last))
  assert summary['updates'] == played[-1]
  for node in NODES:
    assert 'done' in (path / 'nodes' / f'{node}.log').read_text(), node
