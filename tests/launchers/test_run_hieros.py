"""The launcher from command line to files, at sizes that mean nothing."""

import csv
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import types

import gymnasium
import jax
import numpy as np
import pytest

from acme_hieros.agent import learning
from acme_hieros.environments import checking, make_environment
from acme_hieros.experiments import (
  runs,
  sessions,
  training,
)
from acme_hieros.models import shares
from acme_hieros.storage import arrays
from benchmarks import smallest

ROOT = pathlib.Path(__file__).parents[2]
SCRIPT = ROOT / 'launchers' / 'run_hieros.py'

STEPS = 80
SMALLEST = [
  '--preset=tiny',
  '--env=debug/catch',
  '--env_option=observation=vector',
  '--env_option=rows=5',
  '--picture_minutes=0',
  *smallest.make_flags(replay__ratio=8),  # One update for each step.
]


@pytest.fixture(scope='module')
def launch(load_launcher):
  return load_launcher('run_hieros')


def snapshot(path):
  return {
    str(file): file.read_bytes() if file.is_file() else None
    for file in pathlib.Path(path).rglob('*')
  }


def read_csv(path):
  with open(path) as file:
    return list(csv.DictReader(file))


@pytest.fixture(scope='module')
def finished(launch, tmp_path_factory):
  """The work directory of a complete run."""
  path = tmp_path_factory.mktemp('finished') / 'run'
  code = launch(*SMALLEST, f'--num_steps={STEPS}', f'--workdir={path}')
  assert code == 0
  return path


@pytest.fixture
def copied(finished, tmp_path):
  """A copy of that directory, to be spoilt."""
  path = tmp_path / 'copy'
  subprocess.run(['cp', '-r', finished, path], check=True)
  return path


def test_a_run_says_what_it_was(finished):
  config = json.loads((finished / 'config.json').read_text())
  assert config['environment'] == 'debug/catch'
  assert config['environment_options'] == {'observation': 'vector', 'rows': 5}
  assert config['num_steps'] == STEPS
  assert config['agent']['world_model']['deter_size'] == 4
  summary = json.loads((finished / 'summary.json').read_text())
  # A ball falls through 5 rows in 4 steps.
  assert summary['steps'] == STEPS and summary['episodes'] == STEPS // 4
  assert -1 <= summary['mean_return'] <= summary['best_return'] <= 1
  assert not summary['interrupted']
  # Learning starts at latest when level 0 has min_size sequences, and chunks
  # of 4 may hold one back; from then on there is an update a step.
  assert STEPS - 16 <= summary['updates'] < STEPS


def test_a_run_logs_every_episode(finished):
  episodes = read_csv(finished / 'logs' / 'episodes.csv')
  assert len(episodes) == STEPS // 4
  assert [int(e['actor_steps']) for e in episodes] == list(
    range(4, STEPS + 1, 4)
  )
  assert all(float(e['episode_return']) in (-1, 1) for e in episodes)
  assert all(float(e['terminated']) == 1 for e in episodes)


@pytest.mark.parametrize('level,own', [(0, 'subgoal'), (1, 'novelty')])
def test_a_run_logs_losses_and_streams_of_every_level(finished, level, own):
  rows = read_csv(finished / 'logs' / f'level_{level}.csv')
  assert len(rows) > 1
  wanted = {'actor_steps', 'learner_steps'} | {
    f'{name}_loss'
    for name in ('actor', 'critic', 'autoencoder', 'reward', 'continuation')
  }
  for stream in ('extrinsic', own):
    wanted |= {
      f'{stream}_{what}'
      for what in ('reward', 'return', 'scale', 'critic_loss')
    }
  assert not wanted - rows[0].keys()
  for row in rows:
    assert all(np.isfinite(float(value)) for value in row.values())
  steps = [int(row['learner_steps']) for row in rows]
  assert steps == sorted(set(steps))


def test_a_run_writes_tensorboard_events_of_every_label(finished):
  content = b''.join(
    file.read_bytes() for file in (finished / 'tensorboard').iterdir()
  )
  for label in (b'episodes/', b'level_0/', b'level_1/'):
    assert label in content


def checkpoints_of(path):
  """What a run's last checkpoint says beside the arrays."""
  with np.load(last_checkpoint(path) / 'learner.npz') as file:
    return json.loads(file['metadata'].tobytes())


def last_checkpoint(path):
  return max((path / 'checkpoints').glob('[0-9]*'))


