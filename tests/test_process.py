"""What the settings of a process do, each in a process of its own."""

import json
import os
import subprocess
import sys

import jax
import pytest

from acme_hieros import process

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
