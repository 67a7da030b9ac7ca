"""A report says what the runs did, no more, and can be read anywhere."""

import base64
import html.parser
import io
import json
import math
import pathlib
import re
import shutil

import made_up
import numpy as np
from PIL import Image
import pytest
from rliable import metrics

from acme_hieros.reports import (
  aggregates,
  contents,
  curves,
  pages,
  plots,
  published,
  results,
)
from acme_hieros.scores import atari as atari_scores

REPLICATIONS = 50

# --- statistics --------------------------------------------------------------


def test_aggregates_are_those_of_rliable_s_own_example():
  # From its tests: runs by games.
  x = np.array([[1, 2], [2, 2], [1, 1], [2, 1]], float)
  y = np.array([[1, 1], [2, 2], [3, 3]], float)
  for scores, value in ((x, 1.5), (y, 2.0)):
    found = aggregates.estimate(scores, aggregates.OVER_GAMES, 20)
    for name in ('mean', 'median', 'iqm'):
      assert found[name].value == value
  better = aggregates.probability_of_improvement(x, y, 20)
  assert better.value == pytest.approx(1 / 3)


def test_aggregates_are_those_of_an_independent_computation():
  scores = np.random.default_rng(0).normal(0.8, 0.7, (4, 5))
  found = aggregates.estimate(scores, aggregates.OVER_GAMES, 4000)
  # 20 scores: 5 are cut at either end.
  middle = np.sort(scores, axis=None)[5:15]
  assert found['iqm'].value == pytest.approx(middle.mean())
  assert found['mean'].value == pytest.approx(scores.mean())
  per_game = sorted(scores.mean(0))
  assert found['median'].value == pytest.approx(per_game[2])
  gap = sum(max(1 - score, 0) for score in scores.flat) / 20
  extra = sum(max(score - 1, 0) for score in scores.flat)
  assert extra > 0  # They do not make up for others.
  assert found['optimality_gap'].value == pytest.approx(gap)

  rng = np.random.default_rng(1)
  means = [
    np.mean([rng.choice(column, 4).mean() for column in scores.T])
    for _ in range(4000)
  ]
  interval = (found['mean'].low, found['mean'].high)
  assert interval == pytest.approx(np.percentile(means, [2.5, 97.5]), abs=0.02)


def test_statistics_over_runs_are_those_of_their_names():
  scores = np.array([[1.0], [2.0], [4.0], [100.0]])
  found = aggregates.estimate(scores, aggregates.OVER_RUNS, 200)
  assert found['mean'].value == 26.75
  assert found['median'].value == 3.0
  assert found['iqm'].value == 3.0
  # Of two runs, a half of all draws have one run twice.
  two = aggregates.estimate(scores[:2], aggregates.OVER_RUNS, 200)
  assert two['mean'][1:] == (1.0, 2.0)


def test_a_single_run_has_no_interval():
  found = aggregates.estimate(np.ones((1, 3)), aggregates.OVER_GAMES, 10)
  assert found['iqm'] == (1.0, None, None)
  better = aggregates.probability_of_improvement(
    np.ones((1, 3)), np.zeros((4, 3)), 10
  )
  assert better == (1.0, None, None)


def test_intervals_are_the_same_again_and_leave_others_their_random_numbers():
  scores = np.random.default_rng(0).normal(size=(3, 2))
  np.random.seed(5)
  first = aggregates.estimate(scores, aggregates.OVER_GAMES, 100)
  after = np.random.random()
  np.random.seed(5)
  assert np.random.random() == after
  assert aggregates.estimate(scores, aggregates.OVER_GAMES, 100) == first


def test_the_fast_probability_of_improvement_is_rliable_s():
  rng = np.random.default_rng(0)
  for ours, others in (((3, 4), (5, 4)), ((2, 1), (2, 1))):
    # Whole numbers, so that there are draws.
    x, y = rng.integers(0, 4, ours), rng.integers(0, 4, others)
    found = aggregates.probability_of_improvement(x, y, 5).value
    assert found == pytest.approx(metrics.probability_of_improvement(x, y))


@pytest.mark.parametrize(
  'game,score,percent',
  [
    # MuZero (1911.08265), table S1, which rounds random and human scores.
    ('Alien', 741812.63, 10747.5),
    ('Amidar', 28634.39, 1670.5),
    ('Assault', 143972.03, 27664.9),
  ],
)
def test_human_normalised_scores_are_the_published_ones(game, score, percent):
  found = atari_scores.human_normalised(f'atari/{game}', score)
  assert 100 * found == pytest.approx(percent, rel=1e-4)


