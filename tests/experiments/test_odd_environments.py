"""Environments of odd forms train, or it is said what would do."""

from acme import specs
import gymnasium
from gymnasium import spaces
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tree

from acme_hieros.agent import networks as networks_lib
from acme_hieros.environments import checking, make_environment
from acme_hieros.experiments import runs, training
from acme_hieros.models import encoders, world_model
from acme_hieros.models import spaces as model_spaces
from benchmarks import smallest

pytestmark = pytest.mark.usefixtures('compile_quickly')


def pixels(*shape):
  return spaces.Box(0, 255, shape, np.uint8)


def box(*shape, low=-1.0, high=1.0, dtype=np.float32):
  return spaces.Box(low, high, shape, dtype)


TWO = spaces.Discrete(2)
BODY = box(3)
SEEN = model_spaces.Image
VECTOR = model_spaces.Vector

# Observations, and the spaces by which the agent sees them.
SEEING = {
  'a screen': (pixels(210, 160, 3), SEEN((64, 64, 3))),
  'gray': (pixels(84, 84), SEEN((64, 64, 1))),
  'gray with a channel': (pixels(84, 84, 1), SEEN((64, 64, 1))),
  'channels first': (pixels(3, 32, 32), SEEN((32, 32, 3))),
  'a stack of gray ones': (pixels(4, 84, 84), SEEN((64, 64, 4))),
  'a stack of coloured ones': (pixels(4, 20, 30, 3), SEEN((20, 30, 12))),
  'floats': (box(9, 12, 3, low=0.0), SEEN((9, 12, 3))),
  'floats to 255': (box(9, 12, 3, low=0.0, high=255.0), SEEN((9, 12, 3))),
  'floats of both signs': (box(3, 20, 20), SEEN((20, 20, 3))),
  'doubles': (box(9, 9, 1, low=0.0, dtype=np.float64), SEEN((9, 9, 1))),
  'gray floats': (box(20, 20, low=0.0), SEEN((20, 20, 1))),
  'a board of flags': (spaces.Box(0, 1, (10, 10, 6), bool), SEEN((10, 10, 6))),
  'a grid world': (
    spaces.Dict({'image': pixels(7, 7, 3), 'direction': spaces.Discrete(4)}),
    {'image': SEEN((7, 7, 3)), 'direction': model_spaces.OneHot((), 4)},
  ),
  'a board of int64': (
    spaces.Box(0, 12, (11, 11, 2), np.int64),
    SEEN((11, 11, 2)),
  ),
  'a pixel': (pixels(1, 1, 3), SEEN((1, 1, 3))),
  'a bar': (pixels(5, 300, 3), SEEN((5, 64, 3))),
  'int64': (
    spaces.Box(0, 99, (2,), np.int64),
    VECTOR((2,), np.dtype(np.int64)),
  ),
  'large int64': (spaces.Box(0, 2**62, (2,), np.int64), VECTOR((2,))),
  'a number': (box(), VECTOR(())),
  'no bounds': (box(3, low=-np.inf, high=np.inf), VECTOR((3,))),
  'a single choice': (spaces.Discrete(1), model_spaces.OneHot((), 1)),
  'odd keys': (
    spaces.Dict({1: TWO, 'a b': BODY, 'ü': spaces.Tuple((TWO,)), ('x',): TWO}),
    {
      '1': model_spaces.OneHot((), 2),
      'a b': VECTOR((3,)),
      'ü/0': model_spaces.OneHot((), 2),
      "('x',)": model_spaces.OneHot((), 2),
    },
  ),
  'all of it': (
    spaces.Dict(
      {
        'eyes': spaces.Tuple((pixels(16, 16, 3), pixels(9, 7, 1))),
        'deep': spaces.Dict({'deeper': spaces.Dict({'body': BODY})}),
        'on': spaces.MultiBinary((2, 2)),
        'gears': spaces.MultiDiscrete([2, 9]),
      }
    ),
    {
      'eyes/0': SEEN((16, 16, 3)),
      'eyes/1': SEEN((9, 7, 1)),
      'deep/deeper/body': VECTOR((3,)),
      'on': VECTOR((2, 2), np.dtype(np.int32)),
      'gears': VECTOR((2,), np.dtype(np.int32)),
    },
  ),
}

