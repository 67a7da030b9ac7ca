"""What a core is: the memory by which a world model carries the past along.

At each step it takes in u_t, made of z_{t-1} and a_{t-1}, and gives an output,
from which the prior of z_t is told, and h_t. The posterior of z_t sees neither,
so that what it takes in is the same for all cores. Of B sequences of T steps,
`scan` gives what `step` gives one by one. docs/architecture.md shows a small
core, and says what has to hold of all.
"""

import abc
from collections.abc import Callable
from typing import Any, Protocol

import haiku as hk
import jax
import jax.numpy as jnp

Array = jax.Array

# A tree of arrays [B, ...] of real numbers: an actor keeps it in float32.
Memory = Any
# What `scan` leaves behind, [B, ...], and `starts` and `deter` can read.
Trace = Any


class Core(abc.ABC):
  """A kind of memory and its sizes; nothing of it is learned.

  Attributes:
    width: numbers of u_t.
  """

  width: int

  @property
  def output_size(self) -> int:
    """Numbers of the output: those of u_t, unless a core says otherwise."""
    return self.width

  @abc.abstractmethod
  def initial_state(self, batch_size: int) -> Memory:
    """The Memory [B, ...] of which nothing counts; each array its own."""

  @abc.abstractmethod
  def make_module(self, name: str) -> 'CoreModule':
    """What is learned; to be called where Haiku transforms."""

  def starts(self, trace: Trace, times: slice, horizon: int) -> Memory:
    """The memories after some steps, as rows [B * steps, ...] for `step`.

    Args:
      trace: from `scan`.
      times: which of its steps.
      horizon: most steps that follow, none of which resets.

    Unless a core says otherwise, a trace is the memories after all steps,
    [B, T, ...]; those of attention would repeat what they share.
    """
    del horizon
    return rows(trace, times)

  def summary(self, memory: Memory | Trace, deter: Array) -> Array:
    """All that is remembered, as numbers [..., any] that a policy can see.

    Args:
      memory: [..., ...].
      deter: h, [..., deter_size], which stands for it unless a core has more.
    """
    del memory
    return deter

  def eigenvalues(self, params: hk.Params) -> dict[str, Array]:
    """Those of one step of its state space layers, if it has any.

    Args:
      params: of the world model.

    Returns:
      Complex [P], by the layer's module name.
    """
    del params
    return {}


def rows(trace: Trace, times: slice) -> Memory:
  """Arrays [B, T, ...] at some steps, as [B * steps, ...]."""
  return jax.tree.map(lambda x: x[:, times].reshape((-1, *x.shape[2:])), trace)


def delay(sequence: Any) -> Any:
  """Arrays [B, T, ...] a step later; zeros come first."""
  return jax.tree.map(
    lambda x: jnp.concatenate([jnp.zeros_like(x[:, :1]), x[:, :-1]], 1),
    sequence,
  )


# Abstract: the metaclass of Haiku's modules is one of `abc`'s.
class CoreModule(hk.Module):
  """The learned part of a core.

  Parameters whose names start with `complex_` hold the real and imaginary
  halves of complex numbers, which count as one each.
  """

  @abc.abstractmethod
  def scan(self, u: Array, reset: Array, memory: Memory) -> tuple[Array, Trace]:
    """Runs over sequences.

    Args:
      u: float [B, T, width].
      reset: bool [B, T]; what came before such a step is forgotten.
      memory: [B, ...], before the first step.

    Returns:
      Outputs [B, T, output_size] in the type of u, and the trace.
    """

  @abc.abstractmethod
  def step(
    self, u: Array, reset: Array | None, memory: Memory
  ) -> tuple[Array, Memory]:
    """Runs one step: [B, width], bool [B] or None, [B, ...], as `scan`."""

  @abc.abstractmethod
  def deter(self, output: Array, memory: Memory | Trace) -> Array:
    """h, float32 [..., deter_size], of what `scan` or `step` gave."""


class Layer(Protocol):
  """`scan` and `step` of a core, for a memory of the layer's own."""

  def scan(
    self, u: Array, reset: Array, memory: Any, /
  ) -> tuple[Array, Trace]: ...

  def step(
    self, u: Array, reset: Array | None, memory: Any, /
  ) -> tuple[Array, Memory]: ...


class Stack(CoreModule):
  """A core of layers, each with a memory of its own."""

  def scan(self, u: Array, reset: Array, memory: Memory) -> tuple[Array, Trace]:
    return self._apply(
      u, memory, lambda layer, u, own: layer.scan(u, reset, own)
    )

  def step(
    self, u: Array, reset: Array | None, memory: Memory
  ) -> tuple[Array, Memory]:
    return self._apply(
      u, memory, lambda layer, u, own: layer.step(u, reset, own)
    )

  @abc.abstractmethod
  def _apply(
    self,
    x: Array,
    before: Memory,
    advance: Callable[[Layer, Array, Memory], tuple[Array, Memory]],
  ) -> tuple[Array, Memory]:
    """Runs x through all layers; `advance` runs one, from its memory on."""
