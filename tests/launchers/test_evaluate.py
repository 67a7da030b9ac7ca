"""Evaluation from the command line to the files, and what is refused."""

import json
import pathlib
import shutil
import subprocess
import sys

import pytest
import untrained

from acme_hieros import version

ROOT = pathlib.Path(__file__).parents[2]
SCRIPT = ROOT / 'launchers' / 'evaluate.py'


@pytest.fixture(scope='module')
def launch(load_launcher):
  return load_launcher('evaluate')


@pytest.fixture(scope='module')
def finished(compile_quickly, tmp_path_factory):
  """A run in episodes of random lengths, with two checkpoints."""
  path = tmp_path_factory.mktemp('finished') / 'run'
  untrained.make_workdir(
    path, 'debug/random_length', {'max_length': 9}, steps=[100, 200], depth=1
  )
  return path


@pytest.fixture
def copied(finished, tmp_path):
  """A copy of it, to be spoilt."""
  return shutil.copytree(finished, tmp_path / 'copy')


def snapshot(path):
  return {
    str(file): file.read_bytes() if file.is_file() else None
    for file in pathlib.Path(path).rglob('*')
  }


def assert_sentence(error, *parts):
  assert isinstance(error, str), error
  # sys.exit prints a string to stderr and exits with code 1.
  assert error.startswith('evaluate: ') and '\n' not in error
  assert error.endswith('.')
  for part in parts:
    assert str(part) in error


def test_it_plays_says_how_well_that_went_and_writes_it(launch, copied, capsys):
  assert launch(f'--workdir={copied}', '--episodes=9') == 0
  said, line = capsys.readouterr()
  summary = json.loads((copied / 'evaluation' / '000002.json').read_text())
  lines = (copied / 'evaluation' / '000002.jsonl').read_text().splitlines()
  assert summary['episodes'] == len(lines) == 9
  for part in (
    'debug/random_length: 9 episodes by checkpoint 000002 (200 steps, 100 '
    'updates), sampled actions',
    f'{summary["mean"]:.4g} ± {summary["standard_error"]:.4g}',
    f'median {summary["median"]:.4g}',
    str(copied / 'evaluation' / '000002.json'),
    str(copied / 'evaluation' / '000002.jsonl'),
  ):
    assert part in said
  assert '9/9' in line and 'step/s' in line


def test_flags_say_what_is_played(launch, copied, capsys):
  code = launch(
    f'--workdir={copied}',
    '--checkpoint=1',
    '--episodes=3',
    '--envs=2',
    '--seed=7',
    '--deterministic',
  )
  assert code == 0
  directory = copied / 'evaluation'
  summary = json.loads((directory / '000001-deterministic.json').read_text())
  assert summary['checkpoint'] == '000001' and summary['seed'] == 7
  assert summary['deterministic'] and summary['episodes'] == 3
  lines = (directory / '000001-deterministic.jsonl').read_text().splitlines()
  indices = [json.loads(line)['environment_index'] for line in lines]
  assert indices == [0, 1, 0]
  assert 'likeliest actions' in capsys.readouterr().out


def test_a_damaged_checkpoint_is_told_and_the_one_before_is_played(
  launch, copied, capsys
):
  path = copied / 'checkpoints' / '000002' / 'learner.npz'
  path.write_bytes(path.read_bytes()[:-100])
  assert launch(f'--workdir={copied}', '--episodes=1') == 0
  said, warned = capsys.readouterr()
  assert 'checkpoint 000001' in said
  assert '000002 is damaged' in warned and 'one before is used' in warned
  assert (copied / 'evaluation' / '000001.json').exists()
  # But not in place of one that was asked for.
  before = snapshot(copied)
  error = launch(f'--workdir={copied}', '--checkpoint=2')
  assert_sentence(error, path.parent, 'damaged')
  assert snapshot(copied) == before