def test_published_scores_by_game_fit_the_published_aggregates():
  scores = next(s for s in published.BY_GAME if s.system == 'DreamerV3')
  normalised = [
    atari_scores.human_normalised(f'atari/{game}', score)
    for game, score in scores.by_game.items()
  ]
  assert set(scores.by_game) == set(atari_scores.ATARI_100K)
  whole = next(a for a in published.AGGREGATES if 'version 2' in a.source)
  assert np.mean(normalised) == pytest.approx(whole.mean, abs=0.05)
  assert np.median(normalised) == pytest.approx(whole.median, abs=0.005)


# --- curves ------------------------------------------------------------------


def test_a_learning_curve_looks_back_a_little():
  # Of 1000 steps a point looks back over 50.
  runs = [
    (np.array([100, 120, 130, 800]), np.array([1.0, 2.0, 4.0, 7.0])),
    (np.array([200, 900]), np.array([10.0, 20.0])),
  ]
  curve = curves.learning_curve(runs, 1000)
  first, second = (
    dict(zip(curve.steps.astype(int), values)) for values in curve.values
  )
  assert math.isnan(first[90]) and first[100] == 1.0
  assert first[120] == 1.5 and first[130] == first[140] == pytest.approx(7 / 3)
  assert first[150] == 3.0
  # Nothing ended lately: the last one that did.
  assert first[790] == 4.0 and first[800] == first[1000] == 7.0
  mean = dict(zip(curve.steps.astype(int), curve.mean))
  assert math.isnan(mean[190]) and mean[200] == (4.0 + 10.0) / 2
  assert mean[1000] == (7.0 + 20.0) / 2
  assert second[890] == 10.0


def test_logs_at_different_steps_come_together_where_both_have_values():
  nan = np.nan
  curve = curves.resample(
    [
      (np.array([0, 10, 20, 30]), np.array([nan, 1.0, nan, 3.0])),
      (np.array([5, 25]), np.array([0.0, 20.0])),
    ]
  )
  assert curve.steps[0] == 10 and curve.steps[-1] == 25
  assert curve.values[0] == pytest.approx(curve.steps / 10)
  assert curve.values[1] == pytest.approx(curve.steps - 5)
  assert curves.resample([]) is None
  assert curves.resample([(np.array([1]), np.array([nan]))]) is None
  one = curves.resample([(np.array([7]), np.array([2.0]))])
  assert one.steps.tolist() == [7] and one.mean.tolist() == [2.0]


def test_edges_are_means_over_a_tenth():
  steps = np.arange(0, 101, 5)
  values = steps.astype(float)
  values[-1] = np.nan
  # 0, 5 and 85, 90, 95, of those from 0 to 95.
  assert curves.edge(steps, values, at_end=False) == 2.5
  assert curves.edge(steps, values, at_end=True) == 92.5
  assert math.isnan(curves.edge(steps, values * np.nan, at_end=True))


def test_columns_are_grouped_by_what_they_measure():
  columns = [
    'subgoal_start_similarity',
    'subgoal_reached',
    'open_loop_error_10',
    'subgoal_end_similarity',
    'extrinsic_advantage_share',
    'open_loop_reward_error_2',
    'open_loop_error_2',
    'novelty_advantage_share',
    'error',
    'one_error',
    'open_loop_error',
    *(f'loss_of_{i}_part' for i in 'abcdef'),
  ]
  found = curves.group(columns)
  assert [(g.name, list(g.columns), g.numbered) for g in found] == [
    ('advantage_share', ['extrinsic', 'novelty'], False),
    ('error', ['error', 'one', 'open_loop'], False),
    # Of six lines in one plot two would be the same.
    ('loss_of_part', ['a', 'b', 'c', 'd'], False),
    ('loss_of_part', ['e', 'f'], False),
    ('open_loop_error', ['2', '10'], True),
    ('open_loop_reward_error', ['2'], True),
    ('subgoal_reached', ['subgoal_reached'], False),
    ('subgoal_similarity', ['start', 'end'], False),
  ]
  assert found[4].columns['10'] == 'open_loop_error_10'


# --- reading -----------------------------------------------------------------


@pytest.fixture
def run(tmp_path):
  path = tmp_path / 'run'
  made_up.write_run(path)
  return path


def edit(path, **changes):
  values = json.loads(path.read_text())
  for name, value in changes.items():
    if value is None:
      del values[name]
    else:
      values[name] = value
  path.write_text(json.dumps(values))


def damage(name, content):
  return lambda run: (run / name).write_bytes(content)


