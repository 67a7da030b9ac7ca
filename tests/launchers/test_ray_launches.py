"""Programs on a Ray cluster of two nodes, where the extra ray is there."""

import ipaddress
import json
import pathlib
import signal
import time

import psutil
import pytest
import test_launches

pytestmark = pytest.mark.timeout(1200)


@pytest.fixture(scope='module')
def cluster():
  """Two nodes; on the first is room for a learner and two actors."""
  pytest.importorskip('ray')
  from ray import cluster_utils

  # What is lost shall be missed soon.
  found = cluster_utils.Cluster(
    initialize_head=True,
    head_node_args={
      'num_cpus': 4,
      'node_ip_address': '127.0.0.2',
      '_system_config': {
        'health_check_failure_threshold': 3,
        'health_check_period_ms': 1000,
        # Where tests run, others may be at work as well.
        'agent_register_timeout_ms': 300_000,
        'worker_register_timeout_seconds': 300,
        'worker_niceness': 0,
      },
    },
  )
  found.other = found.add_node(num_cpus=3, node_ip_address='127.0.0.3')
  # Programs that begin here are on the first one, which is never lost; Ray has
  # them on the last that was added.
  session = pathlib.Path(found.head_node.get_session_dir_path())
  (session / 'node_ip_address.json').write_text(
    json.dumps({'node_ip_address': '127.0.0.2'})
  )
  yield found
  found.shutdown()


def begin(cluster, path, *arguments):
  flags = test_launches.flags(path, '--launch=ray', f'--ray={cluster.address}')
  return test_launches.begin(*flags, *arguments)


def read(path, name):
  try:
    return json.loads((path / name).read_text())
  except FileNotFoundError:
    return {}


def counts(path):
  return read(path, 'progress.json').get('now', {}).get('counts', {})


def wait_for(process, condition):
  while not condition():
    assert process.poll() is None, process.communicate()
    time.sleep(0.2)


def end(process):
  """Presses Ctrl-C; returns what was said."""
  process.send_signal(signal.SIGINT)
  said, line = process.communicate()
  assert process.returncode == 130, said + line
  return said, line


def raylet_of(cluster, pid):
  """The node of the cluster on which a process is."""
  above = {parent.pid for parent in psutil.Process(pid).parents()}
  (node,) = [
    node
    for node in cluster.list_all_nodes()
    if node.all_processes['raylet'][0].process.pid in above
  ]
  return node


def test_nodes_on_two_machines_learn_stop_at_ctrl_c_and_go_on(
  cluster, tmp_path
):
  path = tmp_path / 'run'
  process = begin(
    cluster, path, '--num_steps=1000000', '--num_evaluators=1', '--depth=1'
  )
  wait_for(process, lambda: counts(path).get('learner_steps', 0) >= 5)
  pids = read(path, 'nodes/pids.json')
  assert sorted(pids) == sorted(test_launches.NODES)
  machines = read(path, 'nodes/machines.json')
  assert machines.keys() == pids.keys()
  assert set(machines.values()) == {'127.0.0.2', '127.0.0.3'}
  # Servers listen there alone.
  for name in ('replay', 'coordinator', 'learner'):
    (host,) = test_launches.listening(pids[name])
    assert ipaddress.ip_address(host).ipv4_mapped.compressed == machines[name]
  places = {name: raylet_of(cluster, pid) for name, pid in pids.items()}
  assert places['learner'] is cluster.head_node
  assert places['replay'] is places['coordinator'] is places['learner']
  assert cluster.other in places.values()
  said, line = end(process)
  assert 'Interrupted after' in said and 'died' not in line
  before = read(path, 'summary.json')
  assert before['interrupted'] and before['updates'] >= 5
  assert len(list((path / 'checkpoints').glob('*/learner.npz'))) == 1
  assert not any(map(psutil.pid_exists, pids.values()))
  steps = before['steps'] + 200
  said, line = test_launches.launch(
    '--resume',
    f'--workdir={path}',
    f'--ray={cluster.address}',
    f'--num_steps={steps}',
  )
  assert f'Continuing after {before["steps"]} steps' in said
  after = read(path, 'summary.json')
  assert not after['interrupted'] and after['steps'] >= steps
  rows = test_launches.read_csv(path / 'logs' / 'episodes.csv')
  numbers = [int(row['actor_episodes']) for row in rows]
  assert numbers == list(range(1, after['episodes'] + 1))
  # What a program of processes on one machine leaves, and the machines.
  assert {file.name for file in path.iterdir()} == {
    *('config.json', 'progress.json', 'summary.json', '.lock'),
    *('checkpoints', 'evaluation', 'logs', 'nodes', 'tensorboard'),
  }
  assert {file.name for file in (path / 'nodes').iterdir()} == {
    *(f'{node}.log' for node in test_launches.NODES),
    *('pids.json', 'machines.json'),
  }


def test_what_a_lost_machine_had_goes_on_elsewhere_or_is_one_sentence(
  cluster, tmp_path
):
  path = tmp_path / 'run'
  process = begin(cluster, path, '--num_steps=1000000', '--depth=1')
  wait_for(process, lambda: counts(path).get('learner_steps', 0) >= 5)
  pids = read(path, 'nodes/pids.json')
  lost = [n for n, p in pids.items() if raylet_of(cluster, p) is cluster.other]
  assert lost and all(name.startswith('actor_') for name in lost)
  cluster.remove_node(cluster.other, allow_graceful=False)

  def are_elsewhere():
    now = read(path, 'nodes/pids.json')
    return all(now.get(name) not in (None, pids[name]) for name in lost)

  wait_for(process, are_elsewhere)
  learned = counts(path)['learner_steps']
  wait_for(process, lambda: counts(path)['learner_steps'] > learned + 5)
  # The learner's process of Ray, as if its machine had gone.
  psutil.Process(pids['learner']).parent().kill()
  said, line = process.communicate()
  assert process.returncode == 1
  assert 'was lost) and is started again (restart 1 of 10' in line
  last = line.splitlines()[-1]
  assert 'learner on ' in last and 'was lost), so the program was ended' in last
  assert '--resume' in last
  now = read(path, 'nodes/pids.json').values()
  psutil.wait_procs(
    [psutil.Process(p) for p in now if psutil.pid_exists(p)], timeout=10
  )
  assert not any(map(psutil.pid_exists, now))


def test_what_will_not_do_is_one_sentence(cluster, tmp_path):
  process = begin(cluster, tmp_path / 'run', '--num_actors=99')
  said, line = process.communicate()
  assert process.returncode == 1 and said == ''
  assert '99 actors and 0 evaluators need 100 CPUs, and the cluster at' in line
  assert not (tmp_path / 'run').exists()
