"""What is compiled is kept, whoever writes it and whatever happens to it."""

import errno
import os
import pathlib
import warnings

import filelock
import jax
from jax.experimental.compilation_cache import compilation_cache
import jax.numpy as jnp
import pytest

from acme_hieros import compilation

_FIELDS = (
  'jax_compilation_cache_dir',
  'jax_compilation_cache_max_size',
  'jax_persistent_cache_min_compile_time_secs',
)


@pytest.fixture
def process(monkeypatch):
  """A process whose user has told JAX nothing."""
  before = {name: getattr(jax.config, name) for name in _FIELDS}
  for name in _FIELDS:
    # What is set meanwhile goes as well.
    monkeypatch.setenv(name.upper(), '')
    del os.environ[name.upper()]
  yield
  for name, value in before.items():
    jax.config.update(name, value)
  compilation_cache.reset_cache()


def _start(directory) -> int:
  """A start that compiles something; how often it could be read instead."""
  compilation_cache.reset_cache()
  jax.clear_caches()
  assert compilation.keep_compiled(str(directory)) is None
  # As a short computation would not be kept.
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)
  hits = 0

  def count(event, **_):
    nonlocal hits
    hits += event == '/jax/compilation_cache/cache_hits'

  jax.monitoring.register_event_listener(count)
  x = jax.jit(lambda x: jnp.sin(x) @ x.T)(jnp.ones((3, 3)))
  assert jnp.allclose(x, 3 * jnp.sin(1.0))
  os.environ.pop('JAX_COMPILATION_CACHE_DIR')
  return hits


def _entries(directory) -> list[pathlib.Path]:
  return sorted(pathlib.Path(directory).glob('*/*-cache'))


def test_the_second_start_reads_what_the_first_has_compiled(process, tmp_path):
  assert _start(tmp_path) == 0
  assert _entries(tmp_path)
  assert _start(tmp_path) > 0


def test_what_a_killed_process_was_writing_is_written_anew(process, tmp_path):
  _start(tmp_path)
  halves = _entries(tmp_path)
  for half in halves:
    half.write_bytes(half.read_bytes()[:100])
    compilation._twin(half, '-atime').unlink()
  lonely = halves[0].with_name('gone-atime')
  lonely.write_bytes(bytes(8))
  with warnings.catch_warnings():
    warnings.simplefilter('error')
    assert _start(tmp_path) == 0
    assert _start(tmp_path) > 0
  assert not lonely.exists()


def test_of_an_entry_nothing_may_have_reached_the_disk(process, tmp_path):
  _start(tmp_path)
  for entry in _entries(tmp_path):
    entry.write_bytes(b'')
  with warnings.catch_warnings():
    warnings.simplefilter('error')
    assert _start(tmp_path) == 0
  assert all(entry.stat().st_size for entry in _entries(tmp_path))


def test_a_damaged_entry_is_compiled_anew(process, tmp_path):
  _start(tmp_path)
  for entry in _entries(tmp_path):
    content = bytearray(entry.read_bytes())
    content[len(content) // 2] ^= 1
    entry.write_bytes(content)
  with pytest.warns(UserWarning, match='Error reading persistent'):
    assert _start(tmp_path) == 0


def test_somebody_who_holds_the_lock_for_long_is_not_waited_for(
  process, tmp_path, monkeypatch
):
  monkeypatch.setattr(compilation, '_LOCK_SECONDS', 0.01)
  compilation.keep_compiled(str(tmp_path))
  os.environ.pop('JAX_COMPILATION_CACHE_DIR')
  (directory,) = tmp_path.iterdir()
  with filelock.FileLock(directory / '.lockfile'):
    assert compilation.keep_compiled(str(tmp_path)) is None


def test_subprocesses_keep_it_in_the_same_place(process, tmp_path):
  compilation.keep_compiled(str(tmp_path))
  for name in _FIELDS:
    assert os.environ[name.upper()] == str(getattr(jax.config, name))


def test_another_processor_has_a_directory_of_its_own(
  process, tmp_path, monkeypatch
):
  compilation.keep_compiled(str(tmp_path))
  os.environ.pop('JAX_COMPILATION_CACHE_DIR')
  monkeypatch.setattr(
    pathlib.Path, 'read_text', lambda _: 'model name: other\nflags: sse\n'
  )
  compilation.keep_compiled(str(tmp_path))
  assert len(list(tmp_path.iterdir())) == 2


def test_what_the_user_has_told_jax_stays(process, tmp_path, monkeypatch):
  monkeypatch.setenv('JAX_COMPILATION_CACHE_DIR', '/elsewhere')
  before = jax.config.jax_compilation_cache_dir
  assert compilation.keep_compiled(str(tmp_path)) is None
  assert jax.config.jax_compilation_cache_dir == before
  assert not list(tmp_path.iterdir())


def test_no_directory_means_that_nothing_is_kept(process):
  before = jax.config.jax_compilation_cache_dir
  assert compilation.keep_compiled('') is None
  assert jax.config.jax_compilation_cache_dir == before


def test_a_directory_that_cannot_be_made_gets_a_sentence(process, tmp_path):
  (tmp_path / 'file').write_text('')
  said = compilation.keep_compiled(str(tmp_path / 'file'))
  assert 'cannot be kept in' in said and 'Not a directory' in said
  assert 'JAX_COMPILATION_CACHE_DIR' not in os.environ


def test_a_full_disk_gets_a_sentence(process, tmp_path, monkeypatch):
  def allocate(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

  # A lock, which holds nothing, can be made there.
  monkeypatch.setattr(os, 'posix_fallocate', allocate)
  said = compilation.keep_compiled(str(tmp_path))
  assert 'cannot be kept in' in said and 'No space left' in said
  assert 'JAX_COMPILATION_CACHE_DIR' not in os.environ


def test_room_is_asked_for_and_not_taken(process, tmp_path):
  assert compilation.keep_compiled(str(tmp_path)) is None
  assert sum(p.stat().st_size for p in tmp_path.rglob('*') if p.is_file()) == 0


def test_a_directory_may_be_in_ones_home(process, tmp_path, monkeypatch):
  monkeypatch.setenv('HOME', str(tmp_path / 'home'))
  monkeypatch.chdir(tmp_path)
  # No shell has put the home in the place of a ~ behind a flag's =.
  assert compilation.keep_compiled('~/cache') is None
  assert [path.name for path in tmp_path.iterdir()] == ['home']
  assert (tmp_path / 'home' / 'cache').is_dir()


def test_who_has_no_home_gets_a_sentence(process, tmp_path, monkeypatch):
  monkeypatch.delenv('HOME')
  monkeypatch.setattr(os, 'getuid', lambda: 2**31 - 7)
  monkeypatch.chdir(tmp_path)
  said = compilation.keep_compiled(compilation.default_directory({}))
  assert 'cannot be kept in ~' in said and 'home' in said
  assert not list(tmp_path.iterdir())


def test_the_directory_is_the_users():
  assert compilation.default_directory({'XDG_CACHE_HOME': '/c'}) == (
    '/c/acme_hieros'
  )
  assert compilation.default_directory({}) == os.path.expanduser(
    '~/.cache/acme_hieros'
  )