def another_version(run):
  config = json.loads((run / 'config.json').read_text())
  config['agent']['world_model']['lstm'] = 3
  (run / 'config.json').write_text(json.dumps(config))


DAMAGES = {
  'no-directory': (shutil.rmtree, 'no such directory'),
  'file': (lambda run: (shutil.rmtree(run), run.touch()), 'a file'),
  'empty': (lambda run: (shutil.rmtree(run), run.mkdir()), 'no config.json.'),
  'runs-inside': (
    lambda run: (
      shutil.copytree(run, run / 'seed-0'),
      (run / 'config.json').unlink(),
    ),
    'seed-0',
  ),
  'half-a-config': (damage('config.json', b'{"a"'), 'config.json cannot'),
  'binary-config': (damage('config.json', b'\xff\0'), 'config.json cannot'),
  'config-of-a-list': (damage('config.json', b'[]'), 'config.json is damaged'),
  'other-config': (
    lambda run: edit(run / 'config.json', seed=None),
    "config.json is of another version or damaged: it has no 'seed'",
  ),
  'other-agent': (another_version, "Unknown configuration field 'world_model"),
  'running': (
    lambda run: (run / 'summary.json').unlink(),
    'no summary.json (--resume',
  ),
  'no-checkpoint': (
    lambda run: (
      (run / 'summary.json').unlink(),
      shutil.rmtree(run / 'checkpoints'),
    ),
    'no summary.json and no checkpoint',
  ),
  'interrupted': (
    lambda run: edit(run / 'summary.json', interrupted=True, steps=400),
    'interrupted after 400 of 1,000 steps',
  ),
  'half-a-summary': (damage('summary.json', b'{'), 'summary.json cannot'),
  'other-summary': (
    lambda run: edit(run / 'summary.json', interrupted=None),
    'summary.json is of another version',
  ),
  'no-log': (
    lambda run: (run / 'logs' / 'episodes.csv').unlink(),
    'no episode ended in its 1,000 steps',
  ),
  'no-episodes': (damage('logs/episodes.csv', b''), 'no episode ended'),
  'header-only': (
    damage('logs/episodes.csv', b'actor_steps,episode_return\n'),
    'no episode ended',
  ),
  'half-a-line': (
    damage('logs/episodes.csv', b'actor_steps,episode_return\n1,2\n3'),
    'episodes.csv is damaged',
  ),
  'words': (
    damage('logs/episodes.csv', b'actor_steps,episode_return\n1,two\n'),
    'episodes.csv is damaged',
  ),
  'binary-log': (
    damage('logs/episodes.csv', b'actor_steps,episode_return\n1,\xff\n'),
    'episodes.csv cannot be read',
  ),
  'nan': (
    damage('logs/episodes.csv', b'actor_steps,episode_return\n1,nan\n'),
    'an episode_return is no number',
  ),
  'other-columns': (
    damage('logs/episodes.csv', b'actor_steps,score\n1,2\n'),
    'no episode_return',
  ),
  'level-log': (
    damage('logs/level_1.csv', b'actor_steps,loss\n1\n'),
    'level_1.csv is damaged',
  ),
  'evaluation': (
    lambda run: (
      made_up.write_evaluation(run, '000002', 1000, 1.0),
      edit(run / 'evaluation' / '000002.json', mean='high'),
    ),
    'evaluation/000002.json',
  ),
  'evaluation-of-nothing': (
    lambda run: (
      made_up.write_evaluation(run, '000002', 1000, 1.0),
      edit(run / 'evaluation' / '000002.json', mean=None, episodes=0),
    ),
    "no 'mean'",
  ),
  'evaluator': (
    lambda run: (
      (run / 'evaluation').mkdir(),
      (run / 'evaluation' / 'evaluator.jsonl').write_text('{"a": 1}\n'),
    ),
    'evaluator.jsonl is of another version or damaged',
  ),
}


@pytest.mark.parametrize('case', DAMAGES)
def test_a_run_that_cannot_be_reported_is_named_with_the_reason(case, run):
  spoil, part = DAMAGES[case]
  spoil(run)
  systems, left_out = contents.read([str(run)])
  assert not systems
  (entry,) = left_out
  assert entry['path'] == str(run)
  assert part in entry['reason']
  assert entry['reason'].endswith(('.', '?')) and '\n' not in entry['reason']


def test_a_finished_run_needs_its_checkpoints_no_longer(run):
  shutil.rmtree(run / 'checkpoints')
  assert contents.read([str(run)])[0]


