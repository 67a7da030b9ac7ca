"""What needs no Acme does without it."""

from imported import PACKAGE, loaded, names_of
import pytest

NOT_NEEDED = ('acme', 'launchpad', 'reverb', 'tensorflow')


@pytest.mark.parametrize(
  'folder', ['machines', 'policies', 'reports', 'scores', 'storage']
)
def test_no_part_of_acme_is_imported(folder):
  names = names_of(sorted((PACKAGE / folder).rglob('*.py')))
  assert loaded(names, NOT_NEEDED) == []


@pytest.mark.parametrize('name', ['learner', 'accuracy'])
def test_models_are_measured_without_it(name):
  assert loaded([f'benchmarks.{name}'], NOT_NEEDED) == []
