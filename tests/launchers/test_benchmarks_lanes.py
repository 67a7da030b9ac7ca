"""Agents side by side: their environment, their replay, and that they learn."""

import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from acme_hieros import config as config_lib
from acme_hieros.environments import make_environment, sparse
from acme_hieros.models import spaces

ROOT = pathlib.Path(__file__).parents[2]

ENVS = 3
SMALL = {
  'batch_size': 2,
  'sequence_length': 8,
  'world_model.mlp_units': 16,
  'world_model.head_units': 16,
  'world_model.deter_size': 16,
  'world_model.gru.width': 16,
  'world_model.categoricals': 2,
  'world_model.classes': 3,
  'actor_critic.units': 16,
  'actor_critic.horizon': 2,
  'subgoals.manager': 'level',
  'replay.min_size': 2 * ENVS * 48,
  # Three updates a round.
  'replay.ratio': 1 / 3,
}


@pytest.fixture(scope='module')
def launch(load_launcher):
  return load_launcher('lanes', ROOT / 'benchmarks')


@pytest.fixture(scope='module')
def lanes(launch):
  return sys.modules['lanes']


@pytest.fixture(scope='module')
def make_lane(lanes):
  def make_lane(**more):
    config = config_lib.override(
      config_lib.preset('tiny', 'director'), {'depth': 2, **SMALL, **more}
    )
    return lanes.Lane(config, ENVS)

  return make_lane


@pytest.fixture(scope='module')
def lane(make_lane):
  return make_lane()


@pytest.fixture(scope='module')
def played(lane):
  states, _ = jax.jit(lane.init)(jax.random.PRNGKey(3))
  return jax.device_get(jax.jit(lane.play)(states, jax.random.PRNGKey(4)))


@pytest.mark.parametrize('seed', range(4))
def test_its_board_is_the_environment_s(lanes, seed):
  signal = lanes.make_signal()
  environment = make_environment(
    'sparse/signal', seed=seed, decides='end', length=signal.length
  )
  rng = np.random.default_rng(seed)
  timestep, cells, actions = environment.reset(), [], []

  def where(time, lit):
    """The cells of which this is what is seen."""
    seen = signal.observe(time, jnp.full(64, lit), jnp.arange(64))
    same = (np.asarray(seen) == timestep.observation).all((1, 2, 3))
    return np.flatnonzero(same).tolist()

  (lit,) = [lit for lit in range(4) if where(0, lit)]
  while True:
    time = len(cells)
    (cell,) = where(time, lit)
    if cells and time != signal.delay:
      assert cell == signal.moves[cells[-1], actions[-1]]
    cells.append(cell)
    if timestep.last():
      break
    actions.append(rng.integers(len(sparse.MOVES)))
    timestep = environment.step(actions[-1])
    ends = time + 1 == signal.length
    assert timestep.last() == ends
    if not ends:
      assert timestep.reward == 0
  assert timestep.reward == sparse.REWARD * (signal.pads[cell] == lit)
  assert timestep.discount == 0


def test_players_are_put_anywhere_after_the_delay_and_walk_else(lanes):
  signal = lanes.make_signal()
  cell, then = jnp.array([9, 10]), jnp.array([40, 41])
  stay = jnp.zeros(2, int)
  for time in (0, signal.delay - 2, signal.delay):
    np.testing.assert_array_equal(signal.move(time, cell, stay, then), cell)
  at = signal.delay - 1
  np.testing.assert_array_equal(signal.move(at, cell, stay, then), then)


def test_each_level_has_a_row_a_tick_and_one_for_the_end(lane, played):
  episodes, facts = played
  for k, rows, end in zip((1, 8), episodes, (48, 6)):
    assert rows['reward'].shape == (ENVS, end + 1)
    np.testing.assert_array_equal(np.argwhere(rows['first'])[:, 1], 0)
    assert rows['first'][:, 0].all()
    np.testing.assert_allclose(rows['reward'].sum(1) * k, facts['return'])
    assert (rows['discount'][:, : end - 1] == 1).all()
    assert (rows['discount'][:, end - 1 :] == 0).all()
    for name in ('action', 'log_prob', 'reward'):
      assert not rows[name][:, end].any(), name
    assert (rows['log_prob'][:, :end] < 0).all()
  below, above = episodes
  # A step is done under what the level above has chosen at its last tick.
  np.testing.assert_array_equal(
    below['subgoal'][:, :48], above['action'][:, :6].repeat(8, 1)
  )
  np.testing.assert_array_equal(
    below['subgoal'][:, 48], below['subgoal'][:, 47]
  )
  # Windows: of the first tick one state only; later ones overlap nowhere.
  stoch = above['observation']['stoch']
  padding = lane.config.world_model.classes
  assert (stoch[:, 0, :7] == padding).all() and (stoch[:, 0, 7] < padding).all()
  assert (stoch[:, 1:] < padding).all()
  assert facts['h'].shape[:2] == (ENVS, 6)


