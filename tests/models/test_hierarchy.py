"""What holds for the levels together: ticks, windows, subgoals, episodes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from acme_hieros import config as config_lib
from acme_hieros.models import hierarchy, spaces, world_model
from acme_hieros.models import level as level_lib
from acme_hieros.models.ops import packing

SEEN = {'body': spaces.Vector((3,))}
CHOICES = spaces.Discrete((2,), 3)
BOX = spaces.Continuous((2,), (-1.0, 0.0), (1.0, 5.0))
K = 2
STEPS = 11


class Agent:
  """A hierarchy with random parameters and its jitted functions."""

  def __init__(self, config, draw, action=CHOICES):
    self.hierarchy = hierarchy.Hierarchy(config, SEEN, action)
    self.params = [
      level_lib.policy_params(
        draw(lambda k, i=i: self.hierarchy.init(k)[i].params)
      )
      for i in range(config.depth)
    ]
    self.step = jax.jit(self.hierarchy.step, static_argnums=3)
    self.end = jax.jit(self.hierarchy.end)
    self.infer = [
      jax.jit(level.world_model.observe_step) for level in self.hierarchy.levels
    ]

  def memories(self, state):
    """What each level carries."""
    return self.hierarchy.memories(state.memories)

  def did(self, state):
    """What each level did."""
    return self.hierarchy.level_steps(state.did)

  def episode(self, seed=0, steps=STEPS, start=None, deterministic=False):
    """Observations, actions and the states after each step."""
    rng = np.random.default_rng(seed)
    observations = rng.normal(size=(steps + 1, 3)).astype(np.float32)
    state = start or self.hierarchy.initial_state(jax.random.PRNGKey(seed), 1)
    actions, states = [], []
    for observation in observations[:-1]:
      action, state = self.step(
        self.params, {'body': observation[None]}, state, deterministic
      )
      actions.append(np.asarray(action[0]))
      states.append(state)
    return observations, actions, states


def first(batch):
  """The part of the first environment."""
  return jax.tree.map(lambda x: x[0], batch)


@pytest.fixture(scope='module')
def agent(config, draw):
  return Agent(config, draw)


@pytest.fixture(scope='module')
def episode(agent):
  return agent.episode()


@pytest.mark.parametrize('depth', [1, 2, 3, 4])
def test_levels_tick_every_k_to_the_l_steps_from_an_episode_s_start(
  config, depth
):
  agent = hierarchy.Hierarchy(
    dataclasses.replace(config, depth=depth), SEEN, CHOICES
  )
  ticked = [[] for _ in range(depth)]
  for step in range(40):
    for times, tick in zip(ticked, agent.ticks(jnp.array(step))):
      if tick:
        times.append(step)
  assert ticked == [list(range(0, 40, K**level)) for level in range(depth)]


def test_acting_ticks_at_the_first_step_and_on_schedule(agent, episode):
  for t, state in enumerate(episode[2]):
    assert state.time == t + 1
    ticked = [bool(step.ticked) for step in agent.did(state)]
    assert ticked == [t % K**level == 0 for level in range(3)]


def test_windows_are_the_last_states_below_oldest_first(config, agent, episode):
  classes = config.world_model.classes
  lower = [[], [], []]
  for t, state in enumerate(episode[2]):
    for level in range(3):
      if t % K**level == 0:
        lower[level].append(agent.memories(state)[level].state)
      if level and t % K**level == 0:
        window = first(agent.did(state)[level].observation)
        # The window's last entry is the lower level's state of this very step.
        last = lower[level - 1][-K:]
        padding = K - len(last)
        assert padding == (1 if t == 0 else 0)
        assert window['stoch'].dtype == np.uint8
        np.testing.assert_array_equal(window['stoch'][:padding], classes)
        np.testing.assert_array_equal(window['deter'][:padding], 0.0)
        for i, below in enumerate(last, padding):
          np.testing.assert_array_equal(
            window['stoch'][i], np.argmax(below.stoch.value[0], -1)
          )
          np.testing.assert_array_equal(window['deter'][i], below.deter[0])
  assert agent.did(episode[2][0])[0].observation == {}


def test_states_actions_and_subgoals_hold_between_ticks(agent, episode):
  changes = [set(), set()]
  for t, state in enumerate(episode[2]):
    for level in (0, 1):
      above = agent.memories(state)[level + 1]
      code = agent.hierarchy.levels[level].subgoal_space.decode(above.action[0])
      np.testing.assert_array_equal(
        agent.did(state)[level].extras['subgoal'][0], code
      )
      np.testing.assert_array_equal(above.action.sum(), code.size)
      changes[level].add(tuple(np.asarray(code)))
    assert 'subgoal' not in agent.did(state)[2].extras
    for level in (1, 2):
      if t % K**level:
        held = episode[2][t - 1]
        np.testing.assert_array_equal(
          held.memories[level], state.memories[level]
        )
  # They do change at the ticks.
  assert max(map(len, changes)) > 1


def test_log_probs_are_those_of_the_policy_that_chose(agent, episode):
  for state in episode[2]:
    memories = agent.memories(state)
    for i, (level, memory) in enumerate(
      zip(agent.hierarchy.levels, memories, strict=True)
    ):
      params = level_lib.unpack_policy(agent.params[i])
      code = memories[i + 1].action if level.subgoal_space else None
      features = level.world_model.predict(
        params.world_model, memory.state
      ).features
      policy = level.actor.apply(
        params.actor, level.policy_inputs(features, code)
      )
      chosen = np.exp(np.asarray(policy.log_probs))[
        memory.action.reshape(policy.log_probs.shape) > 0
      ]
      if state.time[0] % K**i == 1 or K**i == 1:
        # It ticked just now: the code below has not changed since.
        np.testing.assert_allclose(
          memory.log_prob, np.log(chosen).sum(), rtol=1e-3
        )
      assert agent.did(state)[i].extras['log_prob'] == memory.log_prob


def test_a_tick_feeds_the_level_its_window_and_its_last_action(agent, episode):
  """Level 1's h_t follows from its own last state and action alone."""
  states = episode[2]
  for t in (K, 2 * K):
    before, after = (agent.memories(states[i])[1] for i in (t - 1, t))
    window = agent.did(states[t])[1].observation
    expected = agent.infer[1](
      level_lib.unpack_policy(agent.params[1]).world_model,
      jax.random.PRNGKey(0), before.context, before.action, window,
      jnp.zeros(1, bool),
    ).state  # fmt: skip
    np.testing.assert_allclose(after.state.deter, expected.deter, atol=1e-5)
    np.testing.assert_allclose(
      after.state.log_probs, expected.log_probs, atol=1e-4
    )


