"""The nodes of a program on the machines of a Ray cluster.

The learner is where an accelerator is, or most CPUs are, with the replay and
the coordinator beside it: the loss of one is the end of the program, and so
there is one machine to lose. Actors and evaluators are on all machines, and go
elsewhere when theirs is lost.
"""

from collections.abc import Mapping, Sequence
import contextlib
import os
import signal
from typing import Any

from acme_hieros import version
from acme_hieros.command_line import counted
from acme_hieros.experiments import environment_loop, nodes, runs
from acme_hieros.machines import clusters, hosts
from acme_hieros.storage import workdirs

# The exit code of a node that was lost with its machine.
LOST = 256

# How long machines may take to answer at first: each starts a process for it.
_LOOK_SECONDS = 120.0

# After how long the user is told that the cluster is full; and how long nodes
# have to end, when they are killed.
_ROOM_SECONDS = 20.0
_KILL_SECONDS = 5.0

# CPUs of nodes that do not have one each: these are beside the learner, which
# waits for them.
_CPUS = {nodes.REPLAY: 0, nodes.COORDINATOR: 0}


class Cluster:
  """Has room for one program.

  servers: where replay, coordinator and learner are to listen.
  """

  def __init__(self, run: runs.Run):
    """Connects, and chooses the places of what serves.

    Args:
      run: whose work directory all machines have to share; it is made.

    Raises:
      ValueError: a sentence about a cluster that will not do.
      OSError: the work directory cannot be made.
    """
    directory = workdirs.Workdir(run.workdir).path
    with contextlib.ExitStack() as stack:
      with workdirs.writing(directory):
        connection = clusters.Connection(run.ray, directory)
      stack.callback(connection.close)
      self._connection = connection
      self.ray = connection.ray
      self.mark = connection.mark
      self._killed: list[Any] = []
      self._check_room(run)
      self._check_machines()
      try:
        self._hosts = self._reserve(run.ray)
      except self.ray.exceptions.RayError as error:
        raise ValueError(
          f'The cluster at --ray={run.ray} did not start a node '
          f'({environment_loop.in_one_line(error)}): start again, or look at '
          'what `ray status` and its logs say.'
        ) from error
      self._closing = stack.pop_all()

  def _check_room(self, run: runs.Run):
    needed = 1 + run.num_actors + run.num_evaluators
    there = sum(
      int(machine['Resources'].get('CPU', 0))
      for machine in self._connection.machines()
    )
    if needed > there:
      raise ValueError(
        f'A learner, {counted(run.num_actors, "actor")} and '
        f'{counted(run.num_evaluators, "evaluator")} need {needed} CPUs, and '
        f'the cluster at --ray={run.ray} has {there}: choose fewer, or add '
        'machines to it.'
      )

  def _check_machines(self):
    """Raises ValueError if one of them cannot take part."""
    look = self.ray.remote(hosts.refusal)
    asked = {}
    for machine in self._connection.machines():
      if machine['Resources'].get('CPU'):
        options = {'num_cpus': 0, **self._on(machine['NodeID'])}
        answer = look.options(**options).remote(self.mark, version.VERSION)
        asked[answer] = machine['NodeManagerAddress']
    done, _ = self.ray.wait(
      list(asked), num_returns=len(asked), timeout=_LOOK_SECONDS
    )
    for answer in done:
      try:
        sentence = self.ray.get(answer)
      except self.ray.exceptions.RayTaskError as error:
        raise ValueError(_foreign(asked[answer], error)) from error
      except self.ray.exceptions.RayError:
        continue  # It has just gone.
      if sentence:
        raise ValueError(sentence)

  def _on(self, machine: str, soft: bool = False) -> Mapping[str, Any]:
    """Options of what is to run on one machine, or at least rather there."""
    strategies = self.ray.util.scheduling_strategies
    return {
      'scheduling_strategy': strategies.NodeAffinitySchedulingStrategy(
        machine, soft=soft
      )
    }

  def _reserve(self, address: str) -> Mapping[str, Any]:
    """Chooses where servers are; returns their hosts."""
    found = {nodes.LEARNER: self.place(nodes.LEARNER, self._learns())}
    asked = found[nodes.LEARNER].reserve.remote()
    if not self.ray.wait([asked], timeout=_ROOM_SECONDS)[0]:
      print(f'The cluster at --ray={address} is busy: waiting for a machine.')
    places = {nodes.LEARNER: self.ray.get(asked)}
    beside = self._on(places[nodes.LEARNER].machine)
    for name in (nodes.REPLAY, nodes.COORDINATOR):
      found[name] = self.place(name, beside)
      places[name] = self.ray.get(found[name].reserve.remote())
    self.servers = {name: (p.host, p.port) for name, p in places.items()}
    return found

  def _learns(self) -> Mapping[str, Any]:
    """Where the learner goes: to an accelerator, or where most CPUs are."""
    machines = self._connection.machines()
    wanted = os.environ.get('JAX_PLATFORMS') != 'cpu'
    if wanted and any(m['Resources'].get('GPU', 0) >= 1 for m in machines):
      return {'num_gpus': 1}
    largest = max(machines, key=lambda m: m['Resources'].get('CPU', 0))
    return self._on(largest['NodeID'], soft=True)

  def place(self, name: str, options: Mapping[str, Any]) -> Any:
    """A host for a node, as soon as there is room; see `hosts.Host`."""
    return (
      self.ray.remote(hosts.Host)
      .options(num_cpus=_CPUS.get(name, 1), **options)
      .remote()
    )

  def make_node(
    self,
    name: str,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    workdir: workdirs.Workdir,
  ) -> 'Node':
    """A node that can be started; see `hosts.Host.start` for the arguments."""
    return Node(
      self, name, arguments, environment, workdir, self._hosts.get(name)
    )

  def kill(self, host: Any):
    """Ends a node at once."""
    self._killed.append(host.kill.remote())

  def close(self):
    """Leaves the cluster, and all that is at work there ends."""
    if self._killed:
      with contextlib.suppress(OSError):
        self.ray.wait(
          self._killed, num_returns=len(self._killed), timeout=_KILL_SECONDS
        )
    self._closing.close()


