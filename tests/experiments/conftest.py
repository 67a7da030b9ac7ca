"""A work directory that is open."""

import pytest

from acme_hieros.storage import workdirs


@pytest.fixture
def workdir(tmp_path):
  workdir = workdirs.Workdir(str(tmp_path / 'run'))
  workdir.open({'seed': 1}, {'num_steps': 2}, False)
  yield workdir
  workdir.close()
