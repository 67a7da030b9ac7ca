"""One process: what is counted, stored and survived."""

import ast
import csv
import dataclasses
import functools
import io
import json
import pathlib
import shlex
import shutil
import sys
import threading
import time
import types

import numpy as np
import pytest
import tqdm

from acme_hieros import config as config_lib
from acme_hieros import version
from acme_hieros.agent import learning
from acme_hieros.environments import debug
from acme_hieros.experiments import (
  checkpoints,
  console,
  environment_loop,
  nodes,
  periodic_pictures,
  runs,
  training,
)
from acme_hieros.machines import memory
from benchmarks import smallest

pytestmark = pytest.mark.usefixtures('compile_quickly')

# One update for every second step.
CONFIG = smallest.make_config(depth=2, replay__ratio=4)

ACTING = config_lib.override(CONFIG, {'replay.ratio': 0.01})  # No update.


def make_run(path, **changes):
  settings = {
    'environment': 'debug/catch',
    'environment_options': {'observation': 'vector', 'rows': 5},
    'config': CONFIG,
    'num_steps': 60,
    'workdir': str(path),
  }
  return runs.Run(**settings | changes)


def read_episodes(path):
  with open(path / 'logs' / 'episodes.csv') as file:
    return list(csv.DictReader(file))


@pytest.mark.parametrize(
  'path', ['/runs/krull', '/runs/run[seed=1]', "/it's mine/$HOME", '/a;b *']
)
def test_what_a_summary_has_one_type_is_read_by_a_shell(path):
  text = str(runs.Summary(1, 1, 0, 1.0, 1.0, 1.0, None, True, None, path))
  curves = shlex.split(text.splitlines()[-1])
  assert curves[-2:] == ['tensorboard', f'--logdir={path}']


def test_several_environments_share_the_steps(tmp_path):
  trainer = training.Trainer(make_run(tmp_path, envs_per_actor=3))
  sizes = {}
  close = trainer._close

  def measure():
    for adder in trainer._adders:
      adder.flush()
    info = trainer._client.server_info()
    sizes.update({name: table.current_size for name, table in info.items()})
    close()

  trainer._close = measure
  summary = trainer.train()
  # Each played 5 episodes of 4 steps; each of them ends with one row more.
  assert (summary.steps, summary.episodes) == (60, 15)
  length = CONFIG.sequence_length
  assert sizes['level_0'] == 3 * (5 * (4 + 1) - length + 1)
  # Level 1 has two ticks an episode, and its end.
  assert sizes['level_1'] == 3 * (5 * (2 + 1) - length + 1)
  # Every table is full enough before the last third of the run.
  assert 10 <= summary.updates <= 30
  rows = read_episodes(tmp_path)
  assert [int(row['actor_episodes']) for row in rows] == list(range(1, 16))
  assert all(int(row['episode_length']) == 4 for row in rows)
  # They are not the same episodes three times.
  returns = [row['episode_return'] for row in rows]
  assert len({tuple(returns[i::3]) for i in range(3)}) > 1


@pytest.fixture
def little_memory(monkeypatch):
  """Of which each look finds a KiB more in use, and ten left."""
  sizes = iter(range(0, 10**9, 1024))
  monkeypatch.setattr(memory, '_PERIOD', 1)
  monkeypatch.setattr(memory, 'used', lambda *_: next(sizes))
  monkeypatch.setattr(memory, 'free', lambda: 10 * 1024)


WILL_NOT_FIT = 'Replay grows by 1.0 KiB a step'


def test_a_replay_that_will_not_fit_is_told(tmp_path, little_memory, capsys):
  config = config_lib.override(CONFIG, {'depth': 1})
  training.Trainer(make_run(tmp_path, config=config, num_steps=80)).train()
  assert capsys.readouterr().err.count(f'Warning: {WILL_NOT_FIT}') == 1


