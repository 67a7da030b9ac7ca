"""What was learned acts, and goes through a file."""

from acme_hieros import compat  # noqa: F401, I001  Comes before Acme.

import json
import subprocess
import sys

from imported import PACKAGE, loaded, names_of
import numpy as np
import pytest
import untrained

import acme_hieros
from acme_hieros.agent import networks as networks_lib
from acme_hieros.environments import make_environment
from acme_hieros.models import level, spaces
from acme_hieros.policies import exports, policy
from acme_hieros.storage import safetensors
import jax

ABOUT = {'environment': 'debug/point', 'steps': 3}


def make_policy(environment, depth=2, **settings):
  networks, params = untrained.make_agent(environment, depth)
  return policy.Policy(
    networks, [level.policy_params(own) for own in params], ABOUT, **settings
  )


@pytest.fixture(scope='module', autouse=True)
def quickly(compile_quickly):
  """All of them compile."""


@pytest.fixture(scope='module')
def environment():
  """One whose actions are numbers, which tell apart what choices would not."""
  return make_environment('debug/point')


@pytest.fixture(scope='module')
def trained(environment):
  return make_policy(environment, seed=5)


@pytest.fixture
def agent(trained):
  trained.reset()
  return trained


def observations(environment, count):
  """The first ones of an episode of zeros."""
  timestep = environment.reset()
  for _ in range(count):
    yield timestep.observation
    timestep = environment.step(
      np.zeros(environment.action_spec().shape, np.float32)
    )


def rows(environment, count):
  """As many observations, stacked."""
  seen = list(observations(environment, count))
  return jax.tree.map(lambda *x: np.stack(x), *seen)


@pytest.mark.parametrize('deterministic', [False, True])
def test_it_acts_as_in_acmes_loops(environment, deterministic):
  agent = make_policy(environment, deterministic=deterministic, seed=5)
  other = networks_lib.make_policy(agent.networks, deterministic)
  state = other.init(jax.random.PRNGKey(5))
  select = jax.jit(other.select_action)
  for observation in observations(environment, 6):
    wanted, state = select(agent.params, observation, state)
    action = agent.act(observation)
    assert action.dtype == environment.action_spec().dtype
    np.testing.assert_array_equal(action, wanted)


def test_of_several_environments_each_has_a_past_of_its_own(agent, environment):
  seen = rows(environment, 3)
  for _ in range(2):
    actions = agent.act(seen)
  assert actions.shape == (3, *environment.action_spec().shape)
  agent.reset([1])
  agent.act(seen)
  assert list(agent._state.time) == [3, 1, 3]
  agent.reset(2)
  agent.reset([])
  agent.act(seen)
  assert list(agent._state.time) == [4, 2, 1]
  agent.reset()
  agent.act(jax.tree.map(lambda x: x[:2], seen))
  assert list(agent._state.time) == [1, 1]


def test_episodes_are_not_alike(agent, environment):
  """Random numbers go on where an episode starts."""
  (seen,) = observations(environment, 1)
  first = agent.act(seen)
  agent.reset()
  assert (agent.act(seen) != first).any()


def test_an_observation_may_be_of_wider_numbers(agent, environment):
  (seen,) = observations(environment, 1)
  wide = jax.tree.map(lambda x: x.astype(np.float64), seen)
  first = agent.act(wide)
  same = make_policy(environment, seed=5)
  np.testing.assert_array_equal(first, same.act(seen))


@pytest.mark.parametrize(
  'change,parts',
  [
    (lambda x: x[..., :-1], ['shape', '(N, ']),
    (lambda x: np.stack([[x]]), ['shape']),
    (lambda x: x * np.nan, ['none']),
    (lambda x: x.astype(str), ['type']),
    (lambda x: {'other': x}, ['other', 'no observation']),
  ],
)
def test_what_is_no_observation_is_refused(agent, environment, change, parts):
  (seen,) = observations(environment, 1)
  assert isinstance(seen, np.ndarray)
  with pytest.raises(ValueError) as error:
    agent.act(change(seen))
  assert '\n' not in str(error.value) and str(error.value).endswith('.')
  for part in parts:
    assert part in str(error.value)


