"""Sweeps of pretended runs: skipped, resumed, tried again, stopped, told."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pretended_runs
import psutil
import pytest

from acme_hieros.studies import processes, sweep, table

SMALL = pretended_runs.SMALL


@pytest.fixture
def go(pretended, monkeypatch):
  """Sweeps the small study, or another, and draws no report."""

  def go(study=SMALL, **arguments):
    with monkeypatch.context() as patch:
      patch.setattr(sweep, 'report', lambda *unused_arguments: 'a page')
      return sweep.sweep(study, workdir=str(pretended.workdir), **arguments)

  return go


def states(pretended):
  return {run['name']: run['state'] for run in pretended.status['runs']}


def wait_for(condition):
  deadline = time.time() + 60
  while not condition():
    assert time.time() < deadline
    time.sleep(0.05)


def test_all_runs_are_trained_evaluated_and_reported(pretended, capsys):
  failing = 'debug_catch-depth=2-seed=3'
  pretended.switch(f'{failing}-fails')
  study = {**SMALL, 'grid': {'depth': [1, 2], 'seed': [0, 1, 2, 3]}}
  outcome = sweep.sweep(
    study, workdir=str(pretended.workdir), retries=0, replications=100
  )
  assert [run.run.name for run in outcome.failed] == [failing]
  calls = [(call['what'], call['run']) for call in pretended.calls]
  assert len(calls) == len(set(calls)) == 15
  assert states(pretended).pop(failing) == 'failed'
  assert pretended.status['counts']['finished'] == 7
  run = pretended.status['runs'][0]
  assert run['name'] == 'debug_catch-depth=1-seed=0'
  assert (run['steps'], run['mean_return']) == (100, 1.0)
  content = json.loads((pretended.workdir / 'report.json').read_text())
  assert content['study']['question'] == 'Is it the depth?'
  # All pairs go to two levels, and their bootstrap as well.
  (answer,) = content['study']['answers']
  assert answer == (
    'On these 7 runs in 1 environment depth=2 is better than depth=1: in 100 % '
    'of the pairs of runs in one environment depth=2 scores more, draws '
    'counting half (95 % interval: 100 to 100 %, too narrow with 3 runs of '
    'each).'
  )
  assert f'Answer: {answer}' in capsys.readouterr().out
  assert answer in (pretended.workdir / 'report.html').read_text()


def test_what_is_finished_is_skipped_and_more_is_added(go, pretended):
  go()
  assert go().exit_code == 0 and len(pretended.calls) == 12
  go({**SMALL, 'grid': {'depth': [1, 2], 'seed': [0, 1, 2, 3]}})
  new = pretended.calls[12:]
  assert len(new) == 4 and all('seed=3' in call['run'] for call in new)
  # More steps: all go on, and are evaluated again.
  longer = {**SMALL, 'run': {**SMALL['run'], 'num_steps': 200}}
  go(longer)
  assert len(pretended.calls) == 16 + 12
  assert all(call['resumes'] for call in pretended.calls[16:])


def test_only_some_runs(go, pretended):
  outcome = go(only=['debug_catch-depth=2-seed=1'])
  assert [run.state for run in outcome.runs] == ['finished']
  assert len(pretended.calls) == 2 and outcome.report is None
  with pytest.raises(ValueError, match='no run y'):
    go(only=['y'])


def test_what_fails_is_tried_again_and_named(go, pretended, capsys):
  name = 'debug_catch-depth=2-seed=1'
  pretended.switch(f'{name}-fails')
  outcome = go(retries=2)
  assert outcome.exit_code == 1
  assert sum(call['run'] == name for call in pretended.calls) == 3
  (failed,) = outcome.failed
  assert failed.reason == 'hieros train: all is lost.' and failed.tries == 3
  said = capsys.readouterr().out
  assert said.count('It is tried again.') == 2 and failed.log in said
  assert states(pretended)[name] == 'failed'
  pretended.switch(f'{name}-fails', on=False)
  assert go().exit_code == 0


def test_one_that_is_killed_says_by_what(go, pretended):
  pretended.switch('slow')
  killed = []

  def kill():
    wait_for(lambda: pretended.calls)
    wait_for((pretended.workdir / 'runs').exists)
    os.kill(pretended.calls[0]['pid'], signal.SIGKILL)
    killed.append(pretended.calls[0]['run'])
    pretended.switch('slow', on=False)

  thread = threading.Thread(target=kill)
  thread.start()
  outcome = go(retries=0)
  thread.join()
  (failed,) = outcome.failed
  assert failed.run.name == killed[0] and failed.reason == (
    'It was killed by SIGKILL.'
  )


def test_each_run_has_cores_of_its_own(go, pretended):
  assert go().exit_code == 0
  cores = sorted(os.sched_getaffinity(0))
  assert all(len(call['cores']) == 1 for call in pretended.calls)
  assert {call['cores'][0] for call in pretended.calls} <= set(cores)
  assert sorted(os.sched_getaffinity(0)) == cores
  two = processes.Machine(1, 0, at_once=2 * len(cores))
  assert two.at_once == 2 * len(cores)
  with pytest.raises(ValueError, match='10000 CPUs'):
    processes.Machine(10_000, 0)


def test_ctrl_c_saves_all_and_the_same_call_goes_on(go, pretended):
  pretended.switch('slow')

  def interrupt():
    wait_for(lambda: list(pretended.workdir.glob('runs/*/config.json')))
    time.sleep(0.3)
    os.kill(os.getpid(), signal.SIGINT)

  thread = threading.Thread(target=interrupt)
  thread.start()
  outcome = go(at_once=1)
  thread.join()
  assert outcome.exit_code == 130 and outcome.report is None
  found = states(pretended)
  began, pid = pretended.calls[0]['run'], pretended.calls[0]['pid']
  assert found.pop(began) == 'interrupted'
  assert set(found.values()) == {'waiting'} and len(pretended.calls) == 1
  assert pretended.status['runs'][0]['steps'] == 50
  pretended.switch('slow', on=False)
  assert go().exit_code == 0
  again = [c for c in pretended.calls if c['run'] == began and c['pid'] != pid]
  assert again[0]['resumes']


# As a program, with the pretender.
KILLED = """
import sys
sys.path.insert(0, sys.argv[1])
import pathlib, pretended_runs, pytest
from acme_hieros.studies import sweep
with pytest.MonkeyPatch.context() as patch:
  pretended_runs.pretend(pathlib.Path(sys.argv[2]), patch)
  sweep.sweep(pretended_runs.SMALL, workdir=sys.argv[3])
