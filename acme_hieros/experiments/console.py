"""What a run shows while it runs, and how it is stopped."""

from collections.abc import Mapping
import os
import signal
import sys
import time
from typing import Any, TextIO

import tqdm

from acme_hieros import command_line

# Wishes to end that are no Ctrl-C.
_REQUESTS = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


# Of a terminal that does not say.
_COLUMNS = 80


class _Lines:
  """A file that gets each state of a line that is rewritten as one line."""

  def __init__(self, file: Any):
    self._file = file

  def write(self, text: str):
    # Spaces and carriage returns wipe a line out.
    text = text.strip('\r').rstrip()
    if text:
      self._file.write(f'{text}\n')

  def flush(self):
    self._file.flush()


def _has_size(terminal: Any) -> bool:
  try:
    return os.get_terminal_size(terminal.fileno()).columns > 0
  except (OSError, AttributeError, ValueError):
    return True  # tqdm looks in other places.


class _Line:
  """One line that tells how far something is, how fast, and the time left."""

  def __init__(
    self,
    total: int,
    done: int,
    unit: str,
    smoothing: float,
    file: TextIO | None,
  ):
    """Shows the line.

    Args:
      total: of what is to be done.
      done: of it already.
      unit: that it is counted in.
      smoothing: of the speed: from 0, the mean, to 1, that of the last moment.
      file: where to; by default stderr.
    """
    self._file: Any = command_line.Unbreakable(file or sys.stderr)
    interval, columns = 0.5, None
    if not self._file.isatty():
      # Nobody rewrites a line there; one now and then is enough.
      interval, self._file = 30.0, _Lines(self._file)
    elif not _has_size(self._file):
      columns = _COLUMNS
    self._bar = tqdm.tqdm(
      total=total,
      initial=done,
      unit=unit,
      mininterval=interval,
      maxinterval=interval,
      miniters=0,  # What stands beside the count changes all the time.
      ncols=columns,
      dynamic_ncols=columns is None,
      smoothing=smoothing,
      file=self._file,
    )
    # By a clock that nobody sets.
    self._bar._time = time.monotonic
    self._bar.start_t = self._bar.last_print_t = time.monotonic()

  def __enter__(self) -> '_Line':
    return self

  def __exit__(self, *unused_error):
    self._bar.close()

  def _show(self, done: int, beside: Mapping[str, Any]):
    self._bar.set_postfix(beside, refresh=False)
    self._bar.update(done - self._bar.n)

  def write(self, message: str):
    """Writes above the line."""
    self._bar.write(message, file=self._file)


class LiveLine(_Line):
  """Steps, their speed, updates, the last return and the time left."""

  def __init__(self, num_steps: int, steps: int, file: TextIO | None = None):
    """Shows the line.

    Args:
      num_steps: of the whole run.
      steps: that it has behind it.
      file: where to; by default stderr.
    """
    super().__init__(num_steps, steps, 'step', 0.05, file)

  def show(
    self,
    steps: int,
    updates: int | None,
    last_return: float | None,
    cpu_minutes: tuple[float, float] = (0.0, 0.0),
  ):
    """Takes in how far the run is.

    Args:
      steps: so far.
      updates: so far; None before learning starts.
      last_return: of an episode, if one has ended.
      cpu_minutes: so far, and those that end the run; 0 if none do.
    """
    beside = {'updates': 'filling replay' if updates is None else updates}
    if last_return is not None:
      beside['return'] = f'{last_return:.4g}'
    spent, limit = cpu_minutes
    if limit:
      beside['CPU minutes'] = f'{spent:.1f}/{limit:g}'
    self._show(steps, beside)


class EpisodesLine(_Line):
  """Episodes, their speed, that of steps, the mean return and the time left."""

  def __init__(self, num_episodes: int, file: TextIO | None = None):
    """Shows the line.

    Args:
      num_episodes: to be played.
      file: where to; by default stderr.
    """
    # Those that are played at once may end at once.
    super().__init__(num_episodes, 0, 'episode', 0.0, file)
    self._start = time.monotonic()

  def show(self, episodes: int, steps: int, mean_return: float | None):
    """Takes in what has been played; the mean is None without episodes."""
    seconds = max(time.monotonic() - self._start, 1e-9)
    beside = {'steps': steps, 'step/s': f'{steps / seconds:.1f}'}
    if mean_return is not None:
      beside['mean'] = f'{mean_return:.4g}'
    self._show(episodes, beside)


class Interruption:
  """Turns signals into a wish: to save in peace, and to end.

  Ctrl-C (SIGINT) is one; a second Ctrl-C interrupts at once. SIGTERM, SIGHUP
  and SIGUSR1 are one however often they come: schedulers, `make` and a terminal
  that is closed send several, and to every process of a group.

  signal: that came first; None while none did.
  """

  def __init__(self, file: TextIO | None = None):
    """Creates it; file is where a request is confirmed, by default stderr."""
    self.signal: signal.Signals | None = None
    self._file = command_line.Unbreakable(file or sys.stderr)
    self._handlers = {}
    self._ctrl_c = False

  @property
  def requested(self) -> bool:
    return self.signal is not None

  def __enter__(self) -> 'Interruption':
    for number in (signal.SIGINT, *_REQUESTS):
      # As `nohup` has it.
      ignored = signal.getsignal(number) is signal.SIG_IGN
      if number == signal.SIGHUP and ignored:
        continue
      try:
        self._handlers[number] = signal.signal(number, self._request)
      except ValueError:
        pass  # Not the main thread: signals are somebody else's.
    return self

  def __exit__(self, *unused_error):
    for number, handler in self._handlers.items():
      signal.signal(number, handler or signal.SIG_DFL)

  def _request(self, number: int, unused_frame):
    if number == signal.SIGINT:
      if self._ctrl_c:
        raise KeyboardInterrupt
      self._ctrl_c = True
    if self.requested:
      return
    self.signal = signal.Signals(number)
    again = '; again to stop at once' if self._ctrl_c else ''
    print(
      f'\nStopping ({self.signal.name}): saving after this step{again}.',
      file=self._file,
    )


def ignore_requests():
  """For a process that others end, or that is on its way out already."""
  for number in _REQUESTS:
    signal.signal(number, signal.SIG_IGN)