def test_a_run_of_one_process_need_not_say_so(run):
  edit(run / 'config.json', num_actors=None, envs_per_actor=None, launch=None)
  assert contents.read([str(run)])[0][0].label == 'tiny'


def test_the_score_is_of_the_last_training_episodes(tmp_path):
  made_up.write_run(tmp_path / 'run', episodes=250)
  run = results.read(str(tmp_path / 'run'))
  returns = run.episodes['episode_return'][-100:]
  score = run.score
  assert score.mean == pytest.approx(sum(returns) / 100)
  assert score.standard_error == pytest.approx(np.std(returns, ddof=1) / 10)
  assert (score.episodes, score.steps) == (100, 1000)
  assert score.source == 'training: its last 100 episodes'


def test_the_score_is_of_the_newest_evaluation_that_samples(run):
  made_up.write_evaluation(run, '000009', 400, 3.0)
  made_up.write_evaluation(run, '000010', 800, 4.0)
  made_up.write_evaluation(run, '000011', 900, 5.0, deterministic=True)
  made_up.write_evaluator(run, 1000, 6.0)
  score = results.read(str(run)).score
  assert (score.mean, score.steps, score.episodes) == (4.0, 800, 100)
  assert score.standard_error == 0.2
  assert score.source == 'evaluation of checkpoint 000010: 100 episodes'


def test_a_single_episode_has_no_standard_error(tmp_path):
  made_up.write_run(tmp_path / 'run', episodes=1)
  score = results.read(str(tmp_path / 'run')).score
  assert score.standard_error is None
  assert score.source == 'training: its last 1 episode'


# --- systems -----------------------------------------------------------------


def test_runs_are_grouped_by_what_they_are(tmp_path):
  cases = {
    'a': {},
    'b': {'seed': 1},
    'c': {'environment': 'debug/recall'},
    'd': {'depth': 1},
    'e': {'num_steps': 2000},
    'f': {'world_model__optimizer__learning_rate': 1e-5},
    'g': {
      f'world_model__{name}': 32
      for name in ('mlp_units', 'hidden_units', 'head_units', 'deter_size')
    },
    'h': {'preset': 'small'},
  }
  for name, values in cases.items():
    made_up.write_run(tmp_path / name, **values)
  edit(tmp_path / 'h' / 'config.json', num_actors=4)
  systems, left_out = contents.read([str(tmp_path / n) for n in cases])
  assert not left_out
  found = {s.name: [pathlib.Path(r.path).name for r in s.runs] for s in systems}
  assert found == {
    'tiny, 1,000 steps': ['a', 'c', 'b'],
    'tiny, depth=1, 1,000 steps': ['d'],
    'tiny, 2,000 steps': ['e'],
    'tiny, world_model.optimizer.learning_rate=1e-05, 1,000 steps': ['f'],
    'tiny, 4 fields changed, 1,000 steps': ['g'],
    'small, 4 environments at once, 1,000 steps': ['h'],
  }
  assert 'world_model.deter_size=32' in systems[4].label


def test_runs_that_their_cpu_time_ended_are_one_system(tmp_path):
  for seed, steps in enumerate((800, 1000)):
    run = tmp_path / str(seed)
    made_up.write_run(run, seed=seed, num_steps=steps)
    edit(run / 'config.json', num_steps=10**9, cpu_minutes=30.0)
  # Its steps were over before its time.
  made_up.write_run(tmp_path / 'c', seed=2)
  edit(tmp_path / 'c' / 'config.json', cpu_minutes=30.0)
  systems, left_out = contents.read(
    [str(tmp_path / n) for n in ('0', '1', 'c')]
  )
  assert not left_out
  assert {s.name: s.num_steps for s in systems} == {
    'tiny, 30 CPU minutes': 1000,
    'tiny, 1,000 steps': 1000,
  }
  assert [run.num_steps for run in systems[0].runs] == [800, 1000]
  curve = contents.make(systems, left_out, REPLICATIONS)['curves'][0]
  last = curve['systems'][0]['training']['steps'][-1]
  assert last == 1000


def test_the_length_is_said_only_where_there_are_several(tmp_path):
  made_up.write_run(tmp_path / 'a', actor_critic__entropy_scale=0.5)
  systems, _ = contents.read([str(tmp_path / 'a')])
  assert systems[0].name == 'tiny, entropy_scale=0.5'
  assert systems[0].label == 'tiny, actor_critic.entropy_scale=0.5'


