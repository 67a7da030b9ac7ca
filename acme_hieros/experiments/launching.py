"""Runs a Launchpad program on this machine, and looks after its nodes.

Launchpad's own launchers start nodes and stop them; they neither start a dead
one again nor end well when one has died. The program and what its nodes are
made of is Launchpad's, see `nodes`.
"""

from acme_hieros import compat  # noqa: F401, I001  Comes before Acme.

from collections.abc import Callable, Mapping, Sequence
import contextlib
import dataclasses
import json
import logging as python_logging
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any, Protocol

from absl import logging
from acme.utils import loggers
import launchpad as lp
from launchpad import context
from launchpad.launch import worker_manager
from launchpad.nodes.python import local_multi_processing

from acme_hieros import tuning
from acme_hieros.experiments import console, episodes, nodes, runs, workdirs

# An actor that died so often is not started again.
_MOST_RESTARTS = 10

# How long nodes may take to stop, but for the learner, which saves.
_STOP_SECONDS = 5.0

_POLL_SECONDS = 0.2

# Within which the coordinator has written how far the run is.
_PATIENCE_SECONDS = 3.0

# What this process was started with, and so what its nodes are to have.
_ENVIRONMENT = dict(os.environ)
_PREALLOCATE = 'XLA_PYTHON_CLIENT_PREALLOCATE'

# Negative: Launchpad kills nobody. The learner may be compiling.
_NO_KILLING = '--lp_termination_notice_secs=-1'


# Has the kernel kill a process when its parent is gone (Linux, prctl 1), before
# it begins with what it is to do: importing Acme takes seconds. Arguments: the
# parent, and the command.
_BIND = (
  sys.executable,
  '-IS',
  '-c',
  'import ctypes, os, signal, sys; '
  'ctypes.CDLL(None).prctl(1, signal.SIGKILL); '
  'os.getppid() == int(sys.argv[1]) or sys.exit(1); '
  'os.execvp(sys.argv[2], sys.argv[2:])',
)


class LaunchError(RuntimeError):
  """A node died that the program cannot do without; the message says which."""


def leave_accelerator():
  """Has this process take little of an accelerator: its learner will want it.

  To be called before JAX looks for devices. The nodes are not concerned.
  """
  os.environ.setdefault(_PREALLOCATE, 'false')


class _Worker(Protocol):
  """A node at work."""

  name: str
  pid: int  # Of its process; known once it is started.

  def start(self):
    """Starts it, for the first time or again."""

  def poll(self) -> int | None:
    """Its exit code, 0 where it ended well; None while it runs."""

  def stop(self):
    """Asks it to stop."""

  def kill(self):
    """Ends it at once."""


