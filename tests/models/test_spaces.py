"""What levels see and do, read from dm_env specs."""

import collections

from dm_env import specs
import jax.numpy as jnp
import numpy as np
import pytest
import tree

from acme_hieros.models import spaces

IMAGE = specs.BoundedArray((8, 6, 3), np.uint8, 0, 255)
FRAME = specs.Array((8, 6, 3), np.float32)
NUMBER = specs.Array((), np.float64)
Pair = collections.namedtuple('Pair', ['left', 'right'])


def test_a_single_array_has_the_one_name():
  assert spaces.observation_spaces(IMAGE) == {
    'observation': spaces.Image((8, 6, 3))
  }
  assert spaces.flatten_observation(3.0) == {'observation': 3.0}


@pytest.mark.parametrize(
  'spec,space',
  [
    (specs.DiscreteArray(5), spaces.OneHot((), 5, np.dtype(np.int32))),
    (NUMBER, spaces.Vector((), np.dtype(np.float64))),
    (specs.Array((3,), bool), spaces.Vector((3,), np.dtype(bool))),
    (
      specs.BoundedArray((2, 3), np.uint8, 0, 255),
      spaces.Vector((2, 3), np.dtype(np.uint8)),
    ),
  ],
)
def test_arrays_become_the_space_that_encodes_them(spec, space):
  assert spaces.observation_spaces(spec) == {'observation': space}


def test_nested_observations_and_their_specs_get_the_same_path_names():
  pair = collections.namedtuple('pair', ['left', 'right'])
  spec = {
    'eye': IMAGE,
    'body': (NUMBER, {'on': specs.DiscreteArray(2)}),
    'hands': pair(NUMBER, [NUMBER]),
  }
  value = {'eye': 0, 'body': (1, {'on': 2}), 'hands': pair(3, [4])}
  names = ['eye', 'body/0', 'body/1/on', 'hands/0', 'hands/1/0']
  assert list(spaces.observation_spaces(spec)) == names
  assert spaces.flatten_observation(value) == dict(zip(names, range(5)))


@pytest.mark.parametrize(
  'spec,words',
  [
    ({'eye': FRAME}, ["'eye'", '(8, 6, 3)', 'float32']),
    ({'a': [specs.Array((2, 3, 4, 5), np.uint8)]}, ["'a/0'", '(2, 3, 4, 5)']),
    (specs.Array((2,), np.complex64), ["'observation'", 'complex64']),
    ({'name': specs.StringArray(())}, ["'name'", 'images are uint8']),
    (specs.Array((0,), np.float32), ["'observation'", '(0,)']),
    ({}, ['empty']),
  ],
)
def test_an_observation_that_no_encoder_fits_is_named(spec, words):
  with pytest.raises(ValueError) as error:
    spaces.observation_spaces(spec)
  for word in words:
    assert word in str(error.value)
  assert '\n' not in str(error.value)


def test_vectors_are_flattened_and_compressed():
  x = np.array([[[-3.0, 0.0, 7.0], [1.0, 1e6, -1e-3]]])
  encoded = spaces.Vector((2, 3)).encode(jnp.asarray(x))
  expected = (np.sign(x) * np.log1p(np.abs(x))).reshape(1, 6)
  np.testing.assert_allclose(encoded, expected, rtol=1e-5)
  flags = spaces.Vector((3,), np.dtype(bool)).encode(
    jnp.array([True, False, 1])
  )
  np.testing.assert_allclose(flags, np.log(2) * np.array([1, 0, 1]), rtol=1e-6)
  assert spaces.Vector(()).encode(jnp.zeros((4, 2))).shape == (4, 2, 1)


def test_one_hot_encodes_indices_and_its_padding_as_zeros():
  space = spaces.OneHot((2,), 3, np.dtype(np.uint8))
  assert space.size == 6
  encoded = space.encode(jnp.array([[0, 2], [3, 1]], jnp.uint8))
  np.testing.assert_array_equal(
    encoded, [[1, 0, 0, 0, 0, 1], [0, 0, 0, 0, 1, 0]]
  )


@pytest.mark.parametrize('number', [5, 0])
@pytest.mark.parametrize('shape', [(), (3,), (2, 2)])
def test_discrete_actions_decode_to_what_was_encoded(shape, number):
  space = spaces.Discrete(shape, 4)
  action = np.random.default_rng(0).integers(0, 4, (number, *shape))
  onehot = space.encode(jnp.asarray(action))
  assert onehot.shape == (number, space.size)
  np.testing.assert_array_equal(onehot.sum(-1), space.num_choices)
  decoded = space.decode(onehot)
  assert decoded.dtype == np.int32
  np.testing.assert_array_equal(decoded, action)


