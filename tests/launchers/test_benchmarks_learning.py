"""The learning benchmark keeps rows and goes on. Training is pretended."""

import csv
import os
import pathlib
import signal
import threading
import time

import pytest

ROOT = pathlib.Path(__file__).parents[2]

# As good as the files beside it say.
TRAINING = """
import json, pathlib, sys, time
flags = dict(a.removeprefix('--').partition('=')[::2] for a in sys.argv[1:])
here = pathlib.Path(__file__).parent
with open(here / 'calls', 'a') as file:
  print(flags['system'], flags['env'], flags['seed'], file=file)
workdir = pathlib.Path(flags['workdir'])
assert 'auto_resume' in flags
if (here / 'fails').exists():
  sys.exit(3)
try:
  while (here / 'slow').exists():
    time.sleep(0.05)
except KeyboardInterrupt:
  (here / 'saved').touch()
  sys.exit(130)
workdir.mkdir(parents=True)
mean = float((here / 'mean').read_text())
summary = {'mean_return': mean, 'seconds': 90.0, 'cpu_seconds': 60.0}
(workdir / 'summary.json').write_text(json.dumps(summary))
"""


class Bench:
  """The benchmark, in a directory of its own."""

  def __init__(self, main, path):
    self._main = main
    self.path = path

  def __call__(self, *flags):
    return self._main(
      f'--results={self.path}', f'--workdir={self.path / "runs"}', *flags
    )

  @property
  def calls(self):
    return (self.path / 'calls').read_text().splitlines()

  def rows(self):
    with open(self.path / 'learning.csv', newline='') as file:
      return list(csv.DictReader(file))


@pytest.fixture(scope='module')
def load(load_launcher):
  return load_launcher('learning', ROOT / 'benchmarks')


@pytest.fixture
def bench(load, tmp_path, pretend):
  pretend(TRAINING)
  (tmp_path / 'mean').write_text('0.95')
  return Bench(load, tmp_path)


def test_a_row_is_kept_and_not_made_again(bench, capsys):
  flags = ['--case=catch', '--system=rssm']
  assert bench(*flags, '--seeds=1') == 0
  (row,) = bench.rows()
  wanted = {'case': 'catch', 'system': 'rssm', 'seed': '0', 'mark': '0.9'}
  wanted |= {'mean_return': '0.95', 'minutes': '1.5', 'cpu_minutes': '1.0'}
  wanted |= {'passed': 'True', 'late': ''}
  assert {name: row[name] for name in wanted} == wanted
  assert 'catch, rssm, seed 0: mean return 0.950' in capsys.readouterr().out
  assert bench(*flags, '--seeds=2') == 0
  assert bench(*flags, '--seeds=2') == 0
  assert bench('--case=catch', '--system=flat', '--seeds=1') == 0
  assert bench.calls == [
    'rssm debug/catch 0',
    'rssm debug/catch 1',
    'flat debug/catch 0',
  ]
  assert len(bench.rows()) == 3


def test_memories_are_given_what_they_need(bench):
  for system in ('hieros', 'rssm', 'r2i'):
    for _ in range(2):
      bench('--case=recall', f'--system={system}', '--seeds=1')
  s5, gru, s3m = (row['flags'].split() for row in bench.rows())
  assert gru[:-1] == s3m[:-1] == s5
  assert gru[-1] == '--num_steps=20000'
  assert s3m[-1] == '--override=world_model.core_learning_rate_scale=1'


def test_a_run_below_its_mark_fails(bench):
  (bench.path / 'mean').write_text('0.89')
  for _ in range(2):  # Also where the row is there.
    assert bench('--case=catch', '--seeds=1') == 1
  assert bench.rows()[0]['passed'] == 'False'


def test_a_run_that_takes_too_long_fails(bench):
  train = bench.path / 'train.py'
  train.write_text(
    train.read_text().replace("'cpu_seconds': 60.0", "'cpu_seconds': 901.0")
  )
  assert bench('--case=catch', '--seeds=1') == 1
  # Of some cases how long they take does not count.
  assert bench('--case=recall', '--seeds=1') == 0


def test_a_launcher_that_fails_is_named(bench):
  (bench.path / 'fails').touch()
  assert 'catch, seed 0: exit code 3' in bench('--case=catch', '--seeds=1')
  assert not (bench.path / 'learning.csv').exists()


def test_ctrl_c_is_handed_on_once(bench):
  (bench.path / 'slow').touch()

  def interrupt():
    while not (bench.path / 'calls').exists():
      time.sleep(0.05)
    time.sleep(0.3)
    os.kill(os.getpid(), signal.SIGINT)

  thread = threading.Thread(target=interrupt)
  thread.start()
  assert bench('--case=catch', '--seeds=1') == 130
  thread.join()
  assert (bench.path / 'saved').exists()
  assert not (bench.path / 'learning.csv').exists()


def test_unknown_names(bench):
  assert "unknown case 'jump'" in bench('--case=jump')
  assert "Unknown system 'x'" in bench('--case=catch', '--system=x')
