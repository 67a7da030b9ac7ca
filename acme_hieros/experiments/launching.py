"""Runs a Launchpad program, here or on a cluster, and looks after its nodes.

Launchpad's own launchers start nodes and stop them; they neither start a dead
one again nor end well when one has died. The program and what its nodes are
made of is Launchpad's, see `nodes`.
"""

import collections
from collections.abc import Callable, Iterator, Mapping, Sequence
import contextlib
import dataclasses
import logging as python_logging
import os
import shlex
import shutil
import signal
import sys
import sysconfig
import tempfile
import threading
import time
from typing import Any, Protocol, TextIO

from absl import logging
from acme.utils import loggers
import jax
import launchpad as lp
from launchpad import address as lp_address
from launchpad import context
from launchpad.launch import worker_manager
from launchpad.nodes.python import local_multi_processing

from acme_hieros import process
from acme_hieros.experiments import (
  console,
  episodes,
  loopback,
  nodes,
  ray_nodes,
  runs,
)
from acme_hieros.experiments import progress as progress_lib
from acme_hieros.machines import children, ports
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

# The same for one that no machine has room for.
_ROOM_SECONDS = 60.0

_POLL_SECONDS = 0.2

# Within which the coordinator has written how far the run is.
_PATIENCE_SECONDS = 3.0

# What this process was started with, and so what its nodes are to have.
_ENVIRONMENT = dict(os.environ)
_PREALLOCATE = 'XLA_PYTHON_CLIENT_PREALLOCATE'

# The beginnings of those that nodes on other machines have, too.
_TOLD = ('ACME_HIEROS_', 'JAX_', 'MUJOCO_', 'TF_', 'WANDB_', 'XLA_')

# Negative: Launchpad kills nobody. The learner may be compiling.
_NO_KILLING = '--lp_termination_notice_secs=-1'


class LaunchError(RuntimeError):
  """A node died that the program cannot do without; the message says which."""


def leave_accelerator():
  """Has this process take little of an accelerator: its learner will want it.

  To be called before JAX looks for devices. The nodes are not concerned.
  """
  os.environ.setdefault(_PREALLOCATE, 'false')


@dataclasses.dataclass(frozen=True)
class _Address(lp_address.AbstractAddressBuilder):
  """Where a node listens."""

  host: str
  port: int

  def build(self) -> str:
    return f'{self.host}:{self.port}'


