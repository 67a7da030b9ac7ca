"""Pictures of a checkpoint, from the command line to the files."""

import os

import pytest
import untrained

from acme_hieros.experiments import runs
from acme_hieros.visualization import drawing


@pytest.fixture(scope='module')
def launch(load_launcher):
  return load_launcher('visualize')


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  path = tmp_path_factory.mktemp('visualized') / 'run'
  untrained.make_workdir(path, 'debug/catch', {'rows': 5}, steps=[70, 90])
  return path


def test_pictures_of_the_newest_checkpoint(launch, finished, capsys):
  assert launch(f'--workdir={finished}') is None
  directory = finished / 'pictures' / '000000090'
  assert sorted(os.listdir(directory)) == [
    'eigenvalues.png',
    'episode.gif',
    'episode.png',
    'open_loop.gif',
    'open_loop.png',
    'subgoals.png',
  ]
  said = capsys.readouterr().out
  assert 'after 90 steps' in said
  for name in os.listdir(directory):
    assert name in said
  assert os.listdir(finished / 'pictures') == ['000000090']


@pytest.mark.parametrize(
  'arguments,said',
  [
    (['--workdir={empty}'], 'holds no run'),
    (['--workdir={empty}/nowhere'], 'does not exist'),
    ([], '--workdir=<directory of a run> is needed'),
    (['--workdir={finished}', '--checkpoint=7'], 'it holds 000001, 000002'),
    (['--workdir={finished}', '--max_steps=0'], '--max_steps=0'),
    (['--workdir={finished}', '--horizon=-1'], '--horizon=-1'),
    (['--workdir={finished}', '--seed=-1'], '--seed=-1'),
    (['--workdir={finished}', 'all'], "'all' is not a flag"),
    (['--workdir={finished}', '--out={finished}'], 'would be lost'),
    (['--workdir={finished}', '--out={finished}/config.json'], 'would be lost'),
  ],
)
def test_what_cannot_be_drawn_is_said_in_a_sentence(
  launch, finished, tmp_path, arguments, said
):
  arguments = [x.format(empty=tmp_path, finished=finished) for x in arguments]
  error = launch(*arguments)
  assert error.startswith('visualize: ')
  assert said in error
  assert '\n' not in error
  assert runs.read_learned(str(finished)).steps == 90


def test_a_run_without_a_checkpoint_is_named(launch, tmp_path):
  run = runs.Run(
    'debug/catch', untrained.make_config(depth=1), 1000, str(tmp_path / 'run')
  )
  runs.prepare(run).workdir.close()
  error = launch(f'--workdir={tmp_path / "run"}')
  assert 'no complete checkpoint yet' in error


@pytest.mark.parametrize(
  'error', [RuntimeError('no screen\nat all'), SystemExit(0)]
)
def test_an_environment_that_breaks_down_is_told(
  launch, finished, monkeypatch, error
):
  def draw(*unused_arguments):
    raise error

  monkeypatch.setattr(drawing.Visualizer, 'draw', draw)
  said = launch(f'--workdir={finished}')
  assert said.startswith('visualize: ')
  assert type(error).__name__ in said and '\n' not in said
