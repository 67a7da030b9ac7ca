"""The script for Slurm, with a stand-in for the scheduler."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

from benchmarks import smallest

ROOT = pathlib.Path(__file__).parents[2]

# Says what it was asked for.
SCONTROL = '#!/bin/sh\necho "$@" >>"$REQUEUED"\n'


def test_a_job_saves_before_its_end_and_goes_on_in_the_next(tmp_path):
  workdir, requeued = tmp_path / 'run', tmp_path / 'requeued'
  scontrol = tmp_path / 'bin' / 'scontrol'
  scontrol.parent.mkdir()
  scontrol.write_text(SCONTROL)
  scontrol.chmod(0o755)

  def job(num_steps):
    return subprocess.Popen(
      [
        str(ROOT / 'examples' / 'slurm.sh'),
        '--preset=tiny',
        '--depth=1',
        '--env=debug/catch',
        '--env_option=observation=vector',
        '--picture_minutes=0',
        f'--num_steps={num_steps}',
        f'--workdir={workdir}',
        *smallest.make_flags(),
      ],
      cwd=ROOT,
      env=os.environ
      | {
        'JAX_DISABLE_MOST_OPTIMIZATIONS': '1',
        'JAX_PLATFORMS': 'cpu',
        'PATH': f'{scontrol.parent}:{os.environ["PATH"]}',
        'PYTHON': sys.executable,
        'PYTHONPATH': str(ROOT),
        'REQUEUED': str(requeued),
        'SLURM_JOB_ID': '17',
      },
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
    )

  first = job(10**6)
  log = workdir / 'logs' / 'episodes.csv'
  while not log.exists() or len(log.read_text().splitlines()) < 3:
    assert first.poll() is None, first.communicate()[0]
    time.sleep(0.1)
  # Slurm sends it to the shell, and again if the job takes its time.
  for _ in range(3):
    first.send_signal(signal.SIGUSR1)
    time.sleep(0.2)
  said, _ = first.communicate()
  assert first.returncode == 0, said
  assert 'Interrupted after' in said and 'Traceback' not in said
  assert requeued.read_text() == 'requeue 17\n'
  summary = json.loads((workdir / 'summary.json').read_text())
  assert summary['signal'] == 'SIGUSR1'

  steps = summary['steps'] + 8
  second = job(steps)
  said, _ = second.communicate()
  assert second.returncode == 0, said
  assert f'Continuing after {summary["steps"]} steps' in said
  assert requeued.read_text() == 'requeue 17\n'
  summary = json.loads((workdir / 'summary.json').read_text())
  assert (summary['steps'], summary['signal']) == (steps, None)
