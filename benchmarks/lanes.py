"""Many seeds at once on one accelerator: does a level above help on `signal`?

  python -m benchmarks.lanes --variant=told --lanes=8 --minutes=10 --name=told

An update of a small agent keeps an accelerator waiting for its kernels to
start: as many agents as fit learn in the time of one, each in a lane of its
own under `jax.vmap`. So environment, replay and updates are programs of the
accelerator here. Each lane plays --envs episodes of `sparse/signal` (with
decides=end) at a time, keeps them as `HierarchicalAdder` would, and then
updates each of its levels as often as `replay.ratio` has level 0 updated, from
sequences drawn uniformly. The first episodes are played without updates, until
a lane has `replay.min_size` steps. Neither Acme nor Reverb is needed.

In benchmarks/results is <name>.csv, with a row for each lane every --every
rounds: over the last episodes the mean return, how many ended where, and in
what share of them a linear map of the top level's h and z, fitted to others,
names the pad that was lit (by chance 1/4), at that level's first two ticks and
its last. Prints each row.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
import datetime
import functools
import os
import sys
import time
from typing import Any, NamedTuple

from absl import app, flags
import jax
import jax.numpy as jnp
import numpy as np

from acme_hieros import command_line
from acme_hieros import config as config_lib
from acme_hieros.environments import sparse
from acme_hieros.models import hierarchy, spaces, world_model
from acme_hieros.models import level as level_lib
import benchmarks
from benchmarks import commits, tables, variants

_PRESET = flags.DEFINE_string('preset', 'tiny', 'Size of the agents.')
_VARIANT = flags.DEFINE_enum(
  'variant', 'told', list(variants.VARIANTS), 'What is computed.'
)
_OVERRIDE = flags.DEFINE_multi_string(
  'override', [], 'A field of the configuration, as name=value.'
)
_LANES = flags.DEFINE_integer(
  'lanes', 8, 'Agents, with seeds from 0 on.', lower_bound=1
)
_ENVS = flags.DEFINE_integer(
  'envs', 20, 'Episodes at a time of each.', lower_bound=1
)
_MINUTES = flags.DEFINE_float('minutes', 10.0, 'All takes, compiling included.')
_EVERY = flags.DEFINE_integer(
  'every', 20, 'Rounds of episodes to a row.', lower_bound=1
)
_NAME = flags.DEFINE_string('name', 'lanes', 'Of the table.')
_RESULTS = flags.DEFINE_string(
  'results', benchmarks.RESULTS, 'Where the table goes.'
)

COLUMNS = (
  'lane',
  'updates',
  'steps',
  'seconds',
  'return',
  'nowhere',
  *(f'pad_{i}' for i in range(4)),
  'named_first',
  'named_second',
  'named_last',
  'entropy',
  'top_entropy',
  'device',
  'commit',
  'date',
  'configuration',
)

Array = jax.Array
Rows = Mapping[str, Any]

# Rounds that a row is told by.
_RECENT = 40


class Signal(NamedTuple):
  """`sparse/signal`, decides=end, in tables.

  images: by what is lit (the last: nothing) and by cell, uint8
    [5, 64, 16, 16, 3].
  moves: the cell that an action leads to, int32 [64, 5].
  pads: which pad a cell is on, -1 for none, int32 [64].
  delay, shown, length: in steps, as of the environment.
  """

  images: np.ndarray
  moves: np.ndarray
  pads: np.ndarray
  delay: int = 32
  shown: int = 4
  length: int = 48

  def observe(self, time: Array, lit: Array, cell: Array) -> Array:
    """Images [N, 16, 16, 3] at a step, of which pad is lit and the cell [N]."""
    shown = jnp.where(time < self.shown, lit, len(self.images) - 1)
    return jnp.asarray(self.images)[shown, cell]

  def move(self, time: Array, cell: Array, action: Array, then: Array) -> Array:
    """Cells [N] after a step; `then` is where players are put once."""
    moved = jnp.asarray(self.moves)[cell, action]
    return jnp.where(time + 1 == self.delay, then, moved)


def make_signal() -> Signal:
  """The tables, from what the environment's module says of its board."""
  side = sparse.SIDE
  cells = [(row, column) for row in range(side) for column in range(side)]
  pads = np.full((side, side), -1, np.int32)
  for i, (rows, columns, _) in enumerate(sparse.PADS[:4]):
    pads[rows, columns] = i
  ground = np.where(pads[..., None] >= 0, (0, 85, 0), 0)
  images = np.zeros((5, len(cells), side, side, 3), np.uint8)
  for lit in range(5):
    images[lit] = np.where((pads == lit)[..., None], (255, 255, 0), ground)
    for i, cell in enumerate(cells):
      images[lit, i][cell] = 255
  moves = np.array(
    [
      [
        cells.index((row + down, column + right))
        if (row + down, column + right) in cells
        else cells.index((row, column))
        for down, right in sparse.MOVES
      ]
      for row, column in cells
    ],
    np.int32,
  )
  return Signal(images.repeat(2, 2).repeat(2, 3), moves, pads.reshape(-1))


