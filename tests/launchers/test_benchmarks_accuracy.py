"""What benchmarks.accuracy compares is comparable, and it adds up right."""

import pathlib
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from acme_hieros import config as config_lib
from acme_hieros.models import distributions, spaces, world_model
from acme_hieros.models import level as level_lib
from benchmarks import tables

BODY = {'body': spaces.Vector((3,))}


@pytest.fixture(scope='module')
def accuracy(load_launcher):
  """The module, whose flags are gone when others of that name come."""
  load_launcher('accuracy', pathlib.Path(__file__).parents[2] / 'benchmarks')
  return sys.modules['accuracy']


@pytest.mark.parametrize('core', ['gru', 'hybrid'])
def test_cores_get_as_many_parameters_as_the_first(accuracy, core):
  config = config_lib.override(config_lib.preset('tiny'), {'depth': 1})
  action = spaces.Discrete((), 2)
  _, target = accuracy.match(config, 's5', BODY, action, None)
  sized, _ = accuracy.match(config, core, BODY, action, target)
  assert sized.world_model.core == core
  model = world_model.make_world_model(
    sized.world_model, BODY, action, sized.sequence_length
  )
  shapes = jax.eval_shape(model.init, jax.random.PRNGKey(0))
  assert abs(level_lib.parameter_count(shapes) / target - 1) < 0.15


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
  monkeypatch.setattr(accuracy.diagnostics, 'forecast', forecast)
  found = accuracy.errors(level, None, jax.random.PRNGKey(0), sequence, context)
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
