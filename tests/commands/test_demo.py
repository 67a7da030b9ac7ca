"""The demo, around what is learned."""

import sys
import types

import made_up
import pytest

from acme_hieros import reports
from acme_hieros.commands import demo, train


@pytest.fixture
def play(tmp_path, monkeypatch):
  """Runs the demo where a run has just ended; returns its exit code."""
  path = tmp_path / 'run'

  def play(**summary):
    made_up.write_run(path, num_steps=1000)
    made_up.write_pictures(path, 1000)
    ended = types.SimpleNamespace(
      **{'interrupted': False, 'signal': None, 'steps': 1000}
      | {'workdir': str(path), **summary}
    )
    monkeypatch.setattr(train, 'carry_out', lambda program, make_run: ended)
    try:
      demo.main(['hieros demo'])
    except SystemExit as exit:
      return exit.code
    return 0

  return play


def test_its_animation_its_page_and_what_is_next_are_named(
  play, tmp_path, capsys
):
  demo.FLAGS(['hieros demo'])
  assert play() == 0
  said = capsys.readouterr().out
  assert f'Picture: {tmp_path}/run/pictures/000001000/episode.gif' in said
  assert f'Report: {tmp_path}/run/report.html' in said
  assert '</html>' in (tmp_path / 'run' / 'report.html').read_text()
  assert f'hieros evaluate --workdir={tmp_path}/run' in said
  assert f"acme_hieros.load('{tmp_path}/run')" in said


def test_without_the_extra_there_is_all_but_the_page(play, monkeypatch, capsys):
  monkeypatch.setitem(sys.modules, 'jinja2', None)
  for module in ('contents', 'pages'):
    monkeypatch.delitem(
      sys.modules, f'acme_hieros.reports.{module}', raising=False
    )
    monkeypatch.delattr(reports, module, raising=False)
  assert play() == 0
  said, warned = capsys.readouterr()
  assert 'episode.gif' in said and 'Next:' in said
  assert warned == (
    "hieros demo: there is no page: jinja2 is missing; pip install '.[report]' "
    'in a checkout brings it.\n'
  )


def test_one_that_was_stopped_says_so_to_the_shell(play, capsys):
  assert play(interrupted=True, signal='SIGTERM') == 128 + 15
  assert 'Next:' not in capsys.readouterr().out


def test_it_is_the_benchmarks_catch(tmp_path, monkeypatch):
  from acme_hieros import config as config_lib
  from benchmarks import learning

  demo.FLAGS(['hieros demo', f'--workdir={tmp_path}', '--seed=3'])
  run = demo._make_run()
  flags = dict(
    flag.lstrip('-').split('=', 1)
    for flag in learning.CASES['catch'].flags
    if not flag.startswith('--override')
  )
  assert run.environment == flags['env'] and run.seed == 3
  assert run.num_steps <= int(flags['num_steps'])
  overrides = dict(
    flag.partition('=')[2].split('=')
    for flag in learning.CASES['catch'].flags
    if flag.startswith('--override')
  )
  assert run.config == config_lib.override(
    config_lib.preset('tiny'), {'depth': flags['depth'], **overrides}
  )
