"""What benchmarks.accuracy compares is comparable, and it adds up right."""

import pathlib
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import untrained

from acme_hieros import config as config_lib
from acme_hieros.environments import make_environment
from acme_hieros.models import (
  cores,
  distributions,
  hierarchy,
  spaces,
  world_model,
)
from acme_hieros.models.cores import s5
from benchmarks import smallest, tables, world_models

BENCHMARKS = pathlib.Path(__file__).parents[2] / 'benchmarks'

BODY = {'body': spaces.Vector((3,))}


@pytest.fixture(scope='module')
def train(load_launcher):
  """benchmarks.accuracy as a program."""
  return load_launcher('accuracy', BENCHMARKS)


@pytest.fixture(scope='module')
def accuracy(train):
  """The module, whose flags are gone when others of that name come."""
  return sys.modules['accuracy']


@pytest.fixture(scope='module')
def play(load_launcher):
  """benchmarks.data_set as a program."""
  return load_launcher('data_set', BENCHMARKS)


def make_data(number: int = 2000) -> world_models.DataSet:
  """A body that is moved by choices, for episodes of 40 steps."""
  rng = np.random.default_rng(0)
  action = rng.integers(0, 2, number).astype(np.int32)
  start = np.arange(number) % 40 == 0
  body = np.cumsum(2 * action - 1) / 10
  return world_models.DataSet(
    'made/up',
    world_model.Sequence(
      {'body': np.stack([body, body, -body], 1).astype(np.float32)},
      action,
      action.astype(np.float32),
      np.ones(number, np.float32),
      start,
    ),
    BODY,
    spaces.Discrete((), 2),
  )


@pytest.mark.parametrize('core', ['gru', 'hybrid'])
def test_cores_get_as_many_parameters_as_the_configurations(accuracy, core):
  config = config_lib.override(config_lib.preset('tiny'), {'depth': 1})
  data = make_data()
  sized = accuracy.match(config, core, data)
  assert sized.world_model.core == core
  assert abs(accuracy.count(sized, data) / accuracy.count(config, data) - 1) < (
    0.15
  )
  assert accuracy.match(config, 's5', data) == config


def test_a_data_set_is_read_as_it_was(tmp_path):
  path = str(tmp_path / 'steps.npz')
  numbers = np.arange(12.0)
  data = world_models.DataSet(
    'made/up',
    world_model.Sequence(
      {
        'a/image': np.arange(12 * 48, dtype=np.uint8).reshape(12, 4, 4, 3),
        'b': np.arange(12, dtype=np.int64),
        'c': numbers.reshape(12, 1),
      },
      np.stack([numbers, numbers], 1).astype(np.float32),
      numbers.astype(np.float32),
      np.ones(12, np.float32),
      numbers == 0,
    ),
    {
      'a/image': spaces.Image((4, 4, 3)),
      'b': spaces.OneHot((), 12, np.dtype(np.int64)),
      'c': spaces.Vector((1,), np.dtype(np.float64)),
    },
    spaces.Continuous((2,), (-1.0, 0.0), (1.0, np.inf)),
  )
  world_models.save(path, data)
  found = world_models.load(path)
  assert found._replace(steps=None) == data._replace(steps=None)
  for a, b in zip(jax.tree.leaves(found.steps), jax.tree.leaves(data.steps)):
    assert a.dtype == b.dtype
    np.testing.assert_array_equal(a, b)
  assert jax.tree.structure(found.steps) == jax.tree.structure(data.steps)
  with pytest.raises(ValueError, match='no data set'):
    (tmp_path / 'other.npz').write_bytes(b'something')
    world_models.load(str(tmp_path / 'other.npz'))


