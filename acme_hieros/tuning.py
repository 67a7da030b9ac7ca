"""Settings of a whole process with which JAX learns faster on a CPU."""

import ctypes
import os

import jax

# Parameters of glibc's mallopt: the value and the environment variable that
# says the same to a subprocess.
_MALLOC = {
  # One arena: only the main one can keep more than 64 MiB in a piece.
  'MALLOC_ARENA_MAX': (-8, 1),
  # No memory by mmap, which goes back to the system when it is freed.
  'MALLOC_MMAP_MAX_': (-4, 0),
  'MALLOC_TRIM_THRESHOLD_': (-1, 2**31 - 1),
}

_XLA_FLAGS = (
  '--xla_cpu_prefer_vector_width=512',
  # A loop over a short axis would be unrolled and then not vectorised.
  '--xla_backend_extra_options=xla_cpu_disable_loop_unrolling',
)


def tune_process():
  """Has freed memory kept, and loops compiled for wide registers.

  XLA asks for the memory of an update anew each time. Where it had gone back to
  the system, the system would clear every page of it again, which takes a tenth
  of an update and half of one on some virtual machines. The price is memory: a
  process stays as large as it has ever been.

  For programs, not for libraries, before JAX starts its threads. Subprocesses
  inherit the settings; what the user has set stays.
  """
  mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
  for name, (parameter, value) in _MALLOC.items():
    if mallopt and name not in os.environ:
      mallopt(parameter, value)
      os.environ[name] = str(value)
  # XLA ends a process over a flag that it does not know: only for the releases
  # that were tried.
  if jax.__version_info__[:2] <= (0, 6):
    given = os.environ.get('XLA_FLAGS', '')
    new = [f for f in _XLA_FLAGS if f.partition('=')[0] not in given]
    os.environ['XLA_FLAGS'] = ' '.join([given, *new]).strip()
