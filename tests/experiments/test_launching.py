"""The launcher looks after its nodes; here they only pretend to work."""

from acme_hieros import compat  # noqa: F401, I001  Comes before Acme.

import importlib
import json
import os
import signal
import sys
import tempfile
import time

import launchpad as lp
import pytest

from acme_hieros import config as config_lib
from acme_hieros.environments import make_environment
from acme_hieros.experiments import (
  launching,
  loopback,
  progress,
  ray_nodes,
  runs,
)
from acme_hieros.storage import workdirs


class Node:
  """Plays a script of exit codes, one a poll, again from each start."""

  machine = None
  is_stopped = False

  def __init__(self, name, *lives):
    self.name = name
    self.pid = 1
    self.lives = list(lives) or [[]]
    self.starts = 0
    self.stopped = self.killed = False
    self.code = 0

  def start(self):
    self.polls = iter(self.lives[min(self.starts, len(self.lives) - 1)])
    self.starts += 1
    self.code = None

  def poll(self):
    if self.code is None:
      self.code = next(self.polls, None)
    return self.code

  def stop(self):
    self.stopped = True
    if self.name == 'learner':
      self.code = 0

  def kill(self):
    self.killed = True
    self.code = -9


@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
  """What is the same for all runs, and takes a while."""
  prepared = runs.prepare(make_run(tmp_path_factory.mktemp('prepared')))
  prepared.workdir.close()
  return prepared


def make_run(path):
  return runs.Run(
    environment='debug/catch',
    config=config_lib.preset('tiny'),
    num_steps=2000,
    workdir=str(path / 'run'),
    launch='local_mp',
  )


@pytest.fixture
def launch(tmp_path, monkeypatch, prepared):
  """Launches such nodes; returns the launcher's summary."""

  def prepare(run):
    workdir = workdirs.Workdir(run.workdir)
    workdir.open(run.identity(), run.extent(), run.resume)
    return prepared._replace(workdir=workdir)

  monkeypatch.setattr(runs, 'prepare', prepare)
  monkeypatch.setattr(launching, '_POLL_SECONDS', 0.001)
  monkeypatch.setattr(launching, '_STOP_SECONDS', 0.01)
  monkeypatch.setattr(launching, '_PATIENCE_SECONDS', 0.1)

  def launch(*nodes):
    monkeypatch.setattr(
      launching,
      '_make_processes',
      lambda program, workdir: {node.name: node for node in nodes},
    )
    return launching.Launcher(make_run(tmp_path)).train()

  return launch


@pytest.fixture
def workdir(tmp_path):
  return workdirs.Workdir(str(tmp_path / 'run'))


def others():
  return [Node('replay'), Node('coordinator')]


def test_the_run_is_over_when_the_learner_is(launch, workdir):
  actor = Node('actor_0')
  nodes = [*others(), Node('learner', [None] * 5 + [0]), actor]
  summary = launch(*nodes)
  assert summary.interrupted  # No step was made.
  assert all(node.starts == 1 for node in nodes)
  assert all(node.killed for node in nodes if node.name != 'learner')
  pids = json.loads(open(workdir.node_file('pids', 'json')).read())
  assert set(pids) == {node.name for node in nodes}
  assert os.path.exists(workdir.summary)


def test_dead_actors_are_started_again(launch, capsys):
  actor = Node('actor_0', [None, -9], [1], [])
  launch(*others(), Node('learner', [None] * 9 + [0]), actor, Node('actor_1'))
  assert actor.starts == 3
  said = capsys.readouterr().err
  assert 'actor_0 died (killed by SIGKILL)' in said
  assert 'actor_0 died (exit code 1) and is started again (restart 2' in said
  assert 'actor_1' not in said


