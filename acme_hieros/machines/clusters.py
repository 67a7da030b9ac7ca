"""A Ray cluster: its machines, and a directory that they have to share."""

from collections.abc import Mapping
import contextlib
import os
import socket
from typing import Any
import uuid

from acme_hieros import extras

# Where this package lies, for programs that are started elsewhere.
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))


_CONNECT_SECONDS = 10.0


class Connection:
  """To a cluster, until it is closed; what is at work there ends with it.

  ray: the library.
  mark: a file in the directory, by which machines see that they share it.
  """

  def __init__(self, address: str, directory: str):
    """Connects to it.

    Args:
      address: of its head, or 'auto' for that of this machine.
      directory: at the same path on all machines; it is made.

    Raises:
      ValueError: Ray is missing, or no cluster is there.
      OSError: the directory cannot be made or written.
    """
    try:
      import ray
    except ModuleNotFoundError as error:
      raise ValueError(extras.missing('ray', 'ray')) from error
    self.ray: Any = ray
    missing = (
      f'There is no Ray cluster at --ray={address}: start one by ray start '
      '--head, or name the address that it prints.'
    )
    known = os.environ.get('RAY_ADDRESS', '') if address == 'auto' else address
    if not _answers(known):
      raise ValueError(missing)
    path = [ROOT, os.getcwd(), os.environ.get('PYTHONPATH', '')]
    try:
      ray.init(
        address,
        logging_level='ERROR',
        log_to_driver=False,
        runtime_env={
          'env_vars': {'PYTHONPATH': os.pathsep.join(filter(None, path))}
        },
      )
    except Exception as error:  # It has half a dozen of its own.
      raise ValueError(missing) from error
    self._directory = directory
    self._is_new = not os.path.exists(directory)
    self.mark = os.path.join(directory, f'.{uuid.uuid4().hex}')
    try:
      os.makedirs(directory, exist_ok=True)
      with open(self.mark, 'w'):
        pass
    except OSError:
      ray.shutdown()
      raise

  def machines(self) -> list[Mapping[str, Any]]:
    """Those that are there now, as `ray.nodes` has them."""
    return [node for node in self.ray.nodes() if node['Alive']]

  def close(self):
    """Leaves the cluster; a directory that was made and not used is removed."""
    with contextlib.suppress(OSError):
      os.remove(self.mark)
    if self._is_new:
      with contextlib.suppress(OSError):  # It holds something.
        os.rmdir(self._directory)
    self.ray.shutdown()


def _answers(address: str) -> bool:
  """Whether somebody listens there, which Ray takes minutes to find out."""
  host, _, port = address.rpartition('://')[2].rpartition(':')
  if not port.isdigit():
    return True  # A word, as 'auto', or nothing that can be known here.
  try:
    socket.create_connection((host, int(port)), _CONNECT_SECONDS).close()
  except (OSError, OverflowError):
    return False
  return True


def refusal(mark: str) -> str | None:
  """On a machine: a sentence, if it does not see a connection's directory."""
  if os.path.exists(mark):
    return None
  return (
    f'{os.path.dirname(mark)} is not there on the machine '
    f'{os.uname().nodename}: name a --workdir that all machines share.'
  )
