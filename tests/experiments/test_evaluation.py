"""What is played, counted and written, and what is left alone."""

import contextlib
import errno
import json
import os
import pathlib
import shutil
import signal
import types

import jax
import numpy as np
import pytest
import scipy.stats
import untrained

from acme_hieros.environments import debug, make_environment
from acme_hieros.experiments import (
  environment_loop,
  episodes,
  evaluation,
  loggers,
  nodes,
  runs,
)
from acme_hieros.models import level as level_lib
from acme_hieros.storage import files, workdirs

pytestmark = pytest.mark.usefixtures('compile_quickly')

# Of the actor in `echo`: with an even mix of 1 %.
LOGITS = np.array([0.0, 1.0, 3.0, 2.0], np.float32)
LENGTH = 5

SHORT = {'max_length': 9}


def settings(episodes=7, environments=3, **others):
  return evaluation.Settings(episodes, environments, **others)


@pytest.fixture(scope='module')
def random_length(compile_quickly, tmp_path_factory):
  """A run in episodes of random lengths, which no action changes."""
  path = tmp_path_factory.mktemp('random_length') / 'run'
  untrained.make_workdir(
    path, 'debug/random_length', SHORT, steps=[100, 200], depth=1
  )
  return path


@pytest.fixture
def workdir(random_length, tmp_path):
  """A copy of it."""
  return shutil.copytree(random_length, tmp_path / 'run')


@pytest.fixture(scope='module')
def echo(compile_quickly, tmp_path_factory):
  """A run by an actor that always has the same preferences."""

  def prefer(state):
    actor = dict(state[0].params.actor)
    last = actor['actor/linear']
    actor['actor/linear'] = {'w': np.zeros_like(last['w']), 'b': LOGITS}
    return (
      state[0]._replace(params=state[0].params._replace(actor=actor)),
      *state[1:],
    )

  path = tmp_path_factory.mktemp('echo') / 'run'
  untrained.make_workdir(
    path, 'debug/echo', {'length': LENGTH}, depth=1, edit=prefer
  )
  return path


def snapshot(path):
  """Every file below, with its content and its time."""
  return {
    str(file.relative_to(path)): (file.read_bytes(), file.stat().st_mtime_ns)
    for file in pathlib.Path(path).rglob('*')
    if file.is_file()
  }


def read_lines(path):
  text = path.read_text()
  assert text.endswith('\n')
  return [json.loads(line) for line in text.splitlines()]


def evaluate(path, *arguments, checkpoint=None, **others):
  """Returns the outcome of an evaluation, its lines and its summary."""
  learned = runs.read_learned(str(path), checkpoint)
  outcome = evaluation.evaluate(learned, settings(*arguments, **others))
  assert len(outcome.paths) == 2
  lines, summary = map(pathlib.Path, outcome.paths)
  return outcome, read_lines(lines), json.loads(summary.read_text())


# Statistics.


@pytest.mark.parametrize('returns', [[3.0, -1.0], [1.0, 5.0, 2.5, 2.5, 1e4]])
def test_statistics_are_those_of_scipy(returns):
  summary = evaluation.summarise(
    'debug/catch',
    returns,
    {},
    checkpoint='000001',
    steps=1,
    updates=1,
    seed=0,
    deterministic=False,
  )
  assert summary.mean == pytest.approx(np.mean(returns))
  assert summary.standard_error == pytest.approx(scipy.stats.sem(returns))
  assert summary.median == np.median(returns)
  assert summary.episodes == len(returns)
  assert summary.human_normalised is None


def summarise_games(game, *returns):
  return evaluation.summarise(
    f'atari/{game}',
    returns,
    {},
    checkpoint=None,
    steps=1,
    updates=1,
    seed=0,
    deterministic=False,
  )


def test_one_episode_says_nothing_of_the_error():
  summary = summarise_games('Krull', 2665.5)
  assert summary.standard_error is None
  assert (summary.mean, summary.median) == (2665.5, 2665.5)
  assert '±' not in str(summary)


