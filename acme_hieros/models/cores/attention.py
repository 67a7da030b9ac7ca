"""Causal self-attention within an episode, over a window of the last steps.

A step sees itself and the steps before it that belong to the same episode and
are at most `window` - 1 steps older. In a sequence (`Attention.scan`) that is a
mask; an actor keeps the keys and values of the window in a ring (`Ring`); what
imagination starts from shares those of its sequence (`Branches`), since every
step of a batch is a start, and a ring for each would repeat nearly all of them.

The core is a Transformer with its norms in front (1706.03762, 2002.04745) and
rotary positions (2104.09864), which tell distances only: a ring has no first
place.
"""

from typing import NamedTuple, overload

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from acme_hieros.config import WorldModelConfig
from acme_hieros.models.cores import base
from acme_hieros.models.ops import linear, normalization

Array = jax.Array

# Less than any product of a query and a key.
_NEVER = -1e9


class Ring(NamedTuple):
  """The last W steps; a step's place is its position modulo W.

  keys, values: float32 [B, W, width], by place.
  age: steps since the memory was empty, int32 [B]; the next one's position.
  """

  keys: Array
  values: Array
  age: Array

  def positions(self) -> Array:
    """Of the step at each place, int32 [B, W]; negative where there is none."""
    size = self.keys.shape[1]
    last = self.age[:, None] - 1
    return last - (last - jnp.arange(size)) % size


class Trace(NamedTuple):
  """A sequence of T steps, and S = W + T steps that they may look back on.

  keys, values: float32 [B, S, width]; the T steps are the last.
  distances: by how many steps each of the S is older than each of the T,
    int32 [B, T, S]; `window` where it is not seen.
  positions: of the T steps, int32 [B, T].
  """

  keys: Array
  values: Array
  distances: Array
  positions: Array


class Branches(NamedTuple):
  """N = B K memories, K branches of each of B sequences.

  keys, values: of the sequences, [B, S, width].
  distances: by how many steps each of the S is older than a branch's first,
    int32 [N, S]; `window` or more where it is not seen.
  own_keys, own_values: of the branches' steps, [N, H, width].
  own: how many there are so far, int32 [N].
  age: position of the next step, int32 [N].
  """

  keys: Array
  values: Array
  distances: Array
  own_keys: Array
  own_values: Array
  own: Array
  age: Array


def initial_ring(width: int, window: int, batch_size: int) -> Ring:
  """The empty Ring [B, ...]."""
  return Ring(
    jnp.zeros((batch_size, window, width)),
    jnp.zeros((batch_size, window, width)),
    jnp.zeros(batch_size, jnp.int32),
  )


@overload
def starts(trace: Trace, times: slice, horizon: int) -> Branches: ...
@overload
def starts(trace: Ring, times: slice, horizon: int) -> Ring: ...
def starts(trace: Trace | Ring, times: slice, horizon: int) -> Branches | Ring:
  """The memories after some steps, as rows [B * steps, ...].

  Args:
    trace: of sequences [B, ...], or the rings after all their steps, [B, T,
      ...].
    times: which of the steps.
    horizon: most steps that follow.
  """
  if isinstance(trace, Ring):
    return base.rows(trace, times)
  distances, age = base.rows((trace.distances, trace.positions), times)
  shape = (len(age), horizon, trace.keys.shape[-1])
  return Branches(
    keys=trace.keys,
    values=trace.values,
    distances=distances + 1,
    own_keys=jnp.zeros(shape),
    own_values=jnp.zeros(shape),
    own=jnp.zeros_like(age),
    age=age + 1,
  )