class Worker(Protocol):
  """A node at work.

  pid: of its process; None as long as it has none. machine: where that is, by
  its address; None for this one. is_stopped: whether it is, as by SIGSTOP.
  """

  name: str

  @property
  def pid(self) -> int | None: ...

  @property
  def machine(self) -> str | None: ...

  @property
  def is_stopped(self) -> bool: ...

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
    if run.launch in runs.PROCESSES:
      leave_accelerator()
    self._cluster = None
    with contextlib.ExitStack() as stack:
      if run.launch == 'ray':
        runs.check(run)  # Before anything is started.
        self._cluster = ray_nodes.Cluster(run)
        stack.callback(self._cluster.close)
      prepared = runs.prepare(run)
      stack.pop_all()
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
    self._told = {}  # By file, of processes and machines.

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
    for what in ('pids', 'machines'):
      files.remove(self._workdir.node_file(what, 'json'))
    with contextlib.ExitStack() as stack:
      stack.callback(self._workdir.close)
      stack.callback(shutil.rmtree, self._workdir.programs, ignore_errors=True)
      workers, file = self._make_workers(program, stack)
      interruption = stack.enter_context(console.Interruption(file))
      line = stack.enter_context(
        console.LiveLine(run.num_steps, self.steps, file)
      )
      try:
        for worker in workers.values():
          self._start(worker)
        self._supervise(workers, line, interruption)
      finally:
        _end(workers.values())
        self._show(line)
      summary = self._summarise(interruption.signal)
      workdirs.write_json(self._workdir.summary, dataclasses.asdict(summary))
      return summary

  def _make_workers(
    self, program: lp.Program, stack: contextlib.ExitStack
  ) -> tuple[Mapping[str, Worker], TextIO]:
    """The nodes, and where the live line goes to."""
    if self._cluster:
      stack.callback(self._cluster.close)
      for name, (host, port) in self._cluster.servers.items():
        (node,) = program.groups[name]
        for address in node.addresses:
          address.bind(_Address(host, port))
      workers = _make_ray_nodes(program, self._workdir, self._cluster)
      return workers, sys.stderr
    stack.enter_context(loopback.only())
    for node in program.get_all_nodes():
      for address in node.addresses:
        port = stack.enter_context(ports.hold())
        address.bind(_Address('localhost', port.getsockname()[1]))
    if self._run.launch == 'local_mp':
      return _make_processes(program, self._workdir), sys.stderr
    workers = _make_threads(program, self._workdir)
    # The nodes' output is this process'; the live line keeps its place.
    log = self._workdir.node_file('program', 'log')
    return workers, stack.enter_context(_redirected(log))

  def _supervise(
    self,
    workers: Mapping[str, Worker],
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
      self._write_places(workers)
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
      time.sleep(_POLL_SECONDS)

  def _restart(self, worker: Worker, code: int, line: console.LiveLine):
    restarts = self._restarts[worker.name]
    restarts.append(time.monotonic())
    line.write(
      f'Warning: {self._death(worker, code)} and is started again (restart '
      f'{len(restarts)} of {_MOST_RESTARTS} within an hour).'
    )
    self._start(worker)

  def _start(self, worker: Worker):
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

  def _death(self, worker: Worker, code: int, when: str = '') -> str:
    where = f' on {worker.machine}' if worker.machine else ''
    return f'{worker.name}{where} died{when} ({self._reason(worker, code)})'

  def _reason(self, worker: Worker, code: int) -> str:
    """What the node has to say of its death, or else the system."""
    try:
      with open(self._workdir.node_file(worker.name, 'error')) as file:
        return file.read().rstrip('.')
    except OSError:
      pass
    if code == ray_nodes.LOST:
      return 'the machine, or its process of Ray there, was lost'
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

  def _write_places(self, workers: Mapping[str, Worker]):
    """Writes which processes there are, and on which machines."""
    for what, places in (
      ('pids', {name: worker.pid for name, worker in workers.items()}),
      ('machines', {name: worker.machine for name, worker in workers.items()}),
    ):
      known = {name: place for name, place in places.items() if place}
      if known == self._told.get(what, {}):
        continue
      self._told[what] = known
      with contextlib.suppress(OSError):  # A full disk does not end a run.
        workdirs.write_json(self._workdir.node_file(what, 'json'), known)

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
    self._waits = {}  # Those without a machine, and since when.
    self._late = set()

  def warnings(
    self, progress: progress_lib.Progress, workers: Mapping[str, Worker]
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
    ] + self._waiting(workers, now)

  def _waiting(self, workers: Mapping[str, Worker], now: float) -> list[str]:
    """A sentence on each node for which no machine has had room for a while."""
    waits = [
      name
      for name, worker in workers.items()
      if worker.pid is None and worker.poll() is None
    ]
    self._waits = {name: self._waits.get(name, now) for name in waits}
    late = {n for n, t in self._waits.items() if now - t > _ROOM_SECONDS}
    new, self._late = late - self._late, late
    return [
      f'{name} waits for a machine of the cluster that has a CPU to spare.'
      for name in sorted(new)
    ]


def _stopped(workers: Mapping[str, Worker]) -> str:
  """Which processes are stopped, as by SIGSTOP; empty where none is."""
  names = [
    f'{name} {worker.pid}'
    for name, worker in workers.items()
    if worker.is_stopped
  ]
  return f' (stopped processes: {", ".join(names)})' if names else ''


class _Process(children.Child):
  """A node in a process of its own, whose output goes to a file."""

  machine = None

  def __init__(
    self,
    name: str,
    command: Sequence[str],
    environment: Mapping[str, str],
    workdir: workdirs.Workdir,
  ):
    super().__init__(command, environment, workdir.node_file(name, 'log'))
    self.name = name

  def stop(self):
    self.send(nodes.STOP_SIGNALS.get(self.name, signal.SIGTERM))


class _Thread:
  """A node in a thread of this process."""

  machine = None
  is_stopped = False

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
) -> Mapping[str, Worker]:
  return {
    name: _Process(name, command, _ENVIRONMENT | environment, workdir)
    for name, command, environment in _commands(
      program, workdir, jax.local_device_count(backend='cpu')
    )
  }


def _make_ray_nodes(
  program: lp.Program,
  workdir: workdirs.Workdir,
  cluster: ray_nodes.Cluster,
) -> Mapping[str, Worker]:
  hosts = {host for host, _ in cluster.servers.values()}
  # Machines have variables of their own, but for what the user tells the nodes.
  told = {
    name: value
    for name, value in _ENVIRONMENT.items()
    if name.startswith(_TOLD)
  }
  return {
    # Interpreter and script are those of the machine.
    name: cluster.make_node(name, command[2:], told | environment, workdir)
    # The learner asks its machine for one CPU.
    for name, command, environment in _commands(
      program, workdir, 1, sorted(hosts)
    )
  }


def _commands(
  program: lp.Program,
  workdir: workdirs.Workdir,
  cores: int,
  hosts: Sequence[str] = (),
) -> Iterator[tuple[str, Sequence[str], Mapping[str, str]]]:
  """(name, command, variables) of every node.

  Args:
    program: whose nodes have their addresses.
    workdir: of the run; what nodes are to do is written there.
    cores: of the CPU that share the learner's batches.
    hosts: those of the addresses that are not on this machine.
  """
  learner = process.settings(_ENVIRONMENT, cores=cores)
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
        loopback.NO_PROXY: loopback.without_proxy(os.environ, hosts),
        'PYTHONPATH': _python_path(),
      }
      | (learner if label == nodes.LEARNER else other),
    )
    for label in program.groups
  }
  _connect(program, context.LaunchType.LOCAL_MULTI_PROCESSING, configurations)
  with _temporary_directories_in(workdir.programs):
    executables = list(_executables(program))
  for name, command in executables:
    # Launchpad's own way to pass a flag fails on this one.
    yield name, [*command.command_as_list, _NO_KILLING], command.env_overrides


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
) -> Mapping[str, Worker]:
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


def _end(workers: Sequence[Worker]):
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
