"""The directory of a run: its configuration, logs and checkpoint."""

from collections.abc import Callable, Iterator, Mapping
import contextlib
import errno
import fcntl
import itertools
import json
import os
import re
from typing import IO, Any
import uuid

from acme_hieros.storage import cutting, files, reading

# The CSV files in `logs` that a run writes; others are somebody else's.
_LOGS = re.compile(r'(episodes|level_\d+(_diagnostics)?)\.csv')

# The same for `evaluation`.
_PLAYED = re.compile(r'evaluator\.jsonl')

# What is added to a log's name for that of its lines that cannot be read.
_DAMAGED = '.damaged'


class WorkdirError(ValueError):
  """A work directory cannot be used; the message says why and what to do."""


class Workdir:
  """The files of one run.

  config.json     what is run: environment, seed, the whole configuration
  logs/*.csv      episodes.csv, and one file a level
  tensorboard/    the same for TensorBoard
  checkpoints/    learner, counters and replay, see `checkpoints`
  summary.json    what came of it, at the end
  evaluation/     what was played to see how good it is, see `evaluation`
  nodes/          of a Launchpad program: the output of each node, its process,
                  and while it runs what it is to do
  pictures/       what the agent saw and believed, see `visualization`
  wandb/          of a run that Weights & Biases tracks, its files
  progress.json   of a Launchpad program: how far it is
  failure/        the state and the batch of a loss that was not finite
  """

  def __init__(self, path: str):
    self.path = _absolute(path)
    self.config = self._file('config.json')
    self.checkpoints = self._file('checkpoints')
    self.summary = self._file('summary.json')
    self.tensorboard = self._file('tensorboard')
    self.logs = self._file('logs')
    self.evaluation = self._file('evaluation')
    self.failure = self._file('failure')
    self.progress = self._file('progress.json')
    self.nodes = self._file('nodes')
    self.programs = os.path.join(self.nodes, 'programs')
    self.pictures = self._file('pictures')
    self._closing = contextlib.ExitStack()
    self._locked = False
    self._written = None  # As config.json.

  def _file(self, name: str) -> str:
    return os.path.join(self.path, name)

  def node_file(self, node: str, extension: str) -> str:
    """A file of one node, as 'actor_0'."""
    return os.path.join(self.nodes, f'{node}.{extension}')

  def evaluation_file(self, label: str, extension: str) -> str:
    """A file of one evaluation, as '000012', or of 'evaluator' nodes."""
    return os.path.join(self.evaluation, f'{label}.{extension}')

  def read_config(self) -> Mapping[str, Any] | None:
    """The configuration of the run that lives here, if one does."""
    try:
      config = reading.parse_json(reading.read_bytes(self.config))
    except FileNotFoundError:
      return None
    except (OSError, ValueError) as error:
      raise WorkdirError(
        f'{self.config} cannot be read ({error}); choose another workdir.'
      ) from error
    if not isinstance(config, dict):
      raise WorkdirError(
        f'{self.config} is not the configuration of a run; choose another '
        'workdir.'
      )
    return config

  def check(
    self, identity: Mapping[str, Any], extent: Mapping[str, Any], resume: bool
  ):
    """Raises WorkdirError if the run may not live here; changes nothing.

    Args:
      identity: plain values that say what is run.
      extent: others, which a resumed run may change.
      resume: continue the run that lives here.
    """
    if not _is_utf8(self.path):
      raise WorkdirError(
        f'{reading.printable(self.path)} is no UTF-8, which TensorFlow and '
        'Reverb need; choose another workdir.'
      )
    found = self.read_config()
    if resume:
      if found is None:
        raise WorkdirError(
          f'{self.path} holds no run to resume; start it without (--resume, '
          'resume=True).'
        )
      found = {n: value for n, value in found.items() if n not in extent}
      differing = differences(found, identity)
      if differing:
        raise WorkdirError(
          f'{self.path} holds a run with another configuration, which differs '
          f'in {", ".join(differing)}; resume it with its own flags or choose '
          'another workdir.'
        )
    elif found is None and os.path.isdir(self.checkpoints):
      raise WorkdirError(
        f'{self.path} holds checkpoints of a run but not its config.json; '
        'choose another workdir.'
      )
    elif found is not None:
      raise WorkdirError(
        f'{self.path} already holds a run; continue it (--resume, or '
        'resume=True from Python) or choose another workdir.'
      )

  def lock(self):
    """Keeps other processes out until `close`, or the end of this one.

    The directory is made if need be. A second call changes nothing.

    Raises:
      WorkdirError: another process is at work here, nobody may write here, or
        the file system knows no locks.
    """
    if self._locked:
      return
    with writing(self.path):
      files.make_directories(self.path)
      # Nothing in it is changed: it may be a link of somebody else.
      file = open(self._file('.lock'), 'a', opener=files.open_at_once)
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
      file.close()
      raise WorkdirError(
        f'{self.path} is in use by another process; wait for its end or stop '
        'it.'
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES)
        else f'{self.path} cannot be locked ({error.strerror}), so another '
        'process could write there, too; try again, have its file system '
        'mounted with locks (flock), or choose a workdir on another one.'
      ) from error
    self._locked = True
    self._closing.callback(self._unlock, file)

  def _unlock(self, file: IO):
    file.close()
    self._locked = False

  def open(
    self, identity: Mapping[str, Any], extent: Mapping[str, Any], resume: bool
  ):
    """Locks the directory, until `close`, and makes it ready for a run.

    Args:
      identity: plain values that say what is run.
      extent: others, which a resumed run may change.
      resume: continue the run that lives here.

    Raises:
      WorkdirError: the directory cannot be written, or it holds a run that this
        one would overwrite or does not continue. Nothing is changed then.
    """
    self.check(identity, extent, resume)
    self.lock()
    # Another run may have begun, and even ended, before this one had the lock.
    self.check(identity, extent, resume)
    with writing(self.path):
      files.make_directories(self.logs)
      probe = self._file(f'.{uuid.uuid4().hex}')
      with open(probe, 'w') as file:
        file.write('can this directory be written?')
      os.remove(probe)
      self._written = {**_plain(identity), **extent}
      write_json(self.config, self._written)

  def make_again(self) -> str | None:
    """Makes an open directory anew, if somebody has removed it meanwhile.

    Returns:
      A sentence on that; None where nothing was made.
    """
    if self._written is None or os.path.exists(self.config):
      return None
    # Where that cannot be done, whatever comes next says why.
    with contextlib.suppress(OSError, WorkdirError):
      files.make_directories(self.logs)
      self._locked = False
      self.lock()
      write_json(self.config, self._written)
      return (
        f'{self.path} was removed while the run was at work; it is made anew, '
        'without what was in it.'
      )
    return None

  def cut_logs(self, steps: int) -> list[str]:
    """Drops what was said of later steps, which are to come again.

    These are the CSV files and what the evaluator nodes have played. With them
    goes the summary, since the end that it speaks of is none any more. Lines
    that cannot be read are set aside, in a file beside their log.

    Returns:
      A sentence on each log in which there were such lines.

    Raises:
      WorkdirError: a log cannot be read or written. All are as they were.
    """
    cuts = {}
    for path, cut in self._logs():
      data = _read_log(path)
      found = cut(data, steps)
      if found.kept != data:
        cuts[path] = found
    with (
      writing(self.path, 'make room or change its permissions'),
      contextlib.ExitStack() as stack,
    ):
      for path, found in cuts.items():
        file = stack.enter_context(files.replacing(path, 'wb'))
        file.write(found.kept)
        file.flush()
        os.fsync(file.fileno())
      for path, found in cuts.items():
        if found.damaged:
          with open(path + _DAMAGED, 'ab') as file:
            file.writelines(found.damaged)
      # All is known to be good: what is left is to give the files their names.
      files.remove(self.summary)
      evaluator = self.evaluation_file('evaluator', 'jsonl')
      if os.path.exists(evaluator):
        # Of episodes that may be gone; it comes again with the next one.
        files.remove(self.evaluation_file('evaluator', 'json'))
    return [
      f'{len(found.damaged)} of the lines in {path} cannot be read and are now '
      f'in {path}{_DAMAGED}.'
      for path, found in cuts.items()
      if found.damaged
    ]

  def _logs(self) -> Iterator[tuple[str, Callable[[bytes, int], cutting.Cut]]]:
    """Each log that can be cut, and how."""
    for directory, kind, cut in (
      (self.logs, _LOGS, cutting.cut_csv),
      (self.evaluation, _PLAYED, cutting.cut_json_lines),
    ):
      try:
        names = sorted(os.listdir(directory))
      except FileNotFoundError:
        continue
      except OSError as error:
        raise _unreadable(directory, error) from error
      for name in names:
        if kind.fullmatch(name):
          yield os.path.join(directory, name), cut

  def pictures_of(self, steps: int) -> str:
    """The directory of the pictures after so many steps."""
    return os.path.join(self.pictures, f'{steps:09d}')

  def close(self):
    """Lets other processes in."""
    self._closing.close()


