"""How agents see what environments show."""

from dm_env import specs
import numpy as np
import pytest

from acme_hieros.environments import checking, seeing


def look_at(spec, value, image_size=None):
  """What the agent sees of a value, which its spec has to allow."""
  look = seeing.as_agents_want(spec, image_size)
  seen = np.array(value, look.dtype)
  if look.see is not None:
    seen = look.see(seen)
  look.spec.validate(seen)
  assert seen.flags.c_contiguous
  return seen


def integers(*shape, most=256, seed=0):
  rng = np.random.default_rng(seed)
  return rng.integers(0, most, shape).astype(np.uint8)


def pixels(*shape):
  return specs.BoundedArray(shape, np.uint8, 0, 255)


def floats(*shape, low=0.0, high=1.0, dtype=np.float32):
  return specs.BoundedArray(shape, dtype, low, high)


@pytest.mark.parametrize(
  'shape', [(64, 64, 3), (16, 16, 7), (7, 7, 3), (10, 10, 6), (64, 2, 9)]
)
def test_images_that_need_nothing_are_seen_as_they_are(shape):
  for spec in (pixels(*shape), specs.Array(shape, np.uint8)):
    look = seeing.as_agents_want(spec)
    assert look.see is None and look.spec is spec and not look.note


def test_a_gray_image_gets_its_channel():
  value = integers(20, 30)
  np.testing.assert_array_equal(
    look_at(pixels(20, 30), value), value[..., None]
  )
  look = seeing.as_agents_want(specs.Array((20, 30), np.uint8))
  assert look.spec.shape == (20, 30, 1)


def test_frames_of_a_stack_become_channels():
  value = integers(4, 20, 30, 3)
  seen = look_at(pixels(4, 20, 30, 3), value)
  assert seen.shape == (20, 30, 12)
  for frame in range(4):
    np.testing.assert_array_equal(
      seen[..., 3 * frame : 3 * frame + 3], value[frame]
    )
  first = look_at(pixels(4, 3, 20, 30), value.transpose(0, 3, 1, 2))
  np.testing.assert_array_equal(first, seen)


@pytest.mark.parametrize(
  'spec,values,shades',
  [
    (floats(9, 9, 1), [0.0, 0.5, 1.0], [0, 128, 255]),
    (floats(9, 9, 1), [-0.1, 1 / 255, 1.2], [0, 1, 255]),
    (floats(9, 9, 1, high=255.0), [0.0, 77.0, 255.0], [0, 77, 255]),
    (floats(9, 9, 1, low=-1.0), [-1.0, 0.0, 1.0], [0, 128, 255]),
    (floats(9, 9, 1, dtype=np.float64), [0.0, 0.2, 1.0], [0, 51, 255]),
    (floats(9, 9), [0.0, 0.2, 1.0], [0, 51, 255]),
    (floats(9, 9, high=255.0), [0.0, 3.0, 255.0], [0, 3, 255]),
    (specs.Array((9, 9, 1), bool), [False, True], [0, 255]),
    (
      specs.BoundedArray((9, 9, 1), bool, False, True),
      [False, True],
      [0, 255],
    ),
    (
      specs.BoundedArray((9, 9, 1), np.int16, -32768, 32767),
      [-32768, 32767, 0],
      [0, 255, 128],
    ),
    (
      specs.BoundedArray((9, 9, 1), np.int64, 0, 5),
      [0, 1, 2, 5],
      [0, 51, 102, 255],
    ),
    (specs.BoundedArray((9, 9), np.int32, 0, 255), [0, 7, 255], [0, 7, 255]),
    # Where there is nothing to tell apart.
    (floats(9, 9, 1, low=0.3, high=0.3), [0.3], [0]),
  ],
)
def test_other_numbers_become_shades(spec, values, shades):
  value = np.zeros(spec.shape, spec.dtype)
  value.reshape(-1)[: len(values)] = values
  seen = look_at(spec, value)
  assert seen.dtype == np.uint8 and seen.shape == (9, 9, 1)
  assert seen.reshape(-1)[: len(values)].tolist() == shades


