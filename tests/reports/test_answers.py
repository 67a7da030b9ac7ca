"""What studies answer, against pairs that are counted by hand."""

import json

import made_up
import pytest

from acme_hieros.reports import answers, contents, writing


def asked(groups, against='', **texts):
  words = dict.fromkeys(('question', 'expected', 'source', 'cost'), '')
  return writing.Asked(**{**words, **texts}, groups=groups, against=against)


@pytest.fixture
def answer(tmp_path):
  """Writes runs by what they are one of, and their scores by environment."""

  def answer(scores, against='', **fields):
    groups = {}
    for group, by_task in scores.items():
      for task, values in by_task.items():
        for seed, value in enumerate(values):
          path = tmp_path / f'{group}-{task.replace("/", "_")}-{seed}'
          depth = 1 + sorted(scores).index(group)
          made_up.write_run(
            path, task, seed, evaluation=value, depth=depth, **fields
          )
          groups[str(path)] = group
    systems, left_out = contents.read(groups)
    assert not left_out
    return answers.make(systems, asked(groups, against), 500)['answers']

  return answer


def test_better_worse_and_open(answer):
  better, worse, unsure = answer(
    {
      'base': {'debug/catch': [1.0, 2.0, 3.0, 4.0, 5.0]},
      'high': {'debug/catch': [6.0, 7.0, 8.0, 9.0, 10.0]},
      'low': {'debug/catch': [0.5, 0.4, 0.3, 0.2, 0.1]},
      'same': {'debug/catch': [1.0, 2.0, 3.0, 4.0, 5.0]},
    },
    'base',
  )
  assert 'On these 10 runs in 1 environment high is better than base' in better
  assert 'in 100 % of the pairs' in better and 'too narrow' not in better
  assert 'low is worse than base' in worse and 'in 0 % of the pairs' in worse
  assert 'same is neither shown to be better nor worse than base' in unsure
  # Of 25 pairs 10 are won and 5 are draws.
  assert 'in 50 % of the pairs' in unsure


def test_pairs_are_of_one_environment_and_of_equally_many_runs(answer):
  (said,) = answer(
    {
      # Of the pairs of the first two runs: 3 of 4 in the one environment, and
      # 0 of 4 in the other, whose scores are larger.
      'a': {'debug/catch': [1.0, 4.0], 'debug/echo': [10.0, 11.0, 99.0]},
      'b': {'debug/catch': [0.0, 2.0], 'debug/echo': [20.0, 21.0]},
      'c': {'debug/recall': [0.0]},
    },
    'b',
  )[:1]
  assert 'On these 8 runs in 2 environments' in said
  # (3 + 0) of 8.
  assert 'in 38 % of the pairs' in said and 'with 2 runs of each' in said


def test_what_cannot_be_compared_says_so(answer):
  single, nothing = answer(
    {
      'a': {'debug/catch': [1.0]},
      'b': {'debug/catch': [0.0]},
      'c': {'debug/echo': [0.0]},
    },
    'a',
  )
  assert 'it is open how b stands to a' in single
  assert 'single runs have no interval' in single
  assert nothing == 'No environment has finished runs of both c and a.'


def test_without_a_comparison_all_runs_stand_where_others_do(answer):
  # As Wang et al. (1511.06581) have them: a human, and random play, in Krull;
  # half way in Boxing.
  (said,) = answer(
    {'all': {'atari/Krull': [2665.5, 1598.0], 'atari/Boxing': [6.1, 6.1]}}
  )
  assert '0: random play, 1: human' in said
  assert 'mean 0.500 (0.250 to 0.750)' in said and 'IQM 0.500' in said
  assert 'too narrow with 2 runs' in said


def test_scores_without_a_unit_are_not_averaged(answer):
  (said,) = answer({'all': {'debug/catch': [1.0], 'atari/Krull': [1.0]}})
  assert 'no unit in common' in said and 'debug/catch' in said


def test_a_page_has_question_answer_and_what_was_expected(tmp_path, capsys):
  groups = {}
  for seed in range(2):
    for depth in (1, 2):
      path = tmp_path / f'{depth}-{seed}'
      made_up.write_run(path, seed=seed, depth=depth, evaluation=depth)
      groups[str(path)] = f'depth=<{depth}>'
  out = str(tmp_path / 'r.html')
  question = asked(
    groups, 'depth=<1>', question='Why?', expected='No.', source='2310.05167'
  )
  writing.write(list(groups), out, 50, question)
  said = capsys.readouterr().out
  assert 'Answer: On these 4 runs' in said
  page = (tmp_path / 'r.html').read_text()
  assert '<h2>Why?</h2>' in page and '2310.05167' in page
  assert 'depth=&lt;2&gt; is better than depth=&lt;1&gt;' in page
  content = json.loads((tmp_path / 'r.json').read_text())
  assert content['study']['expected'] == 'No.'
  writing.write(list(groups), out, 50)
  assert 'Why?' not in (tmp_path / 'r.html').read_text()
