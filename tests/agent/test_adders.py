"""What the adder puts into the replay tables, read back to the last item."""

import threading
import time
import types

import acme
from acme import specs
import dm_env
import jax
import numpy as np
import pytest
import reverb
import tree
import untrained

from acme_hieros import config as config_lib
from acme_hieros.agent import acting, adders
from acme_hieros.agent import builder as builder_lib
from acme_hieros.agent import networks as networks_lib
from acme_hieros.environments import make_environment
from acme_hieros.models import hierarchy
from acme_hieros.models import level as level_lib
from acme_hieros.replay import tables

DEPTH = 3


class Replay:
  """Tables that give out every sequence once, oldest first."""

  def __init__(self, config, environment):
    spec = specs.make_environment_spec(environment)
    self.config = config
    self.networks = networks_lib.make_networks(config, spec)
    signatures = [
      tables.signature(
        tables.step_spec(self.networks, spec, level), config.sequence_length
      )
      for level in range(config.depth)
    ]
    self._server = reverb.Server(
      [
        reverb.Table.queue(tables.table_name(i), 100_000, signature=s)
        for i, s in enumerate(signatures)
      ],
      port=None,
    )
    self._client = reverb.Client(f'localhost:{self._server.port}')
    self.adder = adders.HierarchicalAdder(self._client, config)

  def sequences(self, level):
    """Takes all sequences of a level out: [T, ...] each."""
    self.adder.flush()
    table = tables.table_name(level)
    count = self._client.server_info()[table].current_size
    if not count:
      return []
    samples = self._client.sample(
      table, count, emit_timesteps=False, unpack_as_table_signature=True
    )
    return [sample.data for sample in samples]

  def rows(self, level):
    """All steps of a level [N, ...], after a check that sequences overlap."""
    sequences = self.sequences(level)
    for one, other in zip(sequences, sequences[1:]):
      assert_equal(
        tree.map_structure(lambda x: x[1:], one),
        tree.map_structure(lambda x: x[:-1], other),
      )
    newest = [tree.map_structure(lambda x: x[-1:], s) for s in sequences[1:]]
    return tree.map_structure(
      lambda *x: np.concatenate(x), sequences[0], *newest
    )

  def stop(self):
    # A server waits for writers that are still open.
    self.adder = None
    self._server.stop()


def assert_equal(one, other):
  tree.assert_same_structure(one, other)
  tree.map_structure(np.testing.assert_array_equal, one, other)


def make_extras(config, rng, step, subgoals, end):
  """Extras of a scripted actor at a step of an episode."""
  space = hierarchy.window_spaces(config, 1)

  def window():
    return {
      'stoch': rng.integers(0, 3, space['stoch'].shape).astype(np.uint8),
      'deter': rng.normal(size=space['deter'].shape).astype(np.float32),
    }

  steps = []
  for level in range(config.depth):
    ticked = step % config.tick_period(level) == 0
    if ticked and level:
      code = config.subgoals
      subgoals[level] = rng.integers(0, code.classes, code.categoricals)
    steps.append(
      hierarchy.LevelStep(
        ticked=np.array(ticked),
        observation=window() if level else {},
        # Nothing may be taken from a level that does not tick.
        action=subgoals[level].astype(np.int32)
        if ticked and level
        else np.full(config.subgoals.categoricals, 99, np.int32),
        extras={'log_prob': np.float32(-rng.random() if ticked else 99)},
      )
    )
  for level, below in enumerate(steps[:-1]):
    below.extras['subgoal'] = subgoals[level + 1].astype(np.uint8)
  windows = [window() for _ in range(config.depth - 1)] if end else None
  return adders.Extras(steps, windows)


def play(environment, adder, config, episodes, seed=0):
  """Scripted episodes into the adder; returns what each one was."""
  rng = np.random.default_rng(seed)
  script = []
  for _ in range(episodes):
    timesteps, actions, extras, subgoals = [environment.reset()], [], [], {}
    adder.add_first(timesteps[0])
    while not timesteps[-1].last():
      actions.append(
        np.array(rng.integers(environment.action_spec().num_values), np.int32)
      )
      timesteps.append(environment.step(actions[-1]))
      extras.append(
        make_extras(
          config, rng, len(actions) - 1, subgoals, timesteps[-1].last()
        )
      )
      adder.add(actions[-1], timesteps[-1], extras[-1])
    script.append(
      types.SimpleNamespace(timesteps=timesteps, actions=actions, extras=extras)
    )
  return script