@pytest.mark.parametrize(
  'spec,space',
  [
    (specs.DiscreteArray(4), spaces.Discrete((), 4)),
    (
      specs.BoundedArray((3,), np.int32, 0, 4),
      spaces.Discrete((3,), 5),
    ),
    (
      specs.BoundedArray((2,), np.int64, [0, 0], [2, 2]),
      spaces.Discrete((2,), 3, np.dtype(np.int64)),
    ),
    (
      specs.BoundedArray((2,), np.float32, [-1, 0], 3),
      spaces.Continuous((2,), (-1.0, 0.0), (3.0, 3.0)),
    ),
    (
      specs.Array((1,), np.float32),
      spaces.Continuous((1,), (-np.inf,), (np.inf,)),
    ),
    (specs.DiscreteArray(1), spaces.Discrete((), 1)),
    (
      specs.BoundedArray((2,), np.int32, 0, [2, 1]),
      spaces.Discrete((2,), 3, sizes=(3, 2)),
    ),
    (
      specs.BoundedArray((2,), np.int32, 1, 3),
      spaces.Discrete((2,), 3, minimum=(1, 1)),
    ),
    (
      specs.BoundedArray((1, 2), np.int64, [[-1, 0]], [[1, 0]]),
      spaces.Discrete((1, 2), 3, np.dtype(np.int64), (3, 1), (-1, 0)),
    ),
    (specs.Array((2,), bool), spaces.Discrete((2,), 2, np.dtype(bool))),
    (
      {
        'b': [specs.DiscreteArray(4)],
        'a': specs.BoundedArray((1,), np.float32, 0, 1),
      },
      spaces.Joint(
        {
          'b/0': spaces.Discrete((), 4),
          'a': spaces.Continuous((1,), (0.0,), (1.0,)),
        },
        {'b': ['b/0'], 'a': 'a'},
      ),
    ),
    (
      Pair(specs.DiscreteArray(2), (specs.DiscreteArray(3),)),
      spaces.Joint(
        {'0': spaces.Discrete((), 2), '1/0': spaces.Discrete((), 3)},
        Pair('0', ('1/0',)),
      ),
    ),
  ],
)
def test_action_specs_become_the_space_that_an_actor_fits(spec, space):
  assert spaces.action_space(spec) == space


@pytest.mark.parametrize(
  'spec,word',
  [
    (specs.Array((2,), np.int32), 'bounds have to be known'),
    (specs.BoundedArray((2,), np.int64, 0, 2**40), 'floating-point numbers'),
    (specs.BoundedArray((1,), np.int64, -(2**40), -(2**40)), 'less than'),
    (specs.DiscreteArray(2**31 - 1), 'floating-point numbers'),
    (specs.StringArray(()), 'No actor fits'),
    ({'a': [specs.StringArray(())]}, "No actor fits the action 'a/0'"),
    (specs.Array((2,), np.complex64), 'complex64'),
    (specs.Array((0,), np.float32), 'empty'),
    (specs.BoundedArray((0,), np.int32, 0, 1), 'empty'),
    ({'a': {}}, 'empty'),
    (
      {'a/b': specs.DiscreteArray(2), 'a': {'b': specs.DiscreteArray(2)}},
      "Two actions are named 'a/b'",
    ),
  ],
)
def test_an_action_that_no_actor_fits_is_refused_in_one_sentence(spec, word):
  with pytest.raises(ValueError, match=word) as error:
    spaces.action_space(spec)
  assert '\n' not in str(error.value)


SOME = spaces.Discrete((2, 2), 4, sizes=(4, 1, 2, 3), minimum=(0, -7, 1, 5))


def test_choices_of_unequal_numbers_decode_to_what_was_encoded():
  index = np.random.default_rng(0).integers(
    0, np.reshape(SOME.sizes, (2, 2)), (20, 2, 2)
  )
  action = index + np.reshape(SOME.minimum, (2, 2))
  onehot = np.asarray(SOME.encode(jnp.asarray(action)))
  assert onehot.shape == (20, 16)
  np.testing.assert_array_equal(
    onehot.reshape(20, 4, 4).argmax(-1), index.reshape(20, 4)
  )
  np.testing.assert_array_equal(SOME.decode(onehot), action)
  # A class that there is not becomes the last one that there is.
  there = SOME.decode(jnp.tile(jnp.array([0.0, 0.0, 0.0, 1.0]), 4))
  np.testing.assert_array_equal(there, [[3, -7], [2, 7]])
  np.testing.assert_allclose(SOME.most_entropy, np.log(4 * 1 * 2 * 3))


