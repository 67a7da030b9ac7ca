"""Reads what a run has left, whatever has become of it since."""

from collections.abc import Iterator
import contextlib
import errno
import json
import math
import os
import stat
from typing import IO, Any

import numpy as np

from acme_hieros.storage import files

# Returns are sums of float32 rewards. What is larger is damage, and would make
# sums and squares of it infinite.
LARGEST = float(np.finfo(np.float32).max)

# Beyond it floats leave out whole numbers.
MOST_STEPS = 2**53


def read_bytes(path: str, most: float = math.inf) -> bytes:
  """The content of a file.

  Args:
    path: of the file.
    most: bytes that it may have.

  Raises:
    OSError: it cannot be read, is larger, or is no file but a pipe, a device or
      a directory. Nothing is waited for.
  """
  with open_file(path) as file:
    if os.fstat(file.fileno()).st_size > most:
      raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), path)
    return file.read()


@contextlib.contextmanager
def open_file(path: str) -> Iterator[IO[bytes]]:
  """Opens a file; raises OSError as `read_bytes` does."""
  with open(path, 'rb', opener=files.open_at_once) as file:
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
      raise OSError(errno.EINVAL, 'It is no file', path)
    yield file


def parse_json(data: bytes) -> Any:
  """A JSON value; raises ValueError where there is none, or it is too deep."""
  try:
    return json.loads(data)
  except RecursionError as error:
    raise ValueError('It is nested too deeply') from error


def is_number(value: Any, low: float = -LARGEST, high: float = LARGEST) -> bool:
  """Whether it is a finite int or float from low to high; a bool is none."""
  return type(value) in (int, float) and low <= value <= high


def printable(text: str) -> str:
  r"""The text with '\n' for a line's end, and so on.

  What a name of a user may hold besides letters (half of a character, a byte
  that is no UTF-8, a terminal's commands) cannot be written to every file, or
  does harm.
  """
  if text.isprintable():
    return text
  return ''.join(
    c if c.isprintable() else c.encode('unicode_escape').decode() for c in text
  )
