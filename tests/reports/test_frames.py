"""Runs as a table."""

import sys

import made_up
import numpy as np
import pytest

import acme_hieros


def test_finished_runs_are_rows(tmp_path):
  for seed in range(2):
    made_up.write_run(tmp_path / f'run{seed}', seed=seed, depth=1)
  made_up.write_run(tmp_path / 'run2', evaluation=0.5, num_steps=2000)
  table = acme_hieros.read_runs(f'{tmp_path}/run*')
  assert list(table.index) == [str(tmp_path / f'run{i}') for i in range(3)]
  assert list(table.seed) == [0, 1, 0]
  assert list(table.steps) == [1000, 1000, 2000]
  assert list(table.configuration) == ['tiny, depth=1'] * 2 + ['tiny']
  assert table.score.iloc[2] == 0.5 and table.episodes.iloc[2] == 100
  assert table.minutes.iloc[0] == pytest.approx(100.5 / 60)
  row = table.iloc[0]
  assert row.score == pytest.approx(np.mean(row.returns))
  assert len(row.returns) == len(row.return_steps) == 20
  assert row.return_steps[-1] == 1000
  assert len(table.groupby('configuration').score.mean()) == 2


def test_what_cannot_be_read_is_left_out_with_the_reason(tmp_path):
  made_up.write_run(tmp_path / 'run')
  (tmp_path / 'empty').mkdir()
  with pytest.warns(UserWarning, match='empty: it holds no run'):
    table = acme_hieros.read_runs([tmp_path / 'run', tmp_path / 'empty'])
  assert list(table.index) == [str(tmp_path / 'run')]
  with pytest.warns(UserWarning, match='empty'):
    assert len(acme_hieros.read_runs(str(tmp_path / 'empty'))) == 0


def test_nothing_to_read_is_told(tmp_path, monkeypatch):
  with pytest.raises(ValueError, match=r'Nothing is called .*none/\*'):
    acme_hieros.read_runs(f'{tmp_path}/none/*')
  monkeypatch.setitem(sys.modules, 'pandas', None)
  with pytest.raises(ValueError, match=r"pandas is missing; .*'\.\[report\]'"):
    acme_hieros.read_runs(f'{tmp_path}/none/*')
