"""Has the runs of a study run, until all are finished or have failed."""

import collections
from collections.abc import Callable, Sequence
import contextlib
import signal
import time
from typing import Protocol

from acme_hieros.experiments import console
from acme_hieros.studies import processes, table
from acme_hieros.studies import tasks as tasks_lib

_POLL_SECONDS = 0.1


class Program(Protocol):
  """A program at work; see `processes.Program`."""

  def poll(self) -> int | None: ...

  def stop(self): ...

  def kill(self): ...


class Machines(Protocol):
  """Where programs are started; see `processes.Machine`."""

  at_once: int

  def start(self, command: Sequence[str], log: str) -> Program: ...

  def ended(self, program: Program): ...

  def close(self): ...


class LostError(RuntimeError):
  """A program has gone with its machine, which is no fault of its own."""


def carry_out(
  tasks: Sequence[tasks_lib.Task],
  machines: Machines,
  retries: int,
  display: table.Display,
) -> signal.Signals | None:
  """Brings all runs to their end.

  What is finished is skipped, what was interrupted goes on. Ctrl-C and SIGTERM
  have all runs save and end; a second Ctrl-C ends them at once.

  Args:
    tasks: the runs, in the order in which they begin.
    machines: where.
    retries: how often a run that has failed is tried again.
    display: is told all that happens.

  Returns:
    The signal that ended it early, if one did.

  Raises:
    ValueError: no run can be started as it is asked for.
  """
  waiting = collections.deque(
    task for task in tasks if task.state != tasks_lib.FINISHED
  )
  at_work: dict[Program, tasks_lib.Task] = {}
  stopping = False
  with contextlib.ExitStack() as stack:
    stack.callback(machines.close)
    stack.callback(lambda: [program.kill() for program in at_work])
    interruption = stack.enter_context(console.Interruption())
    # A second Ctrl-C.
    stack.enter_context(contextlib.suppress(KeyboardInterrupt))
    while at_work or (waiting and not stopping):
      if interruption.requested and not stopping:
        stopping = True
        for program in at_work:
          program.stop()
      while waiting and not stopping and len(at_work) < machines.at_once:
        task = waiting.popleft()
        task.state, command = task.next()
        at_work[machines.start(command, task.log)] = task
      for program, task in list(at_work.items()):
        try:
          code = program.poll()
        except LostError as error:
          del at_work[program]
          task.state, task.reason = tasks_lib.INTERRUPTED, str(error)
          waiting.appendleft(task)
          display.say(f'{task.run.name}: {error}; it goes on elsewhere.')
          continue
        if code is None:
          continue
        del at_work[program]
        machines.ended(program)
        if stopping:
          task.state = tasks_lib.WAITING
          task.look()
          continue
        _take_in(task, code, retries, waiting, display.say)
      # Machines of a cluster come and go.
      display.at_once = machines.at_once
      display.show()
      time.sleep(_POLL_SECONDS)
  display.end()
  return interruption.signal


def _take_in(
  task: tasks_lib.Task,
  code: int,
  retries: int,
  waiting: collections.deque[tasks_lib.Task],
  say: Callable[[str], None],
):
  """Sees to what comes after a program of a run has ended."""
  before, task.state = task.state, tasks_lib.WAITING
  task.look()
  if code == 0 and task.state == tasks_lib.FINISHED:
    task.reason = ''
    score = '' if task.mean_return is None else f', {task.mean_return:.4g}'
    say(f'{task.run.name}: finished after {task.steps:,} steps{score}')
    return
  now, _ = task.next()
  if code == 0 and (before, now) == (tasks_lib.TRAINING, tasks_lib.EVALUATING):
    # Before others are begun: it tells something at last.
    waiting.appendleft(task)
    return
  task.tries += 1
  task.reason = _reason(task.log, code)
  if task.tries <= retries:
    waiting.append(task)
    say(f'{task.run.name}: {task.reason} It is tried again.')
  else:
    task.state = tasks_lib.FAILED
    say(f'{task.run.name}: {task.reason} It is given up; see {task.log}.')


def _reason(log: str, code: int) -> str:
  """A sentence about a program that has failed: the last that it said."""
  if code < 0:
    return f'It was killed by {signal.Signals(-code).name}.'
  said = [line for line in processes.read_end(log) if line.strip()]
  return said[-1].strip() if said else f'It ended with exit code {code}.'
