"""Logs that a run can do without: a full disk costs some lines, not the run."""

from collections.abc import Callable, Mapping, Sequence
import contextlib
import math
import os
from typing import Any

from acme.utils import loggers
from acme.utils.loggers import tf_summary
import numpy as np
from PIL import Image
import tensorflow as tf

from acme_hieros.storage import json_lines, workdirs

# The metrics of a level's updates are logged once in so many of them.
_LOG_PERIOD = 10

# Of a file, and of TensorFlow's, which has its own for a full disk.
_ERRORS = (OSError, tf.errors.OpError)


class RunLoggers:
  """Makes the loggers of a run, and closes them all.

  Each writes to a file in the work directory and to TensorBoard, while it can.
  """

  def __init__(self, workdir: workdirs.Workdir, warn: Callable[[str], None]):
    """Creates it; nothing is opened yet.

    Args:
      workdir: of the run.
      warn: is told, in a sentence, what cannot be written.
    """
    self._workdir = workdir
    self._warn = warn
    self._closing = contextlib.ExitStack()

  def make_logger(self, label: str, period: int = 1) -> loggers.Logger:
    """Writes every `period`-th record to logs/<label>.csv and TensorBoard."""
    path = os.path.join(self._workdir.logs, f'{label}.csv')
    logger = self._with_tensorboard(label, lambda: _CsvLogger(path), path)
    return loggers.GatedFilter.periodic(logger, period)

  def make_learner_logger(self, label: str) -> loggers.Logger:
    """The logger of one level's updates, or of its diagnoses."""
    seldom = label.endswith('_diagnostics')
    return self.make_logger(label, 1 if seldom else _LOG_PERIOD)

  def make_evaluator_logger(self) -> loggers.Logger:
    """Writes to evaluation/evaluator.jsonl and TensorBoard."""
    path = self._workdir.evaluation_file('evaluator', 'jsonl')
    return self._with_tensorboard(
      'evaluation', lambda: JsonLinesLogger(path), path
    )

  def _with_tensorboard(
    self, label: str, make_logger: Callable[[], loggers.Logger], path: str
  ) -> loggers.Logger:
    tensorboard = self._workdir.tensorboard

    def make_tensorboard():
      return _TensorBoardLogger(tensorboard, label, steps_key='actor_steps')

    both = loggers.Dispatcher(
      [
        BestEffortLogger(make, place, self._warn)
        for make, place in (
          (make_logger, path),
          (make_tensorboard, tensorboard),
        )
      ]
    )
    self._closing.callback(both.close)
    return both

  def close(self):
    """Closes all loggers."""
    self._closing.close()


class BestEffortLogger(loggers.Logger):
  """Writes to a logger while it can, and tries again with each record."""

  def __init__(
    self,
    make_logger: Callable[[], loggers.Logger],
    path: str,
    warn: Callable[[str], None],
  ):
    """Creates the logger, whose file is opened with the first record.

    Args:
      make_logger: opens it, also anew where the file is gone.
      path: of the file, or the directory.
      warn: is told, in a sentence, of the first of several failures.
    """
    self._make_logger = make_logger
    self._path = path
    self._warn = warn
    self._logger = None
    self._failing = False

  def write(self, data: Mapping[str, Any]):
    try:
      # Somebody may have removed it; what is written to it then is lost.
      if self._logger is None or not os.path.exists(self._path):
        self.close()
        os.makedirs(os.path.dirname(self._path), exist_ok=True)
        self._logger = self._make_logger()
      self._logger.write(data)
      self._failing = False
    except _ERRORS as error:
      if not self._failing:
        reason = (
          getattr(error, 'strerror', None) or str(error).partition('\n')[0]
        )
        self._warn(
          f'{self._path} cannot be written ({reason}); the run goes on, and '
          'tries again with each line.'
        )
      self._failing = True

  def close(self):
    if self._logger is not None:
      with contextlib.suppress(*_ERRORS):
        self._logger.close()
    self._logger = None


class JsonLinesLogger(loggers.Logger):
  """Appends each record to a file of JSON lines, at once."""

  def __init__(self, path: str):
    self._file = open(path, 'a')

  def write(self, data: Mapping[str, Any]):
    self._file.write(json_lines.to_line(data))
    self._file.flush()

  def close(self):
    self._file.close()


class _CsvLogger(loggers.CSVLogger):
  """Acme's, which owns its file and goes by no clock: that may be set back."""

  def __init__(self, path: str):
    super().__init__(open(path, 'a'), time_delta=-math.inf, flush_every=1)

  def close(self):
    with contextlib.closing(self._file):
      super().close()


class _TensorBoardLogger(tf_summary.TFSummaryLogger):
  """Acme's, but for a leak: TensorFlow keeps each Python number it is given."""

  def write(self, values: loggers.LoggingData):
    super().write({name: np.asarray(value) for name, value in values.items()})


def log_pictures(workdir: workdirs.Workdir, paths: Sequence[str], steps: int):
  """Shows PNG and GIF files in TensorBoard, under their names."""
  writer = tf.summary.create_file_writer(
    _picture_events(workdir), filename_suffix=_event_suffix(steps)
  )
  with contextlib.closing(writer), writer.as_default():
    for path in paths:
      with open(path, 'rb') as file:
        encoded = file.read()
      with Image.open(path) as picture:
        width, height = picture.size
      # The only way in for an animation: a picture that is encoded already.
      image = tf.compat.v1.Summary.Image(
        encoded_image_string=encoded, width=width, height=height
      )
      name = f'pictures/{os.path.basename(path)}'
      summary = tf.compat.v1.Summary(
        value=[tf.compat.v1.Summary.Value(tag=name, image=image)]
      )
      tf.summary.experimental.write_raw_pb(summary.SerializeToString(), steps)


def picture_event_files(workdir: workdirs.Workdir, steps: int) -> list[str]:
  """TensorBoard's files of the pictures after so many steps."""
  directory = _picture_events(workdir)
  if not os.path.isdir(directory):
    return []
  return [
    os.path.join(directory, name)
    for name in os.listdir(directory)
    if name.endswith(_event_suffix(steps))
  ]


def _picture_events(workdir: workdirs.Workdir) -> str:
  return os.path.join(workdir.tensorboard, 'pictures')


def _event_suffix(steps: int) -> str:
  """Ends the names of TensorBoard's files, as '.v2' does those of others."""
  return f'.{steps:09d}.v2'