class Attention(hk.Module):
  """The weighted values of all heads, [..., width]; weights are float32.

  Args:
    width: of what comes in, and of keys and values of all heads.
    heads: that share it.
    window: most steps that one looks back on, itself included.
    rotary: whether distances count, or only what the steps hold.
  """

  def __init__(
    self,
    width: int,
    heads: int,
    window: int,
    rotary: bool,
    name: str | None = None,
  ):
    super().__init__(name)
    self._width = width
    self._heads = heads
    self._window = window
    self._rotary = rotary

  def scan(self, u: Array, reset: Array, ring: Ring) -> tuple[Array, Trace]:
    """[B, T, width], bool [B, T] and what was before to [B, T, width]."""
    time = jnp.arange(u.shape[1])
    started = jax.lax.cummax(jnp.where(reset, time, -1), axis=1)
    positions = jnp.where(started < 0, ring.age[:, None] + time, time - started)
    before = ring.positions()
    segments = jnp.cumsum(reset, 1)
    distances = (
      positions[:, :, None] - jnp.concatenate([before, positions], 1)[:, None]
    )
    seen = (
      (distances >= 0)
      & (distances < self._window)
      & jnp.concatenate(
        [
          (before >= 0)[:, None] & (segments == 0)[..., None],
          segments[:, :, None] == segments[:, None],
        ],
        -1,
      )
    )
    query, keys, values = self._project(u, positions)
    trace = Trace(
      keys=jnp.concatenate([ring.keys, keys], 1),
      values=jnp.concatenate([ring.values, values], 1),
      distances=jnp.where(seen, distances, self._window),
      positions=positions,
    )
    y = self._attend(query, [(trace.keys, trace.values, seen)])
    return y.astype(u.dtype), trace

  def step(
    self, u: Array, reset: Array | None, memory: Ring | Branches
  ) -> tuple[Array, Ring | Branches]:
    """[N, width], bool [N] or None; no branch can be reset."""
    if isinstance(memory, Branches):
      assert reset is None, 'imagination does not reset'
      return self._step_branches(u, memory)
    age = memory.age
    if reset is not None:
      age = jnp.where(reset, 0, age)
    query, key, value = self._project(u, age)
    ring = Ring(
      _put(memory.keys, key, age % self._window),
      _put(memory.values, value, age % self._window),
      age + 1,
    )
    seen = ring.positions() >= 0
    y = self._attend(query[:, None], [(ring.keys, ring.values, seen[:, None])])
    return y[:, 0].astype(u.dtype), ring

  def _step_branches(
    self, u: Array, memory: Branches
  ) -> tuple[Array, Branches]:
    query, key, value = self._project(u, memory.age)
    memory = memory._replace(
      own_keys=_put(memory.own_keys, key, memory.own),
      own_values=_put(memory.own_values, value, memory.own),
    )
    own = memory.own[:, None]
    older = own - jnp.arange(memory.own_keys.shape[1])
    sequences = len(memory.keys)

    def grouped(x):
      return x.reshape((sequences, -1, *x.shape[1:]))

    y = self._attend(
      grouped(query),
      [
        (
          memory.keys,
          memory.values,
          grouped(memory.distances + own < self._window),
        ),
        (
          grouped(memory.own_keys),
          grouped(memory.own_values),
          grouped((older >= 0) & (older < self._window)),
        ),
      ],
    )
    memory = memory._replace(own=memory.own + 1, age=memory.age + 1)
    return y.reshape(u.shape).astype(u.dtype), memory

  def _project(self, u: Array, position: Array) -> tuple[Array, Array, Array]:
    """Query, key and value of steps [...] at positions [...], [..., width]."""
    projected = linear.Linear(3 * self._width, with_bias=False)(u)
    query, key, value = jnp.split(projected.astype(jnp.float32), 3, -1)
    if self._rotary:
      query, key = (self._rotate(x, position) for x in (query, key))
    return query, key, value

  def _rotate(self, x: Array, position: Array) -> Array:
    """Turns pairs of numbers of each head by angles that grow with position."""
    heads = x.reshape((*x.shape[:-1], self._heads, -1))
    half = heads.shape[-1] // 2
    rate = np.float32(10000.0) ** (-np.arange(half) / half)
    angle = position[..., None, None] * rate
    one, other = jnp.split(heads, 2, -1)
    turned = jnp.concatenate(
      [
        one * jnp.cos(angle) - other * jnp.sin(angle),
        one * jnp.sin(angle) + other * jnp.cos(angle),
      ],
      -1,
    )
    return turned.reshape(x.shape)

  def _attend(
    self, query: Array, sources: list[tuple[Array, Array, Array]]
  ) -> Array:
    """Attends to several sources as if they were one.

    Args:
      query: [B, K, width].
      sources: keys and values, [B, S, width] for all K or [B, K, S, width] for
        each, and which are seen, bool [B, K, S].

    Returns:
      [B, K, width].
    """

    def split(x):
      return x.reshape((*x.shape[:-1], self._heads, -1))

    query = split(query)
    query = query / np.sqrt(query.shape[-1])
    scores = []
    for keys, _, seen in sources:
      of = 'bshd' if keys.ndim == 3 else 'bkshd'
      score = jnp.einsum(f'bkhd,{of}->bkhs', query, split(keys))
      scores.append(jnp.where(seen[:, :, None], score, _NEVER))
    weights = jax.nn.softmax(jnp.concatenate(scores, -1), -1)
    y, first = jnp.zeros(()), 0
    for _, values, seen in sources:
      of = 'bshd' if values.ndim == 3 else 'bkshd'
      part = weights[..., first : first + seen.shape[-1]]
      y += jnp.einsum(f'bkhs,{of}->bkhd', part, split(values))
      first += seen.shape[-1]
    return y.reshape((*y.shape[:2], self._width))


