"""Agents of work directories: acting, judging, imagining."""

from acme_hieros import compat  # noqa: F401, I001  Comes before Acme.

import json

import jax
import numpy as np
from PIL import Image
import pytest
import untrained

import acme_hieros
from acme_hieros.environments import debug
from acme_hieros.models import dreams, spaces


@pytest.fixture(scope='module')
def workdir(compile_quickly, tmp_path_factory):
  """A run with two checkpoints, of two levels that see images."""
  path = tmp_path_factory.mktemp('trained') / 'run'
  untrained.make_workdir(path, 'debug/catch', {'observation': 'both'}, [10, 20])
  return path


@pytest.fixture(scope='module')
def agent(workdir):
  return acme_hieros.load(workdir)


@pytest.fixture
def played(agent):
  """The agent after two steps in two environments, and what it did."""
  agent.reset()
  environment = agent.make_environment()
  seen = jax.tree.map(
    lambda x: np.stack([x, x]), environment.reset().observation
  )
  agent.act(seen)
  return agent, agent.act(seen)


def test_two_lines_load_and_step_it(workdir):
  observation = acme_hieros.load(workdir).make_environment().reset().observation
  agent = acme_hieros.load(workdir)
  action = agent.act(observation)
  assert action in range(3)
  assert agent.about['environment'] == 'debug/catch'
  assert agent.about['steps'] == 20 and agent.about['updates'] == 10


def test_a_checkpoint_is_named_by_its_number_or_its_path(workdir):
  for agent in (
    acme_hieros.load(workdir, 1),
    acme_hieros.load(workdir / 'checkpoints' / '000001'),
    acme_hieros.load(f'{workdir}/checkpoints/000001/', 1),
  ):
    assert agent.about['checkpoint'] == '000001'
    assert agent.about['steps'] == 10


@pytest.mark.parametrize(
  'path,checkpoint,part',
  [
    ('none', None, 'does not exist'),
    ('', 7, 'no checkpoint 7'),
    ('checkpoints/000001', 2, 'not the checkpoint 2'),
    ('checkpoints', None, 'holds no run'),
    ('a.safetensors', 1, 'no checkpoints'),
  ],
)
def test_what_is_not_there_is_told(workdir, path, checkpoint, part):
  with pytest.raises(ValueError, match=part) as error:
    acme_hieros.load(workdir / path, checkpoint)
  assert '\n' not in str(error.value) and str(error.value).endswith('.')


def test_a_damaged_checkpoint_is_told_and_the_one_before_is_taken(
  compile_quickly, tmp_path
):
  untrained.make_workdir(tmp_path / 'run', 'debug/echo', {}, [10, 20], depth=1)
  path = tmp_path / 'run' / 'checkpoints' / '000002' / 'learner.npz'
  path.write_bytes(path.read_bytes()[:-100])
  with pytest.warns(UserWarning, match='000002 is damaged.*one before'):
    agent = acme_hieros.load(tmp_path / 'run')
  assert agent.about['steps'] == 10


def test_of_a_function_without_a_name_it_is_given_again(
  compile_quickly, tmp_path
):
  def make():
    return debug.Echo()

  path = tmp_path / 'run'
  untrained.make_workdir(path, make, {}, [10], depth=1)
  with pytest.raises(ValueError, match='load.*environment=function') as error:
    acme_hieros.load(path)
  assert '\n' not in str(error.value) and str(error.value).endswith('.')
  agent = acme_hieros.load(path, environment=make)
  agent.act(agent.make_environment().reset().observation)


def test_an_evaluation_is_that_of_the_command(agent, workdir):
  before = agent._state
  summary = agent.evaluate(episodes=3, environments=2)
  written = json.loads((workdir / 'evaluation' / '000002.json').read_text())
  assert summary.episodes == 3 == written['episodes']
  assert summary.mean == written['mean'] and abs(summary.mean) <= 1
  assert agent._state is before
  with pytest.raises(ValueError, match='episodes=0'):
    agent.evaluate(episodes=0)


def test_what_is_imagined_starts_with_what_was_done(played):
  agent, actions = played
  for i in range(2):
    imagined = agent.imagine(steps=4, environment=i)
    assert imagined.action[0] == actions[i]
    assert imagined.action.shape == imagined.reward.shape == (4,)
    assert ((0 <= imagined.continuation) & (imagined.continuation <= 1)).all()
    assert imagined.observation['image'].shape == (4, 16, 16, 3)
    assert imagined.observation['image'].dtype == np.uint8
    assert imagined.observation['vector'].shape == (4, 3)
  # It is drawn anew, and nothing of it is remembered.
  state = agent._state
  one, other = (agent.imagine(8).observation['vector'] for _ in range(2))
  assert (one != other).any()
  assert agent._state is state


def test_what_is_imagined_can_be_looked_at(played, tmp_path):
  imagined = played[0].imagine(steps=4)
  assert imagined.pictures().shape == (4, 16, 16, 3)
  imagined.save(str(tmp_path / 'dream.gif'))
  with Image.open(tmp_path / 'dream.gif') as picture:
    assert picture.format == 'GIF' and picture.n_frames > 1
  blind = imagined.__class__({'vector': np.zeros((4, 3))}, *[np.zeros(4)] * 3)
  with pytest.raises(ValueError, match='no image'):
    blind.pictures()


def test_nothing_is_imagined_of_nothing(played):
  agent, _ = played
  for bad in ({'steps': 0}, {'environment': 2}, {'environment': -1}):
    with pytest.raises(ValueError, match='steps='):
      agent.imagine(**bad)
  agent.reset()
  with pytest.raises(ValueError, match='act'):
    agent.imagine()


@pytest.mark.parametrize(
  'space',
  [
    spaces.Image((4, 5, 3)),
    spaces.Vector((2, 3)),
    spaces.Vector(()),
    spaces.OneHot((2,), 5),
    spaces.OneHot((), 3),
  ],
  ids=str,
)
def test_what_a_decoder_should_say_is_shown_as_it_was_seen(space):
  rng = np.random.default_rng(0)
  shape = (7, *space.shape)
  seen = {
    spaces.Image: lambda: rng.integers(256, size=shape).astype(np.uint8),
    spaces.Vector: lambda: 9 * rng.normal(size=shape).astype(np.float32),
    spaces.OneHot: lambda: rng.integers(3, size=shape),
  }[type(space)]()
  shown = dreams.as_shown({'x': space}, {'x': space.encode(seen)})['x']
  assert shown.shape == shape
  np.testing.assert_allclose(shown, seen, rtol=1e-4, atol=1e-6)