class Launcher:
  """One run as a program of several nodes. Construction checks what it can.

  Its attributes are those of `running.Trainer`.

  Raises:
    ValueError: see `runs.prepare`.
  """

  def __init__(self, run: runs.Run):
    self._run = run
    if run.launch == 'local_mp':
      leave_accelerator()
    prepared = runs.prepare(run)
    self._workdir = prepared.workdir
    # The state is the learner's to read.
    self._restored = prepared.restored and prepared.restored._replace(
      state=None
    )
    restored = self._restored
    self.written_by = restored.written_by if restored else None
    self._environment_spec = prepared.environment_spec
    self.parameter_counts = prepared.parameter_counts()
    counts, seconds = runs.NO_COUNTS, 0.0
    log = episodes.EpisodeLog(loggers.NoOpLogger())
    if self._restored:
      counts = self._restored.metadata['counts']
      seconds = self._restored.metadata['seconds']
      log.restore(self._restored.metadata)
    # What the coordinator will write.
    self._progress = {
      'now': {'counts': counts, 'seconds': seconds, **log.summary()},
      'saved': None,
      'warnings': [],
      'num_warnings': 0,
    }
    self._warned = 0
    self._restarts = {}
    self._ended = {}  # When actors were first seen to have ended.

  @property
  def steps(self) -> int:
    """Environment steps so far, of all actors."""
    return self._progress['now']['counts']['actor_steps']

  def train(self) -> runs.Summary:
    """Runs to the last step or to Ctrl-C; the learner saves in the end.

    A second Ctrl-C ends all nodes at once, and nothing is saved.

    Raises:
      LaunchError: the learner, the replay or the coordinator died, or an actor
        again and again. All nodes have ended then.
    """
    run = self._run
    program = nodes.make_program(run, self._environment_spec, self._restored)
    os.makedirs(self._workdir.nodes, exist_ok=True)
    _remove(self._workdir.progress)
    _remove(self._workdir.node_file('pids', 'json'))
    with contextlib.ExitStack() as stack:
      stack.callback(self._workdir.close)
      if run.launch == 'local_mp':
        workers = _make_processes(program, self._workdir)
        file = sys.stderr
      else:
        workers = _make_threads(program, self._workdir)
        # The nodes' output is this process'; the live line keeps its place.
        file = stack.enter_context(
          _redirected(self._workdir.node_file('program', 'log'))
        )
      interruption = stack.enter_context(console.Interruption(file))
      line = stack.enter_context(
        console.LiveLine(run.num_steps, self.steps, file)
      )
      try:
        for worker in workers.values():
          self._start(worker)
        self._write_pids(workers)
        self._supervise(workers, line, interruption)
      finally:
        _end(workers.values())
        self._show(line)
    summary = self._summarise()
    workdirs.write_json(self._workdir.summary, dataclasses.asdict(summary))
    return summary

  def _supervise(
    self,
    workers: Mapping[str, _Worker],
    line: console.LiveLine,
    interruption: console.Interruption,
  ):
    """Returns when the learner has ended well."""
    learner = workers[nodes.LEARNER]
    stopping = False
    failure = None
    while True:
      self._show(line)
      if (interruption.requested or failure) and not stopping:
        stopping = True
        learner.stop()
      for worker in workers.values():
        code = worker.poll()
        if code is None:
          continue
        # Before it could save anything it knows no other way to stop.
        stopped = stopping and code == -signal.SIGTERM
        if worker is learner and (code == 0 or stopped):
          if failure:
            raise failure
          return
        if worker.name in (nodes.LEARNER, nodes.REPLAY, nodes.COORDINATOR):
          raise self._error(worker, code, '')
        if stopping or failure or self.steps >= self._run.num_steps:
          continue
        # One that has ended well may know sooner than this process that all
        # steps are made.
        ended = self._ended.setdefault(worker.name, time.monotonic())
        if code == 0 and time.monotonic() - ended < _PATIENCE_SECONDS:
          continue
        del self._ended[worker.name]
        if self._restarts.get(worker.name, 0) == _MOST_RESTARTS:
          failure = self._error(worker, code, ' again and again')
          continue
        self._restart(worker, code, line)
        self._write_pids(workers)
      time.sleep(_POLL_SECONDS)

  def _restart(self, worker: _Worker, code: int, line: console.LiveLine):
    restarts = self._restarts.get(worker.name, 0) + 1
    self._restarts[worker.name] = restarts
    line.write(
      f'Warning: {worker.name} died ({self._reason(worker, code)}) and is '
      f'started again (restart {restarts} of {_MOST_RESTARTS}).'
    )
    self._start(worker)

  def _start(self, worker: _Worker):
    # Of a death before this life.
    _remove(self._workdir.node_file(worker.name, 'error'))
    worker.start()

  def _error(self, worker: _Worker, code: int, when: str) -> LaunchError:
    return LaunchError(
      f'{worker.name} died{when} ({self._reason(worker, code)}), so the '
      f'program was ended; its output is in {self._workdir.nodes}, and '
      f'--resume --workdir={self._workdir.path} continues from the last '
      'checkpoint.'
    )

  def _reason(self, worker: _Worker, code: int) -> str:
    """What the node has to say of its death, or else the system."""
    try:
      with open(self._workdir.node_file(worker.name, 'error')) as file:
        return file.read().rstrip('.')
    except OSError:
      pass
    if code < 0:
      return f'killed by {signal.Signals(-code).name}'
    return f'exit code {code}'

  def _show(self, line: console.LiveLine):
    # There is none at first, and none new where the disk is full.
    with contextlib.suppress(OSError):
      with open(self._workdir.progress) as file:
        self._progress = json.load(file)
    now = self._progress['now']
    line.show(
      now['counts']['actor_steps'],
      now['counts']['learner_steps'] or None,
      now['last_return'],
    )
    new = self._progress['num_warnings'] - self._warned
    if new:
      for warning in self._progress['warnings'][-new:]:
        line.write(f'Warning: {warning}')
    self._warned += new

  def _write_pids(self, workers: Mapping[str, _Worker]):
    pids = {name: worker.pid for name, worker in workers.items()}
    workdirs.write_json(self._workdir.node_file('pids', 'json'), pids)

  def _summarise(self) -> runs.Summary:
    # What was saved is what a resumed run continues; actors may have gone on.
    final = self._progress['saved'] or self._progress['now']
    return runs.summarise(self._run, self._workdir, **final)


class _Process:
  """A node in a process of its own, whose output goes to a file."""

  def __init__(
    self,
    name: str,
    command: Sequence[str],
    environment: Mapping[str, str],
    workdir: workdirs.Workdir,
  ):
    self.name = name
    self._command = command
    self._environment = environment
    self._workdir = workdir
    self._process = None

  @property
  def pid(self) -> int:
    return self._process.pid

  def start(self):
    with open(self._workdir.node_file(self.name, 'log'), 'a') as log:
      self._process = subprocess.Popen(
        [*_BIND, str(os.getpid()), *self._command],
        env=self._environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        # Ctrl-C is for the launcher, which knows who has to stop first.
        start_new_session=True,
      )

  def poll(self) -> int | None:
    return self._process.poll() if self._process else 0

  def stop(self):
    self._process.send_signal(nodes.STOP_SIGNALS.get(self.name, signal.SIGTERM))

  def kill(self):
    self._process.kill()
    self._process.wait()


