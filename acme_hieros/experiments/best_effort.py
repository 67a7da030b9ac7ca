"""Logs that a run can do without: a full disk costs some lines, not the run."""

from collections.abc import Callable, Mapping
import contextlib
import os
from typing import Any

from acme.utils import loggers
import tensorflow as tf

# Of a file, and of TensorFlow's, which has its own for a full disk.
_ERRORS = (OSError, tf.errors.OpError)


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
