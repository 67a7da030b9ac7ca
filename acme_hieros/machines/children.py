"""Programs that this process starts, and that do not outlive it."""

from collections.abc import Mapping, Sequence
import contextlib
import os
import signal
import subprocess
import sys
import time
from typing import IO

import psutil

_POLL_SECONDS = 0.05

# Has the kernel kill a process when its parent is gone (Linux, prctl 1), before
# it begins with what it is to do: importing Acme takes seconds. Whoever holds
# signals back, as a worker of Ray, has those that it starts do so, too; these
# do not. Arguments: the parent, and the command.
BIND = (
  sys.executable,
  '-IS',
  '-c',
  'import ctypes, os, signal, sys; '
  'ctypes.CDLL(None).prctl(1, signal.SIGKILL); '
  'os.getppid() == int(sys.argv[1]) or sys.exit(1); '
  'signal.pthread_sigmask(signal.SIG_SETMASK, ()); '
  'os.execvp(sys.argv[2], sys.argv[2:])',
)


class Child:
  """A program in a process of its own, whose output goes to a file."""

  def __init__(
    self, command: Sequence[str], environment: Mapping[str, str], log: str
  ):
    """Describes it.

    Args:
      command: with the program's name.
      environment: all variables that it has.
      log: file to which all that it says is added.
    """
    self._command = command
    self._environment = environment
    self._log = log
    self._process: subprocess.Popen | None = None

  @property
  def pid(self) -> int | None:
    """Of its process; None before it is started."""
    return None if self._process is None else self._process.pid

  def start(self):
    """Starts it, for the first time or again."""
    with self._open_log() as log:
      self._process = subprocess.Popen(
        [*BIND, str(os.getpid()), *self._command],
        env=self._environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        # Ctrl-C is for this process, which knows who has to stop first.
        start_new_session=True,
      )

  def _open_log(self) -> IO:
    try:
      return open(self._log, 'a')
    except OSError:  # A full disk does not end a program that is at work.
      return open(os.devnull, 'a')

  def poll(self) -> int | None:
    """Its exit code, 0 before it is started; None while it runs."""
    if self._process is None:
      return 0
    if self._process.returncode is None and self._process.poll() is not None:
      self._kill_group()  # Simulators outlive an actor that was killed.
    return self._process.returncode

  def wait(self, seconds: float) -> int | None:
    """As `poll`, after so many seconds or at its end."""
    end = time.monotonic() + seconds
    while (code := self.poll()) is None and time.monotonic() < end:
      time.sleep(_POLL_SECONDS)
    return code

  def send(self, number: signal.Signals):
    """Sends it a signal, which it gets also where it is stopped."""
    self._process.send_signal(number)
    self._process.send_signal(signal.SIGCONT)

  def kill(self):
    """Ends it at once, and all that it has started."""
    if self._process is not None:
      self._kill_group()
      self._process.wait()

  def _kill_group(self):
    """Itself and what it has started; it leads its session."""
    with contextlib.suppress(ProcessLookupError):
      os.killpg(self.pid, signal.SIGKILL)

  @property
  def is_stopped(self) -> bool:
    """Whether its process is, as by SIGSTOP."""
    with contextlib.suppress(psutil.Error):
      if self.pid is not None:
        return psutil.Process(self.pid).status() == psutil.STATUS_STOPPED
    return False