def test_the_mean_is_set_against_random_play_and_a_human():
  # Krull: 1598 and 2665.5.
  assert summarise_games('Krull', 1598.0, 2665.5).human_normalised == 0.5
  assert summarise_games('Krull', 0.0, 1598 * 2.0).human_normalised == 0.0
  # Rewards as others have them.
  scaled = evaluation.summarise(
    'dmc/walker_walk',
    [50.0],
    {'reward_scale': 0.1},
    checkpoint=None,
    steps=1,
    updates=1,
    seed=0,
    deterministic=False,
  )
  assert scaled.normalised == 0.5 and scaled.human_normalised is None
  assert 'normalised 0.500 (0: least, 1: most)' in str(scaled)
  # Nobody has played it.
  assert summarise_games('Tetris', 1.0).human_normalised is None


def test_a_summary_can_be_read():
  text = str(summarise_games('Krull', 12000.0, 13000.0, 12750.4))
  # 12583.47, sem sqrt(541800 / 2 / 3), and (12583.47 - 1598) / 1067.5.
  for part in ('12,583 ± 300.5', 'median 12,750', 'human-normalised 10.291'):
    assert part in text


def put_older(workdir):
  """Puts an older evaluation in the way; returns the files that it has."""
  directory = workdir / 'evaluation'
  directory.mkdir()
  for extension in ('json', 'jsonl'):
    (directory / f'000002.{extension}').write_text('older')
  return snapshot(directory)


# What is played.


@pytest.mark.parametrize(
  'total,count,shares',
  [
    (10, 3, [4, 3, 3]),
    (6, 3, [2, 2, 2]),
    (1, 8, [1]),
    (5, 5, [1] * 5),
    (3, 8, [1] * 3),
    (4, 1, [4]),
  ],
)
def test_every_environment_has_its_share(total, count, shares):
  assert settings(total, count).shares() == shares


@pytest.mark.parametrize(
  'changes,says',
  [
    ({'episodes': 0}, 'episodes=0 must be at least 1'),
    ({'episodes': -3}, 'episodes=-3 must be at least 1'),
    ({'environments': 0}, 'environments=0 must be at least 1'),
    ({'environments': 2_000_000}, 'environments=2000000 must be at most'),
    ({'seed': -1}, 'seed=-1 must lie in'),
    ({'seed': 2**32}, 'seed=4294967296 must lie in'),
  ],
)
def test_numbers_that_cannot_be_are_refused(changes, says):
  with pytest.raises(ValueError, match=says):
    settings(**changes)


def play_alone(seed, count):
  """(return, length, terminated) of an environment's first episodes."""
  environment = debug.RandomLength(seed, **SHORT)
  played = []
  for _ in range(count):
    timestep = environment.reset()
    rewards = []
    while not timestep.last():
      timestep = environment.step(0)
      rewards.append(float(timestep.reward))
    played.append((sum(rewards), len(rewards), timestep.discount == 0))
  return played


@pytest.mark.parametrize('total,count', [(10, 3), (2, 8), (9, 1)])
def test_the_first_episodes_of_each_environment_are_played(
  workdir, monkeypatch, total, count
):
  """Of the first to end most are short, which would be a bias."""
  seeds = []

  def make(name, seed, **options):
    seeds.append(seed)
    return make_environment(name, seed, **options)

  learned = runs.read_learned(str(workdir))
  monkeypatch.setattr(runs, 'make_environment', make)
  outcome = evaluation.evaluate(learned, settings(total, count))
  monkeypatch.undo()
  count = min(total, count)
  assert len(seeds) == len(set(seeds)) == count
  expected = {}
  for i, seed in enumerate(seeds):
    share = total // count + (i < total % count)
    for k, episode in enumerate(play_alone(seed, share)):
      expected[i + k * count] = (i, *episode)
  lines = read_lines(workdir / 'evaluation' / '000002.jsonl')
  assert lines == [
    {
      'episode': number,
      'environment_index': expected[number][0],
      'episode_return': expected[number][1],
      'episode_length': expected[number][2],
      'terminated': expected[number][3],
    }
    for number in range(total)
  ]
  returns = [episode[1] for episode in expected.values()]
  assert outcome.played == total
  assert json.loads((workdir / 'evaluation' / '000002.json').read_text()) == {
    'checkpoint': '000002',
    'steps': 200,
    'updates': 100,
    'environment': 'debug/random_length',
    'seed': 0,
    'deterministic': False,
    'episodes': total,
    'mean': pytest.approx(np.mean(returns)),
    'standard_error': pytest.approx(scipy.stats.sem(returns)),
    'median': np.median(returns),
    'human_normalised': None,
    'normalised': None,
  }


