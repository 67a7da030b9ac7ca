"""The levels together: who ticks when, bottom-up inference, top-down choice.

(docs/algorithm.md, 2; Hieros, section 3.1.) Level l ticks at every k^l-th step
of an episode, the first one included. At each step the ticking levels first
infer their states, lowest first, then choose their actions, highest first: the
action of an upper level is the subgoal of the level below.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from acme_hieros.config import HierosConfig
from acme_hieros.models import level as level_lib
from acme_hieros.models import spaces, subgoals, turns, world_model
from acme_hieros.models.ops import packing

Array = jax.Array

Window = dict[str, Array]


class LevelStep(NamedTuple):
  """What one level contributes to replay at one step of N environments.

  ticked: bool [N]; nothing else counts where it is not set.
  observation: the level's own windows [N, ...]; empty at level 0, which has the
    environment's observation.
  action: as the level's action space decodes it, [N, ...].
  extras: what replay keeps beside these, by name: 'log_prob' of the action, by
    the policy that chose it, [N]; below the top 'subgoal', the indices
    [N, categoricals] (uint8) of the code it was given.
  """

  ticked: Array
  observation: Window
  action: Array
  extras: dict[str, Array]


class LevelMemory(NamedTuple):
  """What one level carries from step to step while acting.

  context: the world model's, [N, ...].
  action: the encoded actions that hold, [N, A].
  log_prob: of them, [N].
  policy: its actor's memories, `turns.Turns`; () without any.
  window: this level's own last k states, for the level above, [N, k, ...].
  code: one-hot subgoal that its manager has set, [N, G]; () without a manager.
  """

  context: world_model.Context
  action: Array
  log_prob: Array
  policy: Any
  window: Window
  code: Any

  @property
  def state(self) -> world_model.State:
    """What the level knows."""
    return self.context.state


class ActorState(NamedTuple):
  """The hierarchy's state while it acts in N environments, in few arrays.

  key: random key, of all of them.
  time: steps since each episode's start, int32 [N].
  memories: a packed LevelMemory of each level; see `Hierarchy.memories`.
  did: what each level did at the last step, packed; see
    `Hierarchy.level_steps`.
  """

  key: Array
  time: Array
  memories: tuple[Array, ...]
  did: Array


def window_spaces(
  config: HierosConfig, level: int
) -> dict[str, spaces.ObservationSpace]:
  """What an upper level sees: the last k states below, oldest first.

  The z are class indices, one byte each; index `classes` is the padding before
  an episode's start and reads as zeros.
  """
  k, model = config.duration(level - 1), config.world_model
  return {
    'stoch': spaces.OneHot(
      (k, model.categoricals), model.classes, np.dtype(np.uint8)
    ),
    'deter': spaces.Vector((k, model.deter_size)),
  }


class Hierarchy:
  """The agent's pure functions over all levels.

  Attributes:
    levels: level 0, which acts on the environment, first.
  """

  def __init__(
    self,
    config: HierosConfig,
    observation_spaces: Mapping[str, spaces.ObservationSpace],
    action_space: spaces.ActionSpace,
  ):
    """Builds `config.depth` levels on an environment's spaces."""
    self.config = config
    self.observation_spaces = observation_spaces
    self.action_space = action_space
    self.code_space = subgoals.code_space(config.subgoals)
    self.levels: Sequence[level_lib.Level] = tuple(
      level_lib.Level(
        config,
        observation_spaces=window_spaces(config, i)
        if i
        else observation_spaces,
        action_space=self.code_space if i else action_space,
        index=i,
      )
      for i in range(config.depth)
    )
    memories = jax.eval_shape(lambda: self._initial_memories(1))
    ticks = [jax.ShapeDtypeStruct((1,), bool)] * config.depth
    self._memory_rows = [packing.Rows(memory) for memory in memories]
    self._step_rows = packing.Rows(
      jax.eval_shape(self._level_steps, memories, ticks)
    )

  def init(self, key: Array) -> tuple[level_lib.TrainingState, ...]:
    """Draws every level's learning state."""
    keys = jax.random.split(key, len(self.levels))
    return tuple(level.init(k) for level, k in zip(self.levels, keys))

  def initial_state(self, key: Array, batch_size: int) -> ActorState:
    """The state before the first steps of `batch_size` episodes."""
    memories = self._initial_memories(batch_size)
    ticks = [jnp.zeros(batch_size, bool)] * len(memories)
    return ActorState(
      key=key,
      time=jnp.zeros(batch_size, jnp.int32),
      memories=self.pack(memories),
      did=self._step_rows.pack(self._level_steps(memories, ticks)),
    )

  def memories(self, packed: Sequence[Array]) -> tuple[LevelMemory, ...]:
    """ActorState.memories [N, n], JAX's or NumPy's, as LevelMemory [N, ...]."""
    return tuple(
      rows.unpack(memory) for rows, memory in zip(self._memory_rows, packed)
    )

  def pack(self, memories: Sequence[LevelMemory]) -> tuple[Array, ...]:
    """The inverse of `memories`."""
    return tuple(
      rows.pack(memory) for rows, memory in zip(self._memory_rows, memories)
    )

  def level_steps(self, did: Array) -> tuple[LevelStep, ...]:
    """ActorState.did [N, n], JAX's or NumPy's, as LevelStep [N, ...]."""
    return self._step_rows.unpack(did)

  def replace_action(self, state: ActorState, action: Array) -> ActorState:
    """The state, had level 0 chosen other actions, [N, ...], in the last step.

    The next step then takes these for what was done.
    """
    rows = self._memory_rows[0]
    memory = rows.unpack(state.memories[0])
    memory = memory._replace(action=self.action_space.encode(action))
    return state._replace(memories=(rows.pack(memory), *state.memories[1:]))

  def reset(self, state: ActorState, starting: Array) -> ActorState:
    """Forgets the past of those environments where an episode starts.

    Args:
      state: before their first steps.
      starting: bool [N].
    """
    fresh = self.initial_state(state.key, len(starting))
    return ActorState(
      key=state.key,
      time=jnp.where(starting, fresh.time, state.time),
      memories=turns.where_rows(starting, fresh.memories, state.memories),
      did=state.did,
    )

  def ticks(self, time: Array) -> Sequence[Array]:
    """Who ticks at these steps of episodes, [N]: a bool [N] each.

    The levels, from level 0 on, and then the manager, if there is one.
    """
    count = len(self.levels) + self.config.has_manager
    return [time % self.config.tick_period(i) == 0 for i in range(count)]

  def infer(
    self,
    params: Sequence[level_lib.PolicyParams],
    key: Array,
    observation: Mapping[str, Array],
    memories: Sequence[LevelMemory],
    first: Array,
    ticks: Sequence[Array],
  ) -> tuple[LevelMemory, ...]:
    """Bottom-up: every level that ticks takes in its observation.

    Args:
      params: of each level, from `level.unpack_policy`.
      key: random key.
      observation: of the environments, by name, [N, ...].
      memories: before this step.
      first: whether it is an episode's first, bool [N].
      ticks: bool [N] for each level, see `ticks`.

    Returns:
      The memories; contexts and windows are new where a level ticks.
    """
    seen = observation
    inferred = []
    for level, own, memory, tick, k in zip(
      self.levels,
      params,
      memories,
      ticks,
      jax.random.split(key, len(self.levels)),
    ):

      def advance(memory, level=level, own=own, seen=seen, k=k):
        new = level.world_model.observe_step(
          own.world_model, k, memory.context, memory.action, seen, first
        )
        window = _push(memory.window, new.state)
        return memory._replace(context=new, window=window)

      inferred.append(_if(tick, advance, memory))
      seen = inferred[-1].window
    return tuple(inferred)

  def choose(
    self,
    params: Sequence[level_lib.PolicyParams],
    key: Array,
    memories: Sequence[LevelMemory],
    first: Array,
    ticks: Sequence[Array],
    deterministic: bool = False,
  ) -> tuple[LevelMemory, ...]:
    """Top-down: every level that ticks picks its action; args of `infer`."""
    memories = list(memories)
    top, code = self.levels[-1], None
    if top.manager:
      manager_key, key = jax.random.split(key)

      def set_subgoal(memory):
        code = top.choose_subgoal(
          params[-1], manager_key, memory.state, deterministic
        )
        return memory._replace(code=code)

      memories[-1] = _if(ticks[-1], set_subgoal, memories[-1])
      code = memories[-1].code
    chosen = []
    keys = jax.random.split(key, len(self.levels))
    for level, own, memory, tick, k in reversed(
      list(zip(self.levels, params, memories, ticks, keys))
    ):

      def act(memory, level=level, own=own, code=code, k=k):
        action, log_prob, policy = level.act(
          own, k, memory.state, code, memory.policy, first, deterministic
        )
        return memory._replace(action=action, log_prob=log_prob, policy=policy)

      chosen.append(_if(tick, act, memory))
      code = chosen[-1].action
    return tuple(reversed(chosen))

  def step(
    self,
    params: Sequence[level_lib.PackedPolicy],
    observation: Mapping[str, Array],
    state: ActorState,
    deterministic: bool = False,
  ) -> tuple[Array, ActorState]:
    """Takes in an observation and chooses the environment's action.

    Args:
      params: of each level, from `level.policy_params`.
      observation: by name, [N, ...].
      state: from `initial_state`, `reset` or the last call.
      deterministic: take the likeliest actions instead of sampling.

    Returns:
      The actions [N, ...] as the environments take them, and the new state.
    """
    unpacked = [level_lib.unpack_policy(own) for own in params]
    key, infer_key, choose_key = jax.random.split(state.key, 3)
    ticks = self.ticks(state.time)
    memories = self.infer(
      unpacked,
      infer_key,
      observation,
      self.memories(state.memories),
      state.time == 0,
      ticks,
    )
    memories = self.choose(
      unpacked, choose_key, memories, state.time == 0, ticks, deterministic
    )
    steps = self._level_steps(memories, ticks)
    return steps[0].action, ActorState(
      key=key,
      time=state.time + 1,
      memories=self.pack(memories),
      did=self._step_rows.pack(steps),
    )

  def act(
    self,
    params: Sequence[level_lib.PackedPolicy],
    observation: Any,
    state: ActorState,
    starting: Array,
    deterministic: bool = False,
  ) -> tuple[Array, ActorState]:
    """`step`, whatever episodes have come to their end before it.

    Args:
      observation: as the environments return it, nested or not, [N, ...].
      starting: where an episode starts, bool [N]: the past is forgotten there.
      others: as of `step`.
    """
    return self.step(
      params,
      spaces.flatten_observation(observation),
      self.reset(state, starting),
      deterministic,
    )

  def infer_end(
    self,
    params: Sequence[level_lib.PackedPolicy],
    observation: Mapping[str, Array],
    state: ActorState,
  ) -> tuple[LevelMemory, ...]:
    """The memories at last observations [N, ...]: every level steps."""
    return self.infer(
      [level_lib.unpack_policy(own) for own in params],
      state.key,
      observation,
      self.memories(state.memories),
      state.time == 0,
      [jnp.ones_like(state.time, bool)] * len(self.levels),
    )

  def end(
    self,
    params: Sequence[level_lib.PackedPolicy],
    observation: Mapping[str, Array],
    state: ActorState,
  ) -> Sequence[Window]:
    """What each upper level sees at episodes' last observations [N, ...].

    The episode's end is a step of every level, whether or not it would tick.

    Returns:
      Windows [N, ...] for each level above level 0.
    """
    memories = self.infer_end(params, observation, state)
    return [memory.window for memory in memories[:-1]]

  def _initial_memories(self, batch_size: int) -> tuple[LevelMemory, ...]:
    memories = []
    for i, level in enumerate(self.levels):
      window = {
        name: jnp.zeros((batch_size,) + space.shape, space.dtype)
        for name, space in window_spaces(self.config, i + 1).items()
      }
      window['stoch'] = jnp.full_like(
        window['stoch'], self.config.world_model.classes
      )
      memories.append(
        LevelMemory(
          context=level.world_model.initial_context(batch_size),
          action=jnp.zeros((batch_size, level.action_space.size)),
          log_prob=jnp.zeros(batch_size),
          policy=level.initial_policy(batch_size),
          window=window,
          code=jnp.zeros((batch_size, level.manager.action_space.size))
          if level.manager
          else (),
        )
      )
    return tuple(memories)

  def _level_steps(
    self, memories: Sequence[LevelMemory], ticks: Sequence[Array]
  ) -> tuple[LevelStep, ...]:
    steps = []
    for i, (level, memory, tick) in enumerate(
      zip(self.levels, memories, ticks)
    ):
      extras = {'log_prob': memory.log_prob}
      code = subgoal(memories, i)
      if code is not None:
        code = self.code_space.decode(code)
        extras['subgoal'] = code.astype(jnp.uint8)
      steps.append(
        LevelStep(
          ticked=tick,
          observation=memories[i - 1].window if i else {},
          action=level.action_space.decode(memory.action),
          extras=extras,
        )
      )
    return tuple(steps)


def subgoal(memories: Sequence[LevelMemory], level: int) -> Array | None:
  """The one-hot code that a level has been set, [N, G]; None if nobody does."""
  if level + 1 < len(memories):
    return memories[level + 1].action
  code = memories[level].code
  return None if isinstance(code, tuple) else code


def _if(ticks: Array, advance, memory: LevelMemory) -> LevelMemory:
  """`advance(memory)` where it is time; costs nothing if it is so nowhere."""
  return jax.lax.cond(
    ticks.any(),
    lambda: turns.where_rows(ticks, advance(memory), memory),
    lambda: memory,
  )


def _push(window: Window, state: world_model.State) -> Window:
  """Appends a state to a window [N, k, ...] and drops the oldest."""
  newest = {
    'stoch': state.stoch.chosen,
    'deter': state.deter,
  }
  return {
    name: jnp.concatenate(
      [old[:, 1:], newest[name][:, None].astype(old.dtype)], 1
    )
    for name, old in window.items()
  }