@pytest.mark.parametrize(
  'arguments,parts',
  [
    (['--episodes=0'], ['episodes=0', 'at least 1']),
    (['--envs=0'], ['environments=0', 'at least 1']),
    (['--seed=-1'], ['seed=-1']),
    (['--checkpoint=7'], ['no checkpoint 7', '000001, 000002']),
    (['--checkpoint=-1'], ['no checkpoint -1', '000001, 000002']),
    (['surely'], ['surely', '--name=value']),
  ],
)
def test_what_cannot_be_played_is_refused(launch, finished, arguments, parts):
  before = snapshot(finished)
  error = launch(f'--workdir={finished}', *arguments)
  assert_sentence(error, *parts)
  assert snapshot(finished) == before


def test_a_run_has_to_be_named(launch):
  assert_sentence(launch(), '--workdir')


def test_what_is_no_run_is_refused(launch, tmp_path):
  assert_sentence(
    launch(f'--workdir={tmp_path}'), f'{tmp_path} holds no run', 'config.json'
  )
  none = tmp_path / 'none'
  assert_sentence(launch(f'--workdir={none}'), f'{none} does not exist')
  assert not list(tmp_path.iterdir())
  (tmp_path / 'file').write_text('mine')
  assert_sentence(launch(f'--workdir={tmp_path / "file"}'), tmp_path / 'file')


@pytest.mark.parametrize(
  'wrote,said',
  [
    # Versions before 0.2.0 did not say.
    (None, 'was written by version 0.1.0'),
    ('0.1.9', 'was written by version 0.1.9'),
    (version.VERSION, 'holds no run of this version'),
  ],
)
def test_a_run_of_another_version_is_told_by_which(launch, copied, wrote, said):
  path = copied / 'config.json'
  found = json.loads(path.read_text())
  assert found.pop('version') == version.VERSION
  if wrote:
    found['version'] = wrote
  found['agent']['precision'] = 'float64'
  path.write_text(json.dumps(found))
  error = launch(f'--workdir={copied}')
  assert_sentence(error, f'{copied} {said}', "precision='float64'")


def test_a_run_without_a_checkpoint_yet_is_told(launch, copied):
  shutil.rmtree(copied / 'checkpoints')
  before = snapshot(copied)
  error = launch(f'--workdir={copied}')
  assert_sentence(error, copied / 'checkpoints', 'no complete checkpoint yet')
  assert snapshot(copied) == before


def test_another_agents_checkpoints_are_refused(launch, copied):
  config = json.loads((copied / 'config.json').read_text())
  config['agent']['world_model']['deter_size'] = 6
  (copied / 'config.json').write_text(json.dumps(config))
  before = snapshot(copied)
  error = launch(f'--workdir={copied}')
  assert_sentence(error, '000002', 'another agent or version')
  assert snapshot(copied) == before


def test_a_checkpoint_of_another_version_is_refused(
  launch, copied, monkeypatch
):
  """One that is whole but says nothing of counts."""
  monkeypatch.setattr(
    untrained, 'make_metadata', lambda run, steps: {'steps': steps}
  )
  shutil.rmtree(copied)
  untrained.make_workdir(copied, 'debug/random_length', {}, depth=1)
  assert_sentence(launch(f'--workdir={copied}'), '000001', 'another version')


@pytest.mark.parametrize(
  'content',
  [
    'no',
    '[]',
    '{}',
    '{"environment": 3}',
    b'\xff\xfe',
    {'agent': {'wings': 2}},
    {'agent': {'depth': 99}},
    {'environment': 'debug/cach'},
    {'environment_options': {'colour': 'red'}},
    {'seed': -1},
  ],
)
def test_a_broken_configuration_is_refused(launch, copied, content):
  path = copied / 'config.json'
  if isinstance(content, dict):
    content = json.dumps(json.loads(path.read_text()) | content)
  path.write_bytes(content if isinstance(content, bytes) else content.encode())
  before = snapshot(copied)
  error = launch(f'--workdir={copied}')
  assert isinstance(error, str) and error.startswith('evaluate: ')
  assert '\n' not in error and error.endswith(('.', '?'))
  assert str(copied) in error
  assert snapshot(copied) == before


def test_as_a_program_it_fails_without_a_traceback(tmp_path):
  done = subprocess.run(
    [sys.executable, str(SCRIPT), f'--workdir={tmp_path / "none"}'],
    capture_output=True,
    text=True,
  )
  assert done.returncode == 1 and done.stdout == ''
  assert done.stderr == f'evaluate: {tmp_path / "none"} does not exist.\n'