@pytest.mark.parametrize(
  'context_length,ages',
  [
    # 0: for sequences of 5 steps.
    (0, [1, 2, 3, 4, 5, 3, 4, 5, 3, 4, 5, 3]),
    (4, [1, 2, 3, 4, 3, 4, 3, 4, 3, 4, 3, 4]),
  ],
)
def test_memories_hold_as_many_own_steps_as_they_are_to(
  config, draw, context_length, ages
):
  agent = Agent(
    dataclasses.replace(config, depth=2, context_length=context_length), draw
  )
  _, _, states = agent.episode(steps=2 * len(ages))
  for level, period in enumerate((1, K)):
    seen = [
      int(agent.memories(state)[level].context.age[0])
      for state in states[::period]
    ]
    assert seen[: len(ages)] == ages


@pytest.mark.parametrize('steps', [1, 2, 3, 4, 5])
def test_an_episode_s_end_is_a_step_of_every_level(agent, episode, steps):
  observations, _, states = episode
  state = states[steps - 1]
  seen = {'body': observations[None, steps]}
  windows = agent.end(agent.params, seen, state)
  assert len(windows) == 2
  for level, window in enumerate(windows):
    memory = agent.memories(state)[level]
    for name in ('stoch', 'deter'):
      np.testing.assert_array_equal(
        window[name][:, :-1], memory.window[name][:, 1:]
      )
    # h of the last observation does not depend on it.
    last = agent.infer[level](
      level_lib.unpack_policy(agent.params[level]).world_model,
      jax.random.PRNGKey(0), memory.context, memory.action, seen,
      jnp.zeros(1, bool),
    ).state  # fmt: skip
    np.testing.assert_allclose(window['deter'][:, -1], last.deter, atol=1e-5)
    assert np.all(window['stoch'][:, -1] < 5)
    seen = window


def test_deterministic_actions_and_subgoals_are_the_modes(agent):
  @jax.jit
  def modes(states, codes):
    """Each level's likeliest action under the code that it was given."""
    actions = []
    for level, params, state, code in zip(
      agent.hierarchy.levels, agent.params, states, codes
    ):
      params = level_lib.unpack_policy(params)
      prediction = level.world_model.predict(params.world_model, state)
      inputs = level.policy_inputs(prediction.features, code)
      actions.append(level.actor.apply(params.actor, inputs).mode())
    return actions

  _, actions, states = agent.episode(steps=5, deterministic=True)
  for t, state in enumerate(states):
    memories = agent.memories(state)
    chosen = [memory.action for memory in memories]
    expected = modes([memory.state for memory in memories], [*chosen[1:], None])
    for level in range(3):
      if t % K**level == 0:
        np.testing.assert_array_equal(chosen[level], expected[level])
    np.testing.assert_array_equal(
      actions[t], np.argmax(chosen[0].reshape(2, 3), -1)
    )


