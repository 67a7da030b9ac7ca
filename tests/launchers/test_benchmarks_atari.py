"""The Atari benchmark's rows: made once, whatever happens meanwhile.

Training and playing are pretended, but for the last test.
"""

import csv
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest

import benchmarks
from benchmarks import smallest

ROOT = pathlib.Path(__file__).parents[2]

# What both pretenders do first.
PRELUDE = """
import json, os, pathlib, sys, time
flags = dict(a.removeprefix('--').partition('=')[::2] for a in sys.argv[1:])
here = pathlib.Path(__file__).parent
workdir = pathlib.Path(flags['workdir'])
with open(here / 'calls', 'a') as file:
  call = {'program': pathlib.Path(__file__).stem, 'flags': flags}
  call |= {'pid': os.getpid(), 'cores': sorted(os.sched_getaffinity(0))}
  file.write(json.dumps(call) + chr(10))
if (here / f'{call["program"]}-fails').exists() and workdir.name == 'Krull-0':
  print('All was well.')
  sys.exit('All is lost.')
"""

# A step takes half a minute, and every second one has an update.
TRAINING = (
  PRELUDE
  + """
steps = int(flags['num_steps'])
if float(flags['cpu_minutes']):
  steps = int(2 * float(flags['cpu_minutes']))
(workdir / 'logs').mkdir(parents=True, exist_ok=True)
assert ('resume' in flags) == (workdir / 'config.json').exists()
config = {'num_steps': int(flags['num_steps'])}
config['cpu_minutes'] = float(flags['cpu_minutes'])
(workdir / 'config.json').write_text(json.dumps(config))

def end(steps, interrupted):
  summary = {'steps': steps, 'updates': steps // 2, 'seconds': 40.0 * steps}
  summary |= {'cpu_seconds': 30.0 * steps, 'interrupted': interrupted}
  (workdir / 'summary.json').write_text(json.dumps(summary))
  ends = range(10, steps + 1, 10)
  (workdir / 'logs' / 'episodes.csv').write_text(
    'actor_steps,episode_return,walltime' + chr(10)
    + ''.join(f'{i},{i % 3},{40.0 * i}' + chr(10) for i in ends)
  )
  (workdir / 'logs' / 'level_0.csv').write_text(
    'actor_steps,learner_steps' + chr(10)
    + ''.join(f'{i},{i // 2}' + chr(10) for i in range(12, steps + 1, 8))
  )

try:
  while (here / 'slow').exists():
    time.sleep(0.05)
except KeyboardInterrupt:
  end(steps - 1, True)
  sys.exit(130)
end(steps, False)
"""
)

# The first seed plays like a human, the second at random.
PLAYING = (
  PRELUDE
  + """
steps = json.loads((workdir / 'summary.json').read_text())['steps']
human = workdir.name.endswith('-0')
(workdir / 'evaluation').mkdir(exist_ok=True)
(workdir / 'evaluation' / f'{steps:06d}.json').write_text(json.dumps({
  'steps': steps,
  'episodes': int(flags['episodes']),
  'mean': 2665.5 if human else 1598.0,
  'standard_error': None if flags['episodes'] == '1' else 12.5,
  'median': 2000.0,
  'human_normalised': float(human) if 'Krull' in workdir.name else None,
}))
"""
)


@pytest.fixture(scope='module')
def load(load_launcher):
  return load_launcher('atari', ROOT / 'benchmarks')


class Bench:
  """The benchmark, in a directory of its own."""

  def __init__(self, main, path):
    self._main = main
    self._path = path
    self.workdir = path / 'runs'
    self.flags = [
      '--name=x',
      '--preset=tiny',
      f'--results={path / "results"}',
      f'--workdir={self.workdir}',
    ]

  def __call__(self, *flags):
    return self._main(*self.flags, *flags)

  def switch(self, name, on=True):
    """Whether training is 'slow', or a program '<name>-fails' with Krull-0."""
    (self._path / name).touch()
    on or (self._path / name).unlink()

  @property
  def calls(self):
    try:
      text = (self._path / 'calls').read_text()
    except FileNotFoundError:
      return []
    return [json.loads(line) for line in text.splitlines()]

  @property
  def story(self):
    """What was called: program, run, and where training was to end."""
    return [
      (call['program'], pathlib.Path(call['flags']['workdir']).name)
      + ((call['flags']['num_steps'],) if 'num_steps' in call['flags'] else ())
      for call in self.calls
    ]

  def rows(self, suffix=''):
    with open(self._path / 'results' / f'x{suffix}.csv', newline='') as file:
      return list(csv.DictReader(file))

  def ends(self):
    return [(row['game'], row['seed'], row['mark']) for row in self.rows()]


