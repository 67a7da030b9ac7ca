"""Plays an episode and keeps all that the agent saw, did and believed."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import dm_env
import jax
import numpy as np

from acme_hieros.models import (
  beliefs,
  diagnostics,
  hierarchy,
  spaces,
  subgoals,
  world_model,
)
from acme_hieros.models import level as level_lib

Params = Sequence[level_lib.Params]


class LevelRecord(NamedTuple):
  """One level's part of an episode; it ticked M times. NumPy arrays.

  step: environment steps since the episode's start, [M]. The last one is that
    of the recording's last observation, whether or not the level would tick; it
    chose nothing there, and what it chose before still stands.
  state: what it inferred, [M, ...].
  action: what it chose, encoded, [M, A].
  code: the one-hot subgoal that it was given, [M, G]; None without any.
  proposed: the steps at which subgoals were chosen for it, and the last one of
    `step`, [P + 1]; None without any.
  reward: that came with the state, by stream, as the level learns it, [M]; NaN
    at the first tick, to which nothing came but novelty.
  beliefs: in these states.
  """

  step: np.ndarray
  state: world_model.State
  action: np.ndarray
  code: np.ndarray | None
  proposed: np.ndarray | None
  reward: dict[str, np.ndarray]
  beliefs: beliefs.Beliefs


class Recording(NamedTuple):
  """An episode, or its beginning: S steps from S + 1 observations.

  observation: by name, [S + 1, ...].
  encoded: as the spaces of the world model encode it, by name, [S + 1, ...].
  action: as the environment took it, [S, ...]; nested if it is joint.
  reward, discount: what it led to, as the environment said, [S].
  levels: each level's part.
  ended: whether the episode did, or goes on after what is recorded.
  """

  observation: dict[str, np.ndarray]
  encoded: dict[str, np.ndarray]
  action: Any
  reward: np.ndarray
  discount: np.ndarray
  levels: Sequence[LevelRecord]
  ended: bool


class Recorder:
  """Records episodes of one agent, whose parameters may change.

  Functions are compiled at their first use, and only then: shorter episodes are
  padded to the longest.
  """

  def __init__(self, networks: hierarchy.Hierarchy, max_steps: int):
    """Creates a recorder.

    Args:
      networks: of the agent.
      max_steps: after which a recording stops, if the episode has not ended.
    """
    self._networks = networks
    self._max_steps = max_steps
    self._init = jax.jit(networks.initial_state, static_argnums=1)
    self._step = jax.jit(networks.step, static_argnums=3)
    self._end = jax.jit(lambda *args: networks.pack(networks.infer_end(*args)))
    self._encode = jax.jit(
      lambda observation: {
        name: space.encode(observation[name])
        for name, space in networks.observation_spaces.items()
      }
    )
    self._examine = [
      jax.jit(lambda *args, level=level: beliefs.examine(level, *args))
      for level in networks.levels
    ]
    self._forecast = jax.jit(
      lambda *args: diagnostics.forecast(networks.levels[0], *args)
    )
    self._picture_subgoals = [
      jax.jit(
        lambda *args, i=i: beliefs.picture_subgoals(
          networks.levels[: i + 1], *args
        )
      )
      for i, level in enumerate(networks.levels)
      if level.subgoal_space
    ]

  def record(
    self,
    params: Params,
    environment: dm_env.Environment,
    key: jax.Array,
    deterministic: bool = False,
  ) -> Recording:
    """Plays an episode from its start.

    Args:
      params: all parameters of each level.
      environment: to play in.
      key: random key.
      deterministic: take the likeliest actions instead of sampling.
    """
    policy = jax.device_put([level_lib.policy_params(p) for p in params])
    play_key, look_key = jax.random.split(key)
    state = self._init(play_key, 1)
    timestep = environment.reset()
    observations, actions, rewards, discounts, states = [], [], [], [], []
    while True:
      observation = spaces.flatten_observation(timestep.observation)
      # Environments may write the next one into the same array.
      observations.append({n: np.array(x) for n, x in observation.items()})
      batch = {name: x[None] for name, x in observations[-1].items()}
      if timestep.last() or len(actions) == self._max_steps:
        states.append(jax.device_get(self._end(policy, batch, state)))
        break
      action, state = self._step(policy, batch, state, deterministic)
      states.append(jax.device_get(state.memories))
      action = self._networks.action_space.to_numpy(
        jax.tree.map(lambda x: x[0], action)
      )
      timestep = environment.step(action)
      actions.append(action)
      rewards.append(timestep.reward)
      discounts.append(timestep.discount)
    rewards = np.array(rewards, np.float32)
    memories = self._networks.memories(
      [np.concatenate(rows) for rows in zip(*states)]
    )
    observation = jax.tree.map(lambda *rows: np.stack(rows), *observations)
    encoded = self._encode(_pad(observation, self._max_steps + 1))
    return Recording(
      observation=observation,
      encoded=_cut(jax.device_get(encoded), len(states)),
      action=jax.tree.map(lambda *rows: np.stack(rows), *actions),
      reward=rewards,
      discount=np.array(discounts, np.float32),
      levels=[
        self._look(i, params[i], memories, rewards, k)
        for i, k in enumerate(
          jax.random.split(look_key, len(self._networks.levels))
        )
      ],
      ended=timestep.last(),
    )

  def _look(
    self,
    i: int,
    params: level_lib.Params,
    memories: Sequence[hierarchy.LevelMemory],
    rewards: np.ndarray,
    key: jax.Array,
  ) -> LevelRecord:
    config, level = self._networks.config, self._networks.levels[i]
    ticks = np.arange(0, len(rewards), config.tick_period(i))
    step = np.append(ticks, len(rewards))
    state = jax.tree.map(lambda x: x[step], memories[i].state)
    code, proposed = hierarchy.subgoal(memories, i), None
    if code is not None:
      code = code[step]
      proposed = np.arange(0, len(rewards), config.tick_period(i + 1))
      proposed = np.append(proposed, len(rewards))
    padded = _pad((state, code), self._most_ticks(i))
    believed = jax.device_get(self._examine[i](params, key, *padded))
    if code is not None:
      # What the subgoal of one tick is worth shows at the next.
      earned = subgoals.subgoal_reward(believed.goal[:-1], padded[0].deter[1:])
      earned = np.append(np.nan, earned)[: len(step)]
    believed = _cut(believed, len(step))
    extrinsic = np.full(len(step), np.nan, np.float32)
    for m in range(1, len(step)):
      since = rewards[step[m - 1] : step[m]]
      extrinsic[m] = since.sum() / config.reward_divisor(i)
    extrinsic = np.asarray(level.reward_as_learned(extrinsic))
    reward = {level_lib.EXTRINSIC: extrinsic}
    if level_lib.SUBGOAL in level.streams:
      reward[level_lib.SUBGOAL] = earned
    if level_lib.NOVELTY in level.streams:
      reward[level_lib.NOVELTY] = believed.novelty
    return LevelRecord(
      step, state, memories[i].action[step], code, proposed, reward, believed
    )

  def _most_ticks(self, level: int) -> int:
    """Of a level in the longest recording, its last observation included."""
    return -(-self._max_steps // self._networks.config.tick_period(level)) + 1

  def forecast(
    self,
    params: Params,
    recording: Recording,
    key: jax.Array,
    horizon: int,
  ) -> tuple[np.ndarray, diagnostics.Forecast]:
    """What level 0 expects, from every `horizon`-th state of an episode on.

    Args:
      params: all parameters of each level.
      recording: the episode.
      key: random key.
      horizon: H, steps ahead.

    Returns:
      The steps [N] that the predictions start from, and the Forecast [N, H,
      ...]; what would lie beyond the episode's end is NaN.
    """
    level, record = self._networks.levels[0], recording.levels[0]
    steps = len(recording.reward)
    starts = np.arange(0, steps, horizon)
    ahead = starts[:, None] + np.arange(horizon)
    action = _pad(recording.action, self._max_steps)
    action = np.asarray(level.action_space.encode(action))
    inputs = (
      jax.tree.map(lambda x: x[starts], record.state),
      action[np.minimum(ahead, steps - 1)],
    )
    most = -(-self._max_steps // horizon)
    forecast = self._forecast(params[0].world_model, key, *_pad(inputs, most))

    def within(x):
      there = (ahead < steps).reshape(ahead.shape + (1,) * (x.ndim - 2))
      return np.where(there, x, np.nan)

    forecast = _cut(jax.device_get(forecast), len(starts))
    return starts, jax.tree.map(within, forecast)

  def picture_subgoals(
    self, params: Params, recording: Recording, level: int
  ) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    """What the subgoals that a level was given look like.

    Args:
      params: all parameters of each level.
      recording: the episode.
      level: that was given them.

    Returns:
      As `beliefs.picture_subgoals`, for each that was chosen.
    """
    record = recording.levels[level]
    assert record.proposed is not None
    goal = record.beliefs.goal[np.isin(record.step, record.proposed[:-1])]
    pictured = self._picture_subgoals[level](
      params[: level + 1],
      _pad(goal, self._most_ticks(level + 1)),
      _pad(record.state, self._most_ticks(level)),
    )
    return _cut(jax.device_get(pictured), len(goal))


def _pad(rows: Any, length: int) -> Any:
  """Repeats the last row of arrays in a tree until there are `length`."""
  return jax.tree.map(
    lambda x: x[np.minimum(np.arange(length), len(x) - 1)], rows
  )


def _cut(rows: Any, length: int) -> Any:
  """The first `length` rows of arrays in a tree."""
  return jax.tree.map(lambda x: x[:length], rows)
