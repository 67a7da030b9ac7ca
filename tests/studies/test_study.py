"""What the file of a study says, and what is refused."""

import pathlib

import pytest

from acme_hieros import config as config_lib
from acme_hieros.studies import study

RUN_ON = {'environment': 'debug/catch', 'preset': 'tiny'}
RUN = {**RUN_ON, 'num_steps': 100}


def names(content):
  return [run.name for run in study.read(content).runs]


def test_a_grid_has_all_combinations_the_first_seed_first():
  found = study.read({'run': RUN, 'grid': {'seed': [0, 7], 'depth': [1, 2]}})
  assert [run.name for run in found.runs] == [
    'debug_catch-depth=1-seed=0',
    'debug_catch-depth=2-seed=0',
    'debug_catch-depth=1-seed=7',
    'debug_catch-depth=2-seed=7',
  ]
  last = found.runs[-1]
  assert last.values['seed'] == 7 and last.config.depth == 2
  assert last.config == config_lib.override(
    config_lib.preset('tiny'), {'depth': 2}
  )


def test_a_list_has_its_own_and_multiplies_with_a_grid():
  content = {
    'run': RUN,
    'grid': {'seed': [0, 1]},
    'list': [
      {'name': 'narrow', 'world_model': {'deter_size': 8}},
      {'system': 'rssm', 'environment': 'debug/echo'},
    ],
  }
  assert names(content) == [
    'debug_catch-narrow-seed=0',
    'debug_echo-system=rssm-seed=0',
    'debug_catch-narrow-seed=1',
    'debug_echo-system=rssm-seed=1',
  ]
  found = study.read(content)
  assert found.runs[0].config.world_model.deter_size == 8
  assert found.runs[1].config.world_model.core == 'gru'


def test_more_seeds_leave_the_names_of_others_as_they_were():
  one = names({'run': RUN, 'grid': {'seed': [0], 'depth': [1]}})
  more = names({'run': RUN, 'grid': {'seed': [0, 1], 'depth': [1, 2]}})
  assert set(one) < set(more)


def test_options_of_environments_are_fields_as_well():
  found = study.read(
    {
      'run': {**RUN, 'environment_options': {'observation': 'vector'}},
      'grid': {'environment_options': {'rows': [4, 5]}},
    }
  )
  assert found.runs[1].name == 'debug_catch-rows=5-seed=0'
  assert found.runs[1].environment_options == {
    'observation': 'vector',
    'rows': 5,
  }
  study.check_environments(found)


def test_a_variant_replaces_whole_tables():
  content = {
    'name': 'x',
    'question': 'Why?',
    'run': {**RUN, 'depth': 2},
    'grid': {'seed': [0, 1, 2]},
    'variants': {
      'laptop': {'run': {**RUN, 'cpu_minutes': 5}, 'cost': 'An hour.'}
    },
  }
  found = study.read(content, 'laptop')
  assert found.name == 'x-laptop' and found.cost == 'An hour.'
  assert found.question == 'Why?' and len(found.runs) == 3
  assert found.runs[0].cpu_minutes == 5.0
  assert found.runs[0].config.depth == config_lib.preset('tiny').depth


def test_what_is_compared_has_a_group_for_each_value():
  content = {
    'run': RUN,
    'list': [{'system': 'flat'}, {'system': 'rssm', 'depth': 1}],
    'answer': {'compare': 'system', 'against': 'rssm'},
  }
  assert list(study.read(content).groups().values()) == ['flat', 'rssm']


def flags_of(command):
  """The values of each flag."""
  found = {}
  for word in command[3:]:
    name, _, value = word.removeprefix('--').partition('=')
    found.setdefault(name, []).append(value)
  return found