def start(*arguments):
  environment = {
    **os.environ,
    'PYTHONPATH': str(ROOT),
    'JAX_DISABLE_MOST_OPTIMIZATIONS': '1',
    'JAX_PLATFORMS': 'cpu',
  }
  return subprocess.Popen(
    [sys.executable, str(SCRIPT), *arguments],
    env=environment,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def test_ctrl_c_saves_and_the_run_can_be_continued(tmp_path, launch):
  path = tmp_path / 'run'
  process = start(
    *SMALLEST, '--num_steps=1000000', '--cores=2', f'--workdir={path}'
  )
  try:
    deadline = time.time() + 400
    log = path / 'logs' / 'level_1.csv'
    while not log.exists() or len(log.read_text().splitlines()) < 3:
      assert process.poll() is None, process.communicate()[1]
      assert time.time() < deadline
      time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=180)
  finally:
    process.kill()
  assert process.returncode == 130
  assert 'Traceback' not in err
  assert 'Each batch is shared by 2 of 2 cores.' in out
  assert 'Interrupted after' in out and f'--resume --workdir={path}' in out
  before = checkpoints_of(path)
  counts = before['counts']
  assert json.loads((path / 'summary.json').read_text())['interrupted']
  assert counts['learner_steps'] > 10
  # TensorBoard has what the process logged until its end.
  events = b''.join(
    file.read_bytes() for file in (path / 'tensorboard').iterdir()
  )
  assert b'level_1/' in events

  steps = counts['actor_steps'] + 8
  code = launch('--resume', f'--workdir={path}', f'--num_steps={steps}')
  assert code == 0
  summary = json.loads((path / 'summary.json').read_text())
  assert summary['steps'] == steps and not summary['interrupted']
  now = checkpoints_of(path)
  assert now['seconds'] > before['seconds']
  # The replay is there at once, and an update that Ctrl-C put off comes first.
  due = counts['learner_steps'] + before['owed_updates'] + 8
  assert now['counts']['learner_steps'] == due
  # The episode that Ctrl-C cut is not counted; no other is lost.
  assert summary['episodes'] == counts['actor_episodes'] + 2


def test_a_run_whose_cpu_time_is_spent_is_finished(launch, copied, capsys):
  before = json.loads((copied / 'summary.json').read_text())
  flags = ['--num_steps=200', '--cpu_minutes=0.001', '--picture_minutes=0']
  assert launch('--resume', f'--workdir={copied}', *flags) == 0
  summary = json.loads((copied / 'summary.json').read_text())
  # More than that was spent in the first 80 steps.
  assert summary['cpu_seconds'] == before['cpu_seconds'] > 0.06
  assert summary['steps'] == STEPS and not summary['interrupted']
  config = json.loads((copied / 'config.json').read_text())
  assert config['cpu_minutes'] == 0.001
  said = capsys.readouterr().out
  assert '200 steps or 0.001 CPU minutes' in said
  assert 'Finished 80 steps' in said


BAD = {
  'unknown-env': (['--env=debug/cach'], ['debug/cach', 'debug/catch']),
  'unknown-family': (['--env=nowhere/Krull'], ['nowhere/Krull']),
  'unknown-env-option': (['--env_option=colour=red'], ['colour']),
  'malformed-env-option': (['--env_option=rows'], ['rows', 'name=value']),
  'unknown-preset': (['--preset=huge'], ['huge', 'tiny']),
  'unknown-system': (['--system=muzero'], ['muzero', 'dreamerv3']),
  'unknown-core': (
    ['--override=world_model.core=lstm'],
    ['world_model.core', 'lstm', 'block_gru'],
  ),
  'field-of-another-core': (
    ['--override=world_model.gru.width=8'],
    ['world_model.gru', 'world_model.core=gru'],
  ),
  'attention-beyond-its-memory': (
    [
      '--override=world_model.core=hybrid',
      '--override=world_model.attention.window=99',
    ],
    ['window=99', 'sequence_length'],
  ),
  'unknown-field': (
    ['--override=world_model.deter=1'],
    ['world_model.deter', 'world_model.deter_size'],
  ),
  'bad-value': (['--override=batch_size=many'], ['batch_size', 'many']),
  'nan-value': (
    ['--override=actor_critic.discount=nan'],
    ['actor_critic.discount'],
  ),
  'group': (['--override=subgoals.optimizer=3'], ['learning_rate']),
  'depth-0': (['--depth=0'], ['depth=0', '1..8']),
  'depth-word': (['--depth=deep'], ['depth', 'deep']),
  'never-filled': (
    ['--override=sequence_length=70', '--num_steps=100'],
    ['Level 1', 'sequence_length=70'],
  ),
  'no-key': (['--override=batch_size={[]: 1}'], ['batch_size', '{[]: 1}']),
  'too-deep': (['--override=batch_size=' + '-' * 9999 + '1'], ['batch_size']),
  'option-no-key': (['--env_option=rows={[]: 1}'], ['rows', '{[]: 1}']),
  'option-bytes': (['--env_option=rows=b"5"'], ['rows', "b'5'"]),
  'malformed-override': (
    ['--override=batch_size'],
    ['batch_size', 'name=value'],
  ),
  'stray-word': (['surely'], ['surely', '--name=value']),
  'negative-seed': (['--seed=-1'], ['seed=-1']),
  'huge-seed': (['--seed=99999999999999999999'], ['seed']),
  'no-steps': (['--num_steps=0'], ['num_steps=0']),
  'less-than-no-time': (['--cpu_minutes=-1'], ['cpu_minutes=-1']),
}


