"""What is recorded is what was played and believed."""

from acme_hieros import compat  # noqa: F401, I001  Comes before Acme.

import acme
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import untrained

from acme_hieros.agent import networks as networks_lib
from acme_hieros.environments import debug, make_environment
from acme_hieros.models import beliefs, diagnostics, distributions, subgoals
from acme_hieros.models import level as level_lib
from acme_hieros.models.ops import linear
from acme_hieros.visualization import recording

pytestmark = pytest.mark.usefixtures('compile_quickly')

STEPS = 9  # Of an episode of catch on 10 rows.


def make_catch(seed=0):
  return debug.Catch(seed=seed, rows=STEPS + 1, columns=5)


@pytest.fixture(scope='module')
def agent(compile_quickly):
  """A hierarchy of three levels and random parameters, nothing at its start."""
  networks = networks_lib.make_networks(
    untrained.make_config(depth=3), acme.make_environment_spec(make_catch())
  )
  shapes = jax.eval_shape(networks.init, jax.random.PRNGKey(0))
  rng = np.random.default_rng(0)
  params = jax.tree.map(
    lambda x: jnp.asarray(0.5 * rng.normal(size=x.shape), x.dtype),
    [state.params for state in shapes],
  )
  return networks, params


@pytest.fixture(scope='module')
def recorder(agent):
  return recording.Recorder(agent[0], max_steps=12)


@pytest.fixture(scope='module')
def episode(agent, recorder):
  return recorder.record(agent[1], make_catch(), jax.random.PRNGKey(1))


def test_it_plays_as_the_actor_does(agent, recorder):
  networks, params = agent
  episode = recorder.record(params, make_catch(3), jax.random.PRNGKey(1))
  policy = networks_lib.make_policy(networks)
  play_key, _ = jax.random.split(jax.random.PRNGKey(1))
  state = policy.init(play_key)
  environment = make_catch(3)
  timestep = environment.reset()
  acting = [level_lib.policy_params(p) for p in params]
  select = jax.jit(policy.select_action)
  for t in range(STEPS):
    seen = episode.observation['observation'][t]
    np.testing.assert_array_equal(seen, timestep.observation)
    action, state = select(acting, timestep.observation, state)
    assert episode.action[t] == action
    timestep = environment.step(np.asarray(action))
    assert episode.reward[t] == timestep.reward
  assert timestep.last()
  assert episode.discount.tolist() == [1.0] * (STEPS - 1) + [0.0]
  assert len(episode.reward) == STEPS


def test_every_level_has_its_ticks_and_all_rewards(episode):
  ticks = [record.step.tolist() for record in episode.levels]
  # Every level looks at the episode's end.
  assert ticks == [list(range(10)), [0, 2, 4, 6, 8, 9], [0, 4, 8, 9]]
  extrinsic = [record.reward['extrinsic'] for record in episode.levels]
  np.testing.assert_array_equal(extrinsic[0][1:], episode.reward)
  for record, own in zip(episode.levels[1:], extrinsic[1:]):
    # The end comes after one step of a window, and counts for no more.
    period = record.step[1]
    means = [
      episode.reward[first:last].sum() / period
      for first, last in zip(record.step, record.step[1:])
    ]
    np.testing.assert_allclose(own[1:], means)
    np.testing.assert_allclose(own[-1], episode.reward[-1] / period)
    assert own[-1] != 0.0  # That of the end.
  assert all(np.isnan(own[0]) for own in extrinsic)


def test_codes_hold_between_the_ticks_of_the_level_above(episode):
  for below, above in zip(episode.levels, episode.levels[1:]):
    chosen = np.searchsorted(above.step, below.step, 'right') - 1
    np.testing.assert_array_equal(below.code, above.action[chosen])
    np.testing.assert_array_equal(above.action[-1], above.action[-2])
  assert episode.levels[2].code is None


def test_the_subgoal_reward_is_for_where_the_code_led(agent, episode):
  networks, params = agent
  record = episode.levels[0]
  level = networks.levels[0]
  for t in (1, 2, 5):
    goal = level.autoencoder.decode(
      params[0].autoencoder, record.code[t - 1][None]
    )
    expected = subgoals.subgoal_reward(goal, record.state.deter[t][None])
    np.testing.assert_allclose(
      record.reward['subgoal'][t], expected[0], rtol=1e-5
    )
  assert 'subgoal' not in episode.levels[2].reward


