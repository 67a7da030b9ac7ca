"""Tests of the packaging and of `make setup`, without network."""

import importlib.metadata
import importlib.util
import os
import pathlib
import re
import shutil
import subprocess
import sys

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
import pytest

import acme_hieros
from acme_hieros import commands
from acme_hieros.version import VERSION

ROOT = pathlib.Path(__file__).resolve().parents[1]
LOCK = ROOT / 'requirements' / 'lock.txt'

# Versions that only fit together as they are.
PINNED = (
  'dm-acme dm-launchpad dm-reverb tensorflow-cpu tensorflow-probability'
  ' protobuf dm-sonnet numpy jax jaxlib dm-haiku optax rlax distrax chex dm-env'
  ' dm-tree gymnasium ale-py'
).split()

SETUP_FILES = ('Makefile', 'setup.py', 'pyproject.toml', 'README.md', 'LICENSE')


def call(
  *command: str | pathlib.Path,
  cwd: pathlib.Path = ROOT,
  env: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
  """Runs a command as from a shell, also when `make test` runs this."""
  if env is None:
    from_make = ('MAKEFLAGS', 'MFLAGS', 'MAKELEVEL', 'PYTHON')
    env = {k: v for k, v in os.environ.items() if k not in from_make}
  return subprocess.run(
    [str(part) for part in command],
    cwd=cwd,
    env=env,
    capture_output=True,
    text=True,
    timeout=60,
    check=False,
  )


def read_lock() -> dict[str, str]:
  pins = re.finditer(r'^([\w.-]+)==(\S+)', LOCK.read_text(), re.MULTILINE)
  return {canonicalize_name(pin[1]): pin[2] for pin in pins}


@pytest.fixture(name='checkout')
def checkout_fixture(tmp_path) -> pathlib.Path:
  """The files that install, apart from the checkout that is in use."""
  checkout = tmp_path / 'a checkout'
  checkout.mkdir()
  for name in SETUP_FILES:
    shutil.copy(ROOT / name, checkout)
  for name in ('requirements', 'scripts', 'acme_hieros'):
    ignore = shutil.ignore_patterns('__pycache__')
    shutil.copytree(ROOT / name, checkout / name, ignore=ignore)
  return checkout


@pytest.fixture(name='metadata')
def metadata_fixture(checkout) -> importlib.metadata.PathDistribution:
  """What setup.py says now, whatever was installed earlier."""
  result = call(sys.executable, 'setup.py', '-q', 'egg_info', cwd=checkout)
  assert result.returncode == 0, result.stderr
  return importlib.metadata.PathDistribution(checkout / 'acme_hieros.egg-info')


def requirements(
  distribution: importlib.metadata.Distribution, extra: str = ''
) -> list[Requirement]:
  found = [Requirement(text) for text in distribution.requires or ()]
  return [
    requirement
    for requirement in found
    if requirement.marker is None
    or requirement.marker.evaluate({'extra': extra})
  ]


def test_metadata_names_the_package(metadata):
  assert canonicalize_name(metadata.metadata['Name']) == 'acme-hieros'
  assert metadata.version == VERSION
  assert metadata.metadata['Requires-Python'] == '==3.10.*'
  assert metadata.read_text('top_level.txt').split() == ['acme_hieros']
  assert {'test', 'report', 'minatar', 'cuda12'} <= set(
    metadata.metadata.get_all('Provides-Extra')
  )


def test_metadata_tells_who_what_and_under_which_license(metadata):
  about = metadata.metadata
  assert about['Author'] == 'the acme_hieros authors'
  assert about['License'] == 'Apache-2.0'
  assert about['Description-Content-Type'] == 'text/markdown'
  text = about['Description'] or about.get_payload()
  assert text.lstrip().startswith('# Hieros for Acme')
  license_text = (ROOT / 'LICENSE').read_text()
  assert 'Apache License' in license_text and 'Version 2.0' in license_text
  (script,) = metadata.entry_points.select(group='console_scripts')
  assert (script.name, script.value) == ('hieros', 'acme_hieros.commands:main')
  assert script.load() is commands.main


def test_the_version_is_the_same_wherever_it_stands():
  assert acme_hieros.__version__ == VERSION
  citation = (ROOT / 'CITATION.cff').read_text()
  assert f'\nversion: {VERSION}\n' in citation
  assert f'\n## {VERSION} ' in (ROOT / 'CHANGELOG.md').read_text()


def test_what_must_be_pinned_is_pinned_exactly(metadata):
  found = {
    canonicalize_name(requirement.name): str(requirement.specifier)
    for requirement in requirements(metadata)
  }
  for name in PINNED:
    assert re.fullmatch(r'==[\d.]+\d', found[name]), (name, found[name])
  assert found['jaxlib'] == found['jax']


def test_the_cuda_extra_asks_for_the_pinned_jax(metadata):
  plain, cuda = (
    [r for r in requirements(metadata, extra) if r.name == 'jax']
    for extra in ('', 'cuda12')
  )
  assert len(plain) == 1 and len(cuda) == 2
  assert {str(r.specifier) for r in cuda} == {str(plain[0].specifier)}
  assert {'cuda12'} in [r.extras for r in cuda]


def test_the_lock_pins_every_line():
  lock = re.sub(r'(?m)^ *#.*\n', '', LOCK.read_text())
  pin = r'[\w.-]+==[\w.]+( \\\n    --hash=sha256:[0-9a-f]{64})+\n'
  assert re.fullmatch(f'({pin})+', lock), re.sub(pin, '', lock)[:200]


def test_the_lock_satisfies_setup(metadata):
  lock = read_lock()
  for requirement in requirements(metadata, extra='test'):
    name = canonicalize_name(requirement.name)
    assert name in lock, f'{name} is not in the lock: make lock'
    assert requirement.specifier.contains(lock[name]), requirement


def test_the_lock_is_complete_and_installed():
  lock = read_lock()
  for name, version in lock.items():
    distribution = importlib.metadata.distribution(name)
    assert distribution.version == version, name
    for requirement in requirements(distribution):
      wanted = canonicalize_name(requirement.name)
      assert wanted in lock, f'{name} requires {wanted}'
      assert requirement.specifier.contains(lock[wanted], prereleases=True), (
        f'{name} requires {requirement}, locked is {lock[wanted]}'
      )


def test_every_module_is_packaged_and_nothing_else(checkout):
  (checkout / 'tests').mkdir()
  (checkout / 'tests' / '__init__.py').touch()
  nested = checkout / 'acme_hieros' / 'without_init' / 'nested'
  nested.mkdir(parents=True)
  (nested / 'module.py').touch()
  (nested / '__pycache__').mkdir()
  result = call(sys.executable, 'setup.py', '-q', 'build_py', cwd=checkout)
  assert result.returncode == 0, result.stderr
  # Its name has the platform's: there is a native library.
  (library,) = (checkout / 'build').glob('lib*')
  built, sources = (
    {
      path.relative_to(place)
      for pattern in ('*.py', '*.html', 'py.typed')
      for path in (place / 'acme_hieros').rglob(pattern)
    }
    for place in (library, checkout)
  )
  # The page of a report is no module, but needed.
  assert pathlib.Path('acme_hieros/reports/report.html') in sources
  assert pathlib.Path('acme_hieros/py.typed') in sources
  assert pathlib.Path('acme_hieros/without_init/nested/module.py') in sources
  assert built == sources
  assert not list((checkout / 'build').rglob('__pycache__'))


@pytest.mark.parametrize('version', ['3.9', '3.11'])
def test_pip_refuses_another_python_in_one_sentence(checkout, version):
  result = call(
    sys.executable,
    *'-m pip install --dry-run --no-index --no-build-isolation -q'.split(),
    *('--ignore-installed', '--no-deps', '--target', 'elsewhere'),
    *('--python-version', version, '.'),
    cwd=checkout,
  )
  errors = [x for x in result.stderr.splitlines() if not x.startswith('WARN')]
  assert result.returncode == 1
  assert len(errors) == 1, result.stderr
  assert f'requires a different Python: {version}' in errors[0]
  assert '3.10' in errors[0]


def test_no_dependency_hides_that_sentence(metadata):
  # Without the marker pip stops at the first dependency without a wheel.
  for text in metadata.requires:
    if 'extra ==' not in text:
      marker = Requirement(text).marker
      assert not marker.evaluate({'python_version': '3.11'}), text


# --- make --------------------------------------------------------------------


def test_make_train_passes_arguments_on(checkout):
  result = call('make', '-n', 'train', 'ARGS=--seed=7', cwd=checkout)
  assert result.returncode == 0, result.stderr
  assert result.stdout.splitlines()[-1].strip() == (
    '.venv/bin/python launchers/run_hieros.py --env=atari/Krull --seed=7'
  )


def test_make_demo_is_the_command(checkout):
  result = call('make', '-n', 'demo', 'ARGS=--seed=1', cwd=checkout)
  assert result.stdout.splitlines()[-1].strip() == (
    '.venv/bin/hieros demo --seed=1'
  )


def test_make_test_runs_pytest(checkout):
  result = call('make', '-n', 'test', cwd=checkout)
  # As the shell reads it, lines joined.
  command = result.stdout.replace('\\\n', '').splitlines()[-1]
  assert command.startswith('.venv/bin/python -m pytest ')
  assert command.endswith(' tests')


def test_make_lint_checks_style_and_types(checkout):
  result = call('make', '-n', 'lint', cwd=checkout)
  commands = [
    line.split()[2]
    for line in result.stdout.splitlines()
    if line.startswith('.venv/bin/python -m ')
  ]
  assert commands == ['ruff', 'ruff', 'mypy']


@pytest.mark.parametrize('changed', ['requirements/lock.txt', 'setup.py'])
def test_make_setup_runs_again_only_after_a_change(checkout, changed):
  stamp = checkout / '.venv' / '.setup-done'
  assert 'setup.sh' in call('make', '-n', 'setup', cwd=checkout).stdout
  stamp.parent.mkdir()
  stamp.touch()
  assert 'setup.sh' not in call('make', '-n', 'setup', cwd=checkout).stdout
  later = stamp.stat().st_mtime + 10
  os.utime(checkout / changed, (later, later))
  assert 'setup.sh' in call('make', '-n', 'setup', cwd=checkout).stdout


# --- scripts/setup.sh, with Pythons that only pretend ------------------------


class Machine:
  """A machine on which nothing is installed but what a test puts there."""

  def __init__(self, checkout: pathlib.Path, directory: pathlib.Path):
    self.checkout = checkout
    self.bin = directory / 'bin'
    self.home = directory / 'home'
    self.bin.mkdir()
    self.home.mkdir()
    self.env = {'PATH': str(self.bin), 'HOME': str(self.home)}
    tools = 'awk cat cp dirname grep ls mkdir rm sh sort uname'
    for tool in tools.split():
      (self.bin / tool).symlink_to(shutil.which(tool))

  def add(self, path: pathlib.Path, script: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\n{script}\n')
    path.chmod(0o755)
    return str(path)

  def add_pyenv(self, version: str, script: str) -> str:
    versions = self.home / '.pyenv' / 'versions'
    return self.add(versions / version / 'bin' / 'python3.10', script)

  def setup(self, *arguments: str) -> subprocess.CompletedProcess[str]:
    return call(
      *('sh', self.checkout / 'scripts' / 'setup.sh', *arguments),
      cwd=self.checkout,
      env=self.env,
    )


# Exit codes of scripts/find_libpython.py.
FITS = 'exit 0'
OTHER_VERSION = 'exit 3'
NO_LIBPYTHON = 'exit 4'


@pytest.fixture(name='machine')
def machine_fixture(checkout, tmp_path) -> Machine:
  return Machine(checkout, tmp_path)


def test_python_is_looked_for_in_order(machine):
  at_home = machine.add_pyenv('3.10.4', FITS)
  assert machine.setup('--find').stdout.strip() == at_home
  newer = machine.add_pyenv('3.10.13', FITS)
  assert machine.setup('--find').stdout.strip() == newer
  machine.add(machine.bin / 'python', FITS)
  assert machine.setup('--find').stdout.strip() == 'python'
  machine.add(machine.bin / 'python3', FITS)
  assert machine.setup('--find').stdout.strip() == 'python3'
  machine.add(machine.bin / 'python3.10', FITS)
  assert machine.setup('--find').stdout.strip() == 'python3.10'
  machine.env['PYTHON'] = machine.add(machine.home / 'my own', FITS)
  assert machine.setup('--find').stdout.strip() == machine.env['PYTHON']


def test_pythons_that_will_not_do_are_passed_over(machine):
  machine.env['PYTHON'] = machine.add(machine.home / 'mine', OTHER_VERSION)
  machine.add(machine.bin / 'python3.10', NO_LIBPYTHON)
  machine.add(machine.bin / 'python3', OTHER_VERSION)
  machine.add_pyenv('3.10.13', NO_LIBPYTHON)
  fits = machine.add_pyenv('3.10.4', FITS)
  assert machine.setup('--find').stdout.strip() == fits


def test_pyenv_root_is_respected(machine):
  root = machine.home / 'elsewhere'
  fits = machine.add(root / 'versions' / '3.10.1' / 'bin' / 'python3.10', FITS)
  machine.add(machine.bin / 'pyenv', f'[ "$1" = root ] && echo "{root}"')
  assert machine.setup('--find').stdout.strip() == fits


def test_uv_is_asked_last_and_may_install(machine):
  fits = machine.add(machine.home / 'managed', FITS)
  machine.add(
    machine.bin / 'uv',
    f"""
    case "$1 $2" in
      'python install') : >"$HOME/installed" ;;
      'python find') [ -e "$HOME/installed" ] && echo '{fits}' ;;
    esac""",
  )
  assert machine.setup('--find').stdout.strip() == fits


@pytest.mark.parametrize(
  ('script', 'parts'),
  [
    (OTHER_VERSION, ('no Python 3.10 was found', 'uv', 'pyenv', 'PYTHON=')),
    (NO_LIBPYTHON, ('libpython3.10.so.1.0', '--enable-shared')),
  ],
)
def test_no_usable_python_is_one_sentence(machine, script, parts):
  machine.add(machine.bin / 'python3.10', script)
  result = machine.setup()
  assert result.returncode == 1
  assert len(result.stderr.splitlines()) == 1, result.stderr
  for part in parts:
    assert part in result.stderr
  assert not (machine.checkout / '.venv').exists()


# Makes "environments" whose Python is itself, and fails like pip if told to.
PRETENDER = """
echo "$*" >>"$HOME/log"
case "$1 $2" in
  '-m venv') mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
  '-m pip') [ "$3" != check ] && [ -e "$HOME/fail" ] && {
    echo 'ERROR: from pip' >&2; exit 1; } ;;
esac
exit 0"""


def test_a_setup_that_failed_starts_over(machine):
  machine.add(machine.bin / 'python3.10', PRETENDER)
  stamp = machine.checkout / '.venv' / '.setup-done'
  leftover = machine.checkout / '.venv' / 'half-written'

  (machine.home / 'fail').touch()
  result = machine.setup()
  assert result.returncode == 1
  assert 'ERROR: from pip' in result.stderr
  assert 'disk' in result.stderr.splitlines()[-1]
  assert not stamp.exists()

  leftover.touch()
  (machine.home / 'fail').unlink()
  result = machine.setup()
  assert result.returncode == 0, result.stderr
  assert 'starting over' in result.stderr
  assert stamp.exists() and not leftover.exists()


def test_a_setup_that_succeeded_is_updated_in_place(machine):
  machine.add(machine.bin / 'python3.10', PRETENDER)
  assert machine.setup().returncode == 0
  (machine.checkout / '.venv' / 'kept').touch()
  (machine.home / 'log').unlink()
  assert machine.setup().returncode == 0
  log = (machine.home / 'log').read_text()
  assert (machine.checkout / '.venv' / 'kept').exists()
  assert '-m venv' not in log
  assert log.index('-r .venv/tools.txt') < log.index('-r requirements/lock.txt')
  tools = (machine.checkout / '.venv' / 'tools.txt').read_text()
  assert re.findall('^[a-z]+', tools, re.MULTILINE) == [
    'pip',
    'setuptools',
    'wheel',
  ]
  assert tools.count('--hash=') >= 3


def test_an_environment_without_its_python_is_replaced(machine):
  machine.add(machine.bin / 'python3.10', PRETENDER)
  (machine.checkout / '.venv' / 'bin').mkdir(parents=True)
  (machine.checkout / '.venv' / 'bin' / 'python').symlink_to('gone')
  assert machine.setup().returncode == 0
  assert (machine.checkout / '.venv' / '.setup-done').exists()


def test_a_foreign_environment_is_not_deleted(machine):
  python = machine.checkout / '.venv' / 'bin' / 'python'
  machine.add(python, '[ "$1" = -c ] || exit 3')
  result = machine.setup()
  assert result.returncode == 1
  assert 'make clean' in result.stderr
  assert python.exists()


def load_find_libpython():
  spec = importlib.util.spec_from_file_location(
    'find_libpython', ROOT / 'scripts' / 'find_libpython.py'
  )
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def test_libpython_out_of_the_loaders_sight_is_linked(monkeypatch, tmp_path):
  module = load_find_libpython()
  prefix, packages = tmp_path / 'python', tmp_path / 'packages'
  library = prefix / 'lib' / module.LIBRARY
  library.parent.mkdir(parents=True)
  library.touch()
  for package in module.PACKAGES:
    (packages / package).mkdir(parents=True)
  monkeypatch.setattr(module, 'loaded', lambda: False)
  monkeypatch.setattr(sys, 'base_prefix', str(prefix))
  monkeypatch.setattr(module.sysconfig, 'get_path', lambda name: str(packages))
  monkeypatch.setattr(sys, 'argv', ['find_libpython.py', '--link'])
  for _ in range(2):
    assert module.main() == 0
    for package in module.PACKAGES:
      assert (packages / package / module.LIBRARY).resolve() == library


@pytest.mark.parametrize(('known', 'code'), [(True, 0), (False, 4)])
def test_without_the_file_the_loader_decides(monkeypatch, known, code):
  module = load_find_libpython()
  monkeypatch.setattr(module, 'loaded', lambda: False)
  monkeypatch.setattr(module, 'path', lambda: None)
  monkeypatch.setattr(module, 'known_to_loader', lambda: known)
  assert module.main() == code


# --- what is in the files ----------------------------------------------------


def test_no_file_names_a_place_on_somebodys_machine():
  folders = '|'.join(('home', 'root', 'work', 'Users', 'opt', 'mnt'))
  place = re.compile(rf'(?<![\w.}}$)*-])/(?:{folders})/[\w.]')
  files = [ROOT / name for name in (*SETUP_FILES, '.ci/run', '.gitignore')]
  for folder in (
    'requirements',
    'scripts',
    'acme_hieros',
    'launchers',
    'tests',
  ):
    files += [
      path
      for path in (ROOT / folder).rglob('*')
      if path.suffix in ('.in', '.py', '.sh', '.txt')
    ]
  assert place.search('x = "/' + 'home/me"')
  found = [str(path) for path in files if place.search(path.read_text())]
  assert not found


def test_the_lock_names_no_host():
  for path in (ROOT / 'requirements').iterdir():
    assert not re.search(r'://|--(extra-)?index|--find-links', path.read_text())