class Node:
  """One node; as `launching.Worker`."""

  def __init__(
    self,
    cluster: Cluster,
    name: str,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    workdir: workdirs.Workdir,
    host: Any = None,
  ):
    """Describes it; without a host it goes where there is room."""
    self.name = name
    self.pid: int | None = None
    self.machine: str | None = None
    self.is_stopped = False
    self._cluster = cluster
    self._host = host
    self._error = workdir.node_file(name, 'error')
    self._arguments = (
      arguments,
      environment,
      workdir.node_file(name, 'log'),
      cluster.mark,
      version.VERSION,
    )
    self._asked: Any = None
    self._code: int | None = 0

  def start(self):
    self._code = self.pid = None
    try:
      self._start()
    except OSError:  # Ray's process on this machine is gone.
      self._code, self._host = LOST, None

  def _start(self):
    if self._host is None:
      spread = {'scheduling_strategy': 'SPREAD'}
      self._host = self._cluster.place(self.name, spread)
    self._asked = self._host.start.remote(*self._arguments)

  def poll(self) -> int | None:
    ray = self._cluster.ray
    if self._code is not None:
      return self._code
    try:
      if not ray.wait([self._asked], timeout=0)[0]:
        return None
      answer = ray.get(self._asked)
    except ray.exceptions.ActorUnavailableError:
      self._asked = self._host.wait.remote()  # It may come back.
    except (ray.exceptions.RayActorError, OSError):
      self._code, self._host = LOST, None
    except ray.exceptions.RayTaskError as error:
      self._refuse(_foreign('that was chosen', error))
    else:
      if isinstance(answer, str):
        self._refuse(answer)
        return self._code
      self.machine, self.pid, self._code, self.is_stopped = answer
      if self._code is None:
        self._asked = self._host.wait.remote()
    return self._code

  def _refuse(self, sentence: str):
    """Has it died where it cannot be started; next time it goes elsewhere."""
    self._code, self._host = 1, None
    with contextlib.suppress(OSError), open(self._error, 'w') as file:
      file.write(sentence)

  def stop(self):
    if self._host is not None:
      number = nodes.STOP_SIGNALS.get(self.name, signal.SIGTERM)
      with contextlib.suppress(OSError):
        self._host.send.remote(int(number))

  def kill(self):
    if self._host is not None:
      with contextlib.suppress(OSError):
        self._cluster.kill(self._host)


def _foreign(machine: str, error: Exception) -> str:
  """A sentence on a machine that does not have this package."""
  cause = str(error).strip().splitlines()[-1].rstrip('.')
  return (
    f'The machine {machine} cannot start nodes ({cause}): install there what '
    'is installed here, at the same version.'
  )