def test_images_are_of_the_signal_at_first_and_of_the_player(lane, played):
  (below, _), facts = played
  yellow = (below['observation'][spaces.SINGLE] == (255, 255, 0)).all(-1)
  assert yellow[:, : lane.signal.shown].any((2, 3)).all()
  assert not yellow[:, lane.signal.shown :].any()
  white = (below['observation'][spaces.SINGLE] == 255).all(-1)
  assert (white.sum((2, 3)) == 4).all()
  earned = sparse.REWARD * (facts['pad'] == facts['lit'])
  np.testing.assert_array_equal(facts['return'], earned)


@pytest.mark.parametrize('rounds', [1, 3, 4, 11])
def test_sequences_are_of_steps_that_follow_each_other(make_lane, rounds):
  lane = make_lane(**{'replay.capacity': 4 * 49 * ENVS})
  assert lane.slots[0] == 4
  # Of each environment, and in the order in which they were made.
  table = np.full((ENVS, 4, 49), -1)
  for i in range(rounds):
    table[:, i % 4] = i * 49 + np.arange(49)
  table += np.arange(ENVS)[:, None, None] * 10_000
  rows = {'action': jnp.asarray(table)}
  others = ('observation', 'reward', 'discount', 'first', 'log_prob')
  rows |= dict.fromkeys(others, jnp.zeros((ENVS, 4, 49)))
  sample = jax.jit(lambda key: lane.sample(rows, 0, rounds, key))
  drawn = []
  for i in range(300):
    batch = sample(jax.random.PRNGKey(i))
    drawn += list(np.asarray(batch.sequence.action))
  drawn = np.array(drawn)
  assert (np.diff(drawn, axis=1) == 1).all()
  starts = np.unique(drawn[:, 0] % 10_000)
  oldest, newest = max(0, rounds - 4) * 49, rounds * 49 - 8
  assert oldest <= starts.min() and starts.max() <= newest
  # Of so many draws some come near to both ends.
  assert starts.min() < oldest + 6 and starts.max() > newest - 6
  assert set(drawn[:, 0] // 10_000) == set(range(ENVS))


def test_it_plays_first_and_then_learns(lanes, make_lane):
  flat = {'actor_critic.extrinsic_weight': 1, 'actor_critic.novelty_weight': 0}
  side = lanes.Lanes(make_lane(depth=1, **flat), count=2)
  assert (side.lane.warmup, side.lane.updates) == (2, 3)
  for _ in range(2):
    _, metrics = side.round()
    assert not metrics and side.updates == 0
  facts, metrics = side.round()
  assert side.updates == 3 and len(metrics) == 1
  for level, values in zip(side._states, metrics):
    assert level.steps.tolist() == [3, 3]
    for name, value in values.items():
      assert value.shape == (2,) and np.isfinite(value).all(), name
      # Each has a seed of its own.
    assert values['world_model_loss'][0] != values['world_model_loss'][1]
  first, second = lanes.describe(side, [facts, facts], metrics)
  assert (first['lane'], second['lane']) == (0, 1)
  assert (first['updates'], first['steps']) == (3, 3 * ENVS * 48)
  assert first['return'] == pytest.approx(facts['return'][0].mean(), abs=1e-3)
  ends = [second[name] for name in ('nowhere', *(f'pad_{i}' for i in range(4)))]
  assert ends == [2 * list(facts['pad'][1]).count(i) for i in range(-1, 4)]
  assert second['top_entropy'] == pytest.approx(
    metrics[-1]['policy_entropy'][1], abs=1e-3
  )


def test_what_is_known_is_told_from_what_is_not(lanes):
  rng = np.random.default_rng(0)
  lit = rng.integers(0, 4, 2000)
  noise = rng.normal(size=(2000, 30))
  assert 0.18 < lanes.named(noise, lit) < 0.32
  noise[:, 7] += 3.0 * (lit == 2)
  assert 0.35 < lanes.named(noise, lit) < 0.6
  noise[:, :4] += 8.0 * np.eye(4)[lit]
  assert lanes.named(noise, lit) > 0.95


@pytest.mark.parametrize(
  'changed, part',
  [
    ({'subgoals.duration': (5,)}, 'whole steps of 5'),
    ({'replay.sampler': 'etbs'}, 'replay.sampler=uniform'),
  ],
)
def test_what_it_cannot_do_is_one_sentence(make_lane, changed, part):
  with pytest.raises(ValueError, match=part):
    make_lane(**changed)


def test_bad_flags_are_one_sentence(launch, tmp_path):
  for flag, part in (
    ('--override=subgoals.duration=7', 'lanes: episodes of 48 steps'),
    ('--override=depth', 'name=value'),
    ('--variant=none', 'none'),
    ('--lanes=0', 'lanes'),
  ):
    assert part in launch(flag, f'--results={tmp_path}')