def make_new(parent: str, name: str) -> str:
  """Makes a directory that nobody else makes, and returns its path.

  Args:
    parent: where it is to be, made if need be.
    name: that it has, or begins with where that is taken.

  Raises:
    WorkdirError: nobody may write there.
  """
  for number in itertools.count(1):
    path = os.path.join(parent, name if number == 1 else f'{name}-{number}')
    with writing(path):
      files.make_directories(parent)
      with contextlib.suppress(FileExistsError):
        os.mkdir(path)
        return path


def write_json(path: str, values: Mapping[str, Any]):
  """Writes a JSON file; an older one stays until the new one is complete."""
  with files.replacing(path, 'w') as file:
    json.dump(values, file, indent=2)
    file.write('\n')


@contextlib.contextmanager
def writing(path: str, advice: str = 'choose another workdir'):
  """Makes an OSError a WorkdirError that names the path."""
  try:
    yield
  except OSError as error:
    raise WorkdirError(
      f'{path} cannot be written ({error.strerror}); {advice}.'
    ) from error


def _absolute(path: str) -> str:
  try:
    return os.path.abspath(os.path.expanduser(path))
  except FileNotFoundError as error:
    raise WorkdirError(
      f'{path} is nowhere, since the current directory was removed; cd to '
      'another one, or name the whole path.'
    ) from error


def _is_utf8(path: str) -> bool:
  try:
    path.encode()
  except UnicodeEncodeError:
    return False
  return True


def _read_log(path: str) -> bytes:
  try:
    return reading.read_bytes(path)
  except OSError as error:
    raise _unreadable(path, error) from error


def _unreadable(path: str, error: OSError) -> WorkdirError:
  return WorkdirError(
    f'{path} cannot be read ({error.strerror}); repair it, or move it away.'
  )


def _plain(values: Mapping[str, Any]) -> Mapping[str, Any]:
  """The values as JSON will have them: lists for tuples."""
  return json.loads(json.dumps(values))


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
  """Dotted names of the fields in which two configurations differ, sorted."""
  return sorted(_differences(_plain(one), _plain(other)))


def _differences(one: Any, other: Any, prefix: str = ''):
  """Dotted names of the fields in which two nested dicts differ."""
  if not (isinstance(one, dict) and isinstance(other, dict)):
    if one != other:
      yield prefix
    return
  for key in one.keys() | other.keys():
    yield from _differences(
      one.get(key), other.get(key), f'{prefix}.{key}' if prefix else key
    )