def assert_sentence(error, parts):
  assert isinstance(error, str), error
  # sys.exit prints a string to stderr and exits with code 1.
  assert error.startswith('run_hieros: ') and '\n' not in error
  assert error.endswith(('.', '?'))
  for part in parts:
    assert part in error


@pytest.mark.parametrize('case', BAD)
def test_bad_flags_give_one_sentence_and_leave_no_file(case, launch, tmp_path):
  arguments, parts = BAD[case]
  error = launch(
    *SMALLEST, f'--workdir={tmp_path / "run"}', '--num_steps=80', *arguments
  )
  assert_sentence(error, parts)
  assert not list(tmp_path.iterdir())


class Unfit(gymnasium.Env):
  """Observations that no encoder fits."""

  observation_space = gymnasium.spaces.Box(0, 1, (2, 2, 2, 2, 2))
  action_space = gymnasium.spaces.Discrete(2)


class Large(gymnasium.Env):
  """A screen and a control without bounds."""

  observation_space = gymnasium.spaces.Box(0, 255, (210, 160, 3), np.uint8)
  action_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,))


class Poisoned(gymnasium.Env):
  """Yields a reward that is not a number after 20 steps.

  Its shapes are those of debug/catch, for which all is compiled already.
  """

  observation_space = gymnasium.spaces.Box(-1, 1, (3,))
  action_space = gymnasium.spaces.Discrete(3)
  _steps = 0

  def reset(self, *, seed=None, options=None):
    return np.zeros(3, np.float32), {}

  def step(self, action):
    self._steps += 1
    reward = np.nan if self._steps == 20 else 1.0
    return np.zeros(3, np.float32), reward, False, self._steps % 5 == 0, {}


gymnasium.register('HierosUnfit-v0', Unfit)
gymnasium.register('HierosLarge-v0', Large)
gymnasium.register('HierosPoisoned-v0', Poisoned)
# Without the options of debug/catch.
BARE = [flag for flag in SMALLEST if not flag.startswith('--env')]


def test_an_observation_that_no_encoder_fits_is_refused(launch, tmp_path):
  error = launch(
    *BARE,
    '--env=gym/HierosUnfit-v0',
    '--num_steps=80',
    f'--workdir={tmp_path / "run"}',
  )
  assert_sentence(error, ['encoder', '(2, 2, 2, 2, 2)'])
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
  'option,notes',
  [([], ['210 x 160', 'bounds']), (['image_size=native'], ['bounds'])],
)
def test_how_the_agent_sees_and_acts_is_said(
  launch, tmp_path, monkeypatch, capsys, option, notes
):
  class Trainer:
    steps, parameter_counts = 0, ()

    def __init__(self, run):
      prepared = runs.prepare(run)
      prepared.workdir.close()
      self.notes = prepared.notes

    def train(self):
      raise OSError('No more is needed.')

  monkeypatch.setattr(training, 'Trainer', Trainer)
  launch(
    *BARE,
    '--env=gym/HierosLarge-v0',
    *(f'--env_option={o}' for o in option),
    '--num_steps=80',
    f'--workdir={tmp_path / "run"}',
  )
  _, *said = capsys.readouterr().out.splitlines()
  assert len(said) == len(notes)
  for line, word in zip(said, notes):
    assert word in line and line.endswith('.')


@pytest.mark.parametrize('place', ['file', 'file/run'])
def test_a_work_directory_that_cannot_be_is_refused(launch, tmp_path, place):
  (tmp_path / 'file').write_text('mine')
  error = launch(*SMALLEST, '--num_steps=80', f'--workdir={tmp_path / place}')
  assert_sentence(error, ['another workdir'])
  assert snapshot(tmp_path) == {str(tmp_path / 'file'): b'mine'}