def test_the_same_key_acts_the_same_and_another_key_does_not(agent, episode):
  _, actions, _ = agent.episode()
  np.testing.assert_array_equal(actions, episode[1])
  start = agent.hierarchy.initial_state(jax.random.PRNGKey(9), 1)
  _, others, _ = agent.episode(start=start)
  assert not np.array_equal(others, actions)


def test_a_new_episode_does_not_depend_on_the_one_before(agent, episode):
  # Even where states were left over, the first step drops them.
  key = jax.random.PRNGKey(3)
  fresh = agent.hierarchy.initial_state(key, 1)
  left_over = fresh._replace(
    memories=tuple(
      packing.Rows(memory).pack(memory._replace(window=new.window))
      for memory, new in zip(
        agent.memories(episode[2][-1]), agent.memories(fresh)
      )
    )
  )
  _, actions, states = agent.episode(start=fresh, steps=5)
  _, same_actions, same_states = agent.episode(start=left_over, steps=5)
  np.testing.assert_array_equal(actions, same_actions)
  for one, two in zip(jax.tree.leaves(states), jax.tree.leaves(same_states)):
    np.testing.assert_allclose(one, two, atol=1e-6)


@pytest.mark.parametrize('preset', config_lib.PRESETS)
@pytest.mark.parametrize('system', config_lib.SYSTEMS)
def test_every_preset_acts_and_keeps_the_form_of_its_memories(system, preset):
  built = hierarchy.Hierarchy(
    config_lib.preset(preset, system),
    {spaces.SINGLE: spaces.Image((64, 64, 3))},
    spaces.Discrete((), 18),
  )
  key = jax.random.PRNGKey(0)

  def step(key, image):
    params = [
      level_lib.policy_params(state.params) for state in built.init(key)
    ]
    before = built.initial_state(key, 2)
    return before, built.step(params, {spaces.SINGLE: image}, before)

  image = jax.ShapeDtypeStruct((2, 64, 64, 3), np.uint8)
  before, (action, after) = jax.eval_shape(step, key, image)
  assert action.shape == (2,)
  assert after == before


@pytest.mark.parametrize('depth', [1, 2, 4])
def test_every_depth_acts(config, depth):
  agent = hierarchy.Hierarchy(
    dataclasses.replace(config, depth=depth), SEEN, CHOICES
  )
  key = jax.random.PRNGKey(0)

  def run(key):
    states = agent.init(key)
    params = [level_lib.policy_params(s.params) for s in states]
    state = agent.initial_state(key, 1)
    observation = {'body': jnp.zeros((1, 3))}
    action, after = agent.step(params, observation, state)
    return state, action, after, agent.end(params, observation, after)

  before, action, after, windows = jax.eval_shape(run, key)
  assert (action.shape, action.dtype) == ((1, 2), np.int32)
  # What comes out goes in again without compiling anew.
  for one, two in zip(jax.tree.leaves(after), jax.tree.leaves(before)):
    assert (one.shape, one.dtype) == (two.shape, two.dtype)
  assert len(after.memories) == depth and len(windows) == depth - 1


@pytest.mark.parametrize(
  'action',
  [
    CHOICES,
    BOX,
  ],
  ids=['choices', 'box'],
)
def test_acting_and_training_give_the_same_state_for_the_same_history(
  config, draw, most_likely, action
):
  config = dataclasses.replace(config, depth=1, context_length=7)
  agent = Agent(config, draw, action)
  observations, actions, states = agent.episode(steps=7)
  if action is BOX:
    # Some actions lie at the bounds, where the environment clips them.
    assert np.any(np.isin(actions, [-1.0, 0.0, 1.0, 5.0]))

  sequence = world_model.Sequence(
    observation={'body': jnp.asarray(observations[None, :-1])},
    action=jnp.asarray(np.stack(actions)[None]),
    reward=jnp.zeros((1, 7)),
    discount=jnp.ones((1, 7)),
    start_of_episode=jnp.arange(7)[None] == 0,
  )
  came = world_model.arrivals(sequence, action)
  trained = jax.jit(agent.hierarchy.levels[0].world_model.observe)(
    level_lib.unpack_policy(agent.params[0]).world_model, jax.random.PRNGKey(0),
    sequence.observation, came.previous_action, sequence.start_of_episode,
  )  # fmt: skip
  for t, state in enumerate(states):
    acted = agent.memories(state)[0].state
    for one, other in zip(acted.stoch, trained.stoch, strict=True):
      np.testing.assert_array_equal(one[0], other[0, t])
    np.testing.assert_allclose(
      acted.deter[0], trained.deter[0, t], atol=1e-4, err_msg=str(t)
    )
