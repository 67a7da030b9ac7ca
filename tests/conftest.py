"""What tests of all folders share."""

import atexit
import gc
import os
import shutil
import tempfile

# Compiling is most of what tests cost, and many processes (workers, launchers)
# compile the same small networks: what one has compiled is there for the next,
# however small it is.
if 'JAX_COMPILATION_CACHE_DIR' not in os.environ:
  _cache = tempfile.mkdtemp(prefix='compiled')
  atexit.register(shutil.rmtree, _cache, ignore_errors=True)
  os.environ |= {
    'JAX_COMPILATION_CACHE_DIR': _cache,
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
    'JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES': '0',
  }

# Workers keep all cores at work: what each of them starts is to have one.
os.environ.setdefault('OMP_NUM_THREADS', '1')

# Tracing makes objects by the million, and JAX looks through its own whenever
# Python looks for garbage: an eighth of the time of tests at Python's defaults.
gc.set_threshold(100_000, 20, 20)

import jax  # noqa: E402  It reads the environment when it is imported.
import jax.numpy as jnp  # noqa: E402
import pytest  # noqa: E402

from acme_hieros import process  # noqa: E402
from acme_hieros.models import distributions  # noqa: E402

# What launchers compile is there for the tests, too: the same flags.
os.environ |= process.settings(os.environ, learns=False)
# Cut into parts for several threads a program takes longer to compile on one.
os.environ |= process.xla_flag(
  os.environ, '--xla_cpu_parallel_codegen_split_count=1'
)

# At the end of a run all workers shall have something to do.
_LONG = ('launchers', 'experiments', 'examples')


def pytest_collection_modifyitems(items):
  """The longest files come first."""
  items.sort(key=lambda item: item.path.parent.name not in _LONG)


@pytest.fixture(scope='module', autouse=True)
def forget_programs():
  """What a file has compiled goes with it: workers would take gigabytes."""
  yield
  jax.clear_caches()


@pytest.fixture(scope='module')
def compile_quickly():
  """Compiling takes longer than running here, and half as long like this."""
  before = jax.config.read('jax_disable_most_optimizations')
  jax.config.update('jax_disable_most_optimizations', True)
  yield
  jax.config.update('jax_disable_most_optimizations', before)


@pytest.fixture
def most_likely(monkeypatch):
  """Every z is its mode, so that two ways to infer it draw the same."""
  monkeypatch.setattr(
    distributions, 'sample_index', lambda _, p, *rows: jnp.argmax(p, -1)
  )
