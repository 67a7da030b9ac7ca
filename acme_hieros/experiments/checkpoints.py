"""Checkpoints of a whole run: learner, counters and replay, together."""

from collections.abc import Callable, Mapping, Sequence
import contextlib
import datetime
import json
import os
import shutil
import types
from typing import Any, NamedTuple
import zlib

import reverb

from acme_hieros import version
from acme_hieros.agent import learning
from acme_hieros.replay import notices
from acme_hieros.storage import arrays, files, reading, workdirs

# The files of a checkpoint, which is a directory.
_LEARNER = 'learner.npz'
_REPLAY = 'replay'
_MANIFEST = 'manifest.json'

# An empty file in those that were saved in an emergency.
_EMERGENCY = 'emergency'

# Without these it is none.
_REQUIRED = (
  _LEARNER,
  *(
    os.path.join(_REPLAY, name)
    for name in ('tables.tfrecord', 'chunks.tfrecord', 'DONE')
  ),
)

# What begins so is not complete.
_PARTIAL = '.partial'

# What ends so could not be used, and is kept for whoever can mend it.
_UNUSABLE = '.unusable'

# Among the metadata: what wrote the checkpoint, when, and the tables' sizes.
_ORIGIN = 'origin'

# The last version whose checkpoints did not say what wrote them.
_LAST_SILENT = '0.3.0'

# Errors of reading that come of damage, not of what it is read from.
_DAMAGE = (FileNotFoundError, IsADirectoryError, NotADirectoryError, ValueError)


class CheckpointError(ValueError):
  """A checkpoint cannot be used or written; the message says why."""


class Restored(NamedTuple):
  """A checkpoint that was read.

  state: the tree of arrays. metadata: plain values. path: of the checkpoint.
  skipped: a sentence on each newer checkpoint that cannot be used.
  origin: what wrote it, see `Checkpoints`, its `date` in ISO 8601, and `tables`
    with the sizes of the replay's tables; empty of versions that kept no word.
  """

  state: Any
  metadata: Mapping[str, Any]
  path: str
  skipped: list[str]
  origin: Mapping[str, Any] = types.MappingProxyType({})

  @property
  def name(self) -> str:
    """Its number, as '000012'."""
    return os.path.basename(self.path)

  @property
  def replay(self) -> str:
    """The path of the Reverb checkpoint that belongs to it."""
    return os.path.join(self.path, _REPLAY)

  @property
  def written_by(self) -> str:
    """The version that wrote it, its commit and the date, for a reader."""
    return _written_by(self.origin)

  def check_replay(self, replay: reverb.Client):
    """Raises CheckpointError if a server was to restore it and did not.

    Args:
      replay: a client of the server; actors may have added to it since.
    """
    tables = replay.server_info()
    for name, saved in self.origin.get('tables', {}).items():
      found = tables[name].current_size if name in tables else 0
      if found < saved:
        raise CheckpointError(
          f'The replay of {self.path} did not come back: its table {name} has '
          f'{found} items, and {saved} were saved; restore the checkpoint from '
          'a copy, or move it elsewhere to continue from the one before.'
        )


