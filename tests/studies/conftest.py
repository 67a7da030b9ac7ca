"""Studies whose runs are pretended."""

import pretended_runs
import pytest


@pytest.fixture
def pretended(tmp_path, monkeypatch):
  """Runs are a program that does next to nothing, in the test's directory."""
  return pretended_runs.pretend(tmp_path, monkeypatch)
