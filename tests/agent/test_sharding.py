"""Runs what needs several virtual devices, each in a process of its own."""

import os
import pathlib
import subprocess
import sys

FOLDER = pathlib.Path(__file__).parent
ROOT = FOLDER.parent.parent


def run(command, devices):
  # How many devices the CPU counts as is settled when JAX starts.
  flags = f'--xla_force_host_platform_device_count={devices}'
  done = subprocess.run(
    [sys.executable, *command],
    env={
      **os.environ,
      'PYTHONPATH': str(ROOT),
      'JAX_PLATFORMS': 'cpu',
      'XLA_FLAGS': f'{os.environ.get("XLA_FLAGS", "")} {flags}',
    },
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )
  assert done.returncode == 0, done.stdout


def test_a_learner_on_two_devices_does_what_it_does_on_one():
  run(['-m', 'pytest', str(FOLDER / 'sharding_cases.py')], 2)


def test_updates_of_full_size_end_on_more_devices_than_cores():
  run([str(FOLDER / 'sharding_full_size.py')], 4)
