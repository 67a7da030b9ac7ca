"""Files that are complete or absent, and outlive a power cut."""

from collections.abc import Iterator
import contextlib
import errno
import os
from typing import IO, Any

# Of file systems that keep their directories in some other way.
_NO_SYNC = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)


@contextlib.contextmanager
def replacing(path: str, mode: str, **kwargs: Any) -> Iterator[IO]:
  """Opens a file that takes its name when it is whole and on the disk.

  Args:
    path: of the file; an older one stays until then, or if anything is raised.
    mode: 'w' or 'wb'.
    **kwargs: others of `open`.
  """
  # Others may be writing the same file; what a dead process of this number has
  # left, or somebody else (a link, or a pipe), is neither kept nor followed.
  partial = f'{path}.{os.getpid()}.partial'
  remove(partial)
  try:
    with open(partial, mode.replace('w', 'x'), **kwargs) as file:
      yield file
      file.flush()
      os.fsync(file.fileno())
    os.replace(partial, path)
    sync(os.path.dirname(path) or '.')
  finally:
    if os.path.exists(partial):
      os.remove(partial)


def open_at_once(path: str, flags: int) -> int:
  """An opener for `open`: of a pipe, it does not wait for the other side."""
  return os.open(path, flags | os.O_NONBLOCK, 0o666)


def sync(path: str):
  """Returns when a file, or the list of names of a directory, is on the disk.

  Raises:
    OSError: it is not.
  """
  descriptor = os.open(path, os.O_RDONLY)
  try:
    os.fsync(descriptor)
  except OSError as error:
    if error.errno not in _NO_SYNC:
      raise
  finally:
    os.close(descriptor)


def sync_tree(path: str):
  """`sync` of everything below a directory, and of itself last."""
  with os.scandir(path) as entries:
    for entry in entries:
      if entry.is_dir(follow_symlinks=False):
        sync_tree(entry.path)
      else:
        sync(entry.path)
  sync(path)


def remove(path: str):
  """Removes a file, if it is there."""
  with contextlib.suppress(FileNotFoundError):
    os.remove(path)


def make_directories(path: str):
  """Makes a directory and what is missing above it, to stay."""
  path = os.path.abspath(path)
  if os.path.isdir(path):
    return
  parent = os.path.dirname(path)
  if parent != path:
    make_directories(parent)
  os.makedirs(path, exist_ok=True)
  sync(parent)