def test_a_long_episode_stops_in_between(agent):
  networks, params = agent
  recorder = recording.Recorder(networks, max_steps=5)
  episode = recorder.record(params, make_catch(), jax.random.PRNGKey(1))
  assert len(episode.reward) == 5
  assert len(episode.observation['observation']) == 6
  assert episode.discount.all()


def test_padding_changes_nothing(agent, recorder, most_likely):
  networks, params = agent
  padded, exact = (
    recording.Recorder(networks, max_steps).record(
      params, make_catch(), jax.random.PRNGKey(1)
    )
    for max_steps in (30, STEPS)
  )
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5),
    padded,
    exact,
  )


def test_forecasts_start_where_they_say_and_end_with_the_episode(
  agent, most_likely
):
  networks, params = agent
  recorder = recording.Recorder(networks, 30)
  episode = recorder.record(params, make_catch(), jax.random.PRNGKey(1))
  starts, forecast = recorder.forecast(
    params, episode, jax.random.PRNGKey(0), horizon=4
  )
  assert starts.tolist() == [0, 4, 8]
  there = ~np.isnan(forecast.reward)
  assert there.sum(1).tolist() == [4, 4, 1]
  level = networks.levels[0]
  action = level.action_space.encode(jnp.asarray(episode.action[4:8]))
  expected = diagnostics.forecast(
    level,
    params[0].world_model,
    jax.random.PRNGKey(0),
    jax.tree.map(lambda x: x[4:5], episode.levels[0].state),
    action[None],
  )
  np.testing.assert_allclose(
    forecast.reward[1], expected.reward[0], rtol=1e-4, atol=1e-5
  )
  np.testing.assert_allclose(
    forecast.observation['observation'][1],
    expected.observation['observation'][0],
    rtol=1e-4,
    atol=1e-5,
  )


def test_a_subgoal_that_is_a_known_state_looks_like_it(agent, episode):
  networks, params = agent
  record = episode.levels[0]
  goal = distributions.symlog(record.state.deter[[3, 7]])
  seen, nearest, similarity = beliefs.picture_subgoals(
    networks.levels[:1], params[:1], goal, record.state
  )
  assert nearest.tolist() == [3, 7]
  np.testing.assert_allclose(similarity, 1.0, rtol=1e-5)
  np.testing.assert_allclose(
    seen['observation'],
    record.beliefs.observation['observation'][[3, 7]],
    rtol=1e-4,
    atol=1e-5,
  )


def test_subgoals_of_upper_levels_are_decoded_level_by_level(agent, episode):
  networks, params = agent
  record = episode.levels[1]
  goal = distributions.symlog(record.state.deter[[2]])
  seen, nearest, _ = beliefs.picture_subgoals(
    networks.levels[:2], params[:2], goal, record.state
  )
  assert nearest.tolist() == [2]
  # By hand: the window that level 1 sees in that state, its newest part as a
  # state of level 0, and what that looks like.
  config = networks.config.world_model
  window = {n: x[2] for n, x in record.beliefs.observation.items()}
  stoch = window['stoch'].reshape((2, config.categoricals, config.classes))
  stoch = jnp.asarray(stoch[1].argmax(-1))
  deter = window['deter'].reshape((2, config.deter_size))[1]
  deter = np.sign(deter) * np.expm1(np.abs(deter))
  state = (
    networks.levels[0]
    .world_model.initial_context(1)
    .state._replace(
      stoch=linear.one_hots(stoch[None], config.classes),
      deter=jnp.asarray(deter[None]),
    )
  )
  expected = networks.levels[0].world_model.decode(params[0].world_model, state)
  np.testing.assert_allclose(
    seen['observation'], expected['observation'], rtol=1e-4, atol=1e-4
  )


def test_it_records_other_observations_and_actions(compile_quickly):
  environment = make_environment('debug/point')
  networks = networks_lib.make_networks(
    untrained.make_config(depth=1), acme.make_environment_spec(environment)
  )
  params = [s.params for s in untrained.draw_state(networks)]
  recorder = recording.Recorder(networks, max_steps=4)
  episode = recorder.record(params, environment, jax.random.PRNGKey(0))
  starts, forecast = recorder.forecast(
    params, episode, jax.random.PRNGKey(0), horizon=2
  )
  assert starts.tolist() == [0, 2]
  assert np.isfinite(forecast.reward).all()
  assert episode.levels[0].reward.keys() == {'extrinsic'}