def test_names_that_would_be_the_same_are_numbered(tmp_path):
  fields = ('mlp_units', 'hidden_units', 'head_units', 'deter_size', 'classes')
  for i in (1, 2):
    changes = {f'world_model__{name}': 24 * i for name in fields}
    made_up.write_run(tmp_path / str(i), preset='small', **changes)
  systems, _ = contents.read([str(tmp_path / '1'), str(tmp_path / '2')])
  name = 'small, 5 fields changed'
  assert [s.name for s in systems] == [name, f'{name} (2)']


def test_a_seed_counts_once(run, tmp_path):
  shutil.copytree(run, tmp_path / 'again')
  (tmp_path / 'link').symlink_to(run)
  paths = [str(run), str(tmp_path / 'link'), str(tmp_path / 'again')]
  systems, left_out = contents.read(paths)
  assert len(systems[0].runs) == 1
  assert [entry['path'] for entry in left_out] == paths[1:]
  assert left_out[0]['reason'] == 'it is named twice.'
  assert str(run) in left_out[1]['reason']


def test_an_option_makes_another_environment(run, tmp_path):
  shutil.copytree(run, tmp_path / 'other')
  edit(tmp_path / 'other' / 'config.json', environment_options={'rows': 5})
  systems, left_out = contents.read([str(run), str(tmp_path / 'other')])
  assert not left_out
  assert systems[0].tasks == ['debug/catch', 'debug/catch (rows=5)']


# --- what is said of them ----------------------------------------------------

GAMES = ('Krull', 'Pong')


def write_games(path, depth, gain, seeds):
  """Runs of two games; `seeds` of each, and their paths."""
  paths = []
  for game, count in zip(GAMES, seeds):
    reference = atari_scores.REFERENCES[game]
    for seed in range(count):
      score = reference.random + (gain + 0.1 * seed) * (
        reference.human - reference.random
      )
      paths.append(path / f'{depth}-{game}-{seed}')
      made_up.write_run(
        paths[-1],
        f'atari/{game}',
        seed,
        'small',
        level=score,
        evaluation=score,
        depth=depth,
      )
  return paths


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
  """Paths of two systems on two games, one on catch, and one that is not."""
  path = tmp_path_factory.mktemp('runs')
  paths = [
    *write_games(path, 2, 0.7, (3, 2)),
    *write_games(path, 1, 0.5, (2, 2)),
  ]
  for seed in range(2):
    paths.append(path / f'catch <b>{seed}</b>')
    made_up.write_run(paths[-1], seed=seed)
  for depth, run in ((2, paths[0]), (2, paths[1]), (1, paths[5])):
    for level in range(depth):
      made_up.write_diagnostics(run, level, 1000)
    made_up.write_pictures(run, 500)
    made_up.write_pictures(run, 1000)
    made_up.write_evaluation(run, '000001', 500, 2000.0, deterministic=True)
    made_up.write_evaluator(run, 1000, 2000.0)
  (paths[5] / 'pictures' / '000001000' / 'subgoals.png').write_bytes(b'half')
  return [str(run) for run in paths] + [str(path / 'nowhere')]


@pytest.fixture(scope='module')
def content(runs):
  systems, left_out = contents.read(runs)
  assert len(left_out) == 1
  return contents.make(systems, left_out, REPLICATIONS)


def test_aggregates_take_as_many_runs_of_each_game(content):
  deep, flat = content['atari']['aggregates']
  assert (deep['games'], deep['runs_per_game']) == (
    ['atari/Krull', 'atari/Pong'],
    2,
  )
  assert [pathlib.Path(path).name for path in deep['not_counted']] == [
    '2-Krull-2'
  ]
  assert not flat['not_counted']
  # Seeds 0 and 1 of both games.
  assert deep['mean']['value'] == pytest.approx(0.75)
  assert deep['iqm']['value'] == pytest.approx(0.75)
  assert flat['optimality_gap']['value'] == pytest.approx(0.45)
  assert 0.7 <= deep['mean']['low'] < 0.75 < deep['mean']['high'] <= 0.8


def test_games_are_compared_by_all_runs_and_with_what_is_published(content):
  krull, pong = content['atari']['games']
  assert krull['systems'][0]['runs'] == 3
  assert krull['systems'][0]['human_normalised'] == pytest.approx(0.8)
  assert pong['systems'][1]['human_normalised'] == pytest.approx(0.55)
  (dreamer,) = krull['published']
  assert dreamer['system'] == 'DreamerV3' and dreamer['score'] == 8604


def test_two_systems_are_compared_where_both_have_played(content):
  (entry,) = content['atari']['improvement']
  assert entry['system'] == 'small, depth=2' and entry['over'] == 'small'
  assert entry['environments'] == ['atari/Krull', 'atari/Pong']
  # 0.7, 0.8 against 0.5, 0.6.
  assert entry['value'] == 1.0
  assert not content['improvement']