@pytest.fixture
def bench(load, tmp_path, pretend):
  pretend(TRAINING, PLAYING)
  return Bench(load, tmp_path)


ONE = ['--games=Krull', '--seeds=1']
TWO = ['--games=Krull,debug/echo', '--seeds=2']
ECHO = 'debug_echo'


def test_a_row_says_what_came_of_a_run(bench, capsys):
  flags = ['--games=atari/Krull', '--seeds=2', '--cpu_minutes=7.5,15']
  assert bench(*flags, '--depth=1', '--episodes=9') == 0
  assert sorted(bench.ends()) == [
    ('Krull', seed, f'{mark} CPU minutes')
    for seed in '01'
    for mark in ('15', '7.5')
  ]
  row = next(r for r in bench.rows() if (r['seed'], r['steps']) == ('0', '30'))
  # Scores as Wang et al. (1511.06581) have them.
  wanted = {
    'updates': '15',
    'cpu_seconds': '900.0',
    'wall_seconds': '1200.0',
    'episodes': '9',
    'mean': '2665.5',
    'standard_error': '12.5',
    'median': '2000.0',
    'human_normalised': '1.0',
    'random': '1598.0',
    'human': '2665.5',
    'configuration': 'tiny, depth=1',
  }
  assert {name: row[name] for name in wanted} == wanted
  said = capsys.readouterr().out
  assert '[4/4, about 0:00:00 left]' in said
  # Means of a human and of random play, and how far from each they are.
  table = said[said.rindex('after 15 CPU minutes') :].split('\n')
  assert table[2].split() == 'Krull 2 2,131.75 ± 533.75 0.500'.split()
  assert table[3].split() == 'mean over games 0.500'.split()


def test_where_nobody_has_played_the_score_is_left_out(bench, capsys):
  assert bench('--games=debug/echo', '--steps=40', '--episodes=1') == 0
  (row,) = bench.rows()
  for name in ('human_normalised', 'random', 'human', 'standard_error'):
    assert row[name] == ''
  said = capsys.readouterr().out
  assert 'mean over games' not in said and 'None' not in said


def test_training_episodes_are_kept_once(bench):
  bench(*ONE, '--steps=30,50')
  rows = bench.rows('-episodes')
  assert [int(row['steps']) for row in rows] == [10, 20, 30, 40, 50]
  # There is an update every second step, and the first one known is at 12.
  assert [int(row['updates']) for row in rows] == [0, 10, 15, 20, 22]
  assert [row['episode_return'] for row in rows] == list('12012')
  assert [float(row['walltime']) for row in rows] == [
    400,
    800,
    1200,
    1600,
    2000,
  ]


def test_every_mark_is_evaluated_before_training_goes_on(bench):
  assert bench(*ONE, '--steps=40,60') == 0
  assert bench.story == [
    ('train', 'Krull-0', '40'),
    ('play', 'Krull-0'),
    ('train', 'Krull-0', '60'),
    ('play', 'Krull-0'),
  ]
  train, play = (call['flags'] for call in bench.calls[:2])
  assert train['env'] == 'atari/Krull' and train['picture_minutes'] == '0'
  assert train['preset'] == 'tiny' and train['checkpoint_minutes'] == '5'
  # Those that an evaluation is to have by default could change.
  assert {'episodes', 'envs', 'seed'} < play.keys()
  assert 'deterministic' not in play


def test_options_are_of_the_environment_and_tell_its_rows_apart(bench):
  catch = ('--games=debug/catch', '--steps=40', '--episodes=2')
  assert bench(*catch, '--env_option=balls=3') == 0
  train, _ = (call['flags'] for call in bench.calls)
  assert (train['env'], train['env_option']) == ('debug/catch', 'balls=3')
  (row,) = bench.rows()
  assert row['configuration'] == 'tiny, balls=3'
  assert 'choose another --name' in bench(*catch)
  assert 'balls' in bench(*catch, '--env_option=balls=0')
  assert len(bench.calls) == 2


