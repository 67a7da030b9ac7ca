"""Runs a Launchpad program on this machine, and looks after its nodes.

Launchpad's own launchers start nodes and stop them; they neither start a dead
one again nor end well when one has died. The program and what its nodes are
made of is Launchpad's, see `nodes`.
"""

import collections
from collections.abc import Callable, Mapping, Sequence
import contextlib
import dataclasses
import logging as python_logging
import os
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from typing import IO, Any, Protocol

from absl import logging
from acme.utils import loggers
import jax
import launchpad as lp
from launchpad import address as lp_address
from launchpad import context
from launchpad.launch import worker_manager
from launchpad.nodes.python import local_multi_processing
import psutil

from acme_hieros import process
from acme_hieros.experiments import (
  console,
  episodes,
  loopback,
  nodes,
  runs,
)
from acme_hieros.experiments import progress as progress_lib
from acme_hieros.storage import files, workdirs

# An actor that died more often within such a time is not started again.
_MOST_RESTARTS = 10
_RESTARTS_SECONDS = 3600.0

# How long nodes may take to stop, and the learner, which saves; and after how
# long the user is told whom a stop is waiting for, again and again.
_STOP_SECONDS = 5.0
_SAVE_SECONDS = 900.0
_WAITING_SECONDS = 15.0

# After which a node of which nothing is heard is named. The learner may be
# compiling; the coordinator writes twice a second.
_SILENT_SECONDS = 600.0
_COORDINATOR_SILENT_SECONDS = 60.0

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


