"""What README.md shows of Python is run as it stands there."""

from acme_hieros import compat  # noqa: F401, I001  Comes before Acme.

import ast
import inspect
import pathlib
import re
import types

import made_up
import pytest
import untrained

import acme_hieros
from acme_hieros import config as config_lib
from acme_hieros.config import presets
from acme_hieros.environments import make_environment
from acme_hieros.experiments import (
  periodic_pictures,
  sessions,
  trained,
  training,
)
from acme_hieros.policies import policy
from benchmarks import smallest

README = (pathlib.Path(__file__).parents[1] / 'README.md').read_text()


def snippets(heading):
  """The blocks of Python of a section."""
  section = README.partition(f'\n## {heading}\n')[2].partition('\n## ')[0]
  found = re.findall(r'```python\n(.*?)```', section, re.DOTALL)
  assert found, heading
  return found


@pytest.fixture
def small_world(tmp_path, monkeypatch, compile_quickly):
  """A directory of its own, where 'tiny' is smaller still, and short."""
  tiny = smallest.make_config(depth=1, replay__ratio=2)
  sizes = types.MappingProxyType({**presets.PRESETS, 'tiny': tiny})
  monkeypatch.setattr(presets, 'PRESETS', sizes)
  monkeypatch.setattr(
    periodic_pictures.PeriodicPictures, 'draw', lambda self, read: None
  )
  monkeypatch.setitem(sessions.STEPS, 'tiny', 80)
  monkeypatch.chdir(tmp_path)
  return tmp_path


def test_from_python(small_world, capsys):
  names = {}
  for snippet in snippets('From Python'):
    exec(compile(snippet, 'README.md', 'exec'), names)
  assert names['acme_hieros'].config is config_lib
  said, line = capsys.readouterr()
  # It is not silent.
  assert 'debug/catch: 80 steps' in said and 'updates=' in line
  assert (small_world / 'runs' / 'catch' / 'summary.json').exists()
  assert names['summary'].steps == 80
  assert names['score'].episodes == 20
  assert list(names['table'].index) == ['runs/catch']
  for name in ('dream.gif', 'catch.safetensors'):
    assert (small_world / name).stat().st_size > 100


def examples(thing):
  """The code of a docstring's example."""
  text = inspect.cleandoc(thing.__doc__).partition('Example:\n')[2]
  return inspect.cleandoc(text.partition('\n\n')[0])


@pytest.mark.filterwarnings('ignore:Left out')
def test_examples_in_docstrings(small_world, monkeypatch):
  """They say what they do where somebody has trained and exported."""
  monkeypatch.setattr(training, 'Trainer', untrained.Trainer)
  made_up.write_run(small_world / 'runs' / 'done')
  untrained.make_workdir('runs/catch', 'debug/catch', {}, depth=1)
  observation = make_environment('debug/catch').reset().observation
  acme_hieros.load('runs/catch').export('catch.safetensors')
  for thing in (
    acme_hieros.train,
    acme_hieros.load,
    acme_hieros.read_runs,
    policy.Policy,
    trained.Agent,
  ):
    names = {'acme_hieros': acme_hieros, 'observation': observation}
    exec(compile(examples(thing), thing.__name__, 'exec'), names)
    assert len(names) > 3 or thing is acme_hieros.train, thing


def test_each_job_takes_no_more_lines_than_elsewhere():
  """One to train, beside the import; two to load and to step; one to read."""
  code = ast.unparse(ast.parse('\n'.join(snippets('From Python'))))
  for call in ('.train(', '.load(', '.act(', '.evaluate(', '.read_runs('):
    assert sum(call in line for line in code.splitlines()) == 1, call