def test_any_checkpoint_can_be_chosen(workdir):
  _, _, summary = evaluate(workdir, checkpoint=1)
  assert (summary['checkpoint'], summary['steps']) == ('000001', 100)
  assert sorted(os.listdir(workdir / 'evaluation')) == [
    '000001.json',
    '000001.jsonl',
  ]


def test_the_likeliest_actions_are_taken_where_that_is_wanted(echo):
  """A step returns its action over that of the last, which is 3."""
  _, lines, summary = evaluate(echo, 12, 4, deterministic=True)
  best = LENGTH * np.argmax(LOGITS) / 3
  for line in lines:
    assert line['episode_return'] == pytest.approx(best)
    assert line['episode_length'] == LENGTH and not line['terminated']
  assert summary['deterministic'] and summary['standard_error'] == 0
  # Sampled, they are as frequent as they are likely.
  outcome, _, summary = evaluate(echo, 200, 50)
  probabilities = 0.99 * scipy.special.softmax(LOGITS) + 0.01 / 4
  reward = np.arange(4) / 3
  mean = LENGTH * probabilities @ reward
  variance = LENGTH * (
    probabilities @ reward**2 - (probabilities @ reward) ** 2
  )
  assert not summary['deterministic']
  assert abs(summary['mean'] - mean) < 4 * np.sqrt(variance / 200)
  # The estimate of the error has one of its own.
  assert summary['standard_error'] == pytest.approx(
    np.sqrt(variance / 200), rel=0.25
  )
  assert sorted(os.listdir(echo / 'evaluation')) == [
    '000001-deterministic.json',
    '000001-deterministic.jsonl',
    '000001.json',
    '000001.jsonl',
  ]


def test_a_seed_says_what_is_played(echo):
  one, again, other = (
    evaluate(echo, 12, 4, seed=seed)[1] for seed in (5, 5, 6)
  )
  assert one == again != other


def test_a_run_at_work_is_neither_disturbed_nor_in_the_way(workdir):
  at_work = workdirs.Workdir(str(workdir))
  at_work.lock()
  before = snapshot(workdir)
  evaluate(workdir)
  after = snapshot(workdir)
  assert after.keys() - before.keys() == {
    'evaluation/000002.json',
    'evaluation/000002.jsonl',
  }
  assert {name: after[name] for name in before} == before
  at_work.close()


# Environments that break down.


class Fragile(debug.RandomLength):
  """Breaks down at each 11th step of all; what it is in is lost."""

  steps = broken = 0

  def _step(self, action):
    Fragile.steps += 1
    if Fragile.steps % 11 == 0:
      Fragile.broken += 1
      raise ConnectionError('the emulator is gone')
    return super()._step(action)


def test_episodes_that_break_down_are_played_anew(workdir, monkeypatch, capsys):
  learned = runs.read_learned(str(workdir))
  monkeypatch.setattr(
    runs,
    'make_environment',
    lambda name, seed, **options: Fragile(seed, **options),
  )
  outcome = evaluation.evaluate(learned, settings(20, 3))
  lines = read_lines(pathlib.Path(outcome.paths[0]))
  assert [line['episode'] for line in lines] == list(range(20))
  counts = np.bincount([line['environment_index'] for line in lines])
  assert list(counts) == [7, 7, 6]
  said = capsys.readouterr().err
  assert Fragile.broken > 1
  assert said.count('(ConnectionError: the emulator is gone)') == Fragile.broken


def test_closing_that_fails_costs_no_evaluation(workdir, monkeypatch, capsys):
  def close(self):
    raise AttributeError('there is nothing to close')

  monkeypatch.setattr(debug.RandomLength, 'close', close)
  _, lines, summary = evaluate(workdir, 7, 3)
  assert len(lines) == summary['episodes'] == 7
  said = capsys.readouterr().err
  assert said.count('Warning: An environment could not be closed') == 3