@pytest.mark.parametrize('name', ['run', 'run[seed=1]'])
def test_what_nodes_are_to_do_lies_in_the_work_directory(
  tmp_path, monkeypatch, name
):
  system, workdir = tmp_path / 'tmp', workdirs.Workdir(str(tmp_path / name))
  system.mkdir()
  monkeypatch.setattr(tempfile, 'tempdir', str(system))
  for _ in range(2):  # The launcher before was killed.
    program = lp.Program('test')
    with program.group('actor'):
      program.add_node(lp.PyNode(print, 'hello'))
    with program.group('learner'):
      program.add_node(lp.PyNode(print, 'hello'))
    processes = launching._make_processes(program, workdir)
  assert set(processes) == {'actor_0', 'learner'}
  assert not os.listdir(system)
  assert tempfile.gettempdir() == str(system)
  written = [
    os.path.join(directory, file)
    for directory, _, files in os.walk(workdir.programs)
    for file in files
  ]
  assert len(written) == 2
  for process in processes.values():
    assert sum(path in process._command for path in written) == 1


def test_nodes_find_the_modules_that_this_process_finds(tmp_path, monkeypatch):
  here, beside = tmp_path / 'here', tmp_path / 'beside the program'
  for directory, module in ((here, 'node_env'), (beside, 'node_script')):
    directory.mkdir()
    (directory / f'{module}.py').write_text(
      'from acme_hieros.environments import debug\n'
      'def make():\n  return debug.Echo()\n'
    )
  monkeypatch.chdir(here)
  monkeypatch.setenv(loopback.NO_PROXY, 'localhost')
  monkeypatch.setattr(sys, 'path', [str(beside), *sys.path])
  script = importlib.import_module('node_script')
  made = tmp_path / 'made'

  def act(own, by_name):  # It is sent by value, what it calls by name.
    environments = [make_environment(e) for e in (own, by_name)]
    made.write_text(' '.join(type(e).__name__ for e in environments))

  program = lp.Program('test')
  with program.group('actor'):
    program.add_node(lp.PyNode(act, script.make, 'node_env:make'))
  processes = launching._make_processes(program, run_directory(tmp_path))
  process = processes['actor_0']
  log = tmp_path / 'run' / 'nodes' / 'actor_0.log'
  process.start()
  try:
    while process.poll() is None:
      time.sleep(0.05)
  finally:
    process.kill()
  said = log.read_text()
  assert process.poll() == 0, said
  assert made.read_text() == 'Echo Echo'


def run_directory(path):
  workdir = workdirs.Workdir(str(path / 'run'))
  os.makedirs(workdir.nodes)
  return workdir


def test_an_ended_program_leaves_no_temporary_files(launch, workdir):
  os.makedirs(os.path.join(workdir.programs, 'of_one_that_was_killed'))
  launch(*others(), Node('learner', [None, 0]))
  assert sorted(os.listdir(workdir.nodes)) == ['pids.json']


def report(workdir, steps, **changes):
  """Writes what a coordinator would."""
  now = {
    'counts': dict(actor_steps=steps, actor_episodes=9, learner_steps=7),
    'seconds': 5.0,
    'last_return': 1.0,
    'mean_return': 0.5,
    'best_return': 1.0,
  }
  progress.Progress(**{'now': now, **changes}).write(workdir.progress)
  return now


def test_an_actor_that_ends_before_the_run_is_started_again(launch, workdir):
  # As one does that somebody has asked to terminate.
  actor = Node('actor_0', [None, 0], [])
  launch(*others(), Node('learner', [None] * 400 + [0]), actor)
  assert actor.starts == 2


def test_actors_that_have_made_all_steps_are_left_alone(launch, workdir):
  class Reporting(Node):
    polled = 0

    def poll(self):
      # The coordinator's word comes after the actor's end.
      self.polled += 1
      if self.polled == 9:
        report(workdir, 2000)
      return super().poll()

  actor = Reporting('actor_0', [None, None, 0])
  summary = launch(*others(), Node('learner', [None] * 400 + [0]), actor)
  assert actor.starts == 1
  assert not summary.interrupted and summary.steps == 2000


def test_the_summary_is_of_what_was_saved(launch, workdir):
  class Reporting(Node):
    def kill(self):
      super().kill()
      saved = report(workdir, 1990)
      report(workdir, 2000, saved=saved)

  summary = launch(
    Reporting('replay'), Node('coordinator'), Node('learner', [None, 0])
  )
  assert (summary.steps, summary.interrupted) == (1990, True)