def _put(rows: Array, row: Array, place: Array) -> Array:
  """Rows [N, S, width] with one of each N, [N, width], in another's place."""
  here = jnp.arange(rows.shape[1]) == place[:, None]
  return jnp.where(here[..., None], row[:, None], rows)


class Transformer(base.Core):
  """Layers of attention, of whose last output h is read."""

  def __init__(
    self, config: WorldModelConfig, context_length: int, dtype: jnp.dtype
  ):
    self.width = config.attention.width
    self._config = config
    self._dtype = dtype
    self._window = window(config, context_length)

  def initial_state(self, batch_size: int) -> tuple[Ring, ...]:
    return tuple(
      initial_ring(self.width, self._window, batch_size)
      for _ in range(self._config.attention.layers)
    )

  def starts(
    self, trace: tuple[Trace, ...], times: slice, horizon: int
  ) -> tuple[Branches, ...]:
    return tuple(starts(own, times, horizon) for own in trace)

  def make_module(self, name: str) -> base.CoreModule:
    return _Layers(self._config, self._window, self._dtype, name)


def window(config: WorldModelConfig, context_length: int) -> int:
  """Steps that attention looks back on; ValueError if they are never there."""
  chosen = config.attention.window or context_length
  if chosen > context_length:
    raise ValueError(
      f'world_model.attention.window={chosen} must not exceed the '
      f'{context_length} steps that a memory holds (context_length, or '
      'sequence_length): more are never there.'
    )
  return chosen


class _Layers(base.Stack):
  """Layers: x += W attention(LN x), x += W GELU(W LN x)."""

  def __init__(self, config, window, dtype, name):
    super().__init__(name)
    self._config = config.attention
    self._window = window
    self._dtype = dtype
    self._deter = linear.Linear(config.deter_size, name='deter')

  def _apply(self, x, before, advance):
    config = self._config
    memory = []
    for own in before:
      layer = Attention(config.width, config.heads, self._window, rotary=True)
      y, own = advance(layer, normalization.LayerNorm()(x), own)
      memory.append(own)
      x += linear.Linear(config.width)(y)
      y = linear.Linear(config.units)(normalization.LayerNorm()(x))
      x += linear.Linear(config.width)(jax.nn.gelu(y))
    return normalization.LayerNorm()(x), tuple(memory)

  def deter(self, output, memory):
    del memory
    return self._deter(output.astype(self._dtype)).astype(jnp.float32)