"""


def test_killing_it_kills_its_runs_and_the_same_call_goes_on(go, pretended):
  pretended.switch('slow')
  process = subprocess.Popen(
    [
      sys.executable,
      '-c',
      KILLED,
      os.path.dirname(__file__),
      str(pretended.program.parent),
      str(pretended.workdir),
    ]
  )
  try:
    wait_for(lambda: list(pretended.workdir.glob('runs/*/config.json')))
    with pytest.raises(ValueError, match='in use by another process'):
      go()
  finally:
    process.kill()
    process.wait()
  pids = [call['pid'] for call in pretended.calls]
  wait_for(lambda: not any(psutil.pid_exists(pid) for pid in pids))
  pretended.switch('slow', on=False)
  assert go().exit_code == 0


def test_what_would_be_done_and_what_it_costs(go, pretended):
  study = {**SMALL, 'needs': {'minutes': 58.5, 'cpus': 1}}
  said = sweep.describe(study, workdir=str(pretended.workdir), at_once=2)
  assert not pretended.workdir.exists()
  assert 'Question: Is it the depth?' in said and '6 waiting' in said
  # An hour with what is around it, six times, two at once.
  assert '3:00:00 left' in said and 'about 6.0 hours of CPU cores' in said
  unknown = sweep.describe(SMALL, workdir=str(pretended.workdir))
  assert 'not known' in unknown
  timed = {**SMALL, 'run': {**SMALL['run'], 'cpu_minutes': 28.5}}
  said = sweep.describe(timed, workdir=str(pretended.workdir), at_once=3)
  assert 'about 3.0 hours' in said and '1:00:00 left' in said
  go()
  done = sweep.describe(SMALL, workdir=str(pretended.workdir))
  assert '6 finished' in done and 'about 0.0 hours' in done


@pytest.mark.parametrize(
  'run,parts',
  [
    ({'batch_size': 5}, ['another configuration', 'agent.batch_size']),
    ({'num_steps': 50}, ['100 steps', 'longer than the study says']),
  ],
)
def test_a_directory_of_another_study_is_refused(go, run, parts):
  go()
  with pytest.raises(ValueError) as raised:
    go({**SMALL, 'run': {**SMALL['run'], **run}})
  said = str(raised.value)
  assert '\n' not in said and all(part in said for part in parts)


class Terminal:
  """Keeps what it is sent as a terminal shows it: wiped lines are gone."""

  def __init__(self):
    self.lines, self._rest = [], ''

  def isatty(self):
    return True

  def flush(self):
    pass

  def write(self, text):
    if text.startswith('\x1b['):
      del self.lines[-int(text[2 : text.index('F')]) :]
      return
    *whole, self._rest = (self._rest + text).split('\n')
    self.lines += whole


def test_a_terminal_shows_one_table_that_fits(
  go, pretended, monkeypatch, capsys
):
  terminal = Terminal()
  monkeypatch.setattr(sys, 'stdout', terminal)
  monkeypatch.setattr(table, '_TABLE_SECONDS', 0.0)
  monkeypatch.setenv('LINES', '9')
  monkeypatch.setenv('COLUMNS', '60')
  go(at_once=2)
  heads = [ln for ln in terminal.lines if ln.startswith('6 runs')]
  assert heads == ['6 runs: 6 finished; 0:00:00 left, 2 at once']
  assert sum('finished after 100 steps' in ln for ln in terminal.lines) == 6
  rows = table.table(
    sweep.tasks_lib.plan(sweep.study_lib.read(SMALL), str(pretended.workdir)),
    sweep.study_lib.Needs(),
    2,
    most=5,
  )
  assert len(rows) == 5 and rows[-1] == 'and 4 more, all in status.json'