def test_warnings_are_shown_once(launch, workdir, capsys):
  class Warning(Node):
    polled = 0

    def poll(self):
      self.polled += 1
      warnings = [f'warning {i}' for i in range(self.polled)]
      report(workdir, 10, warnings=warnings[-3:], num_warnings=len(warnings))
      return super().poll()

  launch(
    Warning('replay'), Node('coordinator'), Node('learner', [None] * 4 + [0])
  )
  said = capsys.readouterr().err
  for i in range(4):
    assert said.count(f'warning {i}\n') == 1


def test_ctrl_c_asks_the_learner_first(launch):
  class Interrupting(Node):
    def poll(self):
      if not learner.stopped and self.code is None:
        os.kill(os.getpid(), signal.SIGINT)
      return super().poll()

  learner = Node('learner')
  replay = Interrupting('replay')
  order = []
  learner.stop = lambda: (order.append('learner'), Node.stop(learner))
  replay.stop = lambda: (order.append('replay'), Node.stop(replay))
  summary = launch(replay, Node('coordinator'), learner)
  assert order == ['learner', 'replay']
  assert summary.interrupted


def test_a_learner_that_could_not_save_yet_may_be_stopped(launch):
  class Starting(Node):
    def stop(self):
      self.code = -signal.SIGTERM

  class Interrupting(Node):
    def start(self):
      super().start()
      os.kill(os.getpid(), signal.SIGINT)

  assert launch(*others(), Starting('learner'), Interrupting('actor_0'))


def test_an_actor_that_never_works_ends_the_run_which_is_saved(launch):
  learner, actor = Node('learner'), Node('actor_0', [None, 1])
  with pytest.raises(launching.LaunchError, match='actor_0 died again and'):
    launch(*others(), learner, actor)
  assert actor.starts == 1 + launching._MOST_RESTARTS
  assert learner.stopped and not learner.killed


def test_old_deaths_are_forgotten(launch, monkeypatch):
  monkeypatch.setattr(launching, '_RESTARTS_SECONDS', 0.0)
  actor = Node('actor_0', *[[1]] * (2 * launching._MOST_RESTARTS), [])
  launch(*others(), Node('learner', [None] * 60 + [0]), actor)
  assert actor.starts == 1 + 2 * launching._MOST_RESTARTS


@pytest.mark.parametrize('silent', ['learner', 'actor_0'])
def test_a_node_of_which_nothing_is_heard_is_named_once(
  launch, workdir, capsys, silent
):
  class Reporting(Node):
    polled = 0

    def poll(self):
      self.polled += 1
      seconds = dict.fromkeys(['learner', 'actor_0', 'actor_1'], 1.0)
      report(workdir, self.polled, silent={**seconds, silent: 700.0})
      return super().poll()

  launch(
    Reporting('replay'),
    Node('coordinator'),
    Node('learner', [None] * 9 + [0]),
    Node('actor_0'),
    Node('actor_1'),
  )
  said = capsys.readouterr().err
  assert said.count('nothing was heard of') == 1
  assert f'nothing was heard of {silent} for 700 seconds' in said
  assert f'nodes/{silent}.log' in said


def test_a_silent_coordinator_is_named(launch, monkeypatch, capsys):
  monkeypatch.setattr(launching, '_COORDINATOR_SILENT_SECONDS', 0.02)
  launch(*others(), Node('learner', [None] * 99 + [0]))
  said = capsys.readouterr().err
  assert said.count('nothing was heard of coordinator') == 1


