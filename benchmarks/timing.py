"""The clock that benchmarks of models go by."""

import time

import jax


def now() -> float:
  """Seconds that CPU cores have worked, or of waiting for another device."""
  if jax.default_backend() == 'cpu':
    return time.process_time()
  return time.perf_counter()
