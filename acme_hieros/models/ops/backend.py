"""For which kind of device the arithmetic is being traced."""

from collections.abc import Callable
import contextvars
import functools

import jax

_FOR_CPU = contextvars.ContextVar('for_cpu', default=False)


def on_cpu() -> bool:
  """Whether what is traced now will run on a CPU."""
  return _FOR_CPU.get() or jax.default_backend() == 'cpu'


def for_cpu(function: Callable) -> Callable:
  """The function, traced for a CPU also where JAX's default is another device.

  For what `jax.jit(..., backend='cpu')` compiles, such as an actor's policy
  beside a learner on an accelerator.
  """

  @functools.wraps(function)
  def traced(*args, **kwargs):
    token = _FOR_CPU.set(True)
    try:
      return function(*args, **kwargs)
    finally:
      _FOR_CPU.reset(token)

  return traced