def test_a_program_tells_of_replay_that_will_not_fit(
  tmp_path, little_memory, monkeypatch
):
  coordinator = nodes.Coordinator(make_run(tmp_path, num_steps=100), None)
  stops = iter([False] * 40 + [True])
  monkeypatch.setattr(nodes.lp, 'wait_for_stop', lambda _: next(stops))
  monkeypatch.setattr(nodes, '_leave_process', lambda: None)
  warnings = []
  monkeypatch.setattr(coordinator, 'warn', warnings.append)
  coordinator.increment(learner_steps=1)
  look = coordinator._look_at_memory

  def step_and_look():
    coordinator.increment(actor_steps=1)
    look()

  monkeypatch.setattr(coordinator, '_look_at_memory', step_and_look)
  coordinator.run()
  assert len(warnings) == 1 and WILL_NOT_FIT in warnings[0]


def charge(monkeypatch, seconds):
  """Has only updates take CPU time, each so many seconds, and drawing."""
  clock = {'now': 1000.0}
  begin = learning.HierosLearner.begin

  def begin_and_charge(self):
    begin(self)
    clock['now'] += seconds

  def draw(self, read):
    clock['now'] += 7.0

  monkeypatch.setattr(learning.HierosLearner, 'begin', begin_and_charge)
  pictures = periodic_pictures.PeriodicPictures
  monkeypatch.setattr(pictures, 'is_due', property(lambda self: True))
  monkeypatch.setattr(pictures, 'draw', draw)
  monkeypatch.setattr(training.time, 'process_time', lambda: clock['now'])


@pytest.fixture(scope='module')
def spent(compile_quickly, tmp_path_factory):
  """A run that has spent its two CPU minutes, half a minute an update."""
  path = tmp_path_factory.mktemp('spent') / 'run'
  config = config_lib.override(CONFIG, {'depth': 1})
  run = make_run(path, config=config, num_steps=1000, cpu_minutes=2)
  with pytest.MonkeyPatch.context() as monkeypatch:
    charge(monkeypatch, 30.0)
    return path, training.Trainer(run).train()


def test_cpu_time_ends_a_run(spent):
  _, summary = spent
  # The first update compiles and does not count, nor does drawing.
  assert (summary.updates, summary.cpu_seconds) == (1 + 4, 120.0)
  assert not summary.interrupted and summary.steps < 1000
  assert '0:02:00 of CPU time' in str(summary)


def test_the_live_line_tells_the_cpu_time_that_ends_the_run():
  file = io.StringIO()
  with console.LiveLine(100, 0, file) as line:
    line.show(7, 3, None, (1.5, 30.0))
  assert 'CPU minutes=1.5/30' in file.getvalue()


def set_clock(monkeypatch, hours):
  """Has the clock be set by so many hours whenever it is looked at."""
  now, looks = time.time, []

  def clock():
    looks.append(None)
    return now() + 3600 * hours * len(looks)

  monkeypatch.setattr(time, 'time', clock)
  monkeypatch.setattr(tqdm.std, 'time', clock)


# Where it is time after each step, and where it is not within the run.
@pytest.mark.parametrize(
  'hours,minutes,times', [(-1, 1e-9, 20 + 1), (1, 10.0, 1)]
)
def test_a_clock_that_is_set_changes_nothing(
  tmp_path, monkeypatch, hours, minutes, times
):
  saves = []
  save = checkpoints.Checkpoints.save

  def counting_save(self, *arguments):
    saves.append(None)
    save(self, *arguments)

  monkeypatch.setattr(checkpoints.Checkpoints, 'save', counting_save)
  # No update.
  config = config_lib.override(CONFIG, {'replay.ratio': 0.01, 'depth': 1})
  run = make_run(
    tmp_path, config=config, num_steps=20, checkpoint_minutes=minutes
  )
  start = time.monotonic()
  set_clock(monkeypatch, hours)
  summary = training.Trainer(run).train()
  assert 0 <= summary.seconds <= time.monotonic() - start
  rows = read_episodes(tmp_path)
  assert len(rows) == summary.episodes == 5
  walltimes = [float(row['walltime']) for row in rows]
  assert walltimes == sorted(walltimes) and walltimes[-1] <= summary.seconds
  assert len(saves) == times


@pytest.mark.parametrize('hours', [-1, 1])
def test_the_live_line_goes_on_when_the_clock_is_set(monkeypatch, hours):
  class Terminal(io.StringIO):
    def isatty(self):
      return True

  set_clock(monkeypatch, hours)
  with console.LiveLine(100, 0, Terminal()) as line:
    time.sleep(0.6)
    line.show(7, 3, None)
    assert '7/100 [00:0' in line._file.getvalue()