def test_what_comes_with_an_episodes_end_is_played():
  """Each answer's reward and end arrive with an observation that has a row."""
  environment = make_environment('debug/recall', 0, delay=3)
  steps = world_models.play(environment, lambda *_: np.int32(0), 60)
  assert len(steps.reward) == 60
  # A cue, three steps, the last of which asks, and what came of the answer.
  np.testing.assert_array_equal(steps.start_of_episode, np.arange(60) % 5 == 0)
  came = world_model.arrivals(
    jax.tree.map(lambda x: x[None], steps), spaces.Discrete((), 2)
  )
  last = np.arange(60) % 5 == 4
  np.testing.assert_array_equal(np.abs(came.reward[0]), last)
  np.testing.assert_array_equal(came.continuation[0], ~last)


def test_random_play_uses_all_that_a_space_has():
  choose = world_models.play_randomly(
    spaces.Continuous((1, 2), (-1.0, 3.0), (0.0, 5.0)), 0
  )
  actions = np.stack([choose(None, False) for _ in range(500)])
  assert actions.shape == (500, 1, 2) and actions.dtype == np.float32
  np.testing.assert_allclose(actions.mean(0)[0], [-0.5, 4.0], atol=0.1)
  choose = world_models.play_randomly(spaces.Discrete((), 3), 0)
  assert {int(choose(None, False)) for _ in range(100)} == {0, 1, 2}
  some = spaces.Discrete((2,), 3, sizes=(3, 2), minimum=(-1, 4))
  choose = world_models.play_randomly(some, 0)
  actions = np.stack([choose(None, False) for _ in range(100)])
  for column, values in zip(actions.T, ({-1, 0, 1}, {4, 5})):
    assert set(column.tolist()) == values
  with pytest.raises(ValueError, match='Nested'):
    world_models.play_randomly(spaces.Joint({'a': some}, ('a',)), 0)


def test_a_world_model_is_trained_on_what_was_played(
  play, train, accuracy, tmp_path, monkeypatch, capsys
):
  """From both commands to a table, which is not made twice."""
  path = str(tmp_path / 'catch.npz')
  assert play('--env=debug/catch', '--steps=1000', f'--path={path}') is None
  assert 'episodes' in capsys.readouterr().out
  assert play('--env=debug/catch').startswith('data_set: --path')
  results = tmp_path / 'benchmarks' / 'results'
  monkeypatch.setattr(accuracy.benchmarks, 'RESULTS', str(results))
  monkeypatch.setattr(accuracy, '_CONTEXTS', (2, 64))
  monkeypatch.setattr(accuracy, '_HORIZONS', (1, 5, 10))
  flags = (
    f'--data={path}',
    '--name=catch',
    '--preset=tiny',
    '--cores=gru',
    '--seeds=1',
    '--updates=3',
    '--override=sequence_length=5',
    '--override=batch_size=2',
  )
  assert train(*flags) is None
  file = results / 'catch-accuracy.csv'
  rows = tables.Table(str(file), accuracy._COLUMNS).rows
  assert {(r['context'], r['horizon']) for r in rows} == {
    ('2', str(h)) for h in (1, 5, 10)
  }
  for row in rows:
    assert row['environment'] == 'debug/catch' and row['updates'] == '3'
    if int(row['horizon']) < 6:
      assert float(row['observation']) > 0.1  # Three updates teach nothing.
    else:  # The next episode, which nobody can foresee.
      assert row['observation'] == ''
    assert float(row['update_ms']) > 0 and float(row['step_ms']) > 0
  written = file.stat().st_mtime_ns
  assert train(*flags) is None
  assert file.stat().st_mtime_ns == written
  for other in ('--updates=4', '--minutes=1', '--override=batch_size=3'):
    assert 'of other flags; choose another' in train(*flags, other)
  assert '1680 are needed' in train(*flags, '--override=sequence_length=200')
  assert 'missing.npz cannot be used: No such file' in train(
    '--data=missing.npz', '--name=other'
  )
  assert train(*flags, '--cores=s6').startswith(
    "accuracy: Unknown core 's6' in --cores; known cores: s5, "
  )


