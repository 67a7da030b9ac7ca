"""A node on a cluster that only pretends to be one."""

import re
import types

import pytest

from acme_hieros import config as config_lib
from acme_hieros.experiments import launching, ray_nodes, runs
from acme_hieros.machines import hosts
from acme_hieros.storage import workdirs


class LostError(Exception):
  """As `ray.exceptions.RayActorError`."""


class UnavailableError(LostError):
  """As `ray.exceptions.ActorUnavailableError`."""


class TaskError(Exception):
  """As `ray.exceptions.RayTaskError`."""


class Host:
  """Gives answers, one a call: None is none yet, and errors are raised."""

  def __init__(self, *answers):
    self._answers = list(answers)
    self.called = []

  def __getattr__(self, name):
    def remote(*arguments):
      self.called.append((name, *arguments))
      return self

    return types.SimpleNamespace(remote=remote)

  def is_ready(self):
    if self._answers[0] is None:
      self._answers.pop(0)
      return False
    return True

  def get(self):
    answer = self._answers.pop(0)
    if isinstance(answer, Exception):
      raise answer
    return answer


class Cluster:
  """Has these hosts, one after the other."""

  mark = '/shared/run/.mark'

  def __init__(self, *found):
    self._hosts = list(found)
    self.killed = []
    self.ray = types.SimpleNamespace(
      wait=lambda asked, timeout: ([h for h in asked if h.is_ready()], []),
      get=lambda host: host.get(),
      exceptions=types.SimpleNamespace(
        RayActorError=LostError,
        ActorUnavailableError=UnavailableError,
        RayTaskError=TaskError,
      ),
    )

  def place(self, name, options):
    return self._hosts.pop(0)

  def kill(self, host):
    self.killed.append(host)


def status(code=None, host='10.0.0.2', pid=7, is_stopped=False):
  return hosts.Status(host, pid, code, is_stopped)


@pytest.fixture
def node(tmp_path):
  workdir = workdirs.Workdir(str(tmp_path))
  (tmp_path / 'nodes').mkdir()
  return lambda *found: ray_nodes.Node(
    Cluster(*found), 'actor_0', ['--flag'], {'A': '1'}, workdir
  )


def test_a_node_waits_for_its_machine_and_works_there(node):
  host = Host(None, status(), None, status(is_stopped=True), status(3))
  one = node(host)
  assert one.poll() == 0 and not host.called
  one.stop(), one.kill()  # It is nowhere yet.
  one.start()
  assert one.poll() is None and one.pid is None and one.machine is None
  assert one.poll() is None and (one.pid, one.machine) == (7, '10.0.0.2')
  assert one.poll() is None and not one.is_stopped
  assert one.poll() is None and one.is_stopped
  assert [one.poll(), one.poll()] == [3, 3]
  assert [name for name, *_ in host.called] == ['start', 'wait', 'wait']


def test_a_lost_node_goes_elsewhere_and_a_dead_one_stays(node):
  first, second = Host(LostError()), Host(status(), status(-9), status())
  one = node(first, second)
  one.start()
  assert one.poll() == ray_nodes.LOST
  one.start()
  assert one.pid is None
  assert [one.poll(), one.poll()] == [None, -9]
  one.start()
  assert one.poll() is None and one.pid == 7
  assert [name for name, *_ in second.called] == [
    'start',
    'wait',
    'start',
    'wait',
  ]


def test_all_is_lost_where_ray_is_gone_on_this_machine(node):
  one = node(Host(BrokenPipeError()))
  one.start()
  assert one.poll() == ray_nodes.LOST
  one._cluster.place = lambda *_: (_ for _ in ()).throw(BrokenPipeError())
  one.start()
  assert one.poll() == ray_nodes.LOST


def test_a_host_that_cannot_be_reached_is_asked_again(node):
  host = Host(status(), UnavailableError(), status(0))
  one = node(host)
  one.start()
  assert [one.poll() for _ in range(3)] == [None, None, 0]


@pytest.mark.parametrize(
  'answer,reason',
  [
    ('/run is not there on the machine x.', '/run is not there on'),
    (TaskError('a\nNo module named x.'), r'cannot start nodes \(No module nam'),
  ],
)
def test_why_it_cannot_be_started_is_left_for_its_launcher(
  node, tmp_path, answer, reason
):
  one = node(Host(answer), Host(status()))
  one.start()
  assert one.poll() == 1
  left = (tmp_path / 'nodes' / 'actor_0.error').read_text()
  assert re.search(reason, left)
  one.start()
  assert one.poll() is None


def test_nodes_are_stopped_by_their_signals_and_killed_by_the_cluster(node):
  host = Host(status())
  one = node(host)
  one.start()
  one.stop(), one.kill()
  assert host.called[1:] == [('send', 15)]
  assert one._cluster.killed == [host]


def test_what_a_run_asks_for_is_checked_before_a_cluster_is(tmp_path):
  run = runs.Run(
    environment='debug/catch',
    config=config_lib.preset('tiny'),
    num_steps=2000,
    workdir=str(tmp_path / 'run'),
    launch='ray',
    num_actors=0,
  )
  with pytest.raises(ValueError, match='num_actors=0 must be at least 1'):
    launching.Launcher(run)
  assert not (tmp_path / 'run').exists()
