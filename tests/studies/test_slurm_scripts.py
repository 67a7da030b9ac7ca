"""The script for Slurm, with stand-ins for what Slurm does with it."""

import os
import pathlib
import re
import shlex
import signal
import subprocess
import time

import pretended_runs
import pytest
import tomli

from acme_hieros.studies import sweep

STUDY = """
[run]
environment = "debug/catch"
preset = "tiny"
num_steps = 100
[grid]
depth = [1, 2]
seed = [0, 1]
[needs]
cpus = 1
gpus = 0
memory_gb = 1.5
"""

# Says what it was asked for.
SCONTROL = '#!/bin/sh\necho "$@" >>"$REQUEUED"\n'


class Cluster:
  """What `sbatch` does with a script: its options, and its tasks."""

  def __init__(self, script, path):
    self._script = script
    self.requeued = path / 'requeued'
    scontrol = path / 'bin' / 'scontrol'
    scontrol.parent.mkdir()
    scontrol.write_text(SCONTROL)
    scontrol.chmod(0o755)
    self._environment = (
      os.environ
      | pretended_runs.pretend_everywhere(path)
      | {
        'PATH': f'{scontrol.parent}:{os.environ["PATH"]}',
        'REQUEUED': str(self.requeued),
      }
    )
    text = pathlib.Path(script).read_text()
    self.options = dict(
      word.removeprefix('--').partition('=')[::2]
      for line in re.findall(r'^#SBATCH (.*)', text, re.M)
      for word in shlex.split(line)
    )

  def start(self, task):
    """The batch shell of a task."""
    output = self.options['output'].replace('%a', str(task))
    with open(output, 'a') as file:
      return subprocess.Popen(
        ['bash', self._script],
        env=self._environment
        | {'SLURM_ARRAY_TASK_ID': str(task), 'SLURM_JOB_ID': f'{100 + task}'},
        stdout=file,
        stderr=subprocess.STDOUT,
      )


@pytest.fixture
def cluster(pretended):
  study = pretended.program.parent / 'small.toml'
  study.write_text(STUDY)
  script = sweep.write_slurm(
    str(study), workdir=str(pretended.workdir), at_once=3
  )
  return Cluster(script, study.parent)


def wait_for(condition):
  deadline = time.time() + 120
  while not condition():
    assert time.time() < deadline
    time.sleep(0.1)


def test_an_array_has_a_task_for_each_run_that_is_not_finished(
  cluster, pretended
):
  assert cluster.options['array'] == '0-3%3'
  assert cluster.options['mem'] == '1536M' and 'gres' not in cluster.options
  assert cluster.options['cpus-per-task'] == '1'
  assert 'requeue' in cluster.options
  assert cluster.options['signal'] == 'B:USR1@300'
  tasks = [cluster.start(task) for task in (0, 3)]
  assert [task.wait() for task in tasks] == [0, 0]
  assert {call['run'] for call in pretended.calls} == {
    'debug_catch-depth=1-seed=0',
    'debug_catch-depth=2-seed=1',
  }
  study = {**tomli.loads(STUDY), 'name': 'small'}
  again = pretended.program.parent / 'small.toml'
  script = sweep.write_slurm(str(again), workdir=str(pretended.workdir))
  text = pathlib.Path(script).read_text()
  assert '--array=0-1\n' in text and 'depth=1-seed=0' not in text
  assert sweep.sweep(study, workdir=str(pretended.workdir)).exit_code == 0
  with pytest.raises(ValueError, match='are finished; --report'):
    sweep.write_slurm(str(again), workdir=str(pretended.workdir))


@pytest.mark.parametrize('number', [signal.SIGUSR1, signal.SIGTERM])
def test_a_task_saves_before_its_end_and_goes_on_in_the_next(
  cluster, pretended, number
):
  pretended.switch('slow')
  first = cluster.start(1)
  config = pretended.workdir / 'runs' / 'debug_catch-depth=2-seed=0'
  wait_for((config / 'config.json').exists)
  time.sleep(0.5)
  first.send_signal(number)
  code = first.wait()
  # Saved; only what the clock ended asks for the queue itself.
  assert '"interrupted": true' in (config / 'summary.json').read_text()
  if number == signal.SIGUSR1:
    assert (code, cluster.requeued.read_text()) == (0, 'requeue 101\n')
  else:
    assert code == 128 + number and not cluster.requeued.exists()
  pretended.switch('slow', on=False)
  assert cluster.start(1).wait() == 0
  assert [call['resumes'] for call in pretended.calls] == [False, True, True]