def test_training_ends_when_it_was_told_to(accuracy):
  assert str(accuracy.Limit.of(None, None)) == '5 minutes'
  assert accuracy.Limit.of(None, None).share(150, 7) == 0.5
  updates = accuracy.Limit.of(None, 8)
  assert str(updates) == '8 updates' and updates.share(9999, 6) == 0.75
  both = accuracy.Limit.of(2.0, 8)
  assert str(both) == '2 minutes or 8 updates'
  assert both.share(60, 2) == 0.5 and both.share(30, 6) == 0.75


def test_every_context_is_asked_about_the_same_steps(accuracy):
  asked = {}

  def ask(params, steps, start, context):
    asked.setdefault(context, []).append(start + context)
    return {}

  trainer = object.__new__(accuracy.Trainer)
  trainer._steps = types.SimpleNamespace(reward=np.zeros(1000))
  trainer._split, trainer._ask = 700, ask
  for context in (4, 64):
    trainer._judge(None, context, 64)
  np.testing.assert_array_equal(asked[4], asked[64])
  horizon = accuracy._HORIZONS[-1]
  assert np.min(asked[64]) >= 700 + 64
  assert np.max(asked[64]) + horizon <= 1000


def test_a_core_from_outside_is_measured_as_it_is(accuracy):
  cores.register('same_s5', lambda config, _, dtype: s5.S5Core(config, dtype))
  try:
    config = config_lib.override(config_lib.preset('tiny'), {'depth': 1})
    sized = accuracy.match(config, 'same_s5', make_data())
  finally:
    del cores._MAKERS['same_s5']
  assert sized == config_lib.override(config, {'world_model.core': 'same_s5'})


def test_a_policy_plays_what_it_has_learned(play, tmp_path, capsys):
  run, path = str(tmp_path / 'run'), str(tmp_path / 'steps.npz')
  untrained.make_workdir(run, 'debug/recall', {'delay': 3}, depth=1)
  flags = f'--policy={run}', f'--path={path}', '--steps=1000'
  for given, length in ((), 5), (('--env_option=delay=2',), 4):
    assert play(*flags, *given) is None
    assert 'of debug/recall, ' in capsys.readouterr().out
    data = world_models.load(path)
    assert data.environment == 'debug/recall'
    # A cue, `delay` steps, and what came of the answer.
    np.testing.assert_array_equal(
      data.steps.start_of_episode, np.arange(1000) % length == 0
    )
  for given, what in (
    ('--env=debug/catch', 'debug/catch has other observations here'),
    ('--env_option=num_cues=3', 'debug/recall has other observations here'),
  ):
    refused = play(*flags, given)
    assert refused.startswith(
      f'data_set: {what} than debug/recall had in {run}'
    )
    assert refused.endswith('leave out --env and --env_option, or --policy.')


def test_where_nothing_can_be_written_nothing_is_played(
  play, tmp_path, monkeypatch
):
  monkeypatch.setattr(world_models, 'play', None)
  path = str(tmp_path / 'missing' / 'x.npz')
  assert play('--env=debug/catch', f'--path={path}') == (
    f'data_set: --path={path} cannot be written: make the directory '
    f'{tmp_path / "missing"} first.'
  )
  assert play('--env=debug/catch', f'--path={tmp_path}') == (
    f'data_set: --path={tmp_path} is a directory: name a file in it.'
  )


