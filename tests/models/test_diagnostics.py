"""Diagnoses, against loops over episodes and models known to be right."""

import functools
import types
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from acme_hieros import config as config_lib
from acme_hieros.models import (
  diagnostics,
  distributions,
  hierarchy,
  spaces,
  subgoals,
  world_model,
)
from acme_hieros.models import level as level_lib

BATCH, LENGTH = 6, 20


def symlog(x):
  return np.sign(x) * np.log1p(np.abs(x))


# --- Subgoals ----------------------------------------------------------------


def similarity(goal, state):
  state = symlog(state)
  longest = max(goal @ goal, state @ state)
  return max(0.0, goal @ state / longest)


def subgoals_of(code, start):
  """(first step, end) of each whole subgoal of one sequence, by a loop."""
  found, begin = [], None
  for t in range(len(code)):
    if start[t] or (t and (code[t] != code[t - 1]).any()):
      begin = t
    if begin is None or t + 1 == len(code):
      continue
    if start[t + 1]:
      end = t
    elif (code[t + 1] != code[t]).any():
      end = t + 1
    else:
      continue
    if end > begin:
      found.append((t, begin, end))
  return found


def random_subgoals(seed):
  rng = np.random.default_rng(seed)
  code = rng.integers(0, 2, (BATCH, LENGTH // 2, 2)).repeat(2, 1)
  goal = rng.normal(size=(BATCH, LENGTH, 4)).astype(np.float32)
  # The same code is the same goal.
  goal = np.array([[1, 2, 3, 4], [2, 1, -1, 0], [0, 1, 1, 1], [1, 1, 0, -1]])
  goal = goal[code[..., 0] * 2 + code[..., 1]].astype(np.float32)
  deter = rng.normal(size=(BATCH, LENGTH, 4)).astype(np.float32)
  start = rng.random((BATCH, LENGTH)) < 0.15
  return code, goal, deter, start


@pytest.mark.parametrize('seed', range(3))
def test_subgoal_metrics_equal_a_loop_over_subgoals(seed):
  code, goal, deter, start = random_subgoals(seed)
  expected = []
  flat = goal.reshape((-1, 4))
  for b in range(BATCH):
    for t, begin, end in subgoals_of(code[b], start[b]):
      other = flat[(b * LENGTH + t - len(flat) // 2) % len(flat)]
      first = similarity(goal[b, t], deter[b, begin])
      last = similarity(goal[b, t], deter[b, end])
      random = similarity(other, deter[b, end])
      expected.append((last > first and last > random, first, last, random))
  assert len(expected) > 20
  metrics = diagnostics.subgoal_metrics(goal, code, deter, jnp.asarray(start))
  np.testing.assert_allclose(
    [
      metrics['subgoal_reached'],
      metrics['subgoal_start_similarity'],
      metrics['subgoal_end_similarity'],
      metrics['subgoal_random_similarity'],
    ],
    np.mean(expected, 0),
    rtol=1e-5,
  )


def test_states_that_go_to_their_subgoals_reach_them():
  rng = np.random.default_rng(0)
  codes = rng.integers(0, 8, (BATCH, LENGTH // 4, 3))
  goals = rng.normal(size=(8, 8, 8, 5)).astype(np.float32)
  code = codes.repeat(4, 1)
  goal = goals[code[..., 0], code[..., 1], code[..., 2]]
  # At t + 1 the state is the goal of t; symexp undoes the symlog.
  deter = np.sign(goal) * np.expm1(np.abs(goal))
  deter = np.concatenate([np.zeros_like(deter[:, :1]), deter[:, :-1]], 1)
  start = np.zeros((BATCH, LENGTH), bool)
  metrics = diagnostics.subgoal_metrics(goal, code, deter, jnp.asarray(start))
  assert metrics['subgoal_reached'] == 1.0
  np.testing.assert_allclose(metrics['subgoal_end_similarity'], 1.0, rtol=1e-5)
  assert metrics['subgoal_random_similarity'] < 0.5


def errand_metrics(go):
  """Of a level whose imagined steps end in `go(start, subgoal)`, all h [N, D].

  Its states are their own codes, one-hot, and nine differ from each other.
  """
  deter = jnp.asarray(np.random.default_rng(0).normal(size=(9, 9)), jnp.float32)

  def decode(params, code):
    return jnp.asarray(symlog(np.asarray(code @ params)))

  def imagine(acting, key, start, features, code, memory, horizon):
    assert horizon == 5 and features is start.deter
    end = go(start.deter, code @ acting.world_model)
    return types.SimpleNamespace(deter=jnp.stack(4 * [0 * end] + [end]))

  state = types.SimpleNamespace(deter=deter)
  level = types.SimpleNamespace(
    duration=5,
    world_model=types.SimpleNamespace(
      starts=lambda state, times, horizon: state,
      predict=lambda params, state: types.SimpleNamespace(features=state.deter),
    ),
    actor=types.SimpleNamespace(initial_state=lambda count: ()),
    autoencoder=types.SimpleNamespace(decode=decode),
    imagine=imagine,
  )
  params = types.SimpleNamespace(
    world_model=deter, actor=None, manager=None, autoencoder=deter
  )
  return diagnostics._errand_metrics(
    level,
    params,
    jax.random.PRNGKey(0),
    state,
    jnp.log(jnp.eye(9)).reshape((3, 3, 1, 9)),
  )


def test_an_errand_is_reached_by_going_to_another_state_of_replay():
  there = errand_metrics(lambda start, subgoal: subgoal)
  assert there['errand_reached'] == 1.0
  np.testing.assert_allclose(there['errand_end_similarity'], 1.0, rtol=1e-5)
  assert there['errand_other_similarity'] < 0.5


def test_an_errand_is_not_reached_by_going_where_all_others_go():
  same = errand_metrics(lambda start, subgoal: start)
  assert same['errand_reached'] == 0.5  # All are ties.
  assert same['errand_end_similarity'] == same['errand_other_similarity'] < 0.5


def test_an_errand_leads_from_each_state_to_two_others():
  goals = []

  def go(start, subgoal):
    differs = jnp.any(subgoal != start, -1)
    jax.debug.callback(lambda x, y: goals.append((x, y)), differs, subgoal)
    return subgoal

  errand_metrics(go)
  (differs, one), (also, other) = goals
  assert np.all(differs) and np.all(also)
  assert np.all(np.any(one != other, -1))


def test_without_a_whole_subgoal_there_is_no_number():
  code = np.zeros((2, 5, 3), int)
  goal = np.ones((2, 5, 4), np.float32)
  start = jnp.zeros((2, 5), bool)
  metrics = diagnostics.subgoal_metrics(goal, code, goal, start)
  assert all(np.isnan(value) for value in metrics.values())


def test_code_metrics_equal_those_of_numpy_and_scipy():
  rng = np.random.default_rng(1)
  code = rng.choice(5, (4, 9, 2), p=[0.6, 0.2, 0.1, 0.1, 0.0])
  rows = code.reshape((-1, 2))
  entropies = [
    scipy.stats.entropy(np.bincount(column, minlength=5)) for column in rows.T
  ]
  metrics = diagnostics.code_metrics(jnp.asarray(code, jnp.uint8), 5)
  np.testing.assert_allclose(
    metrics['code_entropy'], np.mean(entropies) / np.log(5), rtol=1e-5
  )
  assert metrics['distinct_codes'] == len(np.unique(rows, axis=0))


# --- Predictions -------------------------------------------------------------


class Counted(NamedTuple):
  o: jax.Array
  memory: tuple = ()


def counting_level(drift):
  """A world where o' = o + a, and a model of it that errs by `drift` a step."""

  model = types.SimpleNamespace(
    observe=lambda params, key, observation, action, reset: Counted(
      observation['o']
    ),
    starts=lambda state, times, horizon: Counted(
      state.o[:, times].reshape((-1, 1))
    ),
    imagine_step=lambda params, key, state, action: Counted(
      state.o + action + drift
    ),
    predict=lambda params, state: world_model.Prediction(
      features=None,
      reward=2.0 * state.o[..., 0],
      continuation=jnp.ones(state.o.shape[:-1]),
    ),
    decode=lambda params, state: {'o': distributions.symlog(state.o)},
  )
  return types.SimpleNamespace(
    observation_spaces={'o': spaces.Vector((1,))},
    action_space=spaces.Continuous((1,), (-1.0,), (1.0,)),
    subgoal_space=None,
    autoencoder=None,
    world_model=model,
    as_learned=lambda sequence: sequence,
  )


def counting_batch(length=65):
  """Actions of +-1; an episode starts at step 30 of half of the sequences."""
  rng = np.random.default_rng(2)
  action = rng.choice([-1.0, 1.0], (BATCH, length, 1)).astype(np.float32)
  start = np.zeros((BATCH, length), bool)
  start[::2, 30:31] = True
  observation = np.zeros((BATCH, length, 1), np.float32)
  for t in range(1, length):
    observation[:, t] = observation[:, t - 1] + action[:, t - 1]
    observation[start[:, t], t] = 100.0
  # What the action led to.
  reward = np.zeros((BATCH, length), np.float32)
  reward[:, :-1] = 2.0 * observation[:, 1:, 0]
  return level_lib.Batch(
    world_model.Sequence(
      {'o': jnp.asarray(observation)},
      jnp.asarray(action),
      jnp.asarray(reward),
      jnp.ones((BATCH, length)),
      jnp.asarray(start),
    )
  )


def diagnose(level, batch):
  params = level_lib.Params(*[None] * len(level_lib.Params._fields))
  return diagnostics.diagnose(level, params, jax.random.PRNGKey(0), batch)


def test_a_perfect_model_has_no_error_up_to_50_steps_ahead():
  metrics = diagnose(counting_level(0.0), counting_batch())
  for horizon in (1, 2, 5, 10, 20, 50):
    assert abs(metrics[f'open_loop_error_{horizon}']) < 1e-8
    assert abs(metrics[f'open_loop_reward_error_{horizon}']) < 1e-4
    assert metrics[f'open_loop_continuation_error_{horizon}'] == 0.0
  assert metrics['reconstruction_error'] == 0.0


def test_open_loop_errors_are_those_of_a_model_with_a_known_drift():
  batch = counting_batch()
  metrics = diagnose(counting_level(0.5), batch)
  observation = np.asarray(batch.sequence.observation['o'])[..., 0]
  start = np.asarray(batch.sequence.start_of_episode)
  variance = symlog(observation).var()
  context = 15  # 65 steps less the longest horizon.
  for horizon in (1, 5, 50):
    t = context - 1 + horizon
    same = ~start[:, context : t + 1].any(1)
    true = observation[same, t]
    error = np.mean((symlog(true + 0.5 * horizon) - symlog(true)) ** 2)
    np.testing.assert_allclose(
      metrics[f'open_loop_error_{horizon}'], error / variance, rtol=1e-4
    )
    np.testing.assert_allclose(
      metrics[f'open_loop_reward_error_{horizon}'], horizon, rtol=1e-4
    )
  # Where the episode has ended, nothing is to be foreseen.
  assert same.sum() == BATCH // 2


def test_horizons_beyond_the_sequence_are_left_out():
  metrics = diagnose(counting_level(0.0), counting_batch(length=16))
  assert 'open_loop_error_10' in metrics
  assert 'open_loop_error_20' not in metrics


def test_what_does_not_vary_does_not_count():
  batch, level = counting_batch(), counting_level(0.5)
  expected = diagnose(level, batch)
  constant = jnp.ones(batch.sequence.reward.shape + (2,))
  observation = {**batch.sequence.observation, 'constant': constant}
  batch = batch._replace(
    sequence=batch.sequence._replace(observation=observation)
  )
  level.observation_spaces['constant'] = spaces.Vector((2,))
  decode = level.world_model.decode
  level.world_model.decode = lambda params, state: {
    **decode(params, state),
    'constant': jnp.full(state.o.shape[:-1] + (2,), 0.7),
  }
  metrics = diagnose(level, batch)
  for name, value in metrics.items():
    np.testing.assert_array_equal(value, expected[name], name)


def test_an_unpredictable_horizon_is_not_a_number():
  batch = counting_batch()
  start = jnp.zeros((BATCH, 65), bool).at[:, 17].set(True)
  batch = batch._replace(
    sequence=batch.sequence._replace(start_of_episode=start)
  )
  metrics = diagnose(counting_level(0.0), batch)
  assert np.isfinite(metrics['open_loop_error_2'])
  assert np.isnan(metrics['open_loop_error_5'])


# --- The real thing ----------------------------------------------------------


@pytest.fixture(scope='module')
def levels(config, draw):
  agent = hierarchy.Hierarchy(
    config, {'eye': spaces.Image((8, 8, 3))}, spaces.Discrete((), 3)
  )
  return [(level, draw(level.init).params) for level in agent.levels]


def random_batch(level, seed=3):
  rng = np.random.default_rng(seed)
  shape = (2, 12)
  observation = {}
  for name, space in level.observation_spaces.items():
    high = getattr(space, 'classes', 255)
    observation[name] = jnp.asarray(
      rng.integers(0, high, (*shape, *space.shape)).astype(space.dtype)
    )
  subgoal = None
  if level.subgoal_space:
    subgoal = rng.integers(
      0, level.subgoal_space.classes, (*shape, level.subgoal_space.num_choices)
    )
    subgoal = jnp.asarray(subgoal, jnp.uint8)
  action = rng.integers(
    0, level.action_space.classes, (*shape, *level.action_space.shape)
  )
  return level_lib.Batch(
    world_model.Sequence(
      observation,
      jnp.asarray(action),
      jnp.asarray(rng.normal(size=shape), jnp.float32),
      jnp.ones(shape),
      jnp.zeros(shape, bool).at[:, 5].set(True),
    ),
    subgoal,
  )


@pytest.fixture(scope='module')
def diagnose_level(levels):
  """`diagnostics.diagnose` of each level."""
  return [
    jax.jit(functools.partial(diagnostics.diagnose, level))
    for level, _ in levels
  ]


def test_every_level_has_its_numbers(levels, diagnose_level):
  names = []
  for (level, params), own in zip(levels, diagnose_level):
    metrics = own(params, jax.random.PRNGKey(0), random_batch(level))
    names.append(set(metrics))
    assert all(np.shape(value) == () for value in metrics.values())
    assert np.isfinite(metrics['open_loop_error_1'])
    assert 1 <= metrics.get('distinct_codes', 1) <= 9
  assert {'subgoal_reached', 'errand_reached'} <= names[0] & names[1]
  assert 'subgoal_reached' not in names[2]  # Nobody is above the top.
  assert all('autoencoder_unexplained' in n for n in names)


def test_rewards_are_compared_as_they_are_learned(config, draw):
  """With DreamerV2's: a replay of their tanh, without it."""
  level, plain = (
    level_lib.Level(
      config_lib.override(config, config_lib.SYSTEMS['dreamerv2'] | changes),
      {'body': spaces.Vector((3,))},
      spaces.Discrete((), 3),
    )
    for changes in ({}, {'reward_transform': 'all'})
  )
  params, batch = draw(level.init).params, random_batch(level)
  squashed = batch._replace(
    sequence=batch.sequence._replace(
      reward=jnp.asarray(np.tanh(batch.sequence.reward))
    )
  )
  found, expected, raw = (
    jax.jit(functools.partial(diagnostics.diagnose, of))(
      params, jax.random.PRNGKey(0), seen
    )
    for of, seen in ((level, batch), (plain, squashed), (plain, batch))
  )
  for name, value in expected.items():
    np.testing.assert_allclose(found[name], value, rtol=1e-4, err_msg=name)
  name = 'open_loop_reward_error_1'
  assert abs(raw[name] - expected[name]) > 1e-2


def test_the_autoencoders_error_is_a_share_of_the_variance(
  levels, diagnose_level
):
  level, params = levels[0]
  batch = random_batch(level)
  key = jax.random.PRNGKey(4)
  metrics = diagnose_level[0](params, key, batch)
  observe_key, _, code_key, _ = jax.random.split(key, 4)
  came = world_model.arrivals(batch.sequence, level.action_space)
  state = jax.jit(level.world_model.observe)(
    params.world_model,
    observe_key,
    batch.sequence.observation,
    came.previous_action,
    batch.sequence.start_of_episode,
  )
  coded = subgoals.reconstruct(
    level.autoencoder, params.autoencoder, code_key, state.deter
  )
  target = symlog(np.asarray(state.deter)).reshape((24, -1))
  variance = np.sum((target - target.mean(0)) ** 2) / 24
  np.testing.assert_allclose(
    metrics['autoencoder_unexplained'],
    np.mean(coded.error) / variance,
    rtol=1e-4,
  )


def test_a_forecast_is_the_prior_followed_step_by_step(levels, most_likely):
  level, params = levels[0]
  model, params = level.world_model, params.world_model
  key = jax.random.PRNGKey(5)
  state = model.initial_context(2).state
  rng = np.random.default_rng(5)
  action = level.action_space.encode(jnp.asarray(rng.integers(0, 3, (2, 4))))
  expected = diagnostics.forecast(level, params, key, state, action)
  for t in range(4):
    state = model.imagine_step(params, key, state, action[:, t])
    np.testing.assert_allclose(
      expected.observation['eye'][:, t],
      model.decode(params, state)['eye'],
      rtol=1e-4,
      atol=1e-5,
    )
    prediction = model.predict(params, state)
    np.testing.assert_allclose(
      expected.reward[:, t], prediction.reward, rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(
      expected.continuation[:, t], prediction.continuation, rtol=1e-4
    )
