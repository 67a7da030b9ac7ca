"""What a run shows while it runs, and how it is stopped."""

import signal
import sys
from typing import TextIO

import tqdm


class LiveLine:
  """Steps, their speed, updates, the last return and the time left."""

  def __init__(self, num_steps: int, steps: int, file: TextIO | None = None):
    """Shows the line.

    Args:
      num_steps: of the whole run.
      steps: that it has behind it.
      file: where to; by default stderr.
    """
    self._file = file or sys.stderr
    # Where no terminal rewrites the line, a line now and then is enough.
    interval = 0.5 if self._file.isatty() else 30.0
    self._bar = tqdm.tqdm(
      total=num_steps,
      initial=steps,
      unit='step',
      mininterval=interval,
      maxinterval=interval,
      dynamic_ncols=True,
      smoothing=0.05,
      file=self._file,
    )

  def __enter__(self) -> 'LiveLine':
    return self

  def __exit__(self, *unused_error):
    self._bar.close()

  def show(self, steps: int, updates: int | None, last_return: float | None):
    """Takes in how far the run is; updates are None before learning starts."""
    shown = {'updates': 'filling replay' if updates is None else updates}
    if last_return is not None:
      shown['return'] = f'{last_return:.4g}'
    self._bar.set_postfix(shown, refresh=False)
    self._bar.update(steps - self._bar.n)

  def write(self, message: str):
    """Writes above the line."""
    self._bar.write(message, file=self._file)


class Interruption:
  """Turns the first Ctrl-C or termination into a request, to save in peace.

  The second one interrupts at once.
  """

  def __init__(self, file: TextIO | None = None):
    """Creates it; file is where a request is confirmed, by default stderr."""
    self.requested = False
    self._file = file or sys.stderr
    self._handlers = {}

  def __enter__(self) -> 'Interruption':
    for number in (signal.SIGINT, signal.SIGTERM):
      try:
        self._handlers[number] = signal.signal(number, self._request)
      except ValueError:
        pass  # Not the main thread: signals are somebody else's.
    return self

  def __exit__(self, *unused_error):
    self._restore()

  def _request(self, *unused_arguments):
    self.requested = True
    self._restore()
    print(
      '\nStopping: saving after this step; again to stop at once.',
      file=self._file,
    )

  def _restore(self):
    for number, handler in self._handlers.items():
      signal.signal(number, handler)