def test_an_environment_that_never_works_ends_it(workdir, monkeypatch):
  before = put_older(workdir)
  learned = runs.read_learned(str(workdir))
  made = []

  def make(name, seed, **options):
    if len(made) == 3:
      raise ConnectionError('the emulator is gone')
    environment = debug.RandomLength(seed, max_length=len(made) + 1)
    if len(made) == 2:
      environment._step = lambda action: 1 / 0
    made.append(environment)
    return environment

  monkeypatch.setattr(runs, 'make_environment', make)
  with pytest.raises(
    environment_loop.BrokenEnvironmentError, match='emulator is gone.*had ended'
  ):
    evaluation.evaluate(learned, settings(episodes=30))
  after = snapshot(workdir / 'evaluation')
  assert after.pop('000002.jsonl.incomplete')
  assert after == before


# Ends before the last episode.


class Interrupting(debug.RandomLength):
  """Presses Ctrl-C at one of its steps, counted over all of them."""

  steps, at, times = 0, 0, 1

  def _step(self, action):
    Interrupting.steps += 1
    if Interrupting.steps == Interrupting.at:
      for _ in range(Interrupting.times):
        signal.raise_signal(signal.SIGINT)
    return super()._step(action)


@pytest.mark.parametrize('times', [1, 2])
def test_ctrl_c_keeps_what_was_played_and_no_summary(
  request, workdir, monkeypatch, capsys, times
):
  # A shell's background jobs, as these tests may be, ignore Ctrl-C.
  before = signal.signal(signal.SIGINT, signal.default_int_handler)
  request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
  older = put_older(workdir)
  learned = runs.read_learned(str(workdir))
  monkeypatch.setattr(Interrupting, 'steps', 0)
  monkeypatch.setattr(Interrupting, 'at', 25)
  monkeypatch.setattr(Interrupting, 'times', times)
  monkeypatch.setattr(
    runs, 'make_environment', lambda name, seed, **o: Interrupting(seed, **o)
  )
  directory = workdir / 'evaluation'
  incomplete = directory / '000002.jsonl.incomplete'
  if times == 1:
    outcome = evaluation.evaluate(learned, settings(episodes=1000))
    assert outcome.summary is None and outcome.paths == [str(incomplete)]
    assert outcome.played == len(read_lines(incomplete))
    text = str(outcome)
    assert f'{outcome.played} episodes' in text and str(incomplete) in text
  else:
    with pytest.raises(KeyboardInterrupt):
      evaluation.evaluate(learned, settings(episodes=1000))
  assert 'Stopping' in capsys.readouterr().err
  lines = read_lines(incomplete)
  assert 25 / 9 - 3 <= len(lines) <= 26
  assert all(1 <= line['episode_length'] <= 9 for line in lines)
  after = snapshot(directory)
  del after[incomplete.name]
  assert after == older


def test_a_complete_evaluation_takes_the_place_of_others(workdir):
  put_older(workdir)
  directory = workdir / 'evaluation'
  (directory / '000002.jsonl.incomplete').write_text('older')
  (directory / '000001.json').write_text('of another checkpoint')
  _, lines, summary = evaluate(workdir, 5)
  assert len(lines) == summary['episodes'] == 5
  assert sorted(os.listdir(directory)) == [
    '000001.json',
    '000002.json',
    '000002.jsonl',
  ]
  assert (directory / '000001.json').read_text() == 'of another checkpoint'


def test_ctrl_c_before_an_episode_has_ended_leaves_nothing(
  workdir, monkeypatch
):
  learned = runs.read_learned(str(workdir))
  monkeypatch.setattr(Interrupting, 'steps', 0)
  monkeypatch.setattr(Interrupting, 'at', 1)
  monkeypatch.setattr(
    runs,
    'make_environment',
    lambda name, seed, **unused: Interrupting(seed, max_length=10**9),
  )
  outcome = evaluation.evaluate(learned, settings())
  assert outcome.played == 0 and 'nothing was written' in str(outcome)
  assert os.listdir(workdir / 'evaluation') == []


def no_room(*unused):
  raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def no_room_for_lines(monkeypatch):
  """What is written reaches the disk when the file is flushed or closed."""
  replacing = files.replacing

  @contextlib.contextmanager
  def full(path, mode, **kwargs):
    with replacing(path, mode, **kwargs) as file:
      if not path.endswith('.jsonl'):
        yield file
        return
      yield types.SimpleNamespace(writelines=file.writelines, flush=no_room)
      no_room()

  monkeypatch.setattr(files, 'replacing', full)


def no_room_for_the_summary(monkeypatch):
  monkeypatch.setattr(workdirs, 'write_json', no_room)


