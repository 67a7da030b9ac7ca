"""What Reverb says on stderr, where a live line is."""

from collections.abc import Iterator
import contextlib
import itertools
import os

# That all is well: nobody has to know it, and it breaks the line.
_NEWS = (
  b'Sampler and server are owned by the same process',
  b'Initializing TFRecordCheckpointer in ',
  b'Loading latest checkpoint from ',
  b'Loading checkpoint from ',
  b'Started replay server on port ',
  b'Stored checkpoint to ',
  b'Shutting down replay server',
)

# It is said of the first sampler of a process, the second, the fourth, ...
_samplers = itertools.count(1)


@contextlib.contextmanager
def hidden() -> Iterator[None]:
  """For a moment in which Reverb says what it does.

  All else that is written to stderr meanwhile is there afterwards.
  """
  # In memory: a disk may be full.
  with open(os.memfd_create('stderr'), 'w+b') as held:
    stderr = os.dup(2)
    os.dup2(held.fileno(), 2)
    try:
      yield
    finally:
      os.dup2(stderr, 2)
      os.close(stderr)
      held.seek(0)
      os.write(2, b''.join(said for said in held if not _is_news(said)))


@contextlib.contextmanager
def sampler_made() -> Iterator[None]:
  """For making a sampler; that it serves this process is not worth a line."""
  count = next(_samplers)
  with contextlib.nullcontext() if count & (count - 1) else hidden():
    yield


def _is_news(said: bytes) -> bool:
  return said.startswith(b'[reverb/') and any(news in said for news in _NEWS)