class Checkpoints:
  """The checkpoints in a directory, numbered as they came.

  Each is a directory of its own that gets its name when it is complete and on
  the disk, and whose manifest holds the size and the check sum of every file.
  Reverb writes its part into the same directory tree, on the host of its
  server. One that cannot be used is never removed: it is renamed when the next
  is there.
  """

  def __init__(
    self,
    directory: str,
    keep: int,
    origin: Mapping[str, Any] | None = None,
    logs: Sequence[str] = (),
  ):
    """Creates the store; nothing is written yet.

    Args:
      directory: where the checkpoints are or shall be.
      keep: of so many checkpoints the newest stay.
      origin: plain values that say what writes the checkpoints: `version` and
        `commit` of the code, and what else is to be known.
      logs: directories whose files are on the disk before a checkpoint gets its
        name, where that is possible.
    """
    if keep < 1:
      raise ValueError(f'keep={keep} must be at least 1.')
    self._directory = directory
    self._keep = keep
    self._origin = origin or {}
    self._logs = logs
    self._unusable = set()
    self._staging = os.path.join(directory, f'{_PARTIAL}-replay')

  def save(
    self,
    state: Any,
    metadata: Callable[[], Mapping[str, Any]],
    replay: reverb.Client,
    emergency: bool = False,
  ):
    """Writes a checkpoint; those before it stay until it is complete.

    Args:
      state: a tree of arrays.
      metadata: gives plain values, counters for one. Where others go on writing
        to the replay it is asked last, so that the replay is not ahead of it.
      replay: a client of the server with `replay_checkpointer`.
      emergency: the run is ending by an error, which may be in the checkpoint
        too and be met again: the newest one that is not of this kind stays,
        however many of them there are.

    Raises:
      CheckpointError: it could not be written. Those before it are untouched.
    """
    partial = os.path.join(self._directory, _PARTIAL)
    number = max(map(int, _names(self._directory)), default=0) + 1
    final = os.path.join(self._directory, f'{number:06d}')
    try:
      shutil.rmtree(partial, ignore_errors=True)
      files.make_directories(partial)
      # Actors may add to it meanwhile; nothing takes away.
      sizes = _table_sizes(replay)
      os.rename(_save_replay(replay), os.path.join(partial, _REPLAY))
      origin = {
        **self._origin,
        'date': datetime.datetime.now().astimezone().isoformat('T', 'seconds'),
        'tables': sizes,
      }
      arrays.save(
        os.path.join(partial, _LEARNER), state, {**metadata(), _ORIGIN: origin}
      )
      if emergency:
        open(os.path.join(partial, _EMERGENCY), 'w').close()
      files.sync_tree(partial)
      manifest = {
        name: _sum(os.path.join(partial, name)) for name in _files(partial)
      }
      workdirs.write_json(os.path.join(partial, _MANIFEST), manifest)
      for directory in self._logs:
        # One that cannot be written is no reason to save nothing.
        with contextlib.suppress(OSError):
          files.sync_tree(directory)
      os.rename(partial, final)
      files.sync(self._directory)
    except OSError as error:
      # Where the disk is full, what is not complete is in the way.
      shutil.rmtree(partial, ignore_errors=True)
      shutil.rmtree(self._staging, ignore_errors=True)
      reason = error.strerror or error
      raise CheckpointError(
        f'The checkpoint {final} could not be written ({reason}); the one '
        'before, if there is one, is still there to be resumed.'
      ) from error
    for name in self._unusable:
      path = os.path.join(self._directory, name)
      with contextlib.suppress(OSError):
        os.rename(path, path + _UNUSABLE)
    usable = [n for n in _names(self._directory) if n not in self._unusable]
    kept = usable[-self._keep :] + self._without_emergencies(usable)[-1:]
    for name in usable:
      if name not in kept:
        shutil.rmtree(os.path.join(self._directory, name), ignore_errors=True)

  def _without_emergencies(self, names: Sequence[str]) -> list[str]:
    return [
      name
      for name in names
      if not os.path.exists(os.path.join(self._directory, name, _EMERGENCY))
    ]

  def restore(self, template: Any) -> Restored | None:
    """Reads the newest checkpoint that is whole; None if there never was one.

    Args:
      template: a tree of arrays, or of their shapes and types, to expect.

    Raises:
      CheckpointError: there are checkpoints, and none can be used; or one could
        not be read, which says nothing of what is in it.
    """
    skipped = []
    for name in reversed(_names(self._directory)):
      path = os.path.join(self._directory, name)
      try:
        return _read(path, template, skipped)
      except OSError as error:
        raise _unreadable(path, error) from error
      except ValueError as error:
        skipped.append(str(error))
        self._unusable.add(name)
    if skipped:
      raise CheckpointError(
        f'No checkpoint in {self._directory} can be used. {skipped[0]} Restore '
        'it from a copy, resume with the version and configuration that wrote '
        'it, or start again in another work directory.'
      )
    return None

  def replay_checkpointer(
    self, replay: str | None
  ) -> reverb.platform.checkpointers_lib.CheckpointerBase:
    """For the Reverb server: where to save.

    Args:
      replay: what it is to restore, from `restore`.
    """
    # What a dead server has left there would be taken for newer.
    shutil.rmtree(self._staging, ignore_errors=True)
    return reverb.platform.checkpointers_lib.DefaultCheckpointer(
      self._staging, fallback_checkpoint_path=replay
    )


def read_learner(
  directory: str, template: Any, number: int | None = None
) -> Restored:
  """Reads a checkpoint but for its replay, also of a run that is at work.

  Nothing is changed, and only what is read is verified.

  Args:
    directory: where the checkpoints are.
    template: a tree of arrays, or of their shapes and types, to expect.
    number: of the checkpoint; None for the newest that can be used.

  Raises:
    CheckpointError: there is none yet, none of that number, or none that can be
      used.
  """
  names = _names(directory)
  if not names:
    raise CheckpointError(f'{directory} holds no complete checkpoint yet.')
  wanted = [name for name in names if number in (None, int(name))]
  if not wanted:
    raise CheckpointError(
      f'{directory} holds no checkpoint {number}; it holds {", ".join(names)}.'
    )
  skipped, unreadable = [], None
  for name in reversed(wanted):
    path = os.path.join(directory, name)
    try:
      return _read(path, template, skipped, [_LEARNER])
    except OSError as error:
      unreadable = _unreadable(path, error)
      break
    except ValueError as error:
      skipped.append(str(error))
  if _names(directory) != names:
    # The run has put newer ones in their place meanwhile.
    return read_learner(directory, template, number)
  if unreadable:
    raise unreadable
  raise CheckpointError(
    skipped[0]
    if len(names) == 1 or number is not None
    else f'No checkpoint in {directory} can be used. {skipped[0]}'
  )


