"""The launcher of reports: what it prints, and what it refuses."""

import io
import json
import os
import sys

import made_up
import pytest

from acme_hieros import command_line, reports


@pytest.fixture(scope='module')
def launch(load_launcher):
  return load_launcher('report')


@pytest.fixture
def report(launch, tmp_path, monkeypatch):
  """Runs the launcher in a directory of the test's own."""
  monkeypatch.chdir(tmp_path)
  return lambda *flags: launch('--replications=20', *flags)


def test_runs_become_a_page_with_its_numbers_beside_it(
  report, tmp_path, capsys
):
  for seed in range(2):
    made_up.write_run(tmp_path / 'runs' / str(seed), seed=seed)
  (tmp_path / 'runs' / 'empty').mkdir()
  assert report('runs/0', 'runs/1', 'runs/empty', 'runs/none') is None
  said = capsys.readouterr().out
  assert 'Left out: runs/empty: it holds no run: it has no config.json.' in said
  assert 'Left out: runs/none: there is no such directory.' in said
  assert 'tiny: 2 runs in 1 environment.' in said
  assert (
    said.splitlines()[-1] == 'Report: report.html, its numbers: report.json'
  )
  numbers = json.loads((tmp_path / 'report.json').read_text())
  assert [run['path'] for run in numbers['runs']] == ['runs/0', 'runs/1']
  assert numbers['replications'] == 20
  assert '</html>' in (tmp_path / 'report.html').read_text()


def test_a_terminal_without_their_letters_shows_all_names(
  report, tmp_path, monkeypatch
):
  terminal = io.TextIOWrapper(io.BytesIO(), encoding='ascii')
  monkeypatch.setattr(sys, 'stdout', terminal)
  monkeypatch.setattr(sys, 'stderr', io.TextIOWrapper(io.BytesIO()))
  command_line.outlive_readers()
  made_up.write_run(tmp_path / 'h\u00e9ros', environment='gym/\u6a5f')
  bytes_only = os.fsdecode(b'\xff\x1b')
  (tmp_path / bytes_only).mkdir()
  assert report('h\u00e9ros', bytes_only, '--out=\u00e9.html') is None
  terminal.flush()
  said = terminal.buffer.getvalue().decode('ascii')
  assert r'Left out: \udcff\x1b: it holds no run' in said
  assert r'Report: \xe9.html' in said


def test_the_page_goes_where_it_is_wanted(report, tmp_path):
  made_up.write_run(tmp_path / 'run')
  assert report('run', '--out=pages/krull.v2.html') is None
  assert sorted(p.name for p in (tmp_path / 'pages').iterdir()) == [
    'krull.v2.html',
    'krull.v2.json',
  ]


def test_nothing_that_can_be_reported_is_an_error(report, tmp_path, capsys):
  made_up.write_run(tmp_path / 'none', episodes=0)
  (tmp_path / 'empty').mkdir()
  error = report('none', 'empty')
  # sys.exit prints a string to stderr and exits with code 1.
  assert error == (
    'report: none of these runs can be reported, for the reasons above.'
  )
  said = capsys.readouterr().out
  assert 'none: no episode ended in its 1,000 steps.' in said
  assert 'empty: it holds no run' in said
  assert sorted(p.name for p in tmp_path.iterdir()) == ['empty', 'none']


@pytest.mark.parametrize(
  'flags,parts',
  [
    ([], ['work directories', 'runs/*']),
    (['run', '--out=report.pdf'], ['report.pdf', '.html']),
    (['run', '--out=run/config.json/x.html'], ['config.json']),
    (['run', '--replications=0'], ['replications=0', 'at least 1']),
  ],
)
def test_bad_flags_give_one_sentence(report, flags, parts, tmp_path):
  made_up.write_run(tmp_path / 'run')
  error = report(*flags)
  assert error.startswith('report: ') and '\n' not in error
  for part in parts:
    assert part in error
  assert sorted(p.name for p in tmp_path.iterdir()) == ['run']


@pytest.mark.parametrize('name', ['rliable', 'jinja2'])
def test_what_is_not_installed_is_named_with_what_installs_it(
  name, report, monkeypatch
):
  monkeypatch.setitem(sys.modules, name, None)
  for module in ('aggregates', 'contents', 'pages', 'plots'):
    monkeypatch.delitem(
      sys.modules, f'acme_hieros.reports.{module}', raising=False
    )
    monkeypatch.delattr(reports, module, raising=False)
  # The package is on no index: by its name pip would not find it.
  assert report('run') == (
    f"report: {name} is missing; pip install '.[report]' in a checkout brings "
    'it.'
  )
