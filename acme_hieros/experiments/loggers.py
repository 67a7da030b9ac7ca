"""Logs that a run can do without: a full disk costs some lines, not the run."""

from collections.abc import Callable, Mapping
import contextlib
import functools
import math
import os
from typing import Any

from acme.utils import loggers
import tensorflow as tf

from acme_hieros.agent import learning
from acme_hieros.experiments import runs, tensorboard, tracking
from acme_hieros.storage import json_lines, workdirs

# The metrics of a level's updates are logged once in so many of them.
_LOG_PERIOD = 10

# Of a file, and of TensorFlow's, which has its own for a full disk.
_ERRORS = (OSError, tf.errors.OpError)


class RunLoggers:
  """Makes the loggers of a run, and closes them all.

  Each writes to a file in the work directory and to TensorBoard, while it can,
  to whatever tracks the run, and to what the run's `logger_factory` makes.
  """

  def __init__(
    self,
    run: runs.Run,
    workdir: workdirs.Workdir,
    warn: Callable[[str], None],
    part: str = '',
  ):
    """Creates it, and has the run tracked; no file is opened yet.

    Args:
      run: says what tracks it.
      workdir: of the run, open.
      warn: is told, in a sentence, what cannot be written.
      part: of the run that is logged, where each has a process of its own.
    """
    self._workdir = workdir
    self._warn = warn
    self._closing = contextlib.ExitStack()
    self._tracker = tracking.begin(
      run.track, run.hyperparameters(), workdir, warn, part
    )
    self._closing.callback(self._tracker.close)
    self._factories: list[learning.LoggerFactory] = [self._tracker.make_logger]
    if run.logger_factory:
      self._factories.append(functools.partial(_make_own, run.logger_factory))

  def make_logger(self, label: str, period: int = 1) -> loggers.Logger:
    """Writes every `period`-th record to logs/<label>.csv and elsewhere."""
    path = os.path.join(self._workdir.logs, f'{label}.csv')
    logger = self._with_others(label, lambda: _CsvLogger(path), path)
    return loggers.GatedFilter.periodic(logger, period)

  def make_learner_logger(self, label: str) -> loggers.Logger:
    """The logger of one level's updates, or of its diagnoses."""
    seldom = label.endswith('_diagnostics')
    return self.make_logger(label, 1 if seldom else _LOG_PERIOD)

  def make_evaluator_logger(self) -> loggers.Logger:
    """Writes to evaluation/evaluator.jsonl and elsewhere."""
    path = self._workdir.evaluation_file('evaluator', 'jsonl')
    return self._with_others('evaluation', lambda: JsonLinesLogger(path), path)

  def log_hyperparameters(self, run: runs.Run):
    """Has them stand beside the results in TensorBoard."""
    self._try(tensorboard.log_hyperparameters, run.hyperparameters())

  def log_results(self, returns: Mapping[str, float | None], steps: int):
    """Has stand beside the hyper-parameters what came of the run.

    Args:
      returns: as of `EpisodeLog.summary`; None where there are none.
      steps: of actors, so far.
    """
    results = {
      name: returns[name]
      for name in ('mean_return', 'best_return')
      if returns[name] is not None
    }
    self._try(tensorboard.log_results, results, steps)
    self._tracker.log_results(results)

  def _try(self, log: Callable[..., None], *args: Any):
    try:
      log(self._workdir.tensorboard, *args)
    except _ERRORS as error:
      self._warn(
        f'{self._workdir.tensorboard} cannot be written ({_reason(error)}); '
        'the run goes on without.'
      )

  def _with_others(
    self, label: str, make_logger: Callable[[], loggers.Logger], path: str
  ) -> loggers.Logger:
    directory = self._workdir.tensorboard

    def make_tensorboard():
      return tensorboard.Logger(directory, label)

    several = loggers.Dispatcher(
      [
        BestEffortLogger(make_logger, path, self._warn),
        BestEffortLogger(make_tensorboard, directory, self._warn),
        *(make(label) for make in self._factories),
      ]
    )
    self._closing.callback(several.close)
    return several

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
        self._warn(
          f'{self._path} cannot be written ({_reason(error)}); the run goes '
          'on, and tries again with each line.'
        )
      self._failing = True

  def close(self):
    if self._logger is not None:
      with contextlib.suppress(*_ERRORS):
        self._logger.close()
    self._logger = None


def _reason(error: Exception) -> str:
  return getattr(error, 'strerror', None) or str(error).partition('\n')[0]


def _make_own(make: learning.LoggerFactory, label: str) -> loggers.Logger:
  """What a user's function makes for a label, checked."""
  logger = make(label)
  for method in ('write', 'close'):
    if not callable(getattr(logger, method, None)):
      raise ValueError(
        f'logger_factory({label!r}) returned {logger!r}, which has no '
        f'{method}(): return an acme.utils.loggers.Logger.'
      )
  return logger


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
