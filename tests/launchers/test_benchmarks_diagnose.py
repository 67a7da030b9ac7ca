"""The benchmark that tells why an agent does not learn."""

import json
import pathlib

import jax
import numpy as np
import pytest
import untrained

from acme_hieros import config as config_lib

BENCHMARKS = pathlib.Path(__file__).parents[2] / 'benchmarks'


@pytest.fixture(scope='module')
def diagnose(load_launcher):
  return load_launcher('diagnose', BENCHMARKS)


@pytest.mark.parametrize('depth,transform', [(1, 'tanh'), (2, 'all')])
def test_what_first_actions_bring_is_found_out(
  diagnose, tmp_path, capsys, depth, transform
):
  # In echo an action brings its number, as a share of the last, at once.
  config = config_lib.override(
    untrained.make_config(depth),
    {'actor_critic.horizon': 1, 'reward_transform': transform},
  )
  path, out = tmp_path / 'run', tmp_path / 'diagnosis.json'
  untrained.make_workdir(
    path,
    'debug/echo',
    {'length': 7},
    depth=depth,
    config=config,
    edit=lambda state: jax.tree.map(np.zeros_like, state),
  )
  assert (
    diagnose(
      f'--workdir={path}',
      f'--out={out}',
      '--steps=200',
      '--states=6',
      '--repeats=4',
      '--samples=3',
    )
    is None
  )
  found = json.loads(out.read_text())
  actions = found['actions']
  gains = np.arange(4) / 3
  if transform == 'tanh':
    gains = np.tanh(gains)
  np.testing.assert_allclose(
    actions['mean_by_action']['real'], gains, atol=1e-3
  )
  spread = actions['spread_over_actions_of_a_state']
  np.testing.assert_allclose(spread['real_with_noise'], gains.std(), rtol=1e-4)
  assert spread['real_noise'] == pytest.approx(0.0, abs=1e-6)
  assert actions['correlation_of_two_real_halves'] == pytest.approx(1.0)
  assert sum(actions['mean_by_action']['policy']) == pytest.approx(1, abs=0.01)
  # Of zeros alone: it predicts no reward, and its policy is uniform.
  assert found['rewards']['0_ahead']['mean_predicted'] == 0.0
  assert found['played']['policy_entropy'] == pytest.approx(np.log(4), rel=1e-4)
  mean = found['rewards']['0_ahead']['mean_real']
  assert mean == pytest.approx(gains.mean(), abs=0.15)
  said = capsys.readouterr().out
  assert 'correlation_over_actions' in said and str(out) in said


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
  """Work directories of runs, by the names of their environments."""
  place = tmp_path_factory.mktemp('runs')
  for name in ('point', 'echo'):
    untrained.make_workdir(place / name, f'debug/{name}', {})
  return {name: place / name for name in ('point', 'echo')}


@pytest.mark.parametrize(
  'arguments,sentence',
  [
    ([], '--workdir has to name'),
    (['--workdir=nowhere'], 'nowhere does not exist'),
    (['--workdir={point}'], 'continuous actions'),
    (['--workdir={echo}', '--states=0'], '--states=0 must be at least 1'),
    (['--workdir={echo}', '--steps=8'], '--steps=8 are less than a sequence'),
  ],
)
def test_what_cannot_be_diagnosed_is_said_in_a_sentence(
  diagnose, runs, arguments, sentence
):
  said = diagnose(*(text.format(**runs) for text in arguments))
  assert sentence in said and '\n' not in said