@pytest.mark.parametrize('hours', [-1, 1])
def test_a_program_s_seconds_are_not_those_of_the_clock(
  tmp_path, monkeypatch, hours
):
  run = make_run(tmp_path, launch='local_mt')
  runs.prepare(run).workdir.close()
  set_clock(monkeypatch, hours)
  coordinator = nodes.Coordinator(run, None)
  for _ in range(3):
    coordinator.add_steps(0, 4, [(1.0, 4, True, 0)])
  assert 0 <= coordinator.save()['seconds'] < 60
  assert len(read_episodes(tmp_path)) == 3


def test_no_interval_is_taken_by_a_clock_that_can_be_set():
  root = pathlib.Path(__file__).parents[2]
  found = [
    f'{path.name}:{node.lineno}'
    for part in ('acme_hieros', 'launchers', 'benchmarks')
    for path in (root / part).rglob('*.py')
    for node in ast.walk(ast.parse(path.read_text()))
    if isinstance(node, ast.Attribute) and ast.unparse(node) == 'time.time'
  ]
  assert found == []


def test_a_run_goes_on_and_says_by_what_it_was_saved(spent, tmp_path, caplog):
  path = shutil.copytree(spent[0], tmp_path / 'run')
  prepared = runs.prepare(runs.read_run(str(path)))
  prepared.workdir.close()
  said = prepared.restored.written_by
  assert f'version {version.VERSION} of acme_hieros' in said
  assert 'another configuration' not in caplog.text
  # Somebody has changed what is run.
  config = json.loads((path / 'config.json').read_text())
  config['agent']['actor_critic']['entropy_scale'] = [0.5]
  (path / 'config.json').write_text(json.dumps(config))
  prepared = runs.prepare(runs.read_run(str(path)))
  prepared.workdir.close()
  assert 'differs in agent.actor_critic.entropy_scale;' in caplog.text
  origin = prepared.restored.origin
  assert origin['config']['agent'] != config['agent']
  assert origin['packages']['dm-acme'] == '0.4.0'
  assert set(origin) >= {'commit', 'date', 'python', 'version'}


def test_a_replay_that_does_not_come_back_ends_the_start(
  spent, tmp_path, monkeypatch
):
  """Reverb begins empty without a word where it finds nothing to restore."""
  path = shutil.copytree(spent[0], tmp_path / 'run')
  real = checkpoints.Checkpoints.replay_checkpointer
  monkeypatch.setattr(
    checkpoints.Checkpoints,
    'replay_checkpointer',
    lambda self, replay: real(self, None),
  )
  with pytest.raises(checkpoints.CheckpointError, match='did not come back'):
    training.Trainer(runs.read_run(str(path)))


def test_cpu_time_is_counted_on_in_a_run_that_goes_on(
  spent, tmp_path, monkeypatch
):
  path = shutil.copytree(spent[0], tmp_path / 'run')
  run = runs.read_run(str(path))
  same = training.Trainer(run).train()
  assert (same.updates, same.interrupted) == (5, False)
  charge(monkeypatch, 30.0)
  more = training.Trainer(run.replace(cpu_minutes=3.0)).train()
  # The first update of a process compiles again.
  assert (more.updates, more.cpu_seconds) == (5 + 1 + 2, 180.0)


def test_a_run_from_before_cpu_time_was_counted_goes_on(
  spent, tmp_path, monkeypatch
):
  path = shutil.copytree(spent[0], tmp_path / 'run')
  config = json.loads((path / 'config.json').read_text())
  del config['cpu_minutes']
  (path / 'config.json').write_text(json.dumps(config))
  prepare = runs.prepare

  def forget(run):
    prepared = prepare(run)
    assert prepared.restored.metadata.pop('cpu_seconds') == 120.0
    return prepared

  monkeypatch.setattr(runs, 'prepare', forget)
  run = runs.read_run(str(path))
  assert run.cpu_minutes == 0
  summary = training.Trainer(run.replace(num_steps=spent[1].steps)).train()
  assert summary.cpu_seconds == 0 and not summary.interrupted


