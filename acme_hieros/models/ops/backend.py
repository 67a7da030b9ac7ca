"""For which kind of device the arithmetic is being traced."""

from collections.abc import Callable
import contextvars
import functools

import jax

# None where JAX's default device decides.
_FOR_CPU: contextvars.ContextVar[bool | None] = contextvars.ContextVar(
  'for_cpu', default=None
)


def on_cpu() -> bool:
  """Whether what is traced now will run on a CPU."""
  chosen = _FOR_CPU.get()
  return jax.default_backend() == 'cpu' if chosen is None else chosen


def for_cpu(function: Callable) -> Callable:
  """The function, traced for a CPU also where JAX's default is another device.

  For what `jax.jit(..., backend='cpu')` compiles, such as an actor's policy
  beside a learner on an accelerator.
  """
  return _traced(function, True)


def for_accelerator(function: Callable) -> Callable:
  """The function, traced for an accelerator also where there is none.

  For what counts the work that one would have.
  """
  return _traced(function, False)


def _traced(function: Callable, cpu: bool) -> Callable:
  @functools.wraps(function)
  def traced(*args, **kwargs):
    token = _FOR_CPU.set(cpu)
    try:
      return function(*args, **kwargs)
    finally:
      _FOR_CPU.reset(token)

  return traced
