"""Tests of what `acme_hieros.compat` does for Acme.

What it does happens at import and to the whole process, so each test runs a
program of its own in a fresh Python.
"""

import os
import pathlib
import subprocess
import sys
import textwrap

import pytest

# What any of acme_hieros may import from Acme.
ACME_MODULES = (
  'acme.adders.reverb',
  'acme.agents.jax.dqn',
  'acme.agents.jax.r2d2',
  'acme.jax.layouts.distributed_layout',
  'acme.jax.layouts.local_layout',
  'acme.jax.networks',
  'acme.jax.savers',
  'acme.jax.utils',
  'acme.jax.variable_utils',
  'acme.utils.loggers',
  'acme.utils.loggers.tf_summary',
  'acme.wrappers',
)


def run(
  program: str,
  directory: pathlib.Path,
  arguments: tuple[str, ...] = (),
  timeout: float = 100,
) -> subprocess.CompletedProcess[str]:
  """Runs a program as a user would: installed package, any directory."""
  file = directory / 'program.py'
  file.write_text(textwrap.dedent(program))
  environment = {
    name: value
    for name, value in os.environ.items()
    if name not in ('PYTHONPATH', 'PYTHONWARNINGS')
    and not name.startswith('ACME_HIEROS_')
  }
  environment['JAX_PLATFORMS'] = 'cpu'
  environment['LAUNCHPAD_LOGGING_DIR'] = str(directory / 'logs')
  return subprocess.run(
    [sys.executable, *arguments, str(file)],
    cwd=directory,
    env=environment,
    capture_output=True,
    text=True,
    timeout=timeout,
    check=False,
  )


def assert_succeeds(
  program: str, directory: pathlib.Path, arguments: tuple[str, ...] = ()
) -> str:
  result = run(program, directory, arguments)
  assert result.returncode == 0, result.stdout + result.stderr
  return result.stdout


def test_acme_does_not_import_without_compat(tmp_path):
  result = run('import acme.jax.utils', tmp_path)
  assert result.returncode != 0
  assert "'jax' has no attribute 'xla'" in result.stderr


def test_every_acme_module_imports_after_compat(tmp_path):
  imports = '\n'.join(f'import {module}' for module in ACME_MODULES)
  assert_succeeds(f'import acme_hieros.compat\n{imports}', tmp_path)


def test_missing_names_are_those_that_acme_means(tmp_path):
  assert_succeeds(
    """
    import acme_hieros.compat
    import jax, jax.numpy as jnp, numpy as np
    array = jnp.ones(3)
    for cls in (jax.xla.DeviceArray, jax.pxla.ShardedDeviceArray,
                jnp.DeviceArray):
      assert isinstance(array, cls)
      assert not isinstance(np.ones(3), cls)
    assert isinstance(jax.devices()[0], jax.xla.Device)
    assert jax.tree_map(lambda x: x + 1, {'a': [1, 2]}) == {'a': [2, 3]}
    assert jax.tree_multimap(lambda x, y: x + y, (1, 2), (3, 4)) == (4, 6)
    leaves, structure = jax.tree_flatten({'a': 1, 'b': 2})
    assert leaves == [1, 2] and structure.num_leaves == 2
    assert np.float is float
    import gym, gym.spaces, gymnasium
    assert gym.spaces.Box is gymnasium.spaces.Box
    """,
    tmp_path,
  )


def test_what_is_there_already_is_left_alone(tmp_path):
  assert_succeeds(
    """
    import sys, types
    import jax, jax.numpy as jnp, numpy as np
    own = object()
    jax.tree_map = jax.tree_flatten = jnp.DeviceArray = np.float = own
    jax.xla = types.SimpleNamespace(Device=own)
    gym = sys.modules['gym'] = types.ModuleType('gym')
    import acme_hieros.compat
    assert jax.tree_map is jax.tree_flatten is jnp.DeviceArray is own
    assert np.float is own
    assert jax.xla.Device is own and jax.xla.DeviceArray is jax.Array
    assert sys.modules['gym'] is gym and 'gym.spaces' not in sys.modules
    """,
    tmp_path,
  )