def test_a_directory_with_a_run_is_refused(launch, finished):
  before = snapshot(finished)
  error = launch(*SMALLEST, '--num_steps=80', f'--workdir={finished}')
  assert_sentence(error, [str(finished), '--resume'])
  assert snapshot(finished) == before


@pytest.mark.parametrize(
  'flag,field',
  [
    ('--seed=5', 'seed'),
    ('--depth=1', 'agent.depth'),
    ('--env=debug/recall', 'environment'),
    ('--override=batch_size=3', 'agent.batch_size'),
  ],
)
def test_a_run_with_another_configuration_is_refused(
  launch, finished, flag, field
):
  before = snapshot(finished)
  extra = ['--env_option=delay=3'] if 'recall' in flag else []
  error = launch('--resume', f'--workdir={finished}', flag, *extra)
  assert_sentence(error, [str(finished), field])
  assert snapshot(finished) == before


def test_a_damaged_checkpoint_is_refused(launch, copied):
  path = last_checkpoint(copied) / 'learner.npz'
  path.write_bytes(path.read_bytes()[:-100])
  before = snapshot(copied)
  error = launch('--resume', f'--workdir={copied}', '--num_steps=200')
  assert_sentence(error, ['learner.npz', 'damaged'])
  after = snapshot(copied)
  assert {name: after[name] for name in before} == before


@pytest.mark.parametrize(
  'content',
  ['{}', '{"environment": 3}', '[]', 'no'],
)
def test_a_configuration_of_something_else_is_refused(launch, copied, content):
  (copied / 'config.json').write_text(content)
  assert_sentence(launch('--resume', f'--workdir={copied}'), [str(copied)])


@pytest.mark.parametrize(
  'field,value',
  [('agent', 3), ('num_steps', 'many'), ('environment_options', [1])],
)
def test_a_configuration_with_a_wrong_type_is_refused(
  launch, copied, field, value
):
  config = json.loads((copied / 'config.json').read_text())
  (copied / 'config.json').write_text(json.dumps({**config, field: value}))
  assert_sentence(launch('--resume', f'--workdir={copied}'), [])


def test_the_same_run_gives_the_same(launch, finished, tmp_path):
  """Bit for bit; a run that was killed before its first checkpoint, too."""
  path = tmp_path / 'run'
  (path / 'logs').mkdir(parents=True)
  (path / 'logs' / 'episodes.csv').write_text('actor_steps,more\r\n4,1\r\n')
  (path / 'config.json').write_bytes((finished / 'config.json').read_bytes())
  assert launch('--resume', f'--workdir={path}') == 0
  for name in ('episodes.csv', 'level_0.csv', 'level_1.csv'):
    one, other = (
      [
        {field: value for field, value in row.items() if field != 'walltime'}
        for row in read_csv(run / 'logs' / name)
      ]
      for run in (finished, path)
    )
    assert one == other and len(one) > 2
  one, other = (
    np.load(last_checkpoint(run) / 'learner.npz') for run in (finished, path)
  )
  assert one.files == other.files
  for name in set(one.files) - {'metadata'}:
    np.testing.assert_array_equal(one[name], other[name])