class Fragile(debug.Catch):
  """Breaks down at each 7th step of all; `broken` counts how often."""

  steps = broken = 0

  def _step(self, action):
    Fragile.steps += 1
    if Fragile.steps % 7 == 0:
      Fragile.broken += 1
      raise ConnectionError('the emulator is gone')
    return super()._step(action)


def test_environments_that_break_down_cost_an_episode_each(
  tmp_path, monkeypatch, capsys
):
  monkeypatch.setattr(
    runs,
    'make_environment',
    lambda name, seed, **options: Fragile(seed, **options),
  )
  config = config_lib.override(CONFIG, {'depth': 1})
  summary = training.Trainer(make_run(tmp_path, config=config)).train()
  assert summary.steps == 60 and not summary.interrupted
  # An episode of 4 steps, then 2 steps and a breakdown, and so on; the tenth
  # breakdown would come with the step after the last.
  assert (summary.episodes, Fragile.broken) == (10, 9)
  said = capsys.readouterr().err
  assert said.count('built anew (ConnectionError: the emulator is gone)') == 9


def test_one_that_never_works_ends_the_run_which_is_saved(
  tmp_path, monkeypatch
):
  made = []

  def make_environment(name, seed, **options):
    environment = debug.Catch(seed, observation='vector')
    if len(made) > 2:
      raise ConnectionError('the emulator is gone')
    made.append(environment)
    return environment

  def step(self, action):
    if len(made) > 1 and self._ball_row == 2:
      raise ConnectionError('the emulator is gone')
    return type(self)._true_step(self, action)

  monkeypatch.setattr(runs, 'make_environment', make_environment)
  monkeypatch.setattr(debug.Catch, '_true_step', debug.Catch._step, False)
  monkeypatch.setattr(debug.Catch, '_step', step)
  run = make_run(tmp_path, environment_options={})
  with pytest.raises(
    environment_loop.BrokenEnvironmentError, match='emulator is gone'
  ):
    training.Trainer(run).train()
  assert (tmp_path / 'checkpoints' / '000001' / 'manifest.json').exists()


def test_a_bad_value_never_reaches_the_replay(tmp_path, monkeypatch, capsys):
  class Poisonous(debug.Catch):
    """The reward of each 7th step of all is none."""

    steps = 0

    def _step(self, action):
      Poisonous.steps += 1
      observation, reward, *end = super()._step(action)
      return observation, [reward, np.nan][Poisonous.steps % 7 == 0], *end

  monkeypatch.setattr(
    runs,
    'make_environment',
    lambda name, seed, **options: Poisonous(seed, **options),
  )
  trainer = training.Trainer(make_run(tmp_path, config=ACTING))
  close = trainer._close
  rewards = []

  def read_rewards():
    for adder in trainer._adders:
      adder.flush()
    for sample in trainer._client.sample('level_0', 50):
      rewards.extend(np.ravel(sample[0].data[2]))
    close()

  trainer._close = read_rewards
  summary = trainer.train()
  assert (summary.steps, summary.episodes) == (60, 10)
  assert np.isfinite(summary.mean_return)
  assert len(rewards) >= 50 and np.isfinite(rewards).all()
  assert capsys.readouterr().err.count('returned the reward nan') == 9


def test_what_is_saved_before_an_error_stays(tmp_path, monkeypatch):

  def step(self, action):
    if any((tmp_path / 'checkpoints').glob('[0-9]*')):
      raise ConnectionError('the emulator is gone')
    return type(self)._true_step(self, action)

  monkeypatch.setattr(debug.Catch, '_true_step', debug.Catch._step, False)
  monkeypatch.setattr(debug.Catch, '_step', step)
  run = make_run(
    tmp_path, config=ACTING, checkpoint_minutes=1e-6, keep_checkpoints=1
  )
  with pytest.raises(environment_loop.BrokenEnvironmentError):
    training.Trainer(run).train()
  directory = tmp_path / 'checkpoints'
  *_, before, last = sorted(
    p for p in directory.iterdir() if p.name.isdecimal()
  )
  assert int(last.name) == int(before.name) + 1
  assert not (before / 'emergency').exists() and (last / 'emergency').exists()