def save_failure(
  workdir: workdirs.Workdir,
  learner: learning.HierosLearner,
  error: learning.NonFiniteLossError,
):
  """Keeps the state and the batch of a loss that was not finite."""
  os.makedirs(workdir.failure, exist_ok=True)
  metadata = {'level': error.level, 'names': list(error.names)}
  for name, values in (('state', learner.save()), ('batch', error.batch)):
    arrays.save(os.path.join(workdir.failure, f'{name}.npz'), values, metadata)


def _names(directory: str) -> list[str]:
  """Of the complete checkpoints, oldest first."""
  try:
    names = os.listdir(directory)
  except FileNotFoundError:
    return []
  except OSError as error:
    raise CheckpointError(
      f'{directory} cannot be read ({error.strerror}); see to it and try again.'
    ) from error
  return sorted((name for name in names if name.isdecimal()), key=int)


def _read(
  path: str,
  template: Any,
  skipped: list[str],
  verified: Sequence[str] | None = None,
) -> Restored:
  """One checkpoint.

  Args:
    path: of the checkpoint.
    template: of the state.
    skipped: of what is returned.
    verified: the files whose check sums have to be right; by default all.

  Raises:
    ValueError: it cannot be used.
    OSError: it could not be read.
  """
  _verify(path, verified)
  try:
    state, metadata = arrays.load(os.path.join(path, _LEARNER), template)
  except arrays.OtherArraysError as error:
    raise CheckpointError(
      f'{error} It was written by {_written_by(_origin(error.metadata))}; this '
      f'is version {version.VERSION}.'
    ) from error
  origin = _origin(metadata)
  metadata = {n: value for n, value in metadata.items() if n != _ORIGIN}
  return Restored(state, metadata, path, skipped, origin)


def _origin(metadata: Mapping[str, Any]) -> Mapping[str, Any]:
  return metadata.get(_ORIGIN, {})


def _written_by(origin: Mapping[str, Any]) -> str:
  if 'version' not in origin:
    return f'version {_LAST_SILENT} of acme_hieros or an older one'
  commit = origin.get('commit')
  return (
    f'version {origin["version"]} of acme_hieros'
    + (f' (commit {commit})' if commit else '')
    + f' at {origin["date"]}'
  )


def _unreadable(path: str, error: OSError) -> CheckpointError:
  return CheckpointError(
    f'The checkpoint {path} cannot be read ({error.strerror or error}), which '
    'may pass; nothing was changed. Try again, and if it stays so, move it '
    'elsewhere: the one before is used then.'
  )


def _table_sizes(client: reverb.Client) -> Mapping[str, int]:
  try:
    tables = client.server_info()
  except Exception as error:  # As in `_save_replay`.
    raise OSError(str(error).partition('\n')[0]) from error
  return {name: int(table.current_size) for name, table in tables.items()}


def _save_replay(client: reverb.Client) -> str:
  """Returns the path of a new Reverb checkpoint."""
  try:
    with notices.hidden():
      return client.checkpoint()
  except Exception as error:  # Of a full disk Reverb makes an IndexError.
    raise OSError(str(error).partition('\n')[0]) from error


def _files(directory: str) -> list[str]:
  """Of a directory and those in it, relative to it."""

  def fail(error: OSError):
    raise error  # Left to itself os.walk passes over what it cannot list.

  return [
    os.path.relpath(os.path.join(parent, name), directory)
    for parent, _, names in os.walk(directory, onerror=fail)
    for name in names
  ]


def _sum(path: str) -> list[int]:
  """Size and CRC-32 of a file."""
  size, crc = 0, 0
  with reading.open_file(path) as file:
    while block := file.read(1 << 20):
      size += len(block)
      crc = zlib.crc32(block, crc)
  return [size, crc]


def _verify(path: str, names: Sequence[str] | None):
  """Checks that files, or all, are as they were written.

  Raises:
    CheckpointError: they are not.
    OSError: they could not be read.
  """
  try:
    manifest = json.loads(reading.read_bytes(os.path.join(path, _MANIFEST)))
    if not isinstance(manifest, dict):
      raise ValueError(f'{_MANIFEST} lists no files')
    for name in _REQUIRED:
      if name not in manifest:
        raise ValueError(f'{_MANIFEST} does not list {name}')
    for name in manifest if names is None else names:
      if _sum(os.path.join(path, name)) != manifest[name]:
        raise ValueError(f'{name} is not what was written')
  except (*_DAMAGE, RecursionError) as error:
    reason = getattr(error, 'strerror', None) or error
    raise CheckpointError(
      f'The checkpoint {path} is damaged or incomplete ({reason}).'
    ) from error