def test_a_second_import_changes_nothing(tmp_path):
  assert_succeeds(
    """
    import importlib
    import acme_hieros.compat
    import jax
    from launchpad.launch import serialization
    before = jax.xla, jax.tree_map, serialization.serialize_functions
    importlib.reload(acme_hieros.compat)
    after = jax.xla, jax.tree_map, serialization.serialize_functions
    assert all(x is y for x, y in zip(before, after))
    """,
    tmp_path,
  )


def test_an_accelerator_alone_does_not_hide_the_cpu(tmp_path):
  """A second client of the CPU plays the accelerator."""
  assert_succeeds(
    """
    import os
    os.environ['JAX_PLATFORMS'] = 'fake'
    import jax
    from jax._src import xla_bridge
    xla_bridge.register_backend_factory(
        'fake', xla_bridge.make_cpu_client, priority=500)
    import acme_hieros.compat
    import importlib
    importlib.reload(acme_hieros.compat)
    assert jax.config.jax_platforms == 'fake,cpu'
    assert jax.devices()[0].client is xla_bridge.backends()['fake']
    assert float(jax.jit(lambda x: x + 1, backend='cpu')(1.0)) == 2.0
    """,
    tmp_path,
  )


@pytest.mark.parametrize('platforms', ['', 'cpu', 'cpu,cuda'])
def test_other_choices_of_platforms_stay(tmp_path, platforms):
  assert_succeeds(
    f"""
    import os
    os.environ['JAX_PLATFORMS'] = {platforms!r}
    import acme_hieros.compat
    import jax
    assert (jax.config.jax_platforms or '') == {platforms!r}
    """,
    tmp_path,
  )


LAUNCHERS = sorted(
  (pathlib.Path(__file__).parents[1] / 'launchers').glob('*.py')
)


@pytest.mark.parametrize('launcher', LAUNCHERS, ids=lambda path: path.stem)
def test_another_python_without_absl_is_told_by_every_launcher(
  tmp_path, launcher
):
  result = run(
    f"""
    import runpy, sys
    sys.modules['absl'] = sys.modules['tqdm'] = None
    sys.version_info = (3, 11, 4, 'final', 0)
    runpy.run_path({str(launcher)!r}, run_name='__main__')
    """,
    tmp_path,
  )
  assert result.returncode == 1
  (sentence,) = result.stderr.splitlines()
  assert sentence.startswith(f'{launcher.stem}: Acme needs Python 3.10')


def test_import_brings_in_neither_acme_nor_tensorflow(tmp_path):
  assert_succeeds(
    """
    import sys
    import acme_hieros.compat
    for module in ('acme', 'reverb', 'tensorflow', 'haiku'):
      assert module not in sys.modules, module
    """,
    tmp_path,
  )


def test_the_tested_versions_give_no_warning(tmp_path):
  # JAX and others may warn of themselves.
  result = run('import acme_hieros.compat', tmp_path, ('-W', 'always'))
  assert result.returncode == 0, result.stderr
  assert 'acme_hieros was not tested' not in result.stderr


def test_other_versions_give_one_warning_in_all_processes(tmp_path):
  assert_succeeds(
    """
    import importlib, importlib.metadata, subprocess, sys, warnings
    find = importlib.metadata.version
    other = {'dm-acme': '0.4.1', 'jax': '0.9.9'}
    importlib.metadata.version = lambda name: other.get(name) or find(name)
    with warnings.catch_warnings(record=True) as caught:
      warnings.simplefilter('always')
      import acme_hieros.compat
      importlib.reload(acme_hieros.compat)
    ours = [w for w in caught if 'acme_hieros' in str(w.message)]
    assert len(ours) == 1, [str(w.message) for w in caught]
    text = str(ours[0].message)
    for part in ('dm-acme 0.4.1', '0.4.0', 'jax 0.9.9', '0.6.2'):
      assert part in text, text
    for part in ('reverb', 'jaxlib', 'launchpad', 'tensorflow'):
      assert part not in text, text
    assert ours[0].filename == __file__, ours[0].filename

    # A child sees the same versions, and that they were warned about.
    child = '''
    import importlib.metadata
    find = importlib.metadata.version
    other = {'dm-acme': '0.4.1', 'jax': '0.9.9'}
    importlib.metadata.version = lambda name: other.get(name) or find(name)
    import acme_hieros.compat
    '''
    import textwrap
    result = subprocess.run(
        [sys.executable, '-W', 'always', '-c', textwrap.dedent(child)],
        capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert 'not tested' not in result.stderr
    """,
    tmp_path,
  )