ACTING = {
  'unequal choices': spaces.MultiDiscrete([3, 2]),
  'choices from elsewhere': spaces.MultiDiscrete([3, 1, 5], start=[-1, 7, 0]),
  'a matrix of choices': spaces.MultiDiscrete([[2, 2], [4, 2]]),
  'a single choice': spaces.Discrete(1),
  'a choice from elsewhere': spaces.Discrete(3, start=-2),
  'flags': spaces.MultiBinary((2, 2)),
  'bools': spaces.Box(0, 1, (2,), bool),
  'whole numbers': spaces.Box(-2, 3, (2,), np.int64),
  'whole numbers of unequal bounds': spaces.Box(
    np.array([0, -3]), np.array([0, 5]), dtype=np.int32
  ),
  'doubles': box(2, 2, low=-3.0, dtype=np.float64),
  'no bounds': box(2, low=-np.inf, high=np.inf),
  'one bound': box(2, low=5.0, high=np.inf),
  'a number': box(),
  'a tuple': spaces.Tuple((TWO, box(2))),
  'odd keys': spaces.Dict({1: TWO, 'a b': spaces.Tuple((TWO, TWO)), '': BODY}),
  'all of it': spaces.Dict(
    {
      'steer': box(1, low=-0.5, high=0.5, dtype=np.float64),
      'hands': spaces.Tuple(
        (spaces.MultiDiscrete([3, 2]), spaces.Dict({'go': box(2, low=0.0)}))
      ),
      'nothing': spaces.Discrete(1),
    }
  ),
}

REFUSED = {
  'words': (
    spaces.Dict({'mission': spaces.Text(9), 'body': BODY}),
    TWO,
    ["'observation/mission'", 'leave out'],
  ),
  'an image without bounds': (
    box(9, 9, 3, high=np.inf),
    TWO,
    ['(9, 9, 3)', 'finite bounds'],
  ),
  'five axes': (pixels(2, 2, 9, 9, 3), TWO, ['(2, 2, 9, 9, 3)']),
  'nothing to see': (spaces.Dict({}), TWO, ['empty']),
  'nothing to do': (BODY, spaces.Dict({}), ['empty']),
  'no numbers to choose': (BODY, box(0), ['(0,)', 'empty']),
  'too many choices': (BODY, spaces.Discrete(2**40), ['floating-point']),
  'too far': (
    BODY,
    spaces.Box(0, 2**40, (2,), np.int64),
    ['floating-point numbers'],
  ),
  'words to say': (BODY, spaces.Text(9), ["'action'", 'not supported']),
  'keys that are one word': (
    spaces.Dict({1: TWO, '1': TWO}),
    TWO,
    ['rename', "'observation'"],
  ),
}


class Odd(gymnasium.Env):
  """Shows samples of its space, and ends how and when it was told."""

  def __init__(
    self, sees='no bounds', does='unequal choices', length=3, end='terminated'
  ):
    self.observation_space, self.action_space = _spaces(sees, does)
    # Samples of infinite bounds are finite.
    self.observation_space.seed(0)
    self._length, self._end = length, end

  def reset(self, *, seed=None, options=None):
    self._step = 0
    return self.observation_space.sample(), {}

  def step(self, action):
    assert self.action_space.contains(action), action
    self._step += 1
    over = self._step == self._length
    reward = np.ones(1) if self._end == 'reward' else 1.0
    ends = over and self._end == 'terminated', over and self._end == 'truncated'
    return self.observation_space.sample(), reward, *ends, {}


def _spaces(sees, does):
  if sees in REFUSED:
    return REFUSED[sees][:2]
  return SEEING[sees][0], ACTING[does]


if 'Odd-v0' not in gymnasium.registry:
  gymnasium.register('Odd-v0', Odd)

CONFIG = smallest.make_config(depth=2)


def build(environment):
  return networks_lib.make_networks(
    CONFIG, specs.make_environment_spec(environment)
  )


