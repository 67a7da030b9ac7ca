"""A run that is killed at any moment goes on where its checkpoint is."""

import os
import pathlib
import subprocess
import sys

import smallest

ROOT = pathlib.Path(__file__).parents[2]

# It looks at images.
OVERRIDES = {**smallest.OVERRIDES, 'world_model.cnn_depths': '(2,)'}


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