@dataclasses.dataclass(frozen=True)
class _LocalAddress(lp_address.AbstractAddressBuilder):
  """The address of a node on this machine."""

  port: int

  def build(self) -> str:
    return f'localhost:{self.port}'


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

  Its attributes are those of `training.Trainer`.

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
    self.written_by = prepared.written_by
    self._environment_spec = prepared.environment_spec
    self.notes = prepared.notes
    self.parameter_counts = prepared.parameter_counts()
    counts, seconds = runs.NO_COUNTS, 0.0
    log = episodes.EpisodeLog(loggers.NoOpLogger())
    if self._restored:
      counts = self._restored.metadata['counts']
      seconds = self._restored.metadata['seconds']
      log.restore(self._restored.metadata)
    # What the coordinator will write.
    self._progress = progress_lib.Progress(
      now={'counts': counts, 'seconds': seconds, **log.summary()}
    )
    self._warned = 0
    self._silence = _Silence()
    self._restarts = collections.defaultdict(collections.deque)
    self._ended = {}  # When actors were first seen to have ended.

  @property
  def steps(self) -> int:
    """Environment steps so far, of all actors."""
    return self._progress.now['counts']['actor_steps']

  def train(self) -> runs.Summary:
    """Runs to the last step or until it is asked to stop; the learner saves.

    Only a second Ctrl-C (`console.Interruption`) ends all nodes at once, and
    nothing is saved.

    Raises:
      LaunchError: the learner, the replay or the coordinator died, or an actor
        again and again. All nodes have ended then.
    """
    run = self._run
    program = nodes.make_program(run, self._environment_spec, self._restored)
    os.makedirs(self._workdir.nodes, exist_ok=True)
    files.remove(self._workdir.progress)
    files.remove(self._workdir.node_file('pids', 'json'))
    with contextlib.ExitStack() as stack:
      stack.callback(self._workdir.close)
      stack.enter_context(loopback.only())
      for node in program.get_all_nodes():
        for address in node.addresses:
          port = stack.enter_context(loopback.hold_port())
          address.bind(_LocalAddress(port.getsockname()[1]))
      stack.callback(shutil.rmtree, self._workdir.programs, ignore_errors=True)
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
      summary = self._summarise(interruption.signal)
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
    stopping = None  # Since when.
    told = 0
    failure = None
    while True:
      self._show(line)
      for warning in self._silence.warnings(self._progress, workers):
        line.write(f'Warning: {warning}')
      if (interruption.requested or failure) and stopping is None:
        stopping = time.monotonic()
        learner.stop()
      if stopping is not None:
        waited = time.monotonic() - stopping
        if waited > _SAVE_SECONDS:
          raise failure or self._error(
            f'{learner.name} did not stop within {_SAVE_SECONDS / 60:g} '
            f'minutes{_stopped(workers)}'
          )
        if waited > (told + 1) * _WAITING_SECONDS:
          told += 1
          line.write(f'Waiting for {learner.name} to save{_stopped(workers)}.')
      for worker in workers.values():
        code = worker.poll()
        if code is None:
          continue
        # Before it could save anything it knows no other way to stop.
        stopped = stopping is not None and code == -signal.SIGTERM
        if worker is learner and (code == 0 or stopped):
          if failure:
            raise failure
          return
        if worker.name in (nodes.LEARNER, nodes.REPLAY, nodes.COORDINATOR):
          raise self._error(self._death(worker, code))
        if stopping is not None or failure or self.steps >= self._run.num_steps:
          continue
        # One that has ended well may know sooner than this process that all
        # steps are made.
        now = time.monotonic()
        ended = self._ended.setdefault(worker.name, now)
        if code == 0 and now - ended < _PATIENCE_SECONDS:
          continue
        del self._ended[worker.name]
        restarts = self._restarts[worker.name]
        while restarts and time.monotonic() - restarts[0] > _RESTARTS_SECONDS:
          restarts.popleft()
        if len(restarts) == _MOST_RESTARTS:
          failure = self._error(self._death(worker, code, ' again and again'))
          continue
        self._restart(worker, code, line)
        self._write_pids(workers)
      time.sleep(_POLL_SECONDS)

  def _restart(self, worker: _Worker, code: int, line: console.LiveLine):
    restarts = self._restarts[worker.name]
    restarts.append(time.monotonic())
    line.write(
      f'Warning: {self._death(worker, code)} and is started again (restart '
      f'{len(restarts)} of {_MOST_RESTARTS} within an hour).'
    )
    self._start(worker)

  def _start(self, worker: _Worker):
    # Of a death before this life.
    files.remove(self._workdir.node_file(worker.name, 'error'))
    worker.start()

  def _error(self, what: str) -> LaunchError:
    return LaunchError(
      f'{what}, so the program was ended; its output is in '
      f'{self._workdir.nodes}, and '
      f'--resume --workdir={shlex.quote(self._workdir.path)} continues '
      '(resume=True from Python) from the last checkpoint.'
    )

  def _death(self, worker: _Worker, code: int, when: str = '') -> str:
    return f'{worker.name} died{when} ({self._reason(worker, code)})'

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
      self._progress = progress_lib.read(self._workdir.progress)
    now = self._progress.now
    line.show(
      now['counts']['actor_steps'],
      now['counts']['learner_steps'] or None,
      now['last_return'],
    )
    new = self._progress.num_warnings - self._warned
    if new:
      for warning in self._progress.warnings[-new:]:
        line.write(f'Warning: {warning}')
    self._warned += new

  def _write_pids(self, workers: Mapping[str, _Worker]):
    pids = {name: worker.pid for name, worker in workers.items()}
    with contextlib.suppress(OSError):  # A full disk is not what ends a run.
      workdirs.write_json(self._workdir.node_file('pids', 'json'), pids)

  def _summarise(self, stop: signal.Signals | None) -> runs.Summary:
    # What was saved is what a resumed run continues; actors may have gone on.
    final = self._progress.saved or self._progress.now
    return runs.summarise(self._run, self._workdir, stop=stop, **final)


class _Silence:
  """Notices nodes that are there and do nothing."""

  def __init__(self):
    self._reported = None  # By the coordinator, and when that was new.
    self._heard = time.monotonic()
    self._told = set()

  def warnings(
    self, progress: progress_lib.Progress, workers: Mapping[str, _Worker]
  ) -> list[str]:
    """A sentence on each node that has fallen silent."""
    now = time.monotonic()
    if progress.now != self._reported:
      self._reported, self._heard = progress.now, now
    silent = {
      name: seconds
      for name, seconds in progress.silent.items()
      if seconds > _SILENT_SECONDS and workers[name].poll() is None
    }
    if now - self._heard > _COORDINATOR_SILENT_SECONDS:
      silent = {nodes.COORDINATOR: now - self._heard}
    new = silent.keys() - self._told
    self._told = set(silent)
    return [
      f'nothing was heard of {name} for {silent[name]:.0f} seconds'
      f'{_stopped({name: workers[name]})}; its output is in nodes/{name}.log.'
      for name in sorted(new)
    ]