def test_errors_are_those_of_what_is_known_to_go_on(accuracy, monkeypatch):
  """A model that takes o' = o + a for o' = o + 2 a, over an episode's end."""
  batch, context, ahead = 2, 3, 4
  action = np.ones((batch, context + ahead, 1), np.float32)
  observation = 2.0 * np.cumsum(action, 1) - 2.0
  start = np.zeros((batch, context + ahead), bool)
  start[1, context + 2] = True
  model = types.SimpleNamespace(
    observe=lambda params, key, observation, action, start: observation['body'],
    starts=lambda state, times, horizon: state[:, times][:, 0],
  )
  level = types.SimpleNamespace(
    world_model=model,
    observation_spaces={'body': spaces.Vector((1,))},
    action_space=spaces.Continuous((1,), (-1.0,), (1.0,)),
    as_learned=lambda sequence: sequence,
  )

  def forecast(level, params, key, start, action):
    o = start[:, None] + jnp.cumsum(action, 1)
    return types.SimpleNamespace(
      observation={'body': distributions.symlog(o)},
      reward=o[..., 0],
      continuation=jnp.ones(o.shape[:-1]),
    )

  sequence = world_model.Sequence(
    {'body': jnp.asarray(observation)},
    jnp.asarray(action),
    jnp.zeros((batch, context + ahead)),
    jnp.ones((batch, context + ahead)),
    jnp.asarray(start),
  )
  monkeypatch.setattr(world_models.diagnostics, 'forecast', forecast)
  found = world_models.errors(
    level, None, jax.random.PRNGKey(0), sequence, context
  )
  # After h steps the truth is 4 + 2 h, and the forecast 4 + h; the second
  # sequence counts for two steps.
  h = np.arange(1, ahead + 1)
  each = np.square(np.log1p(4 + h) - np.log1p(4 + 2 * h))
  rows = np.array([2, 2, 1, 1])
  np.testing.assert_allclose(found['observation'][0], rows * each, rtol=1e-4)
  np.testing.assert_allclose(found['reward'][0], rows * (4.0 + h) ** 2)
  np.testing.assert_allclose(found['continuation'][0], 0.0)
  truth = np.log1p(4 + 2 * h)
  mean = (rows * truth).sum() / rows.sum()
  np.testing.assert_allclose(
    found['observation'][1], rows * np.square(truth - mean), rtol=1e-4
  )


@pytest.mark.usefixtures('compile_quickly')
def test_rewards_are_learned_and_judged_as_a_level_learns_them():
  """With tanh as a replay of their tanh, without it."""
  squashing, plain = (
    hierarchy.Hierarchy(
      smallest.make_config(
        depth=1, world_model__reward_head='normal', reward_transform=kind
      ),
      BODY,
      spaces.Discrete((), 3),
    )
    for kind in ('tanh', 'all')
  )
  steps = make_data(40).steps
  sequence = world_models.take(steps, np.array([0, 3, 20]), 6)
  sequence = sequence._replace(reward=2.0 * sequence.reward)
  squashed = sequence._replace(reward=jnp.tanh(sequence.reward))
  key = jax.random.PRNGKey(0)
  (state,) = untrained.draw_state(plain)

  def ask(networks, sequence):
    (level,) = networks.levels
    params = state.params.world_model
    *_, metrics = world_models.update(
      level, params, state.optimizers.world_model, jnp.int32(0), key, sequence
    )
    return metrics, world_models.errors(level, params, key, sequence, 3)

  ask = jax.jit(ask, static_argnums=0)
  found, expected = ask(squashing, sequence), ask(plain, squashed)
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6),
    found,
    expected,
  )
  raw, raw_errors = ask(plain, sequence)
  assert abs(raw['reward_loss'] / expected[0]['reward_loss'] - 1) > 0.01
  assert raw_errors['reward'][1].sum() > 1.5 * expected[1]['reward'][1].sum()


def test_a_table_is_drawn(accuracy, tmp_path):
  rows = [
    {name: '1' for name in accuracy._COLUMNS}
    | {'core': core, 'context': '20', 'horizon': str(h), 'continuation': ''}
    for core in ('s5', 'gru')
    for h in (1, 5)
  ]
  path = str(tmp_path / 'table.csv')
  tables.Table(path, accuracy._COLUMNS).put(rows)
  table = tables.Table(path, accuracy._COLUMNS)
  assert table.rows == rows
  accuracy.plot(table, str(tmp_path / 'plot.png'))
  assert (tmp_path / 'plot.png').stat().st_size > 10_000
  with pytest.raises(ValueError, match='nothing to draw'):
    none = tables.Table(str(tmp_path / 'none.csv'), accuracy._COLUMNS)
    accuracy.plot(none, str(tmp_path / 'plot.png'))