def test_a_joint_action_is_its_parts_beside_each_other():
  box = spaces.Continuous((2,), (0.0, 0.0), (2.0, 4.0), np.dtype(np.float64))
  space = spaces.Joint(
    {'x/0': SOME, 'x/1': box, 'go': spaces.Discrete((), 2, np.dtype(np.int64))},
    {'x': Pair('x/0', 'x/1'), 'go': 'go'},
  )
  rng = np.random.default_rng(0)
  action = {
    'go': jnp.asarray(rng.integers(0, 2, 5)),
    'x': Pair(
      SOME.zeros((5,)) + jnp.array([[3, -7], [1, 6]]), rng.random((5, 2))
    ),
  }
  encoded = space.encode(action)
  assert encoded.shape == (5, space.size) == (5, 16 + 2 + 2)
  np.testing.assert_array_equal(encoded[:, :16], SOME.encode(action['x'].left))
  np.testing.assert_array_equal(
    encoded[:, 16:18], box.encode(jnp.asarray(action['x'].right))
  )
  decoded = space.decode(encoded)
  assert type(decoded['x']) is Pair
  for one, other in zip(tree.flatten(decoded), tree.flatten(action)):
    np.testing.assert_allclose(one, other, atol=1e-6)
  for nested in (decoded, space.zeros((5,))):
    given = space.to_numpy(nested)
    assert [x.dtype for x in tree.flatten(given)] == [
      np.int64,
      np.int32,
      np.float64,
    ]
    assert all(type(x) is np.ndarray for x in tree.flatten(given))
  assert space.has_choices and space.has_numbers and not space.most_entropy
  choices = spaces.Joint({'a': SOME, 'b': spaces.Discrete((), 2)}, ('a', 'b'))
  assert not choices.has_numbers
  np.testing.assert_allclose(choices.most_entropy, np.log(24 * 2))


BOX = spaces.Continuous(
  (2, 2), (-2.0, 0.0, -np.inf, 0.0), (2.0, 10.0, np.inf, np.inf)
)


def test_continuous_maps_finite_bounds_to_the_unit_box_and_back():
  low, high = [[-2.0, 0.0], [-7.0, 0.5]], [[2.0, 10.0], [7.0, 0.5]]
  encoded = BOX.encode(jnp.array([low, high]))
  np.testing.assert_allclose(
    encoded, [[-1, -1, -7, -0.5], [1, 1, 7, -0.5]], rtol=1e-6
  )
  rng = np.random.default_rng(0)
  action = rng.uniform([-2, 0, -5, 0], [2, 10, 5, 5], (20, 4))
  action = action.reshape(20, 2, 2)
  np.testing.assert_allclose(
    BOX.decode(BOX.encode(jnp.asarray(action))), action, rtol=1e-5, atol=1e-5
  )


@pytest.mark.parametrize(
  'bounds,lowest,highest',
  [
    ((5.0, np.inf), 5.0, 7.0),
    ((-np.inf, -5.0), -7.0, -5.0),
    ((-np.inf, np.inf), -1.0, 1.0),
    ((-np.finfo(np.float32).max, np.finfo(np.float32).max), -1.0, 1.0),
    ((-1e10, 1e10), -1.0, 1.0),  # DM Control's.
  ],
)
def test_beside_a_single_bound_an_actor_can_choose(bounds, lowest, highest):
  space = spaces.Continuous((1,), bounds[:1], bounds[1:])
  decoded = space.decode(jnp.array([[-1.0], [1.0]]))
  np.testing.assert_allclose(decoded, [[lowest], [highest]])
  bounded = spaces.Continuous((1,), (0.0,), (1.0,))
  for action, unbounded in ((space, True), (bounded, False), (SOME, False)):
    joint = spaces.Joint({'a': SOME, 'b': action}, ('a', 'b'))
    assert (
      spaces.is_unbounded(action) == spaces.is_unbounded(joint) == unbounded
    )


def test_large_bounds_are_bounds():
  space = spaces.Continuous((2,), (0.0, 1.1e6), (1e6, 2e6))
  assert not spaces.is_unbounded(space)
  np.testing.assert_allclose(
    space.decode(jnp.array([[-1.0, -1.0], [1.0, 0.0]])),
    [[0.0, 1.1e6], [1e6, 1.55e6]],
    rtol=1e-6,
  )


def test_continuous_decode_clips_to_the_bounds():
  decoded = BOX.decode(jnp.array([[-3.0, 3.0, -30.0, -3.0]]))
  np.testing.assert_allclose(decoded, [[[-2.0, 10.0], [-30.0, 0.0]]])
  assert decoded.dtype == np.float32


def test_continuous_with_equal_bounds_gives_the_one_number():
  space = spaces.Continuous((1,), (3.0,), (3.0,))
  np.testing.assert_array_equal(space.decode(jnp.array([[-0.4]])), [[3.0]])
  assert np.all(np.isfinite(space.encode(jnp.array([[3.0]]))))


@pytest.mark.parametrize(
  'spec',
  [
    specs.BoundedArray((0, 8, 3), np.uint8, 0, 255),
    specs.BoundedArray((8, 8, 0), np.uint8, 0, 255),
    specs.DiscreteArray(2**40, np.int64),
  ],
)
def test_what_nothing_can_encode_is_refused(spec):
  with pytest.raises(ValueError, match="No encoder fits the observation 'a'"):
    spaces.observation_spaces({'a': spec})