def test_what_is_in_the_table_is_not_made_again(bench, capsys):
  bench(*ONE, '--steps=40')
  before = bench.rows()
  assert bench(*ONE, '--steps=40') == 0
  assert bench.rows() == before and len(bench.calls) == 2
  assert 'Krull' in capsys.readouterr().out  # The table is shown again.
  # A later mark, another game and another seed.
  assert bench(*TWO, '--steps=40,60') == 0
  assert bench.rows()[0] == before[0] and len(set(bench.ends())) == 8
  assert ('train', 'Krull-0', '40') not in bench.story[2:]


def test_a_run_that_has_come_to_its_mark_is_only_evaluated(bench, capsys):
  bench.switch('play-fails')
  assert bench(*ONE, '--steps=40') == 1
  bench.switch('play-fails', on=False)
  assert bench(*ONE, '--steps=40') == 0
  assert [program for program, *_ in bench.story] == ['train', 'play', 'play']
  assert bench.ends() == [('Krull', '0', '40 steps')]


def test_a_run_that_fails_is_named_and_the_others_go_on(bench, capsys):
  bench.switch('train-fails')
  assert bench(*TWO, '--steps=40') == 1
  assert (
    len(bench.ends()) == 3 and ('Krull', '0', '40 steps') not in bench.ends()
  )
  said = capsys.readouterr().err
  assert 'atari: Krull, seed 0: exit code 1' in said
  assert '  All was well.\n  All is lost.' in said
  bench.switch('train-fails', on=False)
  assert bench(*TWO, '--steps=40') == 0
  assert len(bench.ends()) == 4


def test_a_run_beyond_its_mark_is_refused(bench, capsys):
  bench(*ONE, '--steps=60')
  assert bench(*ONE, '--steps=40,60') == 1
  said = capsys.readouterr().err
  assert 'beyond 40 steps' in said and str(bench.workdir / 'Krull-0') in said
  assert len(bench.calls) == 2


def test_a_run_has_a_core_for_itself(bench):
  cores = sorted(os.sched_getaffinity(0))[:2]
  flags = f'--cores={",".join(map(str, cores))}'
  assert bench(*TWO, '--steps=40', flags) == 0
  assert all(len(call['cores']) == 1 for call in bench.calls)
  assert {call['cores'][0] for call in bench.calls} == set(cores)
  assert sorted(os.sched_getaffinity(0))[:2] == cores


def wait_for(condition):
  deadline = time.time() + 60
  while not condition():
    assert time.time() < deadline
    time.sleep(0.05)


def test_ctrl_c_saves_and_the_same_command_goes_on(bench, capsys):
  bench.switch('slow')
  core = f'--cores={min(os.sched_getaffinity(0))}'

  def interrupt():
    wait_for(lambda: (bench.workdir / 'Krull-0' / 'config.json').exists())
    time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGINT)

  thread = threading.Thread(target=interrupt)
  thread.start()
  assert bench(*TWO, '--steps=40', core) == 130
  thread.join()
  assert 'same command' in capsys.readouterr().out
  # What waited was not begun.
  assert bench.story == [('train', 'Krull-0', '40')]
  summary = json.loads((bench.workdir / 'Krull-0' / 'summary.json').read_text())
  assert summary['interrupted']
  bench.switch('slow', on=False)
  assert bench(*TWO, '--steps=40', core) == 0
  assert 'resume' in bench.calls[1]['flags'] and len(bench.ends()) == 4
  row = next(
    r for r in bench.rows() if (r['game'], r['seed']) == ('Krull', '0')
  )
  assert row['steps'] == '40'


# The benchmark as a program, with the pretenders.
PROGRAM = """
import sys
from absl import app
import benchmarks
benchmarks.LAUNCHER, benchmarks.EVALUATOR = sys.argv[1:3]
from benchmarks import atari
app.run(atari.main, sys.argv[2:])
"""


