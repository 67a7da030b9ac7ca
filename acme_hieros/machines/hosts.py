"""What runs on a machine of a cluster to start a node of a program there."""

from collections.abc import Mapping, Sequence
import importlib.util
import os
import signal
import sys
from typing import NamedTuple

from acme_hieros import version
from acme_hieros.machines import children, clusters, ports

# For which a host waits for its node before it answers.
_WAIT_SECONDS = 0.5


class Place(NamedTuple):
  """Where a server is to listen.

  machine: its id in the cluster. host, port: the address.
  """

  machine: str
  host: str
  port: int


class Status(NamedTuple):
  """How a node is.

  host: address of its machine. pid: of its process there.
  code: its exit code; None while it runs.
  is_stopped: whether its process is, as by SIGSTOP.
  """

  host: str
  pid: int | None
  code: int | None
  is_stopped: bool


def refusal(mark: str, wanted: str) -> str | None:
  """A sentence on why no node can be started on this machine.

  Args:
    mark: a file that all machines have to see.
    wanted: version of this package.
  """
  if version.VERSION != wanted:
    return (
      f'The machine {os.uname().nodename} has version {version.VERSION} of '
      f'acme_hieros, and this one {wanted}: install the same on all.'
    )
  return clusters.refusal(mark)


class Host:
  """In a process of Ray: starts one node, and ends with it or before."""

  def __init__(self):
    import ray

    self._host = ray.util.get_node_ip_address()
    self._child: children.Child | None = None
    self._port = None  # Kept for the node as long as this process lives.

  def reserve(self) -> Place:
    """Chooses where the node, which is a server, will listen."""
    import ray

    self._port = ports.hold()
    return Place(
      ray.get_runtime_context().get_node_id(),
      self._host,
      self._port.getsockname()[1],
    )

  def start(
    self,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    log: str,
    mark: str,
    wanted: str,
  ) -> Status | str:
    """Starts the node, for the first time or again.

    Args:
      arguments: of Launchpad's entry of a node, see `entry`.
      environment: variables beside those of this machine.
      log: file to which all that the node says is added.
      mark, wanted: see `refusal`.

    Returns:
      How it is; or a sentence, where it cannot be started.
    """
    sentence = refusal(mark, wanted)
    if sentence:
      return sentence
    self._child = children.Child(
      [sys.executable, entry(), *arguments],
      {**os.environ, **environment},
      log,
    )
    self._child.start()
    return self._status(None)

  def wait(self) -> Status:
    """How it is at its end or after a moment."""
    return self._status(self._child.wait(_WAIT_SECONDS))

  def send(self, number: int):
    """Sends it a signal."""
    self._child.send(signal.Signals(number))

  def kill(self):
    """Ends it at once, and all that it has started."""
    if self._child is not None:
      self._child.kill()

  def _status(self, code: int | None) -> Status:
    child = self._child
    return Status(self._host, child.pid, code, child.is_stopped)


def entry() -> str:
  """Launchpad's program of a node, on this machine."""
  found = importlib.util.find_spec('launchpad')
  if found is None or found.origin is None:
    raise ModuleNotFoundError('launchpad is missing')
  directory = os.path.dirname(found.origin)
  return os.path.join(directory, 'nodes', 'python', 'process_entry.py')