def test_closing_that_fails_does_not_keep_a_run_from_starting(
  tmp_path, monkeypatch, caplog
):
  def close(self):
    raise AttributeError('there is nothing to close')

  monkeypatch.setattr(debug.Catch, 'close', close)
  prepared = runs.prepare(make_run(tmp_path))
  prepared.workdir.close()
  assert prepared.environment_spec.actions.num_values == 3
  said = caplog.text
  assert 'could not be closed (AttributeError: there is nothing' in said


@pytest.mark.parametrize(
  'changes,says',
  [
    ({'num_actors': 0}, 'num_actors=0 must be at least 1'),
    ({'num_actors': 2}, 'num_actors=2 .* local_mp'),
    ({'num_evaluators': 1}, 'num_evaluators=1 .* local_mp'),
    ({'num_evaluators': -1}, 'num_evaluators=-1 must be at least 0'),
    ({'envs_per_actor': 0}, 'envs_per_actor=0 must be at least 1'),
    ({'launch': 'vertex_ai'}, "launch='vertex_ai' .* local_mt"),
    ({'num_steps': 20, 'envs_per_actor': 4}, 'steps in 4 environments'),
    ({'cpu_minutes': -1.0}, 'cpu_minutes=-1.0 must not be negative'),
    ({'cpu_minutes': float('nan')}, 'cpu_minutes=nan must not be negative'),
    (
      {'cpu_minutes': 1.0, 'launch': 'local_mp'},
      'cpu_minutes=1.0 needs .*=local',
    ),
  ],
)
def test_what_cannot_be_launched_is_refused(tmp_path, changes, says):
  with pytest.raises(ValueError, match=says):
    runs.prepare(make_run(tmp_path / 'run', **changes))
  assert not (tmp_path / 'run').exists()


def test_without_the_native_sampler_there_is_one_environment(
  tmp_path, monkeypatch
):
  monkeypatch.setattr(runs.etbs, 'BACKEND', 'python')
  run = make_run(tmp_path / 'run', envs_per_actor=2)
  with pytest.raises(ValueError, match='takes one environment'):
    runs.prepare(run)
  uniform = config_lib.override(CONFIG, {'replay.sampler': 'uniform'})
  runs.prepare(run.replace(config=uniform)).workdir.close()


@pytest.mark.parametrize('minutes,times', [(60.0, 1), (0.0, 0)])
def test_a_run_is_drawn_at_its_end(tmp_path, monkeypatch, minutes, times):
  drawn = []
  monkeypatch.setattr(
    periodic_pictures.PeriodicPictures,
    'draw',
    lambda self, read: drawn.append(read()),
  )
  run = make_run(tmp_path, picture_minutes=minutes, config=ACTING)
  training.Trainer(run).train()
  assert [steps for _, steps in drawn] == [60] * times
  assert all(len(params) == 2 for params, _ in drawn)


def test_numbers_of_numpy_are_plain_in_a_run(tmp_path):
  run = make_run(
    tmp_path,
    num_steps=np.int64(60),
    seed=np.uint32(3),
    cpu_minutes=np.float32(0.5),
    checkpoint_minutes=np.float64(2.0),
    environment_options={'rows': np.int64(5), 'observation': 'vector'},
    config=dataclasses.replace(CONFIG, batch_size=np.int64(4)),
  )
  runs.prepare(run).workdir.close()
  found = runs.read_run(str(tmp_path))
  assert (found.num_steps, found.seed, found.cpu_minutes) == (60, 3, 0.5)
  assert found.environment_options == {'rows': 5, 'observation': 'vector'}
  assert found.config.batch_size == 4


@pytest.mark.parametrize(
  'changes',
  [{'num_steps': np.float64(60)}, {'seed': 1.0}, {'num_actors': True}],
)
def test_counts_are_whole_numbers(tmp_path, changes):
  with pytest.raises(ValueError, match='must be a whole number'):
    runs.prepare(make_run(tmp_path / 'run', **changes))
  assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(
  'value', [b'5', {1, 2}, 1j, ..., {1: 'one'}, [{'a': b'5'}]]
)
def test_options_that_would_not_come_back_are_refused(tmp_path, value):
  run = make_run(tmp_path / 'run', environment_options={'rows': value})
  with pytest.raises(ValueError, match='rows=.* cannot be kept'):
    runs.prepare(run)
  assert not (tmp_path / 'run').exists()


