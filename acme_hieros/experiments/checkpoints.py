"""Checkpoints of a whole run: learner, counters and replay, together."""

from collections.abc import Callable, Mapping, Sequence
import json
import os
import shutil
from typing import Any, NamedTuple
import zlib

import reverb

from acme_hieros.experiments import arrays, workdirs

# The files of a checkpoint, which is a directory.
_LEARNER = 'learner.npz'
_REPLAY = 'replay'
_MANIFEST = 'manifest.json'
_EMERGENCY = (
  'emergency'  # Empty; only in those that were saved in an emergency.
)

# What begins so is not complete.
_PARTIAL = '.partial'


class CheckpointError(ValueError):
  """A checkpoint cannot be used or written; the message says why."""


class Restored(NamedTuple):
  """A checkpoint that was read.

  state: the tree of arrays. metadata: plain values. path: of the checkpoint.
  skipped: a sentence on each newer checkpoint that cannot be used.
  """

  state: Any
  metadata: Mapping[str, Any]
  path: str
  skipped: list[str]

  @property
  def name(self) -> str:
    """Its number, as '000012'."""
    return os.path.basename(self.path)

  @property
  def replay(self) -> str:
    """The path of the Reverb checkpoint that belongs to it."""
    return os.path.join(self.path, _REPLAY)


class Checkpoints:
  """The checkpoints in a directory, numbered as they came.

  Each is a directory of its own that gets its name when it is complete, and
  whose manifest holds the size and the check sum of every file. Reverb writes
  its part into the same directory tree, on the host of its server.
  """

  def __init__(self, directory: str, keep: int):
    """Creates the store; nothing is written yet.

    Args:
      directory: where the checkpoints are or shall be.
      keep: of so many checkpoints the newest stay.
    """
    if keep < 1:
      raise ValueError(f'keep={keep} must be at least 1.')
    self._directory = directory
    self._keep = keep
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
      os.makedirs(partial)
      os.rename(_save_replay(replay), os.path.join(partial, _REPLAY))
      arrays.save(os.path.join(partial, _LEARNER), state, metadata())
      if emergency:
        open(os.path.join(partial, _EMERGENCY), 'w').close()
      manifest = {
        name: _sum(os.path.join(partial, name)) for name in _files(partial)
      }
      workdirs.write_json(os.path.join(partial, _MANIFEST), manifest)
      os.rename(partial, final)
    except OSError as error:
      # Where the disk is full, what is not complete is in the way.
      shutil.rmtree(partial, ignore_errors=True)
      shutil.rmtree(self._staging, ignore_errors=True)
      reason = error.strerror or error
      raise CheckpointError(
        f'The checkpoint {final} could not be written ({reason}); the one '
        'before, if there is one, is still there to be resumed.'
      ) from error
    usable = [n for n in _names(self._directory) if n not in self._unusable]
    kept = usable[-self._keep :] + self._without_emergencies(usable)[-1:]
    for name in [*self._unusable, *usable]:
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
      CheckpointError: there are checkpoints, and none can be used.
    """
    skipped = []
    for name in reversed(_names(self._directory)):
      path = os.path.join(self._directory, name)
      try:
        return Restored(*_read(path, template), path, skipped)
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
  skipped = []
  for name in reversed(wanted):
    path = os.path.join(directory, name)
    try:
      return Restored(*_read(path, template, [_LEARNER]), path, skipped)
    except ValueError as error:
      skipped.append(str(error))
  if _names(directory) != names:
    # The run has put newer ones in their place meanwhile.
    return read_learner(directory, template, number)
  raise CheckpointError(
    skipped[0]
    if len(names) == 1 or number is not None
    else f'No checkpoint in {directory} can be used. {skipped[0]}'
  )


def _names(directory: str) -> list[str]:
  """Of the complete checkpoints, oldest first."""
  try:
    names = os.listdir(directory)
  except FileNotFoundError:
    return []
  return sorted((name for name in names if name.isdecimal()), key=int)


def _read(
  path: str, template: Any, verified: Sequence[str] | None = None
) -> tuple[Any, Mapping[str, Any]]:
  """The learner's state and the metadata of one checkpoint.

  Args:
    path: of the checkpoint.
    template: of the state.
    verified: the files whose check sums have to be right; by default all.

  Raises:
    ValueError: it cannot be used.
  """
  _verify(path, verified)
  return arrays.load(os.path.join(path, _LEARNER), template)


def _save_replay(client: reverb.Client) -> str:
  """Returns the path of a new Reverb checkpoint."""
  try:
    return client.checkpoint()
  except Exception as error:  # Of a full disk Reverb makes an IndexError.
    raise OSError(str(error).partition('\n')[0]) from error


def _files(directory: str) -> list[str]:
  """Of a directory and those in it, relative to it."""
  return [
    os.path.relpath(os.path.join(parent, name), directory)
    for parent, _, names in os.walk(directory)
    for name in names
  ]


def _sum(path: str) -> list[int]:
  """Size and CRC-32 of a file that has reached the disk."""
  size, crc = 0, 0
  with open(path, 'rb') as file:
    os.fsync(file.fileno())
    while block := file.read(1 << 20):
      size += len(block)
      crc = zlib.crc32(block, crc)
  return [size, crc]


def _verify(path: str, names: Sequence[str] | None):
  """Raises CheckpointError unless files, or all, are as they were written."""
  try:
    with open(os.path.join(path, _MANIFEST)) as file:
      manifest = json.load(file)
    damaged = [
      name
      for name in (manifest.keys() if names is None else names)
      if _sum(os.path.join(path, name)) != manifest.get(name)
    ]
  except (OSError, ValueError, AttributeError) as error:
    reason = getattr(error, 'strerror', None) or error
    raise CheckpointError(
      f'The checkpoint {path} is damaged or incomplete ({reason}).'
    ) from error
  if damaged:
    raise CheckpointError(
      f'The checkpoint {path} is damaged: {damaged[0]} is not what was written.'
    )
