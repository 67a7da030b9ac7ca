"""A run that is killed at any moment goes on where its checkpoint is."""

import os
import pathlib
import subprocess
import sys

import pytest

from benchmarks import smallest

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.parametrize(
  'launch,kills,most_seconds,seed,depth',
  [
    ('local', 1, 40, 1, 2),
    # Seed 700 takes the learner, then an actor.
    ('local_mp', 2, 45, 700, 1),
  ],
)
def test_a_killed_run_goes_on(launch, kills, most_seconds, seed, depth):
  done = subprocess.run(
    [
      sys.executable,
      '-m',
      'benchmarks.kill',
      f'--launch={launch}',
      f'--kills={kills}',
      f'--most_seconds={most_seconds}',
      f'--seed={seed}',
      f'--override=depth={depth}',
      *smallest.make_flags(replay__ratio=8),  # One update for each step.
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
  assert done.returncode == 0, done.stdout + done.stderr
  assert f'{kills} kills' in done.stdout
