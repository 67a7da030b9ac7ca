"""Every example runs, with the least that shows it does what it says."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

EXAMPLES = pathlib.Path(__file__).parents[2] / 'examples'


def run(name, tmp_path, *flags, codes=(0,), **environment):
  done = subprocess.run(
    [sys.executable, str(EXAMPLES / name), *flags],
    env=os.environ | {'HOME': str(tmp_path)} | environment,
    capture_output=True,
    text=True,
  )
  assert done.returncode in codes, done.stdout + done.stderr
  return done.stdout


# Compiling is most of what those cost that need not learn much.
QUICKLY = {'JAX_DISABLE_MOST_OPTIMIZATIONS': '1'}


def mean_return(said):
  return float(re.search(r'mean return .* (-?[\d.]+)\s*$', said).group(1))


@pytest.mark.parametrize('backend', ['native', 'python'])
def test_r2d2_with_etbs(tmp_path, backend):
  if backend == 'native':
    pytest.importorskip('acme_hieros.replay._native')
  said = run(
    'r2d2_with_etbs.py',
    tmp_path,
    '--num_episodes=150',
    ACME_HIEROS_ETBS=backend,
  )
  assert -1 <= mean_return(said) <= 1


def test_dqn_learns_from_level_0(tmp_path):
  said = run(
    'dqn_from_level_0.py', tmp_path, '--num_steps=1000', '--num_episodes=100'
  )
  # A policy that knows nothing has about -0.71, with a standard error of 0.07.
  assert mean_return(said) > -0.4


def test_hieros_learns_from_another_agents_table(tmp_path):
  said = run(
    'hieros_offline.py',
    tmp_path,
    '--num_steps=5',
    '--num_episodes=40',
    **QUICKLY,
  )
  assert -1 <= mean_return(said) <= 1


def test_local_layout(tmp_path):
  run('local_layout.py', tmp_path, '--num_episodes=12', **QUICKLY)


def test_distributed_layout(tmp_path):
  run(
    'distributed_layout.py',
    tmp_path,
    '--lp_launch_type=local_mp',
    '--num_steps=100',
    '--num_actors=1',
    # Launchpad kills what does not stop within 10 s, and a learner that is
    # still compiling does not.
    codes=(0, 1, -9, 137),
    LAUNCHPAD_LOGGING_DIR=str(tmp_path / 'logs'),
    **QUICKLY,
  )
  # The actor has acted, which it does not without the learner's parameters.
  limiter = (tmp_path / 'logs' / 'counter' / '1').read_text()
  assert 'Max steps of 100 was reached' in limiter