@pytest.fixture(
  scope='module',
  params=[(2, 'mean', 4), (2, 'sum', 1), (4, 'mean', 3), (4, 'sum', 4)],
  ids=lambda p: f'k={p[0]}-{p[1]}-chunk={p[2]}',
)
def stored(request, make_config):
  """Scripted episodes of 1 to 40 steps, and every level's rows."""
  duration, aggregation, chunk_length = request.param
  config = make_config(
    depth=DEPTH,
    subgoals__duration=duration,
    reward_aggregation=aggregation,
    replay__chunk_length=chunk_length,
  )
  environment = make_environment('debug/random_length', seed=2)
  replay = Replay(config, environment)
  script = play(environment, replay.adder, config, episodes=15)
  yield types.SimpleNamespace(
    config=config,
    script=script,
    rows=[replay.rows(level) for level in range(DEPTH)],
  )
  replay.stop()


def expected_ticks(config, level, length):
  return range(0, length, config.tick_period(level))


def episodes_of(rows):
  """Splits rows [N, ...] at the episodes' starts."""
  starts = np.flatnonzero(rows.start_of_episode)
  ends = [*starts[1:], len(rows.start_of_episode)]
  return [
    tree.map_structure(lambda x, a=a, b=b: x[a:b], rows)
    for a, b in zip(starts, ends)
  ]


def test_lengths_are_as_varied_as_they_should_be(stored):
  lengths = [len(episode.actions) for episode in stored.script]
  assert min(lengths) < 8 and max(lengths) > 24
  assert len({float(e.timesteps[-1].discount) for e in stored.script}) == 2
  # The end cuts windows short.
  for level in range(1, DEPTH):
    period = stored.config.tick_period(level)
    assert any(length % period for length in lengths)


@pytest.mark.parametrize('level', range(DEPTH))
def test_every_level_holds_every_episode_from_start_to_end(stored, level):
  episodes = episodes_of(stored.rows[level])
  assert len(episodes) == len(stored.script)
  for rows, episode in zip(episodes, stored.script):
    ticks = expected_ticks(stored.config, level, len(episode.actions))
    assert len(rows.reward) == len(ticks) + 1
    assert rows.start_of_episode.tolist() == [True] + [False] * len(ticks)


@pytest.mark.parametrize('level', range(DEPTH))
def test_every_level_holds_every_reward(stored, level):
  period = stored.config.tick_period(level)
  for rows, episode in zip(episodes_of(stored.rows[level]), stored.script):
    rewards = [float(t.reward) for t in episode.timesteps[1:]]
    parts = [
      rewards[t : t + period]
      for t in expected_ticks(stored.config, level, len(rewards))
    ]
    # A mean divides by the whole window, also where the end cuts it short.
    mean = stored.config.reward_aggregation == 'mean'
    sums = rows.reward[:-1].astype(float) * (period if mean else 1)
    np.testing.assert_allclose(sums, [sum(p) for p in parts], atol=1e-5)
    assert sums.sum() == pytest.approx(sum(rewards), abs=1e-4)


@pytest.mark.parametrize('level', range(DEPTH))
def test_only_termination_ends_discounts(stored, level):
  for rows, episode in zip(episodes_of(stored.rows[level]), stored.script):
    final = episode.timesteps[-1].discount
    ticks = len(rows.discount) - 1
    assert rows.discount[:-1].tolist() == [1] * (ticks - 1) + [final]


@pytest.mark.parametrize('level', range(DEPTH))
def test_the_last_row_has_the_last_observation_and_zeros(stored, level):
  for rows, episode in zip(episodes_of(stored.rows[level]), stored.script):
    last = (
      episode.extras[-1].end[level - 1]
      if level
      else episode.timesteps[-1].observation
    )
    assert_equal(tree.map_structure(lambda x: x[-1], rows.observation), last)
    assert rows.reward[-1] == 0 and rows.discount[-1] == 0
    assert not rows.action[-1].any() and rows.extras['log_prob'][-1] == 0