def trace_eyes(networks):
  """Encodes and decodes; raises if anything did not fit."""
  space, settings = networks.observation_spaces, CONFIG.world_model

  def both(observation):
    means = encoders.ImageMeans(space)
    args = settings, space, means, np.float32
    encoded, _ = encoders.Encoder(*args)(observation)
    choices = world_model.no_choices(settings, 2)
    # It depends on what was encoded.
    latent = choices, jnp.sum(encoded) * jnp.ones((2, settings.deter_size))
    return encoders.Decoder(*args)(latent)

  observation = {
    name: jax.ShapeDtypeStruct(
      (2, *x.shape), jax.dtypes.canonicalize_dtype(x.dtype)
    )
    for name, x in space.items()
  }
  init, apply = hk.without_apply_rng(hk.transform(both))
  key = jax.random.PRNGKey(0)
  decoded = jax.eval_shape(lambda x: apply(init(key, x), x), observation)
  encoded = jax.eval_shape(
    lambda x: {name: s.encode(x[name]) for name, s in space.items()},
    observation,
  )
  assert decoded == encoded


def trace_hands(networks):
  """Chooses and judges; raises if anything did not fit."""
  actor = networks.levels[0].actor

  def choose(key):
    inputs = jnp.zeros((3, 5))
    policy = actor.apply(actor.init(key, inputs), inputs)
    action = policy.sample(key)
    return action, policy.mode(), policy.log_prob(action), policy.entropy()

  action, mode, *numbers = jax.eval_shape(choose, jax.random.PRNGKey(0))
  assert action.shape == mode.shape == (3, networks.action_space.size)
  assert all(x.shape == (3,) for x in numbers)


def play(environment, networks, steps=8):
  """Plays random actions as the agent's are; the environment checks them."""
  rng = np.random.default_rng(0)
  timestep = environment.reset()
  for _ in range(steps):
    tree.map_structure(
      lambda s, x: s.validate(x),
      environment.observation_spec(),
      timestep.observation,
    )
    encoded = rng.normal(size=(1, networks.action_space.size))
    action = networks.action_space.decode(np.float32(encoded))
    action = networks.action_space.to_numpy(
      jax.tree.map(lambda x: x[0], action)
    )
    tree.map_structure(
      lambda s, x: s.validate(x), environment.action_spec(), action
    )
    timestep = environment.step(action)


@pytest.mark.parametrize('sees', SEEING)
def test_what_is_seen_fits_the_networks(sees):
  environment = make_environment('gym/Odd-v0', sees=sees)
  networks = build(environment)
  seen = SEEING[sees][1]
  if not isinstance(seen, dict):
    seen = {'observation': seen}
  assert networks.observation_spaces == seen
  play(environment, networks)
  trace_eyes(networks)


@pytest.mark.parametrize('does', ACTING)
def test_what_is_done_fits_the_environment(does):
  environment = make_environment('gym/Odd-v0', does=does)
  networks = build(environment)
  play(environment, networks)
  trace_hands(networks)


@pytest.mark.parametrize('refused', REFUSED)
def test_what_cannot_be_done_is_said_in_a_sentence(refused):
  with pytest.raises(ValueError) as error:
    build(make_environment('gym/Odd-v0', sees=refused))
  for word in REFUSED[refused][2]:
    assert word in str(error.value)
  assert '\n' not in str(error.value) and str(error.value).endswith('.')


def test_a_reward_that_is_an_array_is_refused_in_a_sentence():
  environment = make_environment('gym/Odd-v0', end='reward')
  environment.reset()
  with pytest.raises(checking.UnfitValueError, match='one finite number'):
    environment.step(np.zeros(2, np.int32))


@pytest.mark.parametrize(
  'options',
  [
    {'sees': 'odd keys', 'does': 'all of it', 'length': 5},
    # One that is over with its first step.
    {
      'sees': 'a grid world',
      'does': 'unequal choices',
      'length': 1,
      'end': 'truncated',
    },
  ],
)
def test_odd_environments_train(tmp_path, options):
  run = runs.Run(
    environment='gym/Odd-v0',
    environment_options=options,
    config=smallest.make_config(depth=1, replay__ratio=4),
    num_steps=40,
    envs_per_actor=2,
    workdir=str(tmp_path),
  )
  summary = training.Trainer(run).train()
  assert summary.steps == 40 and summary.updates > 5
  assert summary.mean_return == options.get('length', 3)