@pytest.mark.parametrize(
  ('cause', 'parts'),
  [
    (
      """
      import importlib.util
      find = importlib.util.find_spec
      importlib.util.find_spec = (
          lambda name: None if name == 'acme' else find(name))
      """,
      ('dm-acme cannot be found', 'make setup', 'pip install'),
    ),
    (
      """
      import sys
      sys.version_info = (3, 11, 7, 'final', 0)
      """,
      ('needs Python 3.10', 'is Python 3.11'),
    ),
    (
      """
      import sys
      class Finder:
        def find_spec(self, name, path=None, target=None):
          if name == 'launchpad.launch':
            raise ImportError('libpython3.10.so.1.0: cannot open shared object')
      sys.meta_path.insert(0, Finder())
      """,
      ('libpython3.10.so.1.0', 'make setup', 'LD_LIBRARY_PATH'),
    ),
  ],
  ids=['no-acme', 'python-3.11', 'no-libpython'],
)
def test_what_is_missing_is_said_in_one_sentence(tmp_path, cause, parts):
  result = run(textwrap.dedent(cause) + 'import acme_hieros.compat\n', tmp_path)
  assert result.returncode == 1
  message = result.stderr.strip().splitlines()[-1]
  assert message.startswith('ImportError: ')
  assert message.endswith('.') and '. ' not in message
  for part in parts:
    assert part in message


def test_other_import_errors_are_not_reinterpreted(tmp_path):
  result = run(
    """
    import sys
    class Finder:
      def find_spec(self, name, path=None, target=None):
        if name == 'launchpad.launch':
          raise ImportError('something else')
    sys.meta_path.insert(0, Finder())
    import acme_hieros.compat
    """,
    tmp_path,
  )
  assert result.stderr.strip().endswith('ImportError: something else')


def test_reverbs_renamed_argument_is_translated(tmp_path):
  assert_succeeds(
    """
    import sys, types
    from acme_hieros import compat
    calls = []
    class Client:
      def trajectory_writer(self, num_keep_alive_refs, *, validate_items=True):
        calls.append((num_keep_alive_refs, validate_items))
    reverb = sys.modules['reverb'] = types.ModuleType('reverb')
    reverb.Client = Client
    compat._supply_reverb('0.14.0')
    Client().trajectory_writer(5, get_signature_timeout_ms=3000)
    Client().trajectory_writer(6, get_signature_timeout_ms=None)
    Client().trajectory_writer(7, validate_items=False)
    assert calls == [(5, True), (6, False), (7, False)], calls
    """,
    tmp_path,
  )


def test_acmes_own_dqn_learns_in_a_local_layout(tmp_path):
  assert_succeeds(
    """
    import acme_hieros.compat
    import acme
    from acme.agents.jax import dqn
    from acme.jax import networks as networks_lib, utils
    from acme.jax.layouts import local_layout
    from acme import specs, wrappers
    from acme.utils import counting, loggers
    import dm_env, haiku as hk, jax, jax.numpy as jnp, numpy as np, rlax

    class Environment(dm_env.Environment):
      def reset(self):
        self.steps = 0
        return dm_env.restart(np.ones(4, np.float32))
      def step(self, action):
        self.steps += 1
        return (dm_env.termination if self.steps == 5 else dm_env.transition)(
            np.float32(action), np.ones(4, np.float32))
      def observation_spec(self):
        return specs.Array((4,), np.float32)
      def action_spec(self):
        return specs.DiscreteArray(3)
      def reward_spec(self):
        return specs.Array((), np.float32)

    environment = wrappers.SinglePrecisionWrapper(Environment())
    spec = acme.make_environment_spec(environment)
    model = hk.without_apply_rng(hk.transform(
        lambda x: hk.nets.MLP([8, 3])(x.astype(jnp.float32))))
    dummy = utils.add_batch_dim(utils.zeros_like(spec.observations))
    network = networks_lib.FeedForwardNetwork(
        init=lambda key: model.init(key, dummy), apply=model.apply)
    def policy(params, key, observation, epsilon):
      return rlax.epsilon_greedy(epsilon).sample(
          key, network.apply(params, observation))
    # The table never makes the learner wait: it steps in the actor's thread.
    config = dqn.DQNConfig(
        batch_size=4, min_replay_size=4, samples_per_insert=4.0,
        samples_per_insert_tolerance_rate=1e3, n_step=1, prefetch_size=1)
    counter = counting.Counter()
    agent = local_layout.LocalLayout(
        seed=0, environment_spec=spec,
        builder=dqn.DQNBuilder(
            config, dqn.losses.PrioritizedDoubleQLearning(
                discount=0.99, importance_sampling_exponent=0.2,
                max_abs_reward=1.0),
            logger_fn=loggers.NoOpLogger),
        networks=network, policy_network=policy, batch_size=4,
        min_replay_size=10, samples_per_insert=4.0, counter=counter,
        checkpoint=False)
    before = jax.tree_util.tree_map(
        np.array, agent._learner.get_variables([''])[0])
    acme.EnvironmentLoop(
        environment, agent, logger=loggers.NoOpLogger()).run(num_episodes=6)
    after = jax.tree_util.tree_map(
        np.array, agent._learner.get_variables([''])[0])
    assert counter.get_counts()['steps'] >= 5, counter.get_counts()
    leaves = list(zip(jax.tree_util.tree_leaves(before),
                      jax.tree_util.tree_leaves(after)))
    assert all(np.isfinite(y).all() for _, y in leaves)
    assert any(not np.array_equal(x, y) for x, y in leaves)
    """,
    tmp_path,
  )