def test_an_environment_that_ends_the_program_is_told(tmp_path, monkeypatch):
  monkeypatch.setattr(runs, 'make_environment', lambda *_, **__: sys.exit(0))
  with pytest.raises(ValueError, match=r'debug/catch .* \(SystemExit: 0\)'):
    runs.prepare(make_run(tmp_path / 'run'))
  assert not (tmp_path / 'run').exists()


def make_catch(seed, rows=5):
  return debug.Catch(seed, rows=rows, observation='vector')


def test_a_function_makes_the_environments_of_a_run(tmp_path):
  factory = functools.partial(make_catch, rows=5)
  run = make_run(
    tmp_path,
    environment=factory,
    environment_options={},
    config=config_lib.override(ACTING, {'depth': 1}),
    num_steps=20,
  )
  summary = training.Trainer(run).train()
  assert (summary.steps, summary.episodes) == (20, 5)
  # Nothing leads to it but the program, which gives it again.
  with pytest.raises(
    ValueError, match='only the program.*environment=function'
  ):
    runs.prepare(runs.read_run(str(tmp_path)))
  found = runs.read_run(str(tmp_path), factory)
  assert found.environment is factory
  prepared = runs.prepare(found)
  prepared.workdir.close()
  assert prepared.restored.metadata['counts']['actor_steps'] == 20


def test_a_function_with_a_name_is_found_again(tmp_path):
  run = make_run(
    tmp_path, environment=make_catch, environment_options={'rows': 5}
  )
  runs.prepare(run).workdir.close()
  found = runs.read_run(str(tmp_path))
  assert found.environment == f'{__name__}:make_catch'
  assert isinstance(found.make_environment(0), debug.Catch)
  assert found.identity() == run.identity()


def test_a_function_that_cannot_be_sent_is_refused(tmp_path):
  lock = threading.Lock()

  def make():
    with lock:
      return make_catch(0)

  run = make_run(
    tmp_path / 'run', environment=make, environment_options={}, num_steps=999
  )
  runs.check(run)
  with pytest.raises(ValueError, match='cannot be sent.*lock.*launch=local'):
    runs.prepare(run.replace(launch='local_mp'))
  assert not (tmp_path / 'run').exists()


def test_the_seed_is_no_option_of_an_environment(tmp_path):
  run = make_run(tmp_path / 'run', environment_options={'seed': 1})
  with pytest.raises(ValueError, match='option seed .* seed of the run'):
    runs.prepare(run)
  assert not (tmp_path / 'run').exists()


def test_a_platform_that_is_absent_is_told(tmp_path, monkeypatch):
  def fail(*unused_arguments, backend=None):
    raise RuntimeError(
      "Unable to initialize backend 'cuda': no such thing\nmore of it"
    )

  monkeypatch.setattr(learning.jax, 'local_devices', fail)
  assert "backend 'cuda'" in refusal_of_platforms(tmp_path)


def refusal_of_platforms(tmp_path):
  with pytest.raises(ValueError) as caught:
    runs.prepare(make_run(tmp_path / 'run'))
  sentence = str(caught.value)
  assert 'JAX_PLATFORMS=' in sentence
  assert '\n' not in sentence and sentence.endswith('.')
  return sentence


def test_the_cpu_that_was_added_does_not_stand_in_for_an_accelerator(
  tmp_path, monkeypatch
):
  # JAX takes the next of the list without a word.
  monkeypatch.setenv('JAX_PLATFORMS', 'cuda')
  monkeypatch.setattr(
    learning.jax, 'config', types.SimpleNamespace(jax_platforms='cuda,cpu')
  )
  assert 'JAX_PLATFORMS=cuda names' in refusal_of_platforms(tmp_path)
  # Who names both means it.
  monkeypatch.setenv('JAX_PLATFORMS', 'cuda,cpu')
  learning.check_platforms()