def test_each_number_has_its_own_bounds():
  high = np.ones((9, 9, 2), np.float32)
  high[..., 1] = 10.0
  seen = look_at(floats(9, 9, 2, high=high), high / 5)
  np.testing.assert_array_equal(seen, 51)


def test_what_is_shades_already_stays_bit_for_bit():
  value = integers(4, 20, 20)
  seen = look_at(floats(4, 20, 20, high=255.0), value.astype(np.float32))
  np.testing.assert_array_equal(seen, value.transpose(1, 2, 0))
  seen = look_at(floats(4, 20, 20), value / np.float32(255))
  np.testing.assert_array_equal(seen, value.transpose(1, 2, 0))


@pytest.mark.parametrize(
  'shape,image_size,size',
  [
    ((84, 84), None, (64, 64, 1)),
    ((4, 84, 84), None, (64, 64, 4)),
    ((210, 160, 3), None, (64, 64, 3)),
    ((40, 200, 3), None, (40, 64, 3)),
    ((210, 160, 3), 32, (32, 32, 3)),
    ((210, 160, 3), 200, (200, 160, 3)),
    ((210, 160, 3), seeing.NATIVE, (210, 160, 3)),
    ((3, 210, 160), seeing.NATIVE, (210, 160, 3)),
  ],
)
def test_long_sides_are_shrunk(shape, image_size, size):
  seen = look_at(pixels(*shape), np.full(shape, 7), image_size)
  assert seen.shape == size
  np.testing.assert_array_equal(seen, 7)
  note = seeing.as_agents_want(pixels(*shape), image_size).note
  assert ('shrunk' in note) == (image_size != seeing.NATIVE)


def test_shrinking_takes_means_of_areas():
  value = integers(128, 64, 3)
  pairs = value.reshape(64, 2, 64, 3).astype(int)
  np.testing.assert_array_equal(
    look_at(pixels(128, 64, 3), value), (pairs.sum(1) + 1) // 2
  )


@pytest.mark.parametrize(
  'spec,has_note',
  [
    (floats(9, 9, high=3.0), True),
    (specs.Array((84, 84), np.float32), True),
    (specs.BoundedArray((9, 9), np.uint8, 0, 9), True),
    (specs.Array((9, 9), bool), True),
    (floats(12, 84), False),
    (pixels(64, 300), True),
    (pixels(4, 128), False),
    (floats(5, 5), False),
    (floats(9), False),
    (pixels(128), False),
    (specs.DiscreteArray(256), False),
  ],
)
def test_what_does_not_look_like_an_image_is_seen_as_it_is(spec, has_note):
  """But one is told of a matrix that could be one."""
  look = seeing.as_agents_want(spec)
  assert look.see is None and look.spec is spec
  assert ('vector' in look.note) == has_note


@pytest.mark.parametrize(
  'spec',
  [
    specs.Array((9, 9, 3), np.float32),
    floats(9, 9, 3, high=np.inf),
    floats(9, 9, 3, high=np.finfo(np.float32).max),
    specs.Array((9, 9, 3), np.int16),
    pixels(2, 2, 9, 9, 3),
    specs.Array((9, 0, 3), np.uint8),
  ],
)
def test_images_that_nothing_can_be_made_of_are_left(spec):
  look = seeing.as_agents_want(spec)
  assert look.see is None and look.spec is spec


def test_a_checker_checks_before_it_looks():
  checker = checking.Checker(
    'Odd', {'eye': floats(90, 100)}, seeing.as_agents_want
  )
  assert checker.changes
  (note,) = checker.notes
  for word in ("'eye'", '256 shades', '90 x 100', '64 x 64', 'image_size'):
    assert word in note
  with pytest.raises(checking.UnfitValueError, match='nan'):
    checker.observation({'eye': np.full((90, 100), np.nan)})
  with pytest.raises(checking.UnfitValueError, match='shape'):
    checker.observation({'eye': np.zeros((64, 64))})
  with pytest.warns(UserWarning, match='cut off'):
    seen = checker.observation({'eye': np.full((90, 100), 1.5)})
  np.testing.assert_array_equal(seen['eye'], 255)