# Has the reference to Acme in its globals that an agent's node has.
_NODES = """
import os
import sys
from acme.jax import utils as acme_utils
import launchpad as lp
import numpy as np


class Doubler:

  def double(self, x):
    assert 'acme_hieros.compat' in sys.modules
    return os.getpid(), acme_utils.add_batch_dim(np.asarray(x) * 2)


class Asker:

  def __init__(self, doubler):
    self._doubler = doubler

  def run(self):
    pid, answer = self._doubler.double([1, 2])
    with open('answer', 'w') as file:
      print(os.getpid(), pid, np.asarray(answer).tolist(), file=file)
    lp.stop()
"""


def test_child_processes_of_launchpad_need_no_import_by_hand(tmp_path):
  assert_succeeds(
    f"""import acme_hieros.compat
{_NODES}
from absl import app

def main(_):
  program = lp.Program('program')
  with program.group('doubler'):
    doubler = program.add_node(lp.CourierNode(Doubler))
  with program.group('asker'):
    program.add_node(lp.CourierNode(Asker, doubler))
  print(os.getpid())
  lp.launch(
      program, launch_type='local_mp', terminal='output_to_files').wait()

if __name__ == '__main__':
  app.run(main)
""",
    tmp_path,
  )
  asker, doubler, answer = (tmp_path / 'answer').read_text().split(' ', 2)
  assert asker != doubler
  assert answer.strip() == '[[2, 4]]'


@pytest.mark.parametrize('wrapped', [True, False])
def test_it_is_the_wrapping_that_reaches_child_processes(tmp_path, wrapped):
  assert_succeeds(
    f"""
from launchpad.launch import serialization
original = serialization.serialize_functions
import acme_hieros.compat
{_NODES}
if not {wrapped}:
  serialization.serialize_functions = original
def first():
  return 'first'
def second():
  return acme_utils.add_batch_dim(np.ones(2)).shape
serialization.serialize_functions('job.pkl', 'label', [first, second])
""",
    tmp_path,
  )
  # As Launchpad's process_entry.py does.
  result = run(
    """
    import cloudpickle
    functions = cloudpickle.load(open('job.pkl', 'rb'))
    print(functions[0](), functions[1]())
    """,
    tmp_path,
  )
  if wrapped:
    assert result.stdout.strip() == 'first (1, 2)', result.stderr
  else:
    assert "'jax' has no attribute 'xla'" in result.stderr


def test_nodes_that_cannot_be_pickled_are_still_named(tmp_path):
  result = run(
    """
    import acme_hieros.compat
    import threading
    from launchpad.launch import serialization
    lock = threading.Lock()
    serialization.serialize_functions('job.pkl', 'learner', [lambda: lock])
    """,
    tmp_path,
  )
  assert "nodes associated to 'learner' are not serializable" in result.stderr
