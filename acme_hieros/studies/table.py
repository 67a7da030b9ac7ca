"""What a study shows while its runs are at work, and leaves in a file."""

import collections
from collections.abc import Sequence
import datetime
import shutil
import sys
import time
from typing import Any, TextIO

from acme_hieros import command_line
from acme_hieros.command_line import counted
from acme_hieros.storage import workdirs
from acme_hieros.studies import study as study_lib
from acme_hieros.studies import tasks as tasks_lib

# Seconds between two tables on a terminal, and between two files.
_TABLE_SECONDS = 1.0
_FILE_SECONDS = 10.0

# Rows of a terminal that are left to what was said before.
_OTHER_ROWS = 4


class Display:
  """A live table on a terminal, a line an event elsewhere, and status.json.

  at_once: runs, for the time that is left.
  """

  def __init__(
    self,
    study: study_lib.Study,
    path: str | None,
    tasks: Sequence[tasks_lib.Task],
    at_once: int,
    file: TextIO | None = None,
  ):
    """Shows nothing yet.

    Args:
      study: whose runs they are.
      path: of the file; None for none.
      tasks: its runs.
      at_once: runs, for the time that is left.
      file: where to; by default stdout.
    """
    self._study = study
    self._tasks = tasks
    self.at_once = at_once
    self._path = path
    self._file: Any = command_line.Unbreakable(file or sys.stdout)
    self._live = self._file.isatty()
    self._lines = 0
    self._shown = self._written = -float('inf')
    self._started = _now()

  def say(self, sentence: str):
    """Says what has happened, above the table."""
    self._wipe()
    done = sum(task.state == tasks_lib.FINISHED for task in self._tasks)
    self._file.write(f'[{done}/{len(self._tasks)}] {sentence}\n')
    self._file.flush()
    self._shown = -float('inf')

  def show(self):
    """Brings the table and the file up to date, now and then."""
    now = time.monotonic()
    if self._live and now - self._shown > _TABLE_SECONDS:
      self._shown = now
      self._look()
      self._wipe()
      size = shutil.get_terminal_size()
      lines = table(
        self._tasks, self._study.needs, self.at_once, size.lines - _OTHER_ROWS
      )
      # A line that is broken in two would be wiped by half.
      self._file.write(''.join(f'{ln[: size.columns - 1]}\n' for ln in lines))
      self._file.flush()
      self._lines = len(lines)
    if now - self._written > _FILE_SECONDS:
      self.write()

  def end(self):
    """Leaves the whole table, and the file."""
    self._wipe()
    self._look()
    for line in table(self._tasks, self._study.needs, self.at_once):
      self._file.write(f'{line}\n')
    self.write()

  def write(self):
    """Writes the file, if there is to be one."""
    if self._path is None:
      return
    self._look()
    self._written = time.monotonic()
    left = tasks_lib.minutes(self._tasks, self._study.needs)
    workdirs.write_json(
      self._path,
      {
        'study': self._study.name,
        'question': self._study.question,
        'started': self._started,
        'written': _now(),
        'counts': {
          state: sum(task.state == state for task in self._tasks)
          for state in tasks_lib.STATES
        },
        'minutes_left': _all_of(left, self.at_once),
        'runs': [
          {
            'name': task.run.name,
            'state': task.state,
            'steps': task.steps,
            'seconds': task.seconds,
            'mean_return': task.mean_return,
            'minutes_left': minutes,
            'tries': task.tries,
            'reason': task.reason,
            'workdir': task.workdir,
            'log': task.log,
          }
          for task, minutes in zip(self._tasks, left)
        ],
      },
    )

  def _look(self):
    for task in self._tasks:
      if task.state in (tasks_lib.TRAINING, tasks_lib.EVALUATING):
        task.look()

  def _wipe(self):
    if self._lines:
      self._file.write(f'\x1b[{self._lines}F\x1b[J')
      self._lines = 0


def table(
  tasks: Sequence[tasks_lib.Task],
  needs: study_lib.Needs,
  at_once: int,
  most: int | None = None,
) -> list[str]:
  """Lines with all runs, those at work first.

  Args:
    tasks: the runs.
    needs: of one.
    at_once: runs, for the time that is left.
    most: lines that there are; None for as many as are needed.
  """
  left = tasks_lib.minutes(tasks, needs)
  counts = collections.Counter(task.state for task in tasks)
  states = [f'{counts[s]} {s}' for s in tasks_lib.STATES if counts[s]]
  head = [
    f'{counted(len(tasks), "run")}: {", ".join(states)}; '
    f'{duration(_all_of(left, at_once))} left, {at_once} at once'
  ]
  width = max(len('run'), *(len(task.run.name) for task in tasks))
  head.append(
    f'{"run":{width}}  {"state":11}  {"steps":>11}  {"step/s":>7}  '
    f'{"return":>9}  {"left":>8}'
  )
  rows = sorted(
    zip(tasks, left), key=lambda row: tasks_lib.STATES.index(row[0].state)
  )
  lines = [_row(task, minutes, width) for task, minutes in rows]
  shown = len(lines) if most is None else max(most - len(head) - 1, 1)
  if len(lines) > shown:
    lines[shown:] = [f'and {len(lines) - shown} more, all in status.json']
  return head + lines


def _row(task: tasks_lib.Task, minutes: float | None, width: int) -> str:
  speed = f'{task.steps / task.seconds:.1f}' if task.seconds else ''
  score = '' if task.mean_return is None else f'{task.mean_return:.4g}'
  left = '' if task.state == tasks_lib.FINISHED else duration(minutes)
  return (
    f'{task.run.name:{width}}  {task.state:11}  {task.steps:>11,}  {speed:>7}  '
    f'{score:>9}  {left:>8}  {task.reason}'
  ).rstrip()


def duration(minutes: float | None) -> str:
  """'1:05:00', or '?' where nobody knows."""
  if minutes is None:
    return '?'
  return str(datetime.timedelta(seconds=round(60 * minutes)))


def _all_of(left: Sequence[float | None], at_once: int) -> float | None:
  """Minutes until all have ended."""
  if None in left:
    return None
  busy = min(max(at_once, 1), sum(minutes > 0 for minutes in left))
  # No run is shared.
  return max([sum(left) / busy, *left]) if busy else 0.0


def _now() -> str:
  return datetime.datetime.now().astimezone().isoformat('T', 'seconds')