@pytest.mark.parametrize('fail', [no_room_for_lines, no_room_for_the_summary])
def test_a_full_disk_leaves_the_older_evaluation(workdir, monkeypatch, fail):
  before = put_older(workdir)
  directory = workdir / 'evaluation'
  learned = runs.read_learned(str(workdir))
  fail(monkeypatch)
  with pytest.raises(workdirs.WorkdirError, match='No space left') as caught:
    evaluation.evaluate(learned, settings(12))
  assert str(directory) in str(caught.value)
  after = snapshot(directory)
  # All that was played is there.
  played = directory / '000002.jsonl.incomplete'
  assert len(read_lines(played)) == 12
  del after[played.name]
  assert after == before


def test_a_place_that_cannot_be_written_is_told(workdir):
  (workdir / 'evaluation').write_text('mine')
  learned = runs.read_learned(str(workdir))
  with pytest.raises(workdirs.WorkdirError, match='cannot be written'):
    evaluation.evaluate(learned, settings())
  assert (workdir / 'evaluation').read_text() == 'mine'


# What is read of a run.


def test_the_agent_of_a_program_can_be_read_and_plays(tmp_path):
  written = []
  run = untrained.make_workdir(
    tmp_path / 'run',
    'debug/random_length',
    SHORT,
    depth=2,
    edit=lambda state: (written.append(state), state)[1],
    launch='local_mp',
    num_actors=2,
    num_evaluators=1,
  )
  before = snapshot(tmp_path)
  learned = runs.read_learned(str(tmp_path / 'run'))
  assert snapshot(tmp_path) == before
  assert learned.run == run.replace(resume=True)
  assert (learned.steps, learned.updates, learned.checkpoint) == (
    100,
    50,
    '000001',
  )
  jax.tree.map(np.testing.assert_array_equal, learned.state, written[0])
  assert learned.environment_spec.actions.num_values == 2
  assert evaluation.evaluate(learned, settings()).played == 7


# The evaluators of a program.


def make_log(workdir):
  run = runs.read_run(str(workdir)).replace(num_evaluators=2)
  directory = workdirs.Workdir(str(workdir))
  logger = loggers.RunLoggers(run, directory, print).make_evaluator_logger()
  return evaluation.EvaluatorLog(run, directory, logger)


