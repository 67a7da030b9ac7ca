"""What the settings of a process do, each in a process of its own."""

import gc
import json
import os
import subprocess
import sys

import jax
import pytest

from acme_hieros import process

CORES = 'sys/devices/system/cpu/cpu{}/topology/thread_siblings_list'

PROGRAM = """
import json, os, resource
from acme_hieros import process
if {tune}:
  process.tune_process()
import jax, jax.numpy as jnp

# Needs 64 MiB on the way, which nothing fuses away, and gives back one number.
f = jax.jit(lambda x: jax.lax.optimization_barrier(jnp.outer(x, x)).sum())
x = jnp.linspace(0.0, 1.0, 4096)
# Until it is settled what lies where.
for _ in range(40):
  f(x).block_until_ready()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
  f(x).block_until_ready()
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(json.dumps([faults, dict(os.environ)]))
"""


def run(tune):
  """Faults and environment of a process that begins with no settings."""
  given = process.settings({})
  done = subprocess.run(
    [sys.executable, '-c', PROGRAM.format(tune=tune)],
    env={name: v for name, v in os.environ.items() if name not in given}
    | {'JAX_PLATFORMS': 'cpu'},
    stdout=subprocess.PIPE,
    check=True,
    text=True,
  )
  return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.skipif(sys.platform != 'linux', reason='glibc is on Linux')
def test_memory_is_not_asked_for_again():
  plain, _ = run(False)
  tuned, environment = run(True)
  # Each of the runs touches 64 MiB or more in pages of 4 KiB.
  assert plain > 20 * 2**26 / 2**12
  assert tuned < plain / 4
  # Subprocesses may be there for other things than learning.
  assert not any(name.startswith('MALLOC') for name in environment)
  assert 'disable_loop_unrolling' in environment['XLA_FLAGS']


def test_what_the_user_has_set_stays():
  given = {'XLA_FLAGS': '--xla_dump_to=here', 'MALLOC_ARENA_MAX': '3'}
  new = process.settings(given)
  assert new['XLA_FLAGS'].split()[0] == '--xla_dump_to=here'
  assert 'MALLOC_ARENA_MAX' not in new and new['MALLOC_MMAP_MAX_'] == '0'
  options = '--xla_backend_extra_options=xla_cpu_use_something'
  assert 'XLA_FLAGS' not in process.settings({'XLA_FLAGS': options})
  # The name of a file of flags.
  assert 'XLA_FLAGS' not in process.settings({'XLA_FLAGS': 'flags.txt'})


def test_a_flag_is_added_to_flags_but_not_to_the_name_of_a_file():
  add = process.xla_flag
  assert add({}, '--one') == {'XLA_FLAGS': '--one'}
  assert add({'XLA_FLAGS': ' --one '}, '--two') == {'XLA_FLAGS': '--one --two'}
  assert add({'XLA_FLAGS': 'flags.txt'}, '--one') == {}


def test_only_a_process_that_learns_keeps_memory():
  assert 'MALLOC_ARENA_MAX' in process.settings({})
  assert list(process.settings({}, learns=False)) == ['XLA_FLAGS']


def test_settings_given_once_are_not_given_again():
  environment = {}
  environment |= process.settings(environment)
  assert process.settings(environment) == {}


def test_a_flag_is_set_for_the_releases_that_were_tried_only(monkeypatch):
  monkeypatch.setattr(jax, '__version_info__', (0, 7, 0))
  assert 'XLA_FLAGS' not in process.settings({})
  monkeypatch.setattr(jax, '__version_info__', (0, 6, 2))
  assert 'xla_cpu_disable_loop_unrolling' in process.settings({})['XLA_FLAGS']


@pytest.fixture
def machine(tmp_path, monkeypatch):
  """Writes files of a machine of 16 threads, two a core, none limited."""
  monkeypatch.setattr(os, 'sched_getaffinity', lambda _: set(range(16)))

  def write(path, text):
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).write_text(f'{text}\n')

  for i in range(16):
    write(CORES.format(i), f'{i % 8},{i % 8 + 8}')
  return write


def test_cores_are_counted_and_not_their_threads(
  machine, tmp_path, monkeypatch
):
  assert process.count_cores({}, tmp_path) == 8
  # By taskset: both threads of one core, and one of another.
  monkeypatch.setattr(os, 'sched_getaffinity', lambda _: {0, 8, 3})
  assert process.count_cores({}, tmp_path) == 2
  # Where nothing is said of threads, each is a core.
  assert process.count_cores({}, tmp_path / 'nothing') == 3


@pytest.mark.parametrize(
  'groups, path, limit, cores',
  [
    ('0::/', 'cpu.max', '300000 100000', 3),
    ('0::/a/b', 'a/cpu.max', '250000 100000', 2),
    ('0::/a/b', 'a/b/cpu.max', 'max 100000', 8),
    ('0::/of/the/host', 'cpu.max', '50000 100000', 1),
    ('3:cpuset:/\n2:cpu,cpuacct:/a', 'cpu/a/cpu.cfs_quota_us', '400000', 4),
    ('3:cpuset:/\n2:cpu,cpuacct:/a', 'cpu/a/cpu.cfs_quota_us', '-1', 8),
  ],
)
def test_a_container_has_the_cores_that_it_gets_time_for(
  machine, tmp_path, groups, path, limit, cores
):
  machine('proc/self/cgroup', groups)
  machine('sys/fs/cgroup/cpu/a/cpu.cfs_period_us', '100000')
  machine(f'sys/fs/cgroup/{path}', limit)
  assert process.count_cores({}, tmp_path) == cores


@pytest.mark.parametrize(
  'asked, cores',
  [('3', 3), ('2,4', 2), ('0', 1), ('99', 8), ('many', 8), ('', 8)],
)
def test_no_more_cores_than_threads_that_are_asked_for(
  machine, tmp_path, asked, cores
):
  given = {'OMP_NUM_THREADS': asked}
  assert process.count_cores(given, tmp_path) == cores


def test_each_core_is_a_device_unless_the_user_has_said_how_many():
  assert process.settings({}, cores=3)['JAX_NUM_CPU_DEVICES'] == '3'
  assert 'JAX_NUM_CPU_DEVICES' not in process.settings({}, cores=1)
  for name, value in (
    ('JAX_NUM_CPU_DEVICES', '2'),
    ('XLA_FLAGS', '--xla_force_host_platform_device_count=2'),
  ):
    new = process.settings({name: value}, cores=3)
    assert 'JAX_NUM_CPU_DEVICES' not in new


def test_devices_are_made_before_jax_starts_and_not_for_subprocesses():
  program = """
import os
from acme_hieros import process
process.tune_process(cores=3)
import jax
print(jax.local_device_count(), 'JAX_NUM_CPU_DEVICES' in os.environ)
process.tune_process(cores=2)
print(jax.local_device_count())
"""
  done = subprocess.run(
    [sys.executable, '-c', program],
    env={**os.environ, 'JAX_PLATFORMS': 'cpu'},
    stdout=subprocess.PIPE,
    check=True,
    text=True,
  )
  assert done.stdout.split() == ['3', 'False', '3']


def test_what_is_imported_is_not_looked_through_for_garbage():
  before = gc.get_freeze_count()
  try:
    with process.importing():
      assert not gc.isenabled()
      made = [[] for _ in range(1000)]
    assert gc.isenabled() and gc.get_freeze_count() >= before + len(made)
  finally:
    gc.unfreeze()
