"""Settings of a whole process with which JAX is faster on a CPU."""

from collections.abc import Mapping
import ctypes
import os

import jax

# Of glibc: the environment variable that a process starts with, and mallopt's
# parameter and value for one that runs.
_MALLOC = {
  # One arena: only the main one can keep more than 64 MiB in a piece.
  'MALLOC_ARENA_MAX': (-8, 1),
  # No memory by mmap, which goes back to the system when it is freed.
  'MALLOC_MMAP_MAX_': (-4, 0),
  'MALLOC_TRIM_THRESHOLD_': (-1, 2**31 - 1),
}

# A loop over a short axis would be unrolled and then not vectorised.
_XLA_FLAG = '--xla_backend_extra_options=xla_cpu_disable_loop_unrolling'


def settings(
  environment: Mapping[str, str], learns: bool = True
) -> dict[str, str]:
  """Variables for a process that would start with this environment.

  What the user has set stays. A process that learns keeps freed memory: XLA
  asks for the memory of an update anew each time, and where it had gone back to
  the system, the system would clear every page of it again, which takes a tenth
  of an update and half of one on some virtual machines. The price is that a
  process stays as large as it has ever been.

  Args:
    environment: variables that it has.
    learns: whether it does. One that only acts has nothing to keep, and would
      take a fifth longer for a step: each of its small allocations would look
      through thousands of pieces that compiling has left.
  """
  new = {
    name: str(value)
    for name, (_, value) in _MALLOC.items()
    if learns and name not in environment
  }
  # XLA ends a process over a flag that it does not know: only for the releases
  # that were tried.
  given = environment.get('XLA_FLAGS', '')
  if jax.__version_info__[:2] <= (0, 6) and 'extra_options' not in given:
    new |= xla_flag(environment, _XLA_FLAG)
  return new


def xla_flag(environment: Mapping[str, str], flag: str) -> dict[str, str]:
  """XLA_FLAGS of this environment and a flag; nothing if they are in a file."""
  given = environment.get('XLA_FLAGS', '').strip()
  # Without a dash it is the name of a file of flags.
  if given and not given.startswith('-'):
    return {}
  return {'XLA_FLAGS': f'{given} {flag}'.strip()}


def tune_process(learns: bool = True):
  """Gives these settings to this process.

  For programs, not for libraries, before JAX starts its threads. Subprocesses
  inherit those of XLA.

  Args:
    learns: whether this process learns, or only acts.
  """
  mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
  for name, value in settings(os.environ, learns).items():
    if name not in _MALLOC:
      os.environ[name] = value
    elif mallopt:
      mallopt(*_MALLOC[name])