def test_a_run_is_a_command_that_anybody_could_give(monkeypatch):
  from acme_hieros.commands import train

  (run,) = study.read(
    {
      'run': {
        **RUN,
        'seed': 3,
        'system': 'rssm',
        'depth': 2,
        'picture_minutes': 0,
        'environment_options': {'observation': 'vector', 'rows': 4},
        'subgoals': {'duration': [2, 3]},
      }
    }
  ).runs
  command = run.training('/w')
  assert command[:3] == ['-m', 'acme_hieros', 'train']
  for name in train.FLAGS:
    train.FLAGS[name].unparse()
  train.FLAGS(['hieros train', *command[3:]])
  made = train._new_run()
  assert dict(made.identity()) == {
    **run.identity(),
    'environment_options': {'observation': 'vector', 'rows': 4},
  }
  assert made.num_steps == 100 and made.workdir == '/w'
  assert train.FLAGS['picture_minutes'].value == 0
  played = flags_of(run.evaluating('/w', study.Evaluation(episodes=9)))
  assert played['episodes'] == ['9'] and played['env'] == ['debug/catch']


@pytest.mark.parametrize(
  'content,parts',
  [
    ({}, ['no runs', '[grid]']),
    ({'runs': {}}, ['no runs', 'mean run?']),
    ({'run': {**RUN, 'sed': 1}}, ['no field sed', 'mean seed?']),
    ({'run': {**RUN, 'dept': 1}}, ["'dept'", 'mean depth?']),
    ({'run': {**RUN, 'depth': 'deep'}}, ["depth='deep'"]),
    ({'run': {**RUN, 'seed': 1.5}}, ['seed=1.5', 'whole number']),
    ({'run': {**RUN, 'num_steps': 0}}, ['num_steps=0', 'at least 1']),
    ({'run': {**RUN, 'preset': 'huge'}}, ["'huge'", 'tiny']),
    ({'run': RUN, 'grid': {'seed': []}}, ['grid of seed', 'at least one']),
    ({'run': RUN, 'grid': {'seed': 3}}, ['grid of seed', 'list']),
    ({'run': RUN, 'list': []}, ['[[list]]']),
    (
      {'run': RUN, 'grid': {'seed': [1, 1]}},
      ['two runs', 'debug_catch-seed=1'],
    ),
    ({'run': RUN, 'list': [{'name': 'a'}, {'name': 'a'}]}, ['two runs', 'a-']),
    ({'run': {'preset': 'tiny', 'num_steps': 1}}, ['no environment']),
    ({'run': {**RUN_ON, 'seed': 2}}, ['nothing ends', 'cpu_minutes']),
    ({'run': 3}, ['[run]']),
    ({'run': RUN, 'question': 3}, ['question', 'text']),
    ({'run': RUN, 'needs': {'cpu': 1}}, ['needs.cpu', 'needs.cpus?']),
    ({'run': RUN, 'needs': {'gpus': 0.5}}, ['gpus=0.5', 'whole']),
    ({'run': RUN, 'needs': {'cpus': 'all'}}, ["cpus='all'", 'number']),
    (
      {'run': RUN, 'answer': {'compare': 'depth', 'against': 1}},
      ['depth', 'no such field'],
    ),
    (
      {
        'run': RUN,
        'grid': {'depth': [1, 2]},
        'answer': {'compare': 'depth', 'against': 3},
      },
      ['with 3', 'depth=1, depth=2'],
    ),
    ({'run': {**RUN, 'reward': 'x' * 300}}, ['reward']),
    ({'run': RUN, 'list': [{'name': 'x' * 300}]}, ['too long']),
  ],
)
def test_what_is_wrong_is_one_sentence(content, parts):
  with pytest.raises(ValueError) as raised:
    study.read(content)
  said = str(raised.value)
  assert said.startswith('The study study: ') and '\n' not in said
  assert all(part in said for part in parts), said


def test_files_that_are_none(tmp_path):
  with pytest.raises(ValueError, match='cannot be read .No such file'):
    study.read(tmp_path / 'none.toml')
  path = pathlib.Path(tmp_path / 'bad.toml')
  path.write_text('run = [')
  with pytest.raises(ValueError, match='is no TOML'):
    study.read(path)
  path.write_text('[run]\nenvironment = "debug/catch"\n')
  with pytest.raises(ValueError, match='The study bad: no preset'):
    study.read(path)
  with pytest.raises(ValueError, match="no variant 'x'; there is none"):
    study.read(path, 'x')


def test_an_environment_that_there_is_not_is_said_before_anything_runs():
  found = study.read({'run': {**RUN, 'environment': 'debug/cat'}})
  with pytest.raises(ValueError, match='debug/cat'):
    study.check_environments(found)
