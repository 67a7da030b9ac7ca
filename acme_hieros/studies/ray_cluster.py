"""Programs that are started on the machines of a Ray cluster, an actor each."""

from collections.abc import Mapping, Sequence
import contextlib
import fcntl
import os
import signal
import subprocess
import tempfile
import time
from typing import IO, Any

from acme_hieros.machines import clusters
from acme_hieros.studies import processes, sweeping
from acme_hieros.studies import study as study_lib

# Seconds for which an actor waits for its program before it answers, and for
# which a look at the cluster is good.
_WAIT_SECONDS = 0.5
_LOOK_SECONDS = 5.0


class Starter:
  """In a process of Ray, on some machine: starts one program there."""

  def __init__(self):
    self._process: subprocess.Popen | None = None
    # Locked as long as this process lives.
    self._claims: list[IO] = []

  def start(
    self, command: Sequence[str], log: str, cpus: int, gpus: int, mark: str
  ) -> str | None:
    """Starts a program of Python.

    Args:
      command, log: as of `processes.start`.
      cpus, gpus: that it has; which GPUs these are Ray has told this process.
      mark: a file in the directory that all machines have to share.

    Returns:
      None; or a sentence, where that is not there.
    """
    sentence = clusters.refusal(mark)
    if sentence:
      return sentence
    variables = {} if gpus else {'JAX_PLATFORMS': 'cpu'}
    self._process = processes.start(command, log, self._claim(cpus), variables)
    return None

  def wait(self) -> int | None:
    """Its exit code; None where it is still at work after a moment."""
    with contextlib.suppress(subprocess.TimeoutExpired):
      return self._process.wait(_WAIT_SECONDS)
    return None

  def stop(self):
    """Asks it to save and to end."""
    self._process.send_signal(signal.SIGINT)

  def _claim(self, cpus: int) -> list[int]:
    """Cores that no other program of this user has; else all."""
    directory = os.path.join(
      tempfile.gettempdir(), f'acme_hieros-cores-{os.getuid()}'
    )
    os.makedirs(directory, exist_ok=True)
    cores = []
    for core in processes.usable_cores():
      if len(cores) == max(cpus, 1):
        break
      file = open(os.path.join(directory, str(core)), 'w')
      try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
      except OSError:
        file.close()
        continue
      self._claims.append(file)
      cores.append(core)
    enough = len(cores) == max(cpus, 1)
    return cores if enough else processes.usable_cores()


class Program:
  """One at work somewhere; as `processes.Program`."""

  def __init__(self, ray: Any, actor: Any, arguments: Sequence[Any]):
    self._ray = ray
    self.actor = actor
    self._asked = actor.start.remote(*arguments)
    self._started = False

  def poll(self) -> int | None:
    """Its exit code; None while it is at work, or waits for a machine.

    Raises:
      sweeping.LostError: its machine is gone.
      ValueError: the machine does not see the directory.
    """
    done, _ = self._ray.wait([self._asked], timeout=0)
    if not done:
      return None
    try:
      answer = self._ray.get(self._asked)
    except self._ray.exceptions.RayActorError as error:
      raise sweeping.LostError('Its machine was lost') from error
    if not self._started:
      if answer is not None:
        raise ValueError(answer)
      self._started = True
    elif answer is not None:
      return answer
    self._asked = self.actor.wait.remote()
    return None

  def stop(self):
    """Asks it to save and to end."""
    self.actor.stop.remote()

  def kill(self):
    """Ends it at once: it does not outlive its actor."""
    self._ray.kill(self.actor)


class Cluster:
  """The machines of a Ray cluster; as `processes.Machine`."""

  def __init__(
    self,
    address: str,
    needs: study_lib.Needs,
    workdir: str,
    at_once: int | None = None,
  ):
    """Connects to it.

    Args:
      address: of its head, or 'auto' for that of this machine.
      needs: of one program.
      workdir: a directory, at the same path on all machines; it is made.
      at_once: programs; by default as many as there is room for.

    Raises:
      ValueError: Ray is missing, no cluster is there, or none of its machines
        is large enough.
    """
    self._connection = clusters.Connection(address, workdir)
    self._ray = self._connection.ray
    self._most = at_once
    self._needs = needs
    self._looked, self._room = -float('inf'), 0
    if not self.at_once:
      self.close()
      raise ValueError(
        f'A run needs {needs.cpus} CPUs, {needs.gpus} GPUs and '
        f'{needs.memory_gb:g} GB, which no machine of the cluster has: change '
        '[needs] of the study.'
      )

  @property
  def at_once(self) -> int:
    """Programs that there is room for, while machines come and go."""
    now = time.monotonic()
    if now - self._looked > _LOOK_SECONDS:
      self._looked = now
      self._room = sum(
        _room(node['Resources'], self._needs)
        for node in self._connection.machines()
      )
    return min(self._room, self._most or self._room)

  def start(self, command: Sequence[str], log: str) -> Program:
    """Starts a program of Python where there is room for it."""
    needs, mark = self._needs, self._connection.mark
    actor = (
      self._ray.remote(Starter)
      .options(
        num_cpus=needs.cpus,
        num_gpus=needs.gpus,
        memory=int(needs.memory_gb * 2**30),
      )
      .remote()
    )
    return Program(
      self._ray, actor, (command, log, needs.cpus, needs.gpus, mark)
    )

  def ended(self, program: Program):
    """Says that a program has ended, and makes room."""
    program.kill()

  def close(self):
    """Leaves the cluster, and what is at work there ends."""
    self._connection.close()


def _room(has: Mapping[str, float], needs: study_lib.Needs) -> int:
  """Programs for which one machine has room."""
  wanted = {
    'CPU': needs.cpus,
    'GPU': needs.gpus,
    'memory': needs.memory_gb * 2**30,
  }
  return min(
    int(has.get(name, 0.0) // amount)
    for name, amount in wanted.items()
    if amount
  )