def test_choices_and_images_are_not_rounded():
  environment = make_environment('debug/catch')
  agent = make_policy(environment, depth=1)
  image = environment.reset().observation
  assert image.dtype == np.uint8
  assert agent.act(image.astype(int)).dtype == environment.action_spec().dtype
  # From 0 to 1, or to 255? Nobody can know.
  with pytest.raises(ValueError, match='uint8 is wanted'):
    agent.act(image / 255)
  with pytest.raises(ValueError, match='uint8 is wanted'):
    agent.act(image.astype(int) + 256)


@pytest.mark.parametrize('wrong', [-1, 4])
def test_choices_that_there_are_not_are_refused(wrong):
  space = spaces.OneHot((2,), 4)
  choices = np.array([0, 3], np.int64)
  shown = policy._as_shown('cue', space, choices)
  np.testing.assert_array_equal(shown, choices)
  choices[1] = wrong
  with pytest.raises(ValueError, match="'cue' has choices .* 0 to 3"):
    policy._as_shown('cue', space, choices)


def test_the_number_of_environments_changes_with_a_reset_only(
  agent, environment
):
  seen = rows(environment, 3)
  agent.act(seen)
  with pytest.raises(ValueError, match=r'2 environments, after those of 3'):
    agent.act(jax.tree.map(lambda x: x[:2], seen))


@pytest.mark.parametrize('which', [3, [1, 3], -4, [0.5], 'all'])
def test_no_episode_starts_where_there_is_no_environment(
  agent, environment, which
):
  agent.act(rows(environment, 3))
  with pytest.raises(ValueError, match='of the 3 environments') as error:
    agent.reset(which)
  assert '\n' not in str(error.value) and str(error.value).endswith('.')


def test_before_anything_is_seen_all_episodes_start_anyway(agent, environment):
  agent.reset(0)
  agent.reset([2])
  assert len(agent.act(rows(environment, 3))) == 3
  agent.reset()
  agent.reset([3])
  assert len(agent.act(rows(environment, 2))) == 2


def test_of_no_environment_there_is_nothing_to_choose(agent, environment):
  none = jax.tree.map(lambda x: x[:0], rows(environment, 1))
  with pytest.raises(ValueError, match='0 environments'):
    agent.act(none)
  agent.act(rows(environment, 1))
  with pytest.raises(ValueError, match='0 environments'):
    agent.act(none)


# --- in a file ---------------------------------------------------------------


@pytest.fixture(scope='module')
def exported(trained, tmp_path_factory):
  path = tmp_path_factory.mktemp('exported') / 'agent.safetensors'
  trained.export(path)
  return path


def test_what_was_exported_acts_alike(agent, exported, environment):
  other = acme_hieros.load(exported, seed=5)
  agent = make_policy(environment, seed=5)
  assert other.about == ABOUT
  assert other.networks.config == agent.networks.config
  for observation in observations(environment, 5):
    np.testing.assert_array_equal(
      agent.act(observation), other.act(observation)
    )


@pytest.mark.parametrize('name', ['debug/catch', 'debug/recall', 'debug/echo'])
def test_all_that_is_seen_and_done_comes_back(name, tmp_path):
  environment = make_environment(name)
  agent = make_policy(environment, depth=1)
  path = str(tmp_path / 'a.safetensors')
  agent.export(path)
  networks, params, _ = exports.load(path)
  assert networks.observation_spaces == agent.networks.observation_spaces
  assert networks.action_space == agent.networks.action_space
  jax.tree.map(np.testing.assert_array_equal, tuple(params), agent.params)


def test_the_file_is_as_its_format_says(exported):
  """https://github.com/huggingface/safetensors, "Format"."""
  content = exported.read_bytes()
  size = int.from_bytes(content[:8], 'little')
  assert content[8:9] == b'{'
  header = json.loads(content[8 : 8 + size])
  metadata = header.pop('__metadata__')
  assert all(isinstance(text, str) for text in metadata.values())
  assert json.loads(metadata['config'])['depth'] == 2
  end = 0
  for about in header.values():
    assert about['dtype'] == 'F32'
    assert about['data_offsets'] == [end, end + 4 * np.prod(about['shape'])]
    end = about['data_offsets'][1]
  assert len(content) == 8 + size + end
  # What acting needs, and no more.
  names = {
    part for name in header for part in name.replace(':', '/').split('/')
  }
  assert {'level_0', 'level_1', 'actor'} <= names
  assert not {'decoder', 'critics', 'autoencoder'} & names