class Lane:
  """The pure functions of one agent: `jax.vmap` makes many of them."""

  def __init__(self, config: config_lib.HierosConfig, envs: int):
    """Builds an agent.

    Args:
      config: of it.
      envs: N, that it plays in at once.

    Raises:
      ValueError: an episode is not made of whole steps of all levels, or
        sampling is not uniform.
    """
    self.config = config
    self.envs = envs
    self.signal = make_signal()
    self.periods = [config.tick_period(i) for i in range(config.depth)]
    if self.signal.length % max(self.periods):
      raise ValueError(
        f'episodes of {self.signal.length} steps are not made of whole steps '
        f'of {max(self.periods)}; change subgoals.duration.'
      )
    if config.replay.sampler != 'uniform':
      raise ValueError('sequences are drawn uniformly: replay.sampler=uniform.')
    self.agent = hierarchy.Hierarchy(
      config,
      {spaces.SINGLE: spaces.Image(self.signal.images.shape[2:])},
      spaces.Discrete((), len(sparse.MOVES)),
    )
    # Steps that an episode leaves in each level's table: its ticks and its end.
    self.rows = [self.signal.length // k + 1 for k in self.periods]
    self.slots = [
      max(2, config.replay.capacity // (rows * envs)) for rows in self.rows
    ]
    steps = envs * self.signal.length
    self.updates = max(1, round(steps * config.updates_per_step))
    self.warmup = -(-config.replay.min_size // steps)

  def init(self, key: Array) -> tuple[Any, Any]:
    """Learning states, and replay without anything in it."""
    states = self.agent.init(key)
    episodes, _ = jax.eval_shape(self.play, states, key)
    replay = tuple(
      jax.tree.map(
        lambda x, slots=slots: jnp.zeros(
          (x.shape[0], slots, *x.shape[1:]), x.dtype
        ),
        rows,
      )
      for rows, slots in zip(episodes, self.slots)
    )
    return states, replay

  def play(self, states: Any, key: Array) -> tuple[Sequence[Rows], Rows]:
    """One episode in each environment.

    Returns:
      The rows of each level, [N, rows, ...], and of the episodes: return, lit
      and pad (where the player ended), [N]; h and z of the top level at its
      ticks, [N, ticks, ...].
    """
    params = [level_lib.policy_params(state.params) for state in states]
    lit_key, cell_key, then_key, key = jax.random.split(key, 4)
    cells = len(self.signal.pads)
    lit = jax.random.randint(lit_key, (self.envs,), 0, 4)
    cell = jax.random.randint(cell_key, (self.envs,), 0, cells)
    then = jax.random.randint(then_key, (self.envs,), 0, cells)
    pads, length = jnp.asarray(self.signal.pads), self.signal.length

    def step(carry, time):
      state, cell = carry
      image = self.signal.observe(time, lit, cell)
      action, state = self.agent.step(params, {spaces.SINGLE: image}, state)
      cell = self.signal.move(time, cell, action, then)
      last = time + 1 == length
      shape = (self.envs,)
      steps = [
        {
          'observation': did.observation or {spaces.SINGLE: image},
          'action': did.action,
          'first': jnp.full(shape, time == 0),
          **did.extras,
        }
        for did in self.agent.level_steps(state.did)
      ]
      reward = sparse.REWARD * (last & (pads[cell] == lit))
      discount = jnp.where(last, 0.0, jnp.ones(shape))
      top = self.agent.memories(state.memories)[-1].state
      known = {'h': top.deter, 'z': top.stoch.value}
      return (state, cell), (steps, reward, discount, known)

    start = self.agent.initial_state(key, self.envs), cell
    (state, cell), (steps, reward, discount, known) = jax.lax.scan(
      step, start, jnp.arange(length)
    )
    last = {spaces.SINGLE: self.signal.observe(length, lit, cell)}
    ends = [last, *self.agent.end(params, last, state)]
    episodes = []
    for i, (k, rows, end) in enumerate(zip(self.periods, steps, ends)):
      rows = jax.tree.map(lambda x, k=k: x[::k], rows)

      def by_tick(x, k=k):
        return x.reshape((-1, k, self.envs))

      rows['reward'] = by_tick(reward).sum(1) / self.config.reward_divisor(i)
      rows['discount'] = by_tick(discount).prod(1)
      # The last observation, with zeros, as of Acme's own adders.
      final = jax.tree.map(lambda x: jnp.zeros_like(x[0]), rows)
      final['observation'] = end
      if 'subgoal' in rows:
        final['subgoal'] = rows['subgoal'][-1]
      rows = jax.tree.map(
        lambda x, y: jnp.concatenate([x, y[None].astype(x.dtype)]), rows, final
      )
      episodes.append(jax.tree.map(lambda x: x.swapaxes(0, 1), rows))
    facts = {
      'return': reward.sum(0),
      'lit': lit,
      'pad': pads[cell],
      **{
        name: x[:: self.periods[-1]].swapaxes(0, 1) for name, x in known.items()
      },
    }
    return episodes, facts

  def keep(
    self, states: Any, replay: Any, played: Array, key: Array
  ) -> tuple[Any, Rows]:
    """Plays, and writes over the oldest episodes; `played` were, so far."""
    episodes, facts = self.play(states, key)
    kept = jax.tree.map(
      lambda table, x: jax.lax.dynamic_update_index_in_dim(
        table, x, played % table.shape[1], 1
      ),
      replay,
      tuple(episodes),
    )
    return kept, facts

  def sample(self, rows: Any, level: int, played: Array, key: Array):
    """A batch [B, T, ...] of what a level has kept of `played` rounds."""
    batch, length = self.config.batch_size, self.config.sequence_length
    per_episode, slots = self.rows[level], self.slots[level]
    oldest = jnp.where(played > slots, played % slots, 0)
    starts = jnp.minimum(played, slots) * per_episode - length + 1
    env_key, start_key = jax.random.split(key)
    env = jax.random.randint(env_key, (batch, 1), 0, self.envs)
    start = jax.random.randint(start_key, (batch, 1), 0, starts)
    row = start + jnp.arange(length)
    slot = (oldest + row // per_episode) % slots
    rows = jax.tree.map(lambda x: x[env, slot, row % per_episode], rows)
    return level_lib.Batch(
      sequence=world_model.Sequence(
        observation=rows['observation'],
        action=rows['action'],
        reward=rows['reward'],
        discount=rows['discount'],
        start_of_episode=rows['first'],
      ),
      subgoal=rows.get('subgoal'),
      log_prob=rows['log_prob'],
    )

  def learn(
    self,
    level: int,
    state: Any,
    rows: Any,
    played: Array,
    guidance: Array,
    key: Array,
  ) -> tuple[Any, Rows]:
    """A round's updates of a level, and the means of their metrics.

    Args:
      level: its index.
      state: of it.
      rows: that it has kept.
      played: rounds in these.
      guidance: how much its subgoals count.
      key: random key.
    """

    def update(state, key):
      batch = self.sample(rows, level, played, key)
      return self.agent.levels[level].update(state, batch, guidance)

    state, metrics = jax.lax.scan(
      update, state, jax.random.split(key, self.updates)
    )
    return state, jax.tree.map(lambda x: x.mean(0), metrics)


def named(known: np.ndarray, lit: np.ndarray) -> float:
  """How often a linear map of what is known says which pad was lit.

  Ridge regression of one half of the episodes, asked of the other.

  Args:
    known: [episodes, n].
    lit: [episodes].
  """
  known = (known - known.mean(0)) / (known.std(0) + 1e-3)
  half = len(known) // 2
  fitted, target = known[:half], np.eye(4)[lit[:half]]
  weights = np.linalg.solve(
    fitted.T @ fitted + 100 * np.eye(known.shape[1]),
    fitted.T @ (target - target.mean(0)),
  )
  return float(np.mean((known[half:] @ weights).argmax(1) == lit[half:]))


class Lanes:
  """Agents side by side."""

  def __init__(self, lane: Lane, count: int):
    """Compiles all programs, side by side, for agents of the seeds 0, 1, ..."""
    self.lane = lane
    self.played = 0
    self._count = count
    self._key = jax.random.PRNGKey(0)
    states, self._replay = jax.jit(jax.vmap(lane.init))(
      jax.vmap(jax.random.PRNGKey)(jnp.arange(count))
    )
    self._states = list(states)

    def compiled(function: Callable, donated: int, *arguments):
      # Numbers are the same for all agents.
      axes = [None if np.isscalar(x) else 0 for x in arguments]
      program = jax.jit(
        jax.vmap(function, in_axes=axes), donate_argnums=(donated,)
      )
      return program.lower(*arguments).compile()

    with futures.ThreadPoolExecutor() as pool:
      keep = pool.submit(
        compiled, lane.keep, 1, states, self._replay, np.int32(0), self._keys()
      )
      learn = [
        pool.submit(
          compiled,
          functools.partial(lane.learn, i),
          0,
          state,
          rows,
          np.int32(0),
          np.float32(0.0),
          self._keys(),
        )
        for i, (state, rows) in enumerate(zip(states, self._replay))
      ]
      self._keep = keep.result()
      self._learn = [program.result() for program in learn]

  @property
  def rounds(self) -> int:
    """Of those that were played, those that had updates."""
    return max(0, self.played - self.lane.warmup)

  @property
  def updates(self) -> int:
    """Of each level."""
    return self.rounds * self.lane.updates

  def _keys(self) -> Array:
    self._key, key = jax.random.split(self._key)
    return jax.random.split(key, self._count)

  def round(self) -> tuple[Rows, Sequence[Rows]]:
    """Episodes and updates: facts of those, and by level metrics of these."""
    guidance = np.float32(self.lane.config.guidance(self.updates))
    self._replay, facts = self._keep(
      tuple(self._states), self._replay, np.int32(self.played), self._keys()
    )
    self.played += 1
    metrics = []
    if self.rounds:
      for i, learn in enumerate(self._learn):
        self._states[i], values = learn(
          self._states[i],
          self._replay[i],
          np.int32(self.played),
          guidance,
          self._keys(),
        )
        metrics.append(values)
    return jax.device_get((facts, metrics))


def describe(
  lanes: Lanes, rounds: Sequence[Rows], metrics: Sequence[Rows]
) -> list[dict[str, Any]]:
  """What each lane's row says of its learning.

  Args:
    lanes: the agents.
    rounds: facts of their last episodes.
    metrics: of their last updates, by level.
  """
  facts = jax.tree.map(lambda *x: np.concatenate(x, 1), *rounds)
  known = np.concatenate(
    [facts[name].reshape((*facts[name].shape[:3], -1)) for name in ('h', 'z')],
    -1,
  )
  lane = lanes.lane
  rows = []
  for i, (returns, lit, pads) in enumerate(
    zip(facts['return'], facts['lit'], facts['pad'])
  ):
    ends = np.bincount(pads + 1, minlength=5)
    rows.append(
      {
        'lane': i,
        'updates': lanes.updates,
        'steps': lanes.played * lane.envs * lane.signal.length,
        'return': round(float(returns.mean()), 3),
        'nowhere': ends[0],
        **{f'pad_{pad}': ends[pad + 1] for pad in range(4)},
        **{
          f'named_{name}': round(named(known[i, :, tick], lit), 3)
          for name, tick in (('first', 0), ('second', 1), ('last', -1))
        },
        'entropy': round(float(metrics[0]['policy_entropy'][i]), 3),
        'top_entropy': round(float(metrics[-1]['policy_entropy'][i]), 3),
      }
    )
  return rows


def main(argv):
  command_line.refuse_arguments(argv)
  began = time.monotonic()
  system, values = variants.VARIANTS[_VARIANT.value]
  try:
    config = config_lib.override(
      config_lib.preset(_PRESET.value, system),
      {**values, **command_line.read_pairs(_OVERRIDE)},
    )
    lane = Lane(config, _ENVS.value)
    path = os.path.join(_RESULTS.value, f'{_NAME.value}.csv')
    table = tables.Table(path, COLUMNS)
  except ValueError as error:
    sys.exit(f'lanes: {error}')
  constant = {
    'device': jax.devices()[0].device_kind,
    'commit': commits.find_commit(),
    'configuration': config_lib.describe(config),
  }
  lanes = Lanes(lane, _LANES.value)
  print(f'Compiled after {time.monotonic() - began:.0f} s.', flush=True)
  recent: list[Rows] = []
  while time.monotonic() - began < 60 * _MINUTES.value:
    facts, metrics = lanes.round()
    recent = [*recent, facts][-_RECENT:]
    if not lanes.rounds or lanes.rounds % _EVERY.value:
      continue
    rows = [
      {
        **row,
        'seconds': round(time.monotonic() - began),
        'date': datetime.date.today().isoformat(),
        **constant,
      }
      for row in describe(lanes, recent, metrics)
    ]
    table.put(rows)
    for row in rows:
      print(*(f'{name}={row[name]}' for name in COLUMNS[:15]), flush=True)


if __name__ == '__main__':
  app.run(main)