def test_killing_it_kills_its_runs_and_the_same_command_goes_on(bench):
  bench.switch('slow')
  process = subprocess.Popen(
    [
      sys.executable,
      '-c',
      PROGRAM,
      benchmarks.LAUNCHER,
      benchmarks.EVALUATOR,
      *bench.flags,
      *ONE,
      '--steps=40',
    ],
    cwd=ROOT,
  )
  try:
    wait_for(lambda: (bench.workdir / 'Krull-0' / 'config.json').exists())
    assert bench(*ONE, '--steps=40').endswith('or stop it.')  # One at a time.
  finally:
    process.kill()
    process.wait()
  wait_for(lambda: not psutil.pid_exists(bench.calls[0]['pid']))
  bench.switch('slow', on=False)
  assert bench(*ONE, '--steps=40') == 0
  assert 'resume' in bench.calls[1]['flags'] and len(bench.ends()) == 1


@pytest.mark.parametrize(
  'flags,parts',
  [
    ([*ONE], ['--cpu_minutes', '--steps']),
    ([*ONE, '--steps=40', '--cpu_minutes=3'], ['either']),
    ([*ONE, '--steps=40,40'], ['--steps=40,40', 'ascending']),
    ([*ONE, '--steps=0,40'], ['--steps=0,40', 'ascending']),
    ([*ONE, '--cpu_minutes=nan'], ['--cpu_minutes=nan', 'ascending']),
    ([*ONE, '--steps=4.5'], ['--steps=4.5', 'ascending']),
    (['--steps=40'], ['--games']),
    (['--games=Krul', '--steps=40'], ['Krul', 'Krull']),
    ([*ONE, '--steps=40', '--name=a/b'], ['--name']),
    ([*ONE, '--steps=40', '--cores=1000'], ['--cores=1000']),
    ([*ONE, '--steps=40', '--override=depth'], ['depth', 'name=value']),
    ([*ONE, '--steps=40', '--override=deep=1'], ['deep']),
    ([*ONE, '--steps=40', '--preset=huge'], ['huge', 'tiny']),
    ([*ONE, '--steps=40', 'surely'], ['surely', '--name=value']),
  ],
)
def test_bad_flags_give_one_sentence_and_start_nothing(bench, flags, parts):
  error = bench(*flags)
  assert isinstance(error, str) and error.startswith('atari: ')
  assert '\n' not in error and error.endswith(('.', '?'))
  for part in parts:
    assert part in error
  assert not bench.calls and not bench.workdir.exists()


@pytest.mark.parametrize(
  'flags,parts',
  [
    (['--steps=40', '--depth=1'], ["'tiny'", "'tiny, depth=1'"]),
    (['--steps=40', '--preset=small'], ["'tiny'", "'small'"]),
    (['--cpu_minutes=3'], ['40 steps', 'CPU minutes']),
  ],
)
def test_rows_that_do_not_go_together_are_refused(bench, flags, parts):
  bench(*ONE, '--steps=40')
  before = bench.rows()
  error = bench(*ONE, *flags)
  assert error.endswith('choose another --name.')
  for part in parts:
    assert part in error
  assert bench.rows() == before and len(bench.calls) == 2


def test_another_table_is_not_overwritten(bench, tmp_path):
  (tmp_path / 'results').mkdir()
  path = tmp_path / 'results' / 'x.csv'
  path.write_text('mine\n1\n')
  assert str(path) in bench(*ONE, '--steps=40')
  assert path.read_text() == 'mine\n1\n'


def test_it_trains_and_plays(tmp_path):
  """With the true programs, which compile quickly."""
  done = subprocess.run(
    [
      sys.executable,
      '-m',
      'benchmarks.atari',
      '--games=debug/catch',
      '--steps=60,90',
      '--episodes=3',
      '--preset=tiny',
      '--name=true',
      f'--results={tmp_path}',
      f'--workdir={tmp_path / "runs"}',
      *smallest.make_flags(replay__ratio=8, depth=1),
    ],
    cwd=ROOT,
    env={**os.environ, 'JAX_DISABLE_MOST_OPTIMIZATIONS': '1'},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stdout + done.stderr
  with open(tmp_path / 'true.csv', newline='') as file:
    rows = list(csv.DictReader(file))
  assert [row['steps'] for row in rows] == ['60', '90']
  for row in rows:
    assert row['episodes'] == '3' and -1 <= float(row['mean']) <= 1
    assert 0 < float(row['cpu_seconds']) < float(row['wall_seconds'])
  with open(tmp_path / 'true-episodes.csv', newline='') as file:
    steps = [int(row['steps']) for row in csv.DictReader(file)]
  assert steps == sorted(set(steps)) and 60 < steps[-1] <= 90