def play(log, value, steps, evaluator=0):
  counts = dict(actor_steps=steps, actor_episodes=3, learner_steps=steps // 2)
  log.add(episodes.Episode(float(value), 4, True, 0), evaluator, counts, 1.5)


def test_evaluators_write_the_same_and_who_played(workdir):
  log = make_log(workdir)
  for i in range(130):
    play(log, i, 10 * i, evaluator=i % 2)
  directory = workdir / 'evaluation'
  lines = read_lines(directory / 'evaluator.jsonl')
  assert lines[129] == {
    'episode': 129,
    'episode_return': 129.0,
    'episode_length': 4,
    'terminated': True,
    'environment_index': 0,
    'evaluator': 1,
    'actor_steps': 1290,
    'actor_episodes': 3,
    'learner_steps': 645,
    'walltime': 1.5,
  }
  assert [line['episode'] for line in lines] == list(range(130))
  last = np.arange(30, 130)
  assert json.loads((directory / 'evaluator.json').read_text()) == {
    'checkpoint': None,
    'steps': 1290,
    'updates': 645,
    'environment': 'debug/random_length',
    'seed': 0,
    'deterministic': False,
    'episodes': 100,
    'mean': pytest.approx(last.mean()),
    'standard_error': pytest.approx(scipy.stats.sem(last)),
    'median': np.median(last),
    'human_normalised': None,
    'normalised': None,
  }
  events = b''.join(
    file.read_bytes() for file in (workdir / 'tensorboard').iterdir()
  )
  assert b'evaluation/episode_return' in events
  assert b'evaluation/learner_steps' not in events


def test_an_evaluator_samples_its_actions_as_actors_do(echo, monkeypatch):
  learned = runs.read_learned(str(echo))
  params = tuple(level_lib.policy_params(s.params) for s in learned.state)
  learner = types.SimpleNamespace(get_variables=lambda names: [params])
  played = []

  class Coordinator:
    """Of a learner that learns all the time."""

    def get_counts(self):
      return {'actor_steps': 0, 'learner_steps': len(played) + 1}

    def evaluated(self, evaluator):
      return 0

    def add_evaluation(self, evaluator, counts, episode):
      played.append(episode)
      return len(played) < 20

    def warn(self, message):
      raise AssertionError(message)

  monkeypatch.setattr(nodes.lp, 'wait_for_stop', lambda seconds: False)
  run = learned.run.replace(launch='local_mt', num_evaluators=2)
  # The first evaluator also draws.
  nodes.run_evaluator(run, learned.environment_spec, 1, learner, Coordinator())
  assert [episode.episode_length for episode in played] == [LENGTH] * 20
  # The likeliest would always be the same.
  assert len({episode.episode_return for episode in played}) > 3


def test_an_evaluator_plays_no_policy_again_where_the_run_goes_on(
  echo, monkeypatch
):
  learned = runs.read_learned(str(echo))
  monkeypatch.setattr(nodes.lp, 'wait_for_stop', lambda seconds: False)
  # There is no learner that it could ask for parameters.
  coordinator = types.SimpleNamespace(
    get_counts=lambda: {'actor_steps': 20, 'learner_steps': 10},
    evaluated=lambda evaluator: 10,
    warn=None,
    done=lambda: True,
  )
  run = learned.run.replace(launch='local_mt', num_evaluators=2)
  nodes.run_evaluator(run, learned.environment_spec, 1, None, coordinator)


def test_evaluators_go_on_where_the_run_goes_on(workdir):
  log = make_log(workdir)
  for i in range(3):
    play(log, i, 10 * (i + 1))
  directory = workdir / 'evaluation'
  with open(directory / 'evaluator.jsonl', 'a') as file:
    file.write('{"episode": 3, "actor_st')  # The process was killed here.
  complete = snapshot(directory)
  workdirs.Workdir(str(workdir)).cut_logs(20)
  assert os.listdir(directory) == ['evaluator.jsonl']
  before = complete['evaluator.jsonl'][0].splitlines(keepends=True)
  assert (directory / 'evaluator.jsonl').read_bytes() == b''.join(before[:2])
  log = make_log(workdir)
  assert (log.played(0), log.played(1)) == (10, 0)
  play(log, 5, 30)
  assert log.played(0) == 15
  lines = read_lines(directory / 'evaluator.jsonl')
  assert [line['episode'] for line in lines] == [0, 1, 2]
  assert [line['actor_steps'] for line in lines] == [10, 20, 30]
  summary = json.loads((directory / 'evaluator.json').read_text())
  assert (summary['episodes'], summary['mean']) == (3, 2.0)


def test_a_run_that_goes_on_leaves_the_evaluations_of_checkpoints(workdir):
  put_older(workdir)
  before = snapshot(workdir)
  workdirs.Workdir(str(workdir)).cut_logs(0)
  assert snapshot(workdir) == before


def test_lines_of_something_else_are_cut(workdir):
  directory = workdir / 'evaluation'
  directory.mkdir()
  kept = '{"actor_steps": 3, "episode_return": 1.0}\n'
  (directory / 'evaluator.jsonl').write_bytes(
    b'\xff\xfe\n[3]\n{"more": 1}\n' + kept.encode() + b'3'
  )
  workdirs.Workdir(str(workdir)).cut_logs(3)
  assert (directory / 'evaluator.jsonl').read_text() == kept


def test_the_coordinator_hears_of_evaluations(workdir):
  run = runs.read_run(str(workdir)).replace(
    launch='local_mt', num_evaluators=1, num_steps=50
  )
  coordinator = nodes.Coordinator(run, None)
  counts = coordinator.add_steps(0, 40, []) and coordinator.get_counts()
  assert coordinator.evaluated(0) == 0
  # Courier makes lists of tuples.
  assert coordinator.add_evaluation(0, counts, [1.0, 4, True, 0])
  coordinator.add_steps(0, 10, [])
  assert not coordinator.add_evaluation(0, counts, [3.0, 4, True, 0])
  lines = read_lines(workdir / 'evaluation' / 'evaluator.jsonl')
  assert [line['actor_steps'] for line in lines] == [40, 40]
  assert not os.path.exists(workdir / 'logs' / 'evaluation.csv')
  summary = json.loads((workdir / 'evaluation' / 'evaluator.json').read_text())
  assert (summary['mean'], summary['standard_error']) == (2.0, 1.0)
