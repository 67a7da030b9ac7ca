"""The models run wherever JAX runs: they import nothing else."""

import ast
import sys

from imported import PACKAGE, loaded, names_of
import pytest

MODULES = sorted((PACKAGE / 'models').rglob('*.py'))
FOREIGN = (
  'acme',
  'reverb',
  'tensorflow',
  'launchpad',
  'sonnet',
  'dm_env',
  'gymnasium',
  'gym',
)
ALLOWED = {'haiku', 'jax', 'numpy', 'optax'} | set(sys.stdlib_module_names)


def imported(path):
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f'relative import in {path}'
      yield from (f'{node.module}.{alias.name}' for alias in node.names)


def test_importing_the_models_imports_no_part_of_acme():
  assert loaded([*names_of(MODULES), 'acme_hieros.config'], FOREIGN) == []


@pytest.mark.parametrize(
  'path',
  MODULES,
  ids=lambda p: '.'.join(p.relative_to(PACKAGE / 'models').parts),
)
def test_models_import_only_jax_haiku_optax_numpy_and_each_other(path):
  for name in imported(path):
    top, *rest = name.split('.')
    if top == 'acme_hieros':
      assert rest[0] in ('config', 'models'), name
    else:
      assert top in ALLOWED, name


def test_the_configuration_imports_only_the_standard_library():
  for path in (PACKAGE / 'config').glob('*.py'):
    for name in imported(path):
      inside = name.startswith('acme_hieros.config.')
      assert inside or name.split('.')[0] in sys.stdlib_module_names, name
