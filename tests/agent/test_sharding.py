"""Runs `sharding_cases.py` with two virtual devices."""

import os
import pathlib
import subprocess
import sys

CASES = pathlib.Path(__file__).with_name('sharding_cases.py')


def test_a_learner_on_two_devices_does_what_it_does_on_one():
  # How many devices the CPU counts as is settled when JAX starts.
  flags = '--xla_force_host_platform_device_count=2'
  done = subprocess.run(
    [sys.executable, '-m', 'pytest', str(CASES)],
    env={
      **os.environ,
      'JAX_PLATFORMS': 'cpu',
      'XLA_FLAGS': f'{os.environ.get("XLA_FLAGS", "")} {flags}',
    },
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )
  assert done.returncode == 0, done.stdout
