"""Two memories that take turns, so that none outlives what it was trained for.

Sequences of replay start from an empty memory and end after T steps, so that a
memory which has taken in more has never been trained. When the one that counts
has taken in T steps, the other, T/2 younger, takes over (docs/algorithm.md,
2.4).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

Array = jax.Array


class Turns(NamedTuple):
  """What is carried from step to step, [B, ...].

  memory: the one that counts.
  younger: the other.
  age: steps that the one that counts has taken in, int32 [B].
  """

  memory: Any
  younger: Any
  age: Array


def begin(make: Callable[[int], Any], batch_size: int) -> Turns:
  """The state before an episode's first step; `make` gives empty memories."""
  return Turns(
    make(batch_size), make(batch_size), jnp.zeros(batch_size, jnp.int32)
  )


def before_step(
  turns: Turns, start: Array, most: int
) -> tuple[Turns, tuple[Array, Array]]:
  """Whose turn it is at the next step.

  Args:
    turns: [B, ...].
    start: where an episode starts, bool [B].
    most: T, steps that a memory may take in.

  Returns:
    The memories that are to take in the step, with the age after it; and where
    each of the two is to be reset before, bool [B].
  """
  # The younger memory starts when the other has taken in this many steps.
  half = (most + 1) // 2
  full = turns.age >= most
  memory = where_rows(full, turns.younger, turns.memory)
  age = jnp.where(start, 0, jnp.where(full, most - half, turns.age))
  return Turns(memory, turns.younger, age + 1), (start, start | (age == half))


def where_rows(condition: Array, one: Any, other: Any) -> Any:
  """Chooses between trees of arrays [B, ...] by a bool [B]."""

  def choose(x, y):
    return jnp.where(condition.reshape((-1,) + (1,) * (x.ndim - 1)), x, y)

  return jax.tree.map(choose, one, other)


def both(parts: Any) -> Any:
  """Two trees of arrays [B, ...] as one of twice as many rows."""
  return jax.tree.map(lambda *x: jnp.concatenate(x), *parts)


def apart(rows: Any) -> tuple[Any, Any]:
  """The inverse of `both`."""
  one, other = (
    jax.tree.map(lambda x, i=i: jnp.split(x, 2)[i], rows) for i in range(2)
  )
  return one, other