def test_it_says_in_what_runs_differ_from_the_published_protocol(content):
  deep, _ = content['atari']['differences']
  for part in ('1,000 environment steps', '2 of the 26 games', '2 runs a game'):
    assert part in deep
  assert 'training' not in deep


def test_runs_by_the_protocol_differ_in_nothing(tmp_path):
  paths = []
  for game in atari_scores.ATARI_100K:
    for seed in range(3):
      paths.append(str(tmp_path / f'{game}-{seed}'))
      made_up.write_run(
        pathlib.Path(paths[-1]),
        f'atari/{game}',
        seed,
        'atari100k',
        num_steps=100_000,
        evaluation=1.0,
      )
  systems, _ = contents.read(paths)
  atari = contents.make(systems, [], 2)['atari']
  assert not atari['differences']
  assert len(atari['aggregates'][0]['games']) == 26
  # A run of another game, one without an evaluation, one of an old checkpoint.
  made_up.write_run(tmp_path / 'x', 'atari/Tennis', 0, 'atari100k', 100_000)
  edit(
    pathlib.Path(paths[0]) / 'evaluation' / '000002.json',
    steps=90_000,
    episodes=10,
  )
  systems, _ = contents.read([*paths, str(tmp_path / 'x')])
  (said,) = contents.make(systems, [], 2)['atari']['differences']
  for part in (
    'not among them: Tennis',
    '1 run a game',
    '1 of 79 scores from training episodes',
    '1 of 79 scores from fewer than 100 episodes',
    '1 of 79 scores of checkpoints before the last step',
  ):
    assert part in said


def test_environments_that_no_human_has_played_have_scores_of_their_own(
  content,
):
  (entry,) = content['environments']
  assert entry['environment'] == 'debug/catch' and entry['runs'] == 2
  assert entry['mean']['value'] == pytest.approx(np.mean(entry['scores']))
  assert 'optimality_gap' not in entry
  # Nobody has measured a human at this game either.
  assert atari_scores.human_normalised('atari/Adventure', 1.0) is None


def test_diagnostics_of_every_level_are_there(content):
  krull = [
    e for e in content['diagnostics'] if e['environment'] == 'atari/Krull'
  ]
  names = {(e['level'], e['name']) for e in krull}
  for level in (0, 1):
    for name in (
      'subgoal_similarity',
      'subgoal_reached',
      'unheard_of',
      'open_loop_error',
      'advantage_share',
    ):
      assert (level, name) in names
  # Nobody ever had a value of it, and losses say nothing here.
  assert not {name for _, name in names} & {'never_measured', 'actor_loss'}
  reached = next(e for e in krull if e['name'] == 'subgoal_reached')
  assert [line['system'] for line in reached['lines']] == [
    'small, depth=2',
    'small',
  ]
  assert len(reached['lines'][0]['runs']) == 2
  ahead = next(e for e in krull if e['name'] == 'open_loop_error')
  assert ahead['numbered']
  assert tuple(ahead['lines'][0]['steps']) == made_up.HORIZONS


def test_pictures_are_the_newest(content):
  assert [entry['steps'] for entry in content['pictures']] == [1000] * 3
  for entry in content['pictures']:
    assert all('000001000' in file for file in entry['files'])


# --- the page ----------------------------------------------------------------


class _Page(html.parser.HTMLParser):
  """Tags with their attributes, and the text."""

  def __init__(self, page):
    super().__init__()
    self.tags, self.text = [], ''
    self.feed(page)

  def handle_starttag(self, tag, attrs):
    self.tags.append((tag, dict(attrs)))

  def handle_data(self, data):
    self.text += data


@pytest.fixture(scope='module')
def written(content, tmp_path_factory):
  """The page, in a directory that is not there yet."""
  path = tmp_path_factory.mktemp('report') / 'new' / 'page.html'
  # As it would be read again.
  numbers = pages.write(json.loads(json.dumps(content)), str(path))
  assert numbers == str(path.with_suffix('.json'))
  return path


@pytest.fixture(scope='module')
def page(written):
  return _Page(written.read_text())


def test_the_numbers_lie_beside_the_page(written, content):
  found = json.loads(written.with_suffix('.json').read_text())
  assert found == json.loads(json.dumps(content))
  assert sorted(p.name for p in written.parent.iterdir()) == [
    'page.html',
    'page.json',
  ]


