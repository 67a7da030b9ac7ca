"""Programs that are started on some cores of this machine, and end with it."""

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import ctypes
import fcntl
import functools
import os
import signal
import subprocess
import sys
from typing import NamedTuple

from acme_hieros.machines import clusters

# Of the log of a program that failed.
_LAST_LINES = 8

_libc = ctypes.CDLL(None)


def start(
  command: Sequence[str],
  log: str,
  cores: Sequence[int],
  environment: Mapping[str, str],
  root: str = '',
) -> subprocess.Popen:
  """Starts a program of Python; Ctrl-C does not reach it.

  Args:
    command: what follows the interpreter's name.
    log: file to which all that it says is added; its directory is made.
    cores: of the CPU, that it keeps to with all its threads.
    environment: variables beside those of this process.
    root: where it finds its modules first; by default where this package is.
  """
  path = [root or clusters.ROOT, *filter(None, [os.environ.get('PYTHONPATH')])]
  os.makedirs(os.path.dirname(log), exist_ok=True)
  with open(log, 'a') as file:
    return subprocess.Popen(
      [sys.executable, *command],
      stdin=subprocess.DEVNULL,
      stdout=file,
      stderr=subprocess.STDOUT,
      env={
        **os.environ,
        'PYTHONPATH': os.pathsep.join(path),
        **environment,
      },
      # Ctrl-C is for this process, which tells the others once.
      start_new_session=True,
      preexec_fn=functools.partial(_bind, cores, os.getpid()),
    )


def _bind(cores: Sequence[int], parent: int):
  """Binds this process to cores, and its life to that of its parent."""
  os.sched_setaffinity(0, cores)
  # Whoever ignores or holds back Ctrl-C, as a job in a shell's background or a
  # worker of Ray, has those that it starts do so, too.
  signal.signal(signal.SIGINT, signal.SIG_DFL)
  signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
  # Linux: the kernel sends the signal when the parent is gone.
  _libc.prctl(1, signal.SIGKILL)
  if os.getppid() != parent:
    os._exit(1)


def usable_cores() -> list[int]:
  """Cores of the CPU that this process may use."""
  return sorted(os.sched_getaffinity(0))


def read_end(path: str, lines: int = _LAST_LINES) -> list[str]:
  """The last lines of a log; of a line that was rewritten, what it was last."""
  with open(path, errors='replace', newline='\n') as file:
    said = [line.rstrip().split('\r')[-1] for line in file]
  return said[-lines:]


@contextlib.contextmanager
def locked(directory: str) -> Iterator[None]:
  """Keeps others out of a directory, which is made."""
  os.makedirs(directory, exist_ok=True)
  with open(os.path.join(directory, '.lock'), 'w') as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
      raise ValueError(
        f'{directory} is in use by another process; wait for its end or stop '
        'it.'
      ) from error
    yield


class Place(NamedTuple):
  """Cores and accelerators of this machine that one program has."""

  cores: Sequence[int]
  gpus: Sequence[str]


class Program:
  """One that was started in a place."""

  def __init__(self, place: Place, command: Sequence[str], log: str):
    self.place = place
    # Two that share an accelerator, each of which takes its memory, fail.
    visible = (
      {'CUDA_VISIBLE_DEVICES': ','.join(place.gpus)}
      if place.gpus
      else {'JAX_PLATFORMS': 'cpu'}
    )
    self._process = start(command, log, place.cores, visible)

  def poll(self) -> int | None:
    """Its exit code; None while it is at work."""
    return self._process.poll()

  def stop(self):
    """Asks it to save and to end."""
    self._process.send_signal(signal.SIGINT)

  def kill(self):
    """Ends it at once."""
    self._process.kill()
    self._process.wait()


class Machine:
  """This one: so many programs at once, each in a place of its own."""

  def __init__(self, cpus: int, gpus: int, at_once: int | None = None):
    """Shares out its cores and accelerators.

    Args:
      cpus, gpus: that each program needs.
      at_once: programs; by default as many as there are cores and accelerators
        for. More than that share cores.

    Raises:
      ValueError: it has not so many, or so many programs have no accelerators.
    """
    cores, devices = usable_cores(), _accelerators()
    most = min(
      len(cores) // max(cpus, 1), len(devices) // gpus if gpus else len(cores)
    )
    if not most:
      raise ValueError(
        f'A run needs {cpus} CPUs and {gpus} GPUs, and there are {len(cores)} '
        f'and {len(devices)} here: change [needs] of the study.'
      )
    if gpus and at_once and at_once > most:
      raise ValueError(
        f'at_once={at_once} is too much: there are GPUs for {most} runs.'
      )
    self.at_once = at_once or most
    self._free = [
      Place(
        [cores[(i * cpus + j) % len(cores)] for j in range(max(cpus, 1))],
        devices[i * gpus : (i + 1) * gpus],
      )
      for i in range(self.at_once)
    ]

  def start(self, command: Sequence[str], log: str) -> Program:
    """Starts a program of Python in a free place."""
    return Program(self._free.pop(0), command, log)

  def ended(self, program: Program):
    """Says that a program has ended, and its place is free."""
    self._free.append(program.place)

  def close(self):
    """Ends what is left of its work; here nothing is."""


def _accelerators() -> list[str]:
  """NVIDIA devices that this process may use, by number."""
  allowed = os.environ.get('CUDA_VISIBLE_DEVICES')
  if allowed is not None:
    return [name for name in allowed.split(',') if name]
  try:
    names = os.listdir('/proc/driver/nvidia/gpus')
  except OSError:
    return []
  return [str(number) for number in range(len(names))]