def _stopped(workers: Mapping[str, _Worker]) -> str:
  """Which processes are stopped, as by SIGSTOP; empty where none is."""
  names = []
  for name, worker in workers.items():
    with contextlib.suppress(psutil.Error):
      if psutil.Process(worker.pid).status() == psutil.STATUS_STOPPED:
        names.append(f'{name} {worker.pid}')
  return f' (stopped processes: {", ".join(names)})' if names else ''


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
    with self._open_log() as log:
      self._process = subprocess.Popen(
        [*_BIND, str(os.getpid()), *self._command],
        env=self._environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        # Ctrl-C is for the launcher, which knows who has to stop first.
        start_new_session=True,
      )

  def _open_log(self) -> IO:
    try:
      return open(self._workdir.node_file(self.name, 'log'), 'a')
    except OSError:  # A full disk does not end a program that is at work.
      return open(os.devnull, 'a')

  def poll(self) -> int | None:
    if self._process is None:
      return 0
    if self._process.returncode is None and self._process.poll() is not None:
      self._kill_group()  # Simulators outlive an actor that was killed.
    return self._process.returncode

  def stop(self):
    self._process.send_signal(nodes.STOP_SIGNALS.get(self.name, signal.SIGTERM))
    self._process.send_signal(signal.SIGCONT)

  def kill(self):
    self._kill_group()
    self._process.wait()

  def _kill_group(self):
    """Itself and what it has started; it leads its session."""
    with contextlib.suppress(ProcessLookupError):
      os.killpg(self.pid, signal.SIGKILL)


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


def _make_processes(
  program: lp.Program, workdir: workdirs.Workdir
) -> Mapping[str, _Worker]:
  learner = process.settings(
    _ENVIRONMENT, cores=jax.local_device_count(backend='cpu')
  )
  other = process.settings(_ENVIRONMENT, learns=False)
  # Actors leave the accelerator to the learner, and each is as good as any:
  # with more threads than cores they would only be in each other's way.
  other |= {'JAX_PLATFORMS': 'cpu'} | process.xla_flag(
    _ENVIRONMENT | other, '--xla_cpu_multi_thread_eigen=false'
  )
  configurations = {
    label: local_multi_processing.PythonProcess(
      env={
        nodes.OWN_PROCESS: '1',
        loopback.NO_PROXY: os.environ[loopback.NO_PROXY],
        'PYTHONPATH': _python_path(),
      }
      | (learner if label == nodes.LEARNER else other),
    )
    for label in program.groups
  }
  _connect(program, context.LaunchType.LOCAL_MULTI_PROCESSING, configurations)
  with _temporary_directories_in(workdir.programs):
    executables = list(_executables(program))
  return {
    name: _Process(
      name,
      # Launchpad's own way to pass a flag fails on this one.
      [*command.command_as_list, _NO_KILLING],
      _ENVIRONMENT | command.env_overrides,
      workdir,
    )
    for name, command in executables
  }


def _python_path() -> str:
  """Where this process finds modules, but for those of Python itself.

  A user's environment may lie beside his program, or where he is.
  """
  own = tuple(
    sysconfig.get_path(name)
    for name in ('stdlib', 'platstdlib', 'purelib', 'platlib')
  )
  others = [path for path in sys.path if not path.startswith(own)]
  return os.pathsep.join(os.path.abspath(p) for p in others if os.path.isdir(p))


@contextlib.contextmanager
def _temporary_directories_in(path: str):
  """Has Launchpad write its programs to a directory that is empty at first.

  In the system's own nobody would remove those of a launcher that was killed.
  """
  shutil.rmtree(path, ignore_errors=True)
  os.makedirs(path)
  before, tempfile.tempdir = tempfile.tempdir, path
  try:
    yield
  finally:
    tempfile.tempdir = before


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
  """Tells all nodes, which have their addresses, how they are launched."""
  for label, group in program.groups.items():
    for node in group:
      node._initialize_context(launch_type, configurations.get(label))
  for label, group in program.groups.items():
    for node in group:
      for handle in node.input_handles:
        handle.connect(node, label)


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