class _Thread:
  """A node in a thread of this process."""

  def __init__(self, name: str, function: Callable[[], Any]):
    self.name = name
    self.pid = os.getpid()
    self._function = function
    self._code = 0

  def start(self):
    self._code = None
    # One manager a thread: they are not all stopped at once.
    self._manager = worker_manager.WorkerManager(
      kill_main_thread=False, register_signals=False
    )
    self._manager.thread_worker(self.name, self._run)

  def _run(self):
    threading.current_thread().name = self.name
    try:
      self._function()
      self._code = 0
    except BaseException:
      logging.exception('%s died.', self.name)
      self._code = 1

  def poll(self) -> int | None:
    return self._code

  def stop(self):
    self._manager.stop_event().set()

  def kill(self):
    """Nobody can; it ends with the process."""


def _remove(path: str):
  with contextlib.suppress(FileNotFoundError):
    os.remove(path)


def _make_processes(
  program: lp.Program, workdir: workdirs.Workdir
) -> Mapping[str, _Worker]:
  learner = tuning.settings(_ENVIRONMENT)
  other = tuning.settings(_ENVIRONMENT, learns=False)
  # Actors leave the accelerator to the learner, and each is as good as any:
  # with more threads than cores they would only be in each other's way.
  other |= {'JAX_PLATFORMS': 'cpu'} | tuning.xla_flag(
    _ENVIRONMENT | other, '--xla_cpu_multi_thread_eigen=false'
  )
  configurations = {
    label: local_multi_processing.PythonProcess(
      env={nodes.OWN_PROCESS: '1'}
      | (learner if label == nodes.LEARNER else other),
    )
    for label in program.groups
  }
  _connect(program, context.LaunchType.LOCAL_MULTI_PROCESSING, configurations)
  return {
    name: _Process(
      name,
      # Launchpad's own way to pass a flag fails on this one.
      [*command.command_as_list, _NO_KILLING],
      _ENVIRONMENT | command.env_overrides,
      workdir,
    )
    for name, command in _executables(program)
  }


def _make_threads(
  program: lp.Program, workdir: workdirs.Workdir
) -> Mapping[str, _Worker]:
  _connect(program, context.LaunchType.LOCAL_MULTI_THREADING, {})
  # The first manager of a process would take Ctrl-C for itself.
  worker_manager._HAS_MAIN_MANAGER = True
  workers = {}
  for name, function in _executables(program):
    handler = python_logging.FileHandler(workdir.node_file(name, 'log'))
    handler.addFilter(lambda record, name=name: record.threadName == name)
    python_logging.getLogger().addHandler(handler)
    workers[name] = _Thread(name, function)
  return workers


def _connect(
  program: lp.Program,
  launch_type: context.LaunchType,
  configurations: Mapping[str, Any],
):
  """Tells all nodes how they are launched and where they find each other."""
  for label, group in program.groups.items():
    for node in group:
      node._initialize_context(launch_type, configurations.get(label))
  for label, group in program.groups.items():
    for node in group:
      for handle in node.input_handles:
        handle.connect(node, label)
  for node in program.get_all_nodes():
    node.bind_addresses()


def _executables(program: lp.Program):
  """(name, what starts it) of every node."""
  for label, group in program.groups.items():
    executables = group[0].to_executables(group, label, group[0].launch_context)
    for i, executable in enumerate(executables):
      several = label in (nodes.ACTOR, nodes.EVALUATOR)
      yield f'{label}_{i}' if several else label, executable


def _end(workers: Sequence[_Worker]):
  """Stops all that still run, and kills what does not stop.

  Replay and coordinator are the last: the others tell them how they end.
  """
  last = (nodes.REPLAY, nodes.COORDINATOR)
  for group in (
    [worker for worker in workers if worker.name not in last],
    [worker for worker in workers if worker.name in last],
  ):
    running = [worker for worker in group if worker.poll() is None]
    for worker in running:
      worker.stop()
    end = time.monotonic() + _STOP_SECONDS
    while time.monotonic() < end and any(w.poll() is None for w in running):
      time.sleep(_POLL_SECONDS)
    for worker in running:
      if worker.poll() is None:
        worker.kill()


@contextlib.contextmanager
def _redirected(path: str):
  """Sends this process' output to a file; yields what was stderr."""
  sys.stdout.flush()
  sys.stderr.flush()
  before = [os.dup(1), os.dup(2)]
  with open(path, 'a') as log:
    for number in (1, 2):
      os.dup2(log.fileno(), number)
  verbosity = logging.get_verbosity()
  logging.set_verbosity(logging.INFO)
  with os.fdopen(os.dup(before[1]), 'w', buffering=1) as file:
    try:
      yield file
    finally:
      logging.set_verbosity(verbosity)
      sys.stdout.flush()
      sys.stderr.flush()
      for number, old in zip((1, 2), before):
        os.dup2(old, number)
        os.close(old)