def test_a_learner_that_does_not_stop_is_named_and_ended(
  launch, monkeypatch, capsys
):
  class Hung(Node):
    def stop(self):
      self.stopped = True

  class Interrupting(Node):
    def start(self):
      super().start()
      os.kill(os.getpid(), signal.SIGTERM)

  monkeypatch.setattr(launching, '_SAVE_SECONDS', 0.1)
  monkeypatch.setattr(launching, '_WAITING_SECONDS', 0.03)
  learner = Hung('learner')
  with pytest.raises(launching.LaunchError, match='learner did not stop with'):
    launch(*others(), learner, Interrupting('actor_0'))
  assert learner.stopped and learner.killed
  assert 'Waiting for learner to save' in capsys.readouterr().err


@pytest.mark.parametrize('name', ['replay', 'coordinator', 'learner'])
@pytest.mark.parametrize('code', [1, -signal.SIGSEGV])
def test_without_the_others_there_is_no_run(launch, name, code):
  nodes = {other: Node(other) for other in ('replay', 'coordinator', 'learner')}
  nodes[name] = Node(name, [None, None, code])
  actor = Node('actor_0')
  with pytest.raises(launching.LaunchError) as caught:
    launch(*nodes.values(), actor)
  sentence = str(caught.value)
  assert f'{name} died ' in sentence and '\n' not in sentence
  assert ('SIGSEGV' if code < 0 else 'exit code 1') in sentence
  assert '--resume' in sentence
  # Nobody is left.
  assert actor.killed
  assert all(node.code is not None for node in nodes.values())


def test_what_a_node_says_of_its_death_is_told(launch, workdir):
  class Failing(Node):
    def poll(self):
      with open(workdir.node_file('learner', 'error'), 'w') as file:
        file.write('Not finite at level 0: model_loss.')
      return 1

  with pytest.raises(launching.LaunchError, match='died .Not finite at level'):
    launch(*others(), Failing('learner'))


def test_the_work_directory_is_free_again(launch, workdir):
  with pytest.raises(launching.LaunchError):
    launch(*others(), Node('learner', [1]))
  workdir.lock()
  workdir.close()


def test_a_replay_of_another_kind_is_not_taken_over(tmp_path):
  run = runs.Run(
    environment='debug/catch',
    config=config_lib.preset('tiny'),
    num_steps=2000,
    workdir=str(tmp_path),
    launch='local_mt',
  )

  def restored(launch):
    return launching.nodes.checkpoints.Restored(
      None, {'launch': launch}, '', []
    )

  runs._check_launch(run, restored('local_mp'))
  with pytest.raises(ValueError, match='launched with local, .*launch=local'):
    runs._check_launch(run, restored('local'))
  with pytest.raises(ValueError, match='local_mt, local_mp or ray'):
    runs._check_launch(run.replace(launch='local'), restored('local_mp'))


def test_processes_that_are_stopped_are_named(launch, monkeypatch, capsys):
  monkeypatch.setattr(launching, '_COORDINATOR_SILENT_SECONDS', 0.02)
  coordinator = Node('coordinator')
  coordinator.pid, coordinator.is_stopped = 77, True
  launch(Node('replay'), coordinator, Node('learner', [None] * 99 + [0]))
  said = capsys.readouterr().err
  assert 'seconds (stopped processes: coordinator 77); its output' in said


def test_a_lost_machine_is_said_and_its_actor_started_again(
  launch, workdir, capsys
):
  actor = Node('actor_0', [None, ray_nodes.LOST], [])
  actor.machine = '10.0.0.2'
  launch(*others(), Node('learner', [None] * 9 + [0]), actor)
  assert actor.starts == 2
  said = capsys.readouterr().err
  assert 'actor_0 on 10.0.0.2 died (the machine, or its process of Ray' in said
  machines = json.loads(open(workdir.node_file('machines', 'json')).read())
  assert machines == {'actor_0': '10.0.0.2'}


def test_a_node_that_no_machine_has_room_for_is_named_once(
  launch, monkeypatch, capsys
):
  monkeypatch.setattr(launching, '_ROOM_SECONDS', 0.02)
  actor = Node('actor_0')
  actor.pid = None
  launch(*others(), Node('learner', [None] * 99 + [0]), actor)
  said = capsys.readouterr().err
  assert said.count('actor_0 waits for a machine of the cluster') == 1
  assert 'learner waits' not in said