def test_the_page_refers_to_nothing_outside(page):
  for _, attributes in page.tags:
    for name in ('src', 'href', 'srcset', 'action', 'data'):
      value = attributes.get(name)
      assert value is None or value.startswith(('data:', '#')), value
  assert not re.search(r'url\(|@import', page.text)
  targets = {attributes.get('id') for _, attributes in page.tags}
  for _, attributes in page.tags:
    link = attributes.get('href', '')
    assert not link.startswith('#') or link[1:] in targets


def test_the_page_names_what_it_left_out_and_what_it_is_made_of(page, runs):
  text = ' '.join(page.text.split())
  assert f'{runs[-1]}: there is no such directory.' in text
  for part in (
    'not the published benchmark',
    'evaluation of checkpoint 000002: 100 episodes',
    'training: its last 20 episodes',
    '1.20',
    '2310.05167',
    'Does the hierarchy work?',
    '1 further run of the same systems',
    'subgoals.png',
    '2-Krull-2',
  ):
    assert part in text, part
  # Names are text, whatever is in them.
  assert 'catch <b>0</b>' in text
  assert 'b' not in {tag for tag, _ in page.tags}


def test_every_plot_shows_something_in_colour(page):
  plots = [
    attributes
    for tag, attributes in page.tags
    if tag == 'img' and attributes['src'].startswith('data:image/png')
  ]
  assert len(plots) > 20
  for attributes in plots:
    assert len(attributes['alt']) > 20
    data = base64.b64decode(attributes['src'].partition(',')[2])
    image = np.asarray(Image.open(io.BytesIO(data)).convert('RGB'), int)
    if 'open loop: ' in attributes['alt']:
      continue  # Made up, and grey.
    coloured = np.ptp(image, axis=-1) > 40
    assert coloured.sum() > 100, attributes['alt']
    # Not cut off: white all around.
    for side in (image[0], image[-1], image[:, 0], image[:, -1]):
      assert np.all(side > 250), attributes['alt']


def test_what_moves_is_there_once(tmp_path):
  folder = tmp_path / 'pictures' / '000000500'
  folder.mkdir(parents=True)
  image = Image.fromarray(np.arange(600, dtype=np.uint8).reshape(20, 30))
  names = ['episode.gif', 'episode.png', 'open_loop.gif', 'subgoals.png']
  for name in names:
    image.save(folder / name)
  entry = {
    'system': 'tiny',
    'environment': 'debug/catch',
    'seed': 0,
    'path': str(tmp_path),
    'steps': 500,
    'files': [str(folder / name) for name in names],
  }
  ((_, figures),), not_shown = pages._pictures([entry])
  kinds = [figure.uri.partition(';')[0] for figure in figures]
  assert kinds == ['data:image/png', 'data:image/gif', 'data:image/png']
  moving = 'It moves in pictures/000000500/episode.gif of the run.'
  assert [moving in figure.reading for figure in figures] == [1, 0, 0]
  assert not not_shown


def test_a_line_of_one_point_is_a_point():
  values = np.full((2, 5), np.nan)
  assert plots._marker(values[0]) is None
  values[:, 4] = 1.0
  assert plots._marker(values[0]) == 'o'
  values[:, 3] = 1.0
  assert plots._marker(values[0]) is None


def test_sections_without_content_are_not_there(tmp_path):
  made_up.write_run(tmp_path / 'run')
  systems, _ = contents.read([str(tmp_path / 'run')])
  page = _Page(pages.render(contents.make(systems, [], 2)))
  text = page.text
  for part in ('Atari', 'hierarchy work', 'Pictures', 'left out', 'Left out'):
    assert part not in text
  # The learning curve alone: a single value is no picture.
  assert [tag for tag, _ in page.tags].count('img') == 1


@pytest.mark.parametrize(
  'value,text',
  [
    (None, '–'),
    (float('nan'), '–'),
    (0.0, '0.000'),
    (0.5, '0.500'),
    (-0.12345, '−0.123'),
    (0.00042, '0.0004'),
    (8.6, '8.60'),
    (-20.7, '−20.7'),
    (302.84, '302.8'),
    (69571.3, '69,571'),
  ],
)
def test_numbers_have_some_three_digits(value, text):
  assert pages._number(value) == text


# --- the page in a browser ---------------------------------------------------


