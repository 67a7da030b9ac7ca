"""Runs that are begun from Python."""

from acme_hieros import compat  # noqa: F401, I001  Comes before Acme.

import os
import threading

import pytest
import untrained

import acme_hieros
from acme_hieros import config as config_lib
from acme_hieros.experiments import sessions, training
from benchmarks import smallest


@pytest.fixture
def trained(monkeypatch, tmp_path):
  """Calls `train` in a directory of its own; returns what would be run."""
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(training, 'Trainer', untrained.Trainer)
  small = {n.replace('.', '__'): v for n, v in smallest.OVERRIDES.items()}

  def train(environment='debug/catch', **settings):
    acme_hieros.train(environment, **{'preset': 'tiny', **small, **settings})
    return untrained.Trainer.last

  return train


def test_what_is_given_is_run(trained, capsys):
  run = trained(
    num_steps=500,
    seed=3,
    environment_options={'rows': 5},
    system='flat',
    world_model__deter_size=6,
    picture_minutes=0,
    cpu_minutes=2,
    envs_per_actor=2,
    workdir='here',
  )
  wanted = {**smallest.OVERRIDES, 'world_model.deter_size': 6}
  assert run.config == config_lib.override(
    config_lib.preset('tiny', 'flat'), wanted
  )
  assert (run.num_steps, run.seed, run.workdir) == (500, 3, 'here')
  assert (run.cpu_minutes, run.envs_per_actor) == (2, 2)
  assert run.picture_minutes == 0 and run.environment_options == {'rows': 5}
  said = capsys.readouterr().out
  assert 'debug/catch: 500 steps or 2 CPU minutes, everything in here' in said
  assert 'level 0: 1.50 M parameters' in said


def test_what_is_not_given_is_as_on_the_command_line(trained, monkeypatch):
  run = trained()
  assert run.num_steps == 3000 and run.launch == 'local'
  assert os.path.dirname(run.workdir) == 'runs' or 'runs' in run.workdir
  # A CPU is all there is.
  sized = sessions.make_run('debug/catch', None, 'hieros', {}, None, workdir='')
  assert sized.config == config_lib.preset('small')
  assert sized.num_steps == 100_000


def test_a_run_goes_on_where_there_is_one(trained, capsys):
  first = trained(workdir='here', resume=True)
  assert not first.resume
  with pytest.raises(ValueError, match='here'):
    trained(workdir='here')
  again = trained(workdir='here', resume=True, num_steps=4000)
  assert again.resume and again.num_steps == 4000
  assert 'Continuing after' in capsys.readouterr().out
  with pytest.raises(ValueError, match='seed'):
    trained(workdir='here', resume=True, seed=1)
  with pytest.raises(ValueError, match='workdir'):
    trained(resume=True)


def test_advice_is_for_whoever_asked(trained, capsys, monkeypatch):
  trained(workdir='here')
  with pytest.raises(ValueError, match='resume=True from Python') as error:
    trained(workdir='here')
  assert '--workdir' not in str(error.value)
  ended = untrained.summary(interrupted=True)
  monkeypatch.setattr(untrained.Trainer, 'train', lambda self: ended)
  capsys.readouterr()
  trained(workdir='there')
  said = capsys.readouterr().out
  assert "acme_hieros.train(..., resume=True, workdir='here')" in said
  assert '--resume' not in said


@pytest.mark.parametrize(
  'settings,part',
  [
    ({'environment': 'debug/cach'}, 'debug/catch'),
    ({'preset': 'huge'}, 'tiny'),
    ({'system': 'muzero'}, 'dreamerv3'),
    ({'world_model__deter': 1}, 'world_model.deter_size'),
    ({'sead': 1}, 'sead'),
    ({'num_steps': 1}, '1 steps'),
    ({'launch': 'rocket'}, 'local_mp'),
    ({'num_actors': 2}, 'num_actors=2'),
    ({'track': 'mlflow'}, "'mlflow' is unknown; known: wandb"),
    ({'logger_factory': 3}, 'logger_factory=3'),
    (
      {'logger_factory': threading.Lock().acquire, 'launch': 'local_mp'},
      'logger_factory cannot be sent',
    ),
  ],
)
def test_what_cannot_be_run_gets_a_sentence_and_leaves_nothing(
  trained, tmp_path, settings, part
):
  with pytest.raises(ValueError, match=part) as error:
    trained(**settings)
  assert '\n' not in str(error.value)
  assert not list(tmp_path.rglob('*'))
  # Where runs are, others stay.
  (tmp_path / 'runs').mkdir()
  with pytest.raises(ValueError, match=part):
    trained(**settings)
  assert list(tmp_path.rglob('*')) == [tmp_path / 'runs']
