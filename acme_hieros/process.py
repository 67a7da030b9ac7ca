"""Settings of a whole process with which JAX is faster on a CPU."""

from collections.abc import Iterator, Mapping
import contextlib
import ctypes
import gc
import os
import pathlib

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

# By these a user tells JAX and XLA himself how many devices the CPU is.
_DEVICES = 'JAX_NUM_CPU_DEVICES'
_XLA_DEVICES = '--xla_force_host_platform_device_count'

# Where Linux says what a process may use and what its processor is made of.
ROOT = pathlib.Path('/')


def count_cores(
  environment: Mapping[str, str] = os.environ, root: pathlib.Path = ROOT
) -> int:
  """Cores that this process may keep busy: at least 1.

  As many as `taskset` or a scheduler leaves it, of which two threads of one
  core count once; no more than the time on the CPU that its container gets
  (cgroups), and than OMP_NUM_THREADS.

  Args:
    environment: variables that it has.
    root: of the file system where Linux tells of it.
  """
  usable = os.sched_getaffinity(0)
  siblings = 'sys/devices/system/cpu/cpu{}/topology/thread_siblings_list'
  cores = {read(root / siblings.format(i)) or str(i) for i in usable}
  most = [len(cores), *_quotas(root)]
  # It can have a number for each depth of nesting.
  asked = environment.get('OMP_NUM_THREADS', '').partition(',')[0].strip()
  if asked.isdecimal():
    most.append(int(asked))
  return max(1, int(min(most)))


def control_groups(
  controller: str, root: pathlib.Path = ROOT
) -> Iterator[pathlib.Path]:
  """Directories of the cgroups, nested, in which this process is.

  Args:
    controller: what they limit: 'cpu' or 'memory'.
    root: of the file system where Linux tells of it.
  """
  for line in read(root / 'proc/self/cgroup').splitlines():
    _, controllers, path = line.split(':', 2)
    if controllers and controller not in controllers.split(','):
      continue
    top = root / 'sys/fs/cgroup' / (controller if controllers else '')
    # In a container the path may be that outside of it, which is not there.
    group = top / path.lstrip('/')
    yield from {top, group, *group.parents} - set(top.parents)


def _quotas(root: pathlib.Path) -> list[float]:
  """Cores' worth of time that this process's cgroups give it."""
  quotas = []
  for place in control_groups('cpu', root):
    limit = read(place / 'cpu.max') or ' '.join(
      read(place / f'cpu.cfs_{name}_us') for name in ('quota', 'period')
    )
    with contextlib.suppress(ValueError, ZeroDivisionError):
      quota, period = map(int, limit.split())  # Or 'max', or nothing.
      if quota > 0:
        quotas.append(quota / period)
  return quotas


def read(path: pathlib.Path) -> str:
  """The text of a file, or nothing if there is none."""
  try:
    return path.read_text().strip()
  except OSError:
    return ''


def settings(
  environment: Mapping[str, str], learns: bool = True, cores: int = 1
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
    cores: of the CPU that are to share each batch: JAX sees so many devices.
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
  if cores > 1 and _DEVICES not in environment and _XLA_DEVICES not in given:
    new[_DEVICES] = str(cores)
  return new


def xla_flag(environment: Mapping[str, str], flag: str) -> dict[str, str]:
  """XLA_FLAGS of this environment and a flag; nothing if they are in a file."""
  given = environment.get('XLA_FLAGS', '').strip()
  # Without a dash it is the name of a file of flags.
  if given and not given.startswith('-'):
    return {}
  return {'XLA_FLAGS': f'{given} {flag}'.strip()}


def tune_process(learns: bool = True, cores: int = 1):
  """Gives these settings to this process.

  For programs, not for libraries, before JAX starts its threads. Subprocesses
  inherit those of XLA.

  Args:
    learns: whether this process learns, or only acts.
    cores: that share each batch; `count_cores` says how many there are.
  """
  mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
  for name, value in settings(os.environ, learns, cores).items():
    if name == _DEVICES:
      # Where JAX has started it keeps the devices that it has.
      with contextlib.suppress(RuntimeError):
        jax.config.update(name.lower(), int(value))
    elif name not in _MALLOC:
      os.environ[name] = value
    elif mallopt:
      mallopt(*_MALLOC[name])


@contextlib.contextmanager
def importing() -> Iterator[None]:
  """Has Python look for no garbage in what is imported meanwhile.

  For programs. Acme and TensorFlow make hundreds of thousands of objects that
  all stay; looking through them takes a fifth of the time that they take, and
  more while JAX traces.
  """
  enabled = gc.isenabled()
  gc.disable()
  try:
    yield
  finally:
    gc.freeze()
    if enabled:
      gc.enable()
