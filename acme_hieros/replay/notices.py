"""What Reverb says on stderr, where a live line is."""

from collections.abc import Iterator
import contextlib
import itertools
import os
import tempfile

# It is said of the first sampler of a process, the second, the fourth, ...
_OF_SAMPLERS = b'Sampler and server are owned by the same process'
_samplers = itertools.count(1)


@contextlib.contextmanager
def sampler_made() -> Iterator[None]:
  """For making a sampler; that it serves this process is not worth a line.

  All else that is written to stderr meanwhile is there afterwards.
  """
  count = next(_samplers)
  if count & (count - 1):
    yield
    return
  with tempfile.TemporaryFile() as held:
    stderr = os.dup(2)
    os.dup2(held.fileno(), 2)
    try:
      yield
    finally:
      os.dup2(stderr, 2)
      os.close(stderr)
      held.seek(0)
      os.write(2, b''.join(said for said in held if _OF_SAMPLERS not in said))
