"""A run that is killed at any moment goes on where its checkpoint is."""

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]

# Small enough to learn within seconds of the start.
OVERRIDES = {
  'batch_size': 2,
  'sequence_length': 4,
  'world_model.mlp_layers': 1,
  'world_model.head_layers': 1,
  'world_model.cnn_depths': '(2,)',
  'actor_critic.layers': 1,
  'actor_critic.horizon': 2,
  'subgoals.duration': 2,
  'replay.min_size': 4,
  'replay.ratio': 8,
}


def test_a_killed_run_goes_on():
  done = subprocess.run(
    [
      sys.executable,
      '-m',
      'benchmarks.kill',
      '--kills=3',
      '--most_seconds=40',
      '--seed=1',
      *(f'--override={name}={value}' for name, value in OVERRIDES.items()),
    ],
    cwd=ROOT,
    env={
      **os.environ,
      'JAX_DISABLE_MOST_OPTIMIZATIONS': '1',
      'JAX_PLATFORMS': 'cpu',
    },
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  assert '3 kills' in done.stdout
