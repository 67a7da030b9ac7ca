"""The studies that come with the project, and the file in the documents."""

import pathlib
import re

import pytest
import tomli

from acme_hieros.scores import atari
from acme_hieros.studies import study, tasks

ROOT = pathlib.Path(__file__).parents[2]
FILES = sorted((ROOT / 'studies').glob('*.toml'))


def test_those_of_the_papers_are_there():
  assert [file.stem for file in FILES] == [
    'atari100k',
    'control',
    'depth',
    'hybrid',
    'memory',
    'rssm',
    's5_actor',
    'sampling',
    'size',
  ]


@pytest.mark.parametrize('variant', ['', 'laptop'])
@pytest.mark.parametrize('file', FILES, ids=lambda file: file.stem)
def test_each_says_what_it_asks_expects_and_costs(file, variant):
  found = study.read(str(file), variant)
  for text in study.TEXTS:
    assert getattr(found, text).endswith(
      ('.', '?') if text in ('question', 'expected', 'cost') else ''
    )
    assert getattr(found, text)
  if found.answer.compare:
    assert len(set(found.groups().values())) > 1
    assert len(found.groups()) == len(found.runs)
  seeds = {run.values['seed'] for run in found.runs}
  assert len(seeds) >= (2 if variant else 3)
  some = found.runs[0]
  study.check_environments(
    study.Study('x', [some], found.needs, found.evaluation, found.answer)
  )


@pytest.mark.parametrize('file', FILES, ids=lambda file: file.stem)
def test_a_laptop_ends_in_about_an_hour(file, tmp_path):
  found = study.read(str(file), 'laptop')
  left = tasks.minutes(tasks.plan(found, str(tmp_path)), found.needs)
  assert sum(left) / 2 <= 66


def test_the_benchmark_is_that_of_the_paper():
  found = study.read(str(ROOT / 'studies' / 'atari100k.toml'))
  games = {run.values['environment'] for run in found.runs}
  assert games == {f'atari/{g}' for g in atari.ATARI_100K if g != 'UpNDown'}
  assert len(found.runs) == 75 and found.evaluation.episodes == 100
  assert {run.num_steps for run in found.runs} == {100_000}


def test_the_file_in_the_documents_is_a_study():
  text = (ROOT / 'docs' / 'studies.md').read_text()
  (block,) = re.findall(r'```toml\n(.*?)```', text, re.DOTALL)
  content = tomli.loads(block)
  assert len(study.read(content).runs) == 12
  found = study.read(content, 'laptop')
  assert len(found.runs) == 4 and found.cost == 'An hour.'
  # Defaults are what is said of them there.
  assert found.evaluation == study.Evaluation()
  assert found.needs == study.Needs(minutes=12)