@pytest.mark.parametrize('level', range(DEPTH))
def test_rows_are_what_was_seen_and_done_at_the_ticks(stored, level):
  for rows, episode in zip(episodes_of(stored.rows[level]), stored.script):
    for row, t in enumerate(
      expected_ticks(stored.config, level, len(episode.actions))
    ):
      step = episode.extras[t].steps[level]
      seen = step.observation if level else episode.timesteps[t].observation
      done = step.action if level else episode.actions[t]
      assert_equal(
        tree.map_structure(lambda x, i=row: x[i], rows.observation), seen
      )
      np.testing.assert_array_equal(rows.action[row], done)
      if level < DEPTH - 1:
        np.testing.assert_array_equal(
          rows.extras['subgoal'][row], step.extras['subgoal']
        )
      else:
        assert set(rows.extras) == {'log_prob'}
      assert rows.extras['log_prob'][row] == step.extras['log_prob']


@pytest.mark.parametrize('level', range(DEPTH - 1))
def test_subgoals_are_the_actions_of_the_level_above(stored, level):
  duration = stored.config.duration(0)
  for below, above in zip(
    episodes_of(stored.rows[level]), episodes_of(stored.rows[level + 1])
  ):
    ticks = len(below.reward) - 1
    held = above.action[np.arange(ticks) // duration]
    np.testing.assert_array_equal(below.extras['subgoal'][:-1], held)


@pytest.fixture
def replay(make_config):
  replay = Replay(
    make_config(depth=DEPTH), make_environment('debug/random_length')
  )
  yield replay
  replay.stop()


def test_each_step_from_the_t_th_on_gives_one_sequence(replay):
  config = replay.config
  environment = make_environment('debug/random_length', max_length=9)
  rows = [0] * DEPTH
  for seed in range(4):
    script = play(environment, replay.adder, config, 1, seed)
    for level in range(DEPTH):
      length = len(script[0].actions)
      rows[level] += len(expected_ticks(config, level, length)) + 1
      new = len(replay.sequences(level))
      before = rows[level] - len(expected_ticks(config, level, length)) - 1
      missing = config.sequence_length - 1
      assert new == max(0, rows[level] - missing) - max(0, before - missing)


def test_an_abandoned_episode_leaks_nothing_into_the_next(replay):
  config, adder = replay.config, replay.adder
  rng = np.random.default_rng(0)
  step = dm_env.TimeStep(
    dm_env.StepType.MID, np.float32(1000), np.float32(0), np.zeros(1, 'f')
  )
  adder.add_first(dm_env.restart(np.zeros(1, np.float32)))
  subgoals = {}
  for t in range(3):
    extras = make_extras(config, rng, t, subgoals, end=False)
    adder.add(np.array(1, np.int32), step, extras)
  script = play(make_environment('debug/random_length'), adder, config, 3)
  for level in range(DEPTH):
    rows = episodes_of(replay.rows(level))
    closed = 2 // config.tick_period(level)  # Steps before the cut.
    assert len(rows) == len(script) + (closed > 0)
    for own, episode in zip(rows[-len(script) :], script):
      assert np.abs(own.reward).max() <= 3
      assert own.discount[:-2].all()
      assert own.discount[-2] == episode.timesteps[-1].discount


def test_add_before_add_first_is_refused(replay):
  extras = make_extras(replay.config, np.random.default_rng(0), 0, {}, True)
  last = dm_env.truncation(0.0, np.zeros(1, np.float32))
  with pytest.raises(ValueError, match='add_first'):
    replay.adder.add(np.int32(0), last, extras)
  replay.adder.add_first(dm_env.restart(np.zeros(1, np.float32)))
  replay.adder.add(np.int32(0), last, extras)
  with pytest.raises(ValueError, match='add_first'):
    replay.adder.add(np.int32(0), last, extras)


def test_a_last_step_without_end_is_refused(replay):
  extras = make_extras(replay.config, np.random.default_rng(0), 0, {}, False)
  replay.adder.add_first(dm_env.restart(np.zeros(1, np.float32)))
  with pytest.raises(ValueError, match='extras.end'):
    replay.adder.add(
      np.int32(0), dm_env.termination(0.0, np.zeros(1, np.float32)), extras
    )


def test_add_first_takes_only_first_timesteps(replay):
  with pytest.raises(ValueError, match='first'):
    replay.adder.add_first(dm_env.transition(0.0, np.zeros(1, np.float32)))


def test_environments_may_reuse_their_buffers(replay):
  config, adder = replay.config, replay.adder
  rng, subgoals = np.random.default_rng(0), {}
  buffer = np.zeros(1, np.float32)
  action = np.zeros((), np.int32)
  adder.add_first(dm_env.restart(buffer))
  for t in range(8):
    action[...] = t % 2
    extras = make_extras(config, rng, t, subgoals, t == 7)
    buffer[0] = t + 1
    step = dm_env.truncation if t == 7 else dm_env.transition
    adder.add(action, step(0.0, buffer), extras)
  rows = replay.rows(0)
  assert rows.observation[:, 0].tolist() == list(range(9))
  assert rows.action[:8].tolist() == [0, 1] * 4


@pytest.fixture(scope='module')
def acted(make_config):
  """Episodes of debug/echo by a real actor: (config, actions, level rows)."""
  config = make_config(depth=DEPTH)
  environment = make_environment('debug/echo', length=11)
  replay = Replay(config, environment)
  states = untrained.draw_state(replay.networks)
  params = tuple(level_lib.policy_params(state.params) for state in states)
  actor = acting.HierosActor(
    networks_lib.make_policy(replay.networks),
    jax.random.PRNGKey(1),
    types.SimpleNamespace(params=params, update=lambda wait: None),
    replay.adder,
  )
  actions = []
  step = environment.step

  def recorded(action):
    actions.append(int(action))
    return step(action)

  environment.step = recorded
  acme.EnvironmentLoop(
    environment, actor, logger=types.SimpleNamespace(write=lambda _: None)
  ).run(num_episodes=4)
  yield config, actions, [replay.rows(level) for level in range(DEPTH)]
  replay.stop()


def test_an_actions_row_is_the_one_before_what_it_caused(acted):
  _, actions, rows = acted
  episodes = episodes_of(rows[0])
  assert len(set(actions)) > 1
  assert np.concatenate([e.action[:-1] for e in episodes]).tolist() == actions
  for episode in episodes:
    assert not episode.observation[0].any()
    caused = np.argmax(episode.observation[1:], -1)
    np.testing.assert_array_equal(caused, episode.action[:-1])
    np.testing.assert_allclose(episode.reward[:-1], episode.action[:-1] / 3)


@pytest.mark.parametrize('level', [1, 2])
def test_windows_start_padded_and_end_with_the_last_states(acted, level):
  config, _, rows = acted
  duration = config.duration(0)
  padding = config.world_model.classes
  for own, below in zip(episodes_of(rows[level]), episodes_of(rows[level - 1])):
    stoch, deter = own.observation['stoch'], own.observation['deter']
    assert (stoch[0, : duration - 1] == padding).all()
    assert not deter[0, : duration - 1].any()
    assert (stoch[0, -1] < padding).all()
    # States that the level below took in since this one's last tick.
    new = len(below.reward) - (len(own.reward) - 2) * duration - 1
    assert 1 <= new <= duration
    for window in (stoch, deter):
      np.testing.assert_array_equal(
        window[-1][: duration - new], window[-2][new:]
      )
      assert (window[-1][duration - new :] != padding).all()


@pytest.mark.parametrize('level', range(DEPTH - 1))
def test_real_subgoals_hold_until_the_level_above_ticks(acted, level):
  config, _, rows = acted
  for below, above in zip(
    episodes_of(rows[level]), episodes_of(rows[level + 1])
  ):
    ticks = np.arange(len(below.reward) - 1)
    np.testing.assert_array_equal(
      below.extras['subgoal'][:-1],
      above.action[ticks // config.duration(0)],
    )


@pytest.mark.parametrize(
  ['actors', 'updates_per_step', 'slow'],
  [
    (1, 2.0, 'actor'),
    (1, 0.25, 'learner'),
    (3, 0.25, 'actor'),
    (3, 2.0, 'learner'),
  ],
)
def test_the_replay_ratio_holds_whoever_is_slow(
  make_config, actors, updates_per_step, slow
):
  """To 5 % in the end, for every level; and nobody ever gets far ahead."""
  config = make_config(depth=DEPTH)
  config = config_lib.override(
    config,
    {
      'replay.ratio': updates_per_step
      * config.batch_size
      * config.sequence_length
    },
  )
  environments = [
    make_environment('debug/random_length', seed=i) for i in range(actors)
  ]
  spec = specs.make_environment_spec(environments[0])
  builder = builder_lib.HierosBuilder(config, limit_ratio=True)
  server = reverb.Server(builder.make_replay_tables(spec), port=None)
  client = reverb.Client(f'localhost:{server.port}')
  steps = [0] * actors

  def act(i):
    adder = builder.make_adder(client)

    class Counting:
      add_first = staticmethod(adder.add_first)

      def add(self, *arguments):
        if slow == 'actor':
          time.sleep(0.002)
        adder.add(*arguments)
        steps[i] += 1

    play(environments[i], Counting(), config, 60 // actors, seed=i)
    adder.close()

  threads = [threading.Thread(target=act, args=[i]) for i in range(actors)]
  for thread in threads:
    thread.start()
  dataset = builder.make_dataset_iterator(client)
  updates = np.zeros(DEPTH, int)
  behind = ahead = 0
  while True:
    working = any(thread.is_alive() for thread in threads)
    due = [batch is not None for batch in next(dataset)]
    updates += due
    if working and updates[0]:
      owed = updates_per_step * (sum(steps) - config.replay.min_size)
      behind = max(behind, owed - updates[0])
      ahead = max(ahead, updates[0] - owed)
    if slow == 'learner' and working:
      time.sleep(0.002)
    if not working and not due[0]:
      break
  for thread in threads:
    thread.join()
  server.stop()
  total = updates_per_step * sum(steps)
  assert sum(steps) > 800
  for level in range(DEPTH):
    ticks = total / config.tick_period(level)
    assert abs(updates[level] - ticks) < 0.05 * ticks + 1
  # What each actor has not sent yet, or has sent and not counted yet.
  unsent = config.sequence_length + config.replay.chunk_length
  slack = actors * unsent * updates_per_step + 1
  assert ahead <= slack
  assert behind <= max(2, 64 * updates_per_step) + slack


def test_no_step_is_reported_before_its_sequence(make_config):
  config = make_config(depth=1, replay__chunk_length=3)
  environment = make_environment('debug/random_length', seed=1)
  spec = specs.make_environment_spec(environment)
  builder = builder_lib.HierosBuilder(config, limit_ratio=True)
  tables_ = builder.make_replay_tables(spec)[:1] + [
    reverb.Table.queue(tables.STEP_TABLE, 100_000)
  ]
  server = reverb.Server(tables_, port=None)
  client = reverb.Client(f'localhost:{server.port}')
  adder = builder.make_adder(client)
  steps = []

  class Watched:
    add_first = staticmethod(adder.add_first)

    def add(self, *arguments):
      adder.add(*arguments)
      steps.append(None)
      info = client.server_info()
      reported = info[tables.STEP_TABLE].current_size
      assert reported <= info['level_0'].current_size
      # All but those of a chunk, and of the first sequence.
      assert reported <= len(steps)
      assert reported >= len(steps) - config.sequence_length - 2

  play(environment, Watched(), config, 20)
  adder.close()
  assert len(steps) > 100
  server.stop()


def test_all_levels_can_learn_after_about_as_many_environment_steps(
  make_config,
):
  least, length = 128, 4
  config = make_config(
    depth=DEPTH,
    sequence_length=length,
    subgoals__duration=4,
    replay__min_size=least,
    replay__chunk_length=8,
  )
  environment = make_environment('debug/echo', length=190)
  spec = specs.make_environment_spec(environment)
  builder = builder_lib.HierosBuilder(config)
  server = reverb.Server(builder.make_replay_tables(spec), port=None)
  client = reverb.Client(f'localhost:{server.port}')
  adder = builder.make_adder(client)
  steps, ready = 0, {}

  class Watched:
    add_first = staticmethod(adder.add_first)

    def add(self, *arguments):
      nonlocal steps
      adder.add(*arguments)
      steps += 1
      tables_ = client.server_info()
      for level in set(range(DEPTH)) - ready.keys():
        info = tables_[f'level_{level}']
        if info.current_size >= info.rate_limiter_info.min_size_to_sample:
          ready[level] = steps
          # It would wait forever if the table did not allow it.
          assert len(list(client.sample(f'level_{level}'))) == 1

  play(environment, Watched(), config, 1)
  adder.close()
  server.stop()
  for level in range(DEPTH):
    # The first sequence takes some more of the level's steps, the last of which
    # ends with the next step, and all of them fill chunks.
    first = (length - 1) * 4**level + 1
    assert least + first <= ready[level] <= least + first + 8