@pytest.mark.parametrize(
  'spoil,part',
  [
    (lambda content: b'', 'damaged'),
    (lambda content: content[:100], 'damaged'),
    (lambda content: content[:-4], 'damaged'),
    (lambda content: b'PK' + content, 'damaged'),
    (lambda content: content.replace(b'policy 1', b'policy 9'), 'version'),
    (lambda content: content.replace(b'"depth', b'"dopth'), 'dopth'),
    (
      lambda content: content.replace(b'\\"depth\\": 2', b'\\"depth\\": 1'),
      'parameters',
    ),
    (
      lambda content: content.replace(b'dopth', b'depth').replace(
        b'\\"kind\\": \\"Vector', b'\\"kind\\": \\"Victor'
      ),
      'Victor',
    ),
  ],
)
def test_a_file_that_is_damaged_or_another_is_refused(
  exported, tmp_path, spoil, part
):
  path = tmp_path / 'spoilt.safetensors'
  content = exported.read_bytes()
  spoilt = spoil(content)
  if part == 'dopth':
    spoilt = content.replace(b'\\"depth', b'\\"dopth')
  assert spoilt != content
  path.write_bytes(spoilt)
  with pytest.raises(ValueError, match=part) as error:
    acme_hieros.load(path)
  assert str(path) in str(error.value) and '\n' not in str(error.value)


def test_a_file_is_known_by_its_name(agent, tmp_path):
  with pytest.raises(ValueError, match='.safetensors'):
    agent.export(tmp_path / 'agent.bin')
  with pytest.raises(ValueError, match='cannot be read'):
    acme_hieros.load(tmp_path / 'none.safetensors')
  assert not list(tmp_path.iterdir())


def test_a_file_that_cannot_be_written_is_told_by_its_own_name(agent, tmp_path):
  path = tmp_path / 'none' / 'agent.safetensors'
  with pytest.raises(ValueError) as error:
    agent.export(path)
  assert str(error.value) == (
    f'{path} cannot be written (No such file or directory); choose another '
    'place.'
  )


def test_a_file_may_be_in_ones_home(agent, tmp_path, monkeypatch):
  monkeypatch.setenv('HOME', str(tmp_path))
  agent.export('~/agent.safetensors')
  assert [path.name for path in tmp_path.iterdir()] == ['agent.safetensors']
  assert acme_hieros.load('~/agent.safetensors').about == ABOUT


def test_arrays_of_all_types_come_back(tmp_path):
  arrays = {
    str(np.dtype(kind)): np.arange(6).reshape(2, 3).astype(kind)
    for kind in '? b h i l B H I L e f d'.split()
  } | {'empty': np.zeros((0, 2)), 'one': np.float32(3.0)[()].reshape(())}
  path = str(tmp_path / 'a')
  safetensors.save(path, arrays, {'x': 'y'})
  found, metadata = safetensors.load(path)
  assert metadata == {'x': 'y'} and list(found) == list(arrays)
  for name, array in arrays.items():
    assert found[name].dtype == array.dtype
    np.testing.assert_array_equal(found[name], array)


def test_acting_by_a_file_needs_no_acme(exported, environment):
  foreign = ('acme', 'absl', 'dm_env', 'gymnasium', 'reverb', 'tensorflow')
  modules = names_of(sorted((PACKAGE / 'policies').glob('*.py')))
  # Haiku may bring absl.
  assert loaded([*modules, 'acme_hieros.loading'], foreign) in ([], ['absl'])
  (seen,) = observations(environment, 1)
  program = f"""
import sys
sys.modules |= dict.fromkeys({foreign[:1] + foreign[2:]!r})
import numpy as np
import acme_hieros
agent = acme_hieros.load({str(exported)!r})
print(agent.act(np.array({seen.tolist()!r}, np.float32)).shape)
"""
  done = subprocess.run(
    [sys.executable, '-c', program],
    capture_output=True,
    text=True,
    cwd=PACKAGE.parent,
  )
  assert done.returncode == 0, done.stderr
  assert done.stdout.strip() == str(environment.action_spec().shape)
