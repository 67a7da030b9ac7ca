"""Files that are complete or absent."""

from collections.abc import Iterator
import contextlib
import os
from typing import IO, Any


@contextlib.contextmanager
def replacing(path: str, mode: str, **kwargs: Any) -> Iterator[IO]:
  """Opens a file that takes its name when it is whole and on the disk.

  Args:
    path: of the file; an older one stays until then, or if anything is raised.
    mode: as of `open`, for writing.
    **kwargs: others of `open`.
  """
  partial = path + '.partial'
  try:
    with open(partial, mode, **kwargs) as file:
      yield file
      file.flush()
      os.fsync(file.fileno())
    os.replace(partial, path)
  finally:
    if os.path.exists(partial):
      os.remove(partial)
