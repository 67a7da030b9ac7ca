"""What XLA has compiled is kept on disk, and is there at the next start.

JAX's own cache does that. Here is where it lies, and what it leaves undone: its
entries hold code for the processor that they were compiled on, and one that a
killed process was writing would stay in the way for good.
"""

from collections.abc import Mapping
import hashlib
import os
import pathlib
import platform
import tempfile

import filelock
import jax

# All entries together; those of `small` have 3 MB, of `atari100k` 10.
_MOST_BYTES = 500_000_000

# A large one.
_ENTRY_BYTES = 10_000_000

# What compiles faster is not worth a file.
_LEAST_SECONDS = 0.1

# As JAX names an entry and the time when it was last used, which is written
# after it, and the lock that it holds meanwhile.
_ENTRY, _STAMP, _LOCK = '-cache', '-atime', '.lockfile'
_LOCK_SECONDS = 10.0


def default_directory(environment: Mapping[str, str] = os.environ) -> str:
  """Where a user's programs keep what can be made again."""
  caches = environment.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
  return os.path.join(caches, 'acme_hieros')


def keep_compiled(directory: str) -> str | None:
  """Has JAX keep what it compiles, in this process and its subprocesses.

  For programs, before anything is compiled. Several may share a directory. What
  the user has told JAX by its own variables stays.

  Args:
    directory: where; each kind of processor has a directory of its own in it.
      Empty for nowhere.

  Returns:
    A sentence if nothing can be kept there: all works, and is compiled anew.
  """
  if not directory or 'JAX_COMPILATION_CACHE_DIR' in os.environ:
    return None
  try:
    path = pathlib.Path(directory, _processor()).expanduser().absolute()
    path.mkdir(parents=True, exist_ok=True)
    _remove_halves(path)
    _check_room(path)
  # RuntimeError: the user has no home.
  except (OSError, RuntimeError) as error:
    reason = getattr(error, 'strerror', None) or str(error).rstrip('.')
    return (
      f'What is compiled cannot be kept in {directory} ({reason}), so each '
      'start compiles anew: name another directory.'
    )
  for name, value in {
    'jax_compilation_cache_dir': str(path),
    'jax_compilation_cache_max_size': _MOST_BYTES,
    'jax_persistent_cache_min_compile_time_secs': _LEAST_SECONDS,
  }.items():
    jax.config.update(name, value)
    os.environ[name.upper()] = str(value)
  return None


def _processor() -> str:
  """A name for the kind of processor that compiled code runs on."""
  try:
    lines = pathlib.Path('/proc/cpuinfo').read_text().splitlines()
  except OSError:
    lines = [platform.processor()]
  # Each core says the same. Arm names its features otherwise.
  kind = sorted(
    {
      line
      for line in lines
      if line.startswith(('model name', 'flags', 'Features', 'CPU part'))
    }
  )
  text = '\n'.join([platform.machine(), *kind])
  return (
    f'{platform.machine()}-{hashlib.sha256(text.encode()).hexdigest()[:12]}'
  )


def _remove_halves(path: pathlib.Path):
  """Removes entries without a stamp, or of nothing, and stamps without one."""
  try:
    with filelock.FileLock(path / _LOCK, timeout=_LOCK_SECONDS):
      for entry in path.glob(f'*{_ENTRY}'):
        if not entry.stat().st_size or not _twin(entry, _STAMP).exists():
          entry.unlink()
      for stamp in path.glob(f'*{_STAMP}'):
        if not _twin(stamp, _ENTRY).exists():
          stamp.unlink()
  except filelock.Timeout:
    pass  # Somebody writes much; the next start looks again.


def _check_room(path: pathlib.Path):
  """Raises OSError where an entry would not fit, on a disk or in a quota."""
  with tempfile.TemporaryFile(dir=path) as file:
    os.posix_fallocate(file.fileno(), 0, _ENTRY_BYTES)


def _twin(file: pathlib.Path, suffix: str) -> pathlib.Path:
  """The other file of an entry."""
  return file.with_name(
    file.name.removesuffix(_ENTRY).removesuffix(_STAMP) + suffix
  )
