"""What runs have left is read without anything of what has run them."""

from imported import PACKAGE, loaded, names_of
import pytest

NOT_NEEDED = ('acme', 'launchpad', 'reverb', 'tensorflow')


@pytest.mark.parametrize('folder', ['reports', 'scores', 'storage'])
def test_no_part_of_acme_is_imported(folder):
  names = names_of(sorted((PACKAGE / folder).rglob('*.py')))
  assert loaded(names, NOT_NEEDED) == []