@pytest.fixture(scope='module')
def browser(tmp_path_factory):
  chromium, driver = shutil.which('chromium'), shutil.which('chromedriver')
  if not chromium or not driver:
    pytest.skip(
      'Needs a browser: Debian has it in the packages chromium and '
      'chromium-driver.'
    )
  from selenium import webdriver

  options = webdriver.ChromeOptions()
  options.binary_location = chromium
  for argument in (
    '--headless=new',
    '--no-sandbox',  # Which root cannot have.
    '--disable-gpu',
    '--disable-dev-shm-usage',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
    '--no-first-run',
    f'--user-data-dir={tmp_path_factory.mktemp("profile")}',
  ):
    options.add_argument(argument)
  options.set_capability('goog:loggingPrefs', {'browser': 'ALL'})
  browser = webdriver.Chrome(
    options=options, service=webdriver.ChromeService(driver)
  )
  yield browser
  browser.quit()


# Each of them returns what is wrong.
CHECKS = {
  'page-scrolls-sideways': """
    const width = document.documentElement.scrollWidth;
    return width > innerWidth ? [width] : [];""",
  'pictures-missing': """
    return [...document.images].filter(i => !(i.complete && i.naturalWidth > 0))
      .map(i => i.alt);""",
  'pictures-wider-than-their-place': """
    return [...document.images].filter(i => !i.closest('.scroll') &&
      i.clientWidth > i.parentElement.clientWidth).map(i => i.alt);""",
  'pictures-out-of-shape': """
    return [...document.images].filter(i => Math.abs(i.clientWidth /
      i.clientHeight * i.naturalHeight / i.naturalWidth - 1) > 0.02)
      .map(i => i.alt);""",
  'pictures-without-words': """
    return [...document.images].filter(i => !i.alt).map(i => i.src.length);""",
  'plots-too-small': """
    return [...document.querySelectorAll('.plots img')]
      .filter(i => i.clientWidth < 340).map(i => i.clientWidth);""",
  'tables-cut-off': """
    return [...document.querySelectorAll('table')].filter(t =>
      getComputedStyle(t.parentElement).overflowX != 'auto' ||
      t.parentElement.tabIndex != 0).length;""",
  'small-print': """
    return [...document.body.querySelectorAll('*')].filter(e =>
      [...e.childNodes].some(n => n.nodeType == 3 && n.data.trim()) &&
      parseFloat(getComputedStyle(e).fontSize) < 12).map(e => e.outerHTML);""",
  'pale-print': """
    function light(colour) {
      const [r, g, b] = colour.match(/[0-9.]+/g).slice(0, 3).map(x => {
        x /= 255;
        return x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4;
      });
      return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    }
    function behind(e) {
      for (; e; e = e.parentElement) {
        const colour = getComputedStyle(e).backgroundColor;
        if (colour != 'rgba(0, 0, 0, 0)') return colour;
      }
      return 'rgb(255, 255, 255)';
    }
    return [...document.body.querySelectorAll('*')].filter(e =>
      [...e.childNodes].some(n => n.nodeType == 3 && n.data.trim()) &&
      (light(behind(e)) + 0.05) / (light(getComputedStyle(e).color) + 0.05)
        < 4.5).map(e => e.outerHTML);""",
  'loaded-from-elsewhere': """
    return performance.getEntriesByType('resource').map(e => e.name)
      .filter(name => !name.startsWith('data:'));""",
}


def test_a_browser_shows_the_page_on_a_telephone_and_on_a_desk(
  browser, written
):
  browser.get(written.as_uri())
  for width in (400, 1400):
    browser.execute_cdp_cmd(
      'Emulation.setDeviceMetricsOverride',
      {'width': width, 'height': 900, 'deviceScaleFactor': 1, 'mobile': False},
    )
    assert browser.execute_script('return innerWidth') == width
    for name, check in CHECKS.items():
      wrong = browser.execute_script(check)
      assert not wrong, (width, name, wrong)
  assert browser.execute_script('return document.images.length') > 20
  assert browser.get_log('browser') == []


def test_the_browser_would_have_noticed(browser, tmp_path):
  """The same checks, on a page that does everything wrong."""
  path = tmp_path / 'bad.html'
  path.write_text(
    '<!DOCTYPE html><body style="margin: 0">'
    '<p style="width: 2000px; color: #aaa; font-size: 9px">wide</p>'
    '<img src="nowhere.png"><div class="plots"><img style="width: 50px" '
    'src="data:,"></div><div><table></table></div>'
  )
  browser.get(path.as_uri())
  noticed = {
    name
    for name, check in CHECKS.items()
    if name != 'pictures-out-of-shape' and browser.execute_script(check)
  }
  assert noticed >= {
    'page-scrolls-sideways',
    'pictures-missing',
    'pictures-without-words',
    'plots-too-small',
    'tables-cut-off',
    'small-print',
    'pale-print',
  }
  assert browser.get_log('browser')