def test_a_refused_run_leaves_no_directory_of_its_own(
  launch, tmp_path, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  assert_sentence(launch(*SMALLEST, '--num_steps=1'), ['1 steps'])
  assert list(tmp_path.rglob('*')) in ([], [tmp_path / 'runs'])


@pytest.mark.parametrize(
  'error,code,says',
  [
    (OSError(24, 'Too many open files', '/x'), 1, 'Too many open files'),
    (KeyboardInterrupt(), 130, 'stopped before it began'),
  ],
)
def test_what_ends_a_start_is_said_in_a_sentence(
  launch, tmp_path, monkeypatch, capsys, error, code, says
):
  def trainer(run):
    raise error

  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(training, 'Trainer', trainer)
  ended = launch(*SMALLEST, '--num_steps=80')
  said = capsys.readouterr().err
  if isinstance(ended, str):  # As sys.exit has it.
    said, ended = ended, 1
  assert ended == code
  assert says in said and 'Traceback' not in said
  assert not list(tmp_path.iterdir())


def test_runs_that_start_in_one_second_have_directories_of_their_own(
  launch, tmp_path, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  prepared = []

  def trainer(run):
    prepared.append(runs.prepare(run).workdir)
    raise ValueError('No more is needed.')

  monkeypatch.setattr(training, 'Trainer', trainer)
  moment = types.SimpleNamespace(strftime=lambda form: '20260101-120000')
  monkeypatch.setattr(
    sessions,
    'datetime',
    types.SimpleNamespace(datetime=types.SimpleNamespace(now=lambda: moment)),
  )
  for seed in range(3):
    launch(*SMALLEST, '--num_steps=80', f'--seed={seed}')
  paths = {workdir.path for workdir in prepared}
  assert len(paths) == 3
  assert {os.path.dirname(path) for path in paths} == {str(tmp_path / 'runs')}
  for seed, workdir in enumerate(prepared):
    assert workdir.read_config()['seed'] == seed
    workdir.close()


def test_a_system_is_run_in_its_size_and_goes_on(launch, tmp_path):
  flags = [flag for flag in SMALLEST if 's5' not in flag]
  flags += [f'--workdir={tmp_path}', '--system=director', '--num_steps=60']
  flags += ['--override=world_model.gru.width=4']
  assert launch(*flags, '--override=subgoals.kl_target=1') == 0
  config = json.loads((tmp_path / 'config.json').read_text())['agent']
  assert config['world_model']['core'] == 'gru'
  assert config['subgoals']['manager'] == 'policy'
  assert launch(f'--workdir={tmp_path}', '--resume', '--num_steps=80') == 0
  assert json.loads((tmp_path / 'summary.json').read_text())['steps'] == 80
  with open(tmp_path / 'logs' / 'level_0.csv') as file:
    rows = list(csv.DictReader(file))
  # What is held goes on, too: entropy is above its target from the start.
  weights = [float(row['manager_entropy_weight']) for row in rows]
  assert weights == sorted(weights, reverse=True) and weights[0] > weights[-1]


def test_resume_with_a_system_alone_is_refused(launch, copied):
  error = launch('--resume', f'--workdir={copied}', '--system=rssm')
  assert_sentence(error, ['--system', '--preset'])


def test_resume_without_a_work_directory_is_refused(launch):
  assert_sentence(launch('--resume'), ['--workdir'])


def test_resume_without_a_run_is_refused(launch, tmp_path):
  error = launch('--resume', f'--workdir={tmp_path / "none"}')
  assert_sentence(error, [str(tmp_path / 'none')])
  assert not list(tmp_path.iterdir())


def test_a_nan_stops_the_run_and_can_be_reproduced(
  launch, tmp_path, monkeypatch
):
  # Environments do not get one past the check; it stands for any that arises.
  monkeypatch.setattr(checking.Checker, 'reward', lambda self, value: value)
  path = tmp_path / 'run'
  error = launch(
    *BARE,
    '--env=gym/HierosPoisoned-v0',
    '--depth=1',
    '--num_steps=80',
    f'--workdir={path}',
  )
  assert_sentence(error, ['level', 'reward_loss'])

  run = runs.read_run(str(path))
  with np.load(path / 'failure' / 'batch.npz') as file:
    names = set(file.files)
  assert '.sequence.reward' in names
  state, batch, level = load_failure(path, run)
  assert f'level {level}' in error
  assert np.isnan(batch.sequence.reward).any()
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))
  hierarchy = make_hierarchy(run)
  # As the learner compiles it.
  _, share = shares.place(jax.local_devices()[:1])
  update = share(hierarchy.levels[level].update)
  new, metrics = update(state[level], batch, np.float32(1.0))
  assert not np.isfinite(metrics['reward_loss'])
  jax.tree.map(np.testing.assert_array_equal, new, state[level])


def make_hierarchy(run):
  from acme import specs

  from acme_hieros.agent import networks

  environment = make_environment(run.environment)
  return networks.make_networks(
    run.config, specs.make_environment_spec(environment)
  )


def load_failure(path, run):
  """State, batch and level of a run that failed."""
  from acme import specs
  import tree

  from acme_hieros.replay import tables

  hierarchy = make_hierarchy(run)
  template = jax.eval_shape(hierarchy.init, jax.random.PRNGKey(0))
  template = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), template)
  state, metadata = arrays.load(str(path / 'failure' / 'state.npz'), template)
  level = metadata['level']
  lengths = (run.config.batch_size, run.config.sequence_length)
  spec = specs.make_environment_spec(make_environment(run.environment))
  rows = tree.map_structure(
    lambda s: np.zeros(lengths + tuple(s.shape), s.dtype),
    tables.step_spec(hierarchy, spec, level),
  )
  batch, _ = arrays.load(
    str(path / 'failure' / 'batch.npz'), learning.to_batch(rows)
  )
  return state, batch, level
