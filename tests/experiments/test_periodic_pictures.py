"""A run's agent is drawn when it is time, and nothing else is touched."""

import os

from PIL import Image
import pytest
from tensorboard.backend.event_processing import event_accumulator
import untrained

from acme_hieros.environments import make_environment
from acme_hieros.experiments import periodic_pictures, runs
from acme_hieros.visualization import drawing

pytestmark = pytest.mark.usefixtures('compile_quickly')


def make_run(path, minutes):
  return runs.Run(
    environment='debug/catch',
    environment_options={'rows': 5},
    config=untrained.make_config(depth=2),
    num_steps=1000,
    workdir=str(path),
    picture_minutes=minutes,
  )


@pytest.fixture(scope='module')
def agent(compile_quickly):
  """Networks, and parameters of their one level."""
  return untrained.make_agent(make_environment('debug/catch', rows=5), depth=1)


def test_a_run_is_drawn_when_it_is_time(agent, tmp_path, monkeypatch):
  run = make_run(tmp_path / 'run', 10.0)
  networks, params = agent
  now = 1000.0
  monkeypatch.setattr(periodic_pictures.time, 'monotonic', lambda: now)
  said = []
  periodic = periodic_pictures.PeriodicPictures(run, networks, said.append)
  periodic.draw_if_due(lambda: (params, 50))
  assert not os.path.exists(tmp_path / 'run' / 'pictures')
  now += 601.0
  periodic.draw_if_due(lambda: (params, 150))
  periodic.draw_if_due(lambda: (params, 151))
  assert os.listdir(tmp_path / 'run' / 'pictures') == ['000000150']
  assert not said
  events = event_accumulator.EventAccumulator(
    str(tmp_path / 'run' / 'tensorboard' / 'pictures'),
    size_guidance={'images': 0},
  )
  events.Reload()
  names = os.listdir(tmp_path / 'run' / 'pictures' / '000000150')
  assert sorted(events.Tags()['images']) == sorted(
    f'pictures/{name}' for name in names
  )
  (shown,) = events.Images('pictures/episode.gif')
  assert shown.step == 150
  path = tmp_path / 'run' / 'pictures' / '000000150' / 'episode.gif'
  assert shown.encoded_image_string == path.read_bytes()


class _Sketches:
  """Draws nothing, quickly."""

  def __init__(self, networks):
    del networks

  def draw(self, params, environment, key, directory):
    os.makedirs(directory)
    Image.new('RGB', (2, 2)).save(os.path.join(directory, 'episode.png'))


@pytest.mark.parametrize('name', ['run', 'run[seed=1]'])
def test_a_long_run_keeps_some_pictures_and_what_is_not_its_own(
  tmp_path, monkeypatch, name
):
  monkeypatch.setattr(drawing, 'Visualizer', _Sketches)
  monkeypatch.setattr(periodic_pictures, 'MOST_SETS', 4)
  path = tmp_path / name
  said = []
  half_drawn = path / 'pictures' / '.partial-1'
  half_drawn.mkdir(parents=True)
  periodic = periodic_pictures.PeriodicPictures(
    make_run(path, 10.0), None, said.append
  )
  assert not half_drawn.exists()
  mine = {
    '000000001': 'notes.txt',  # Beside pictures, and of a name of theirs.
    'chosen': 'episode.png',
    '2': 'episode.png',
  }
  for directory, file in mine.items():
    (path / 'pictures' / directory).mkdir()
    (path / 'pictures' / directory / file).touch()
  (path / 'pictures' / '000000003').write_text('')
  (path / 'tensorboard' / 'pictures').mkdir(parents=True)
  other = path / 'tensorboard' / 'pictures' / 'events.out.tfevents.1.a.0.v2'
  other.touch()
  for steps in range(100, 1300, 100):
    periodic.draw(lambda steps=steps: ((), steps))
  assert not said
  sets = sorted(set(os.listdir(path / 'pictures')) - {*mine, '000000003'})
  assert len(sets) == 4
  assert (sets[0], sets[-1]) == ('000000100', '000001200')
  for directory, file in mine.items():
    assert (path / 'pictures' / directory / file).exists()
  assert other.exists()
  events = event_accumulator.EventAccumulator(
    str(path / 'tensorboard' / 'pictures'), size_guidance={'images': 0}
  )
  events.Reload()
  shown = [event.step for event in events.Images('pictures/episode.png')]
  assert sorted(shown) == [int(name) for name in sets]


def test_what_cannot_be_drawn_is_reported_and_the_run_goes_on(agent, tmp_path):
  run = make_run(tmp_path / 'run', 10.0)
  networks, params = agent
  said = []
  periodic = periodic_pictures.PeriodicPictures(run, networks, said.append)

  def read():
    raise OSError('No space left on device')

  periodic.draw(read)
  # In place of the directory.
  (tmp_path / 'run').mkdir()
  (tmp_path / 'run' / 'pictures').write_text('in the way')
  periodic.draw(lambda: (params, 10))
  assert len(said) == 2
  assert 'No space left on device' in said[0]
  assert all('\n' not in sentence for sentence in said)


def test_what_a_process_that_was_killed_has_half_drawn_goes_away(
  tmp_path, monkeypatch
):
  monkeypatch.setattr(drawing, 'Visualizer', _Sketches)
  (tmp_path / 'pictures' / '.partial-abc').mkdir(parents=True)
  (tmp_path / 'pictures' / '000000007').mkdir()
  periodic_pictures.PeriodicPictures(make_run(tmp_path, 10.0), None, print)
  assert os.listdir(tmp_path / 'pictures') == ['000000007']


def test_a_negative_time_between_pictures_is_refused(tmp_path):
  with pytest.raises(ValueError, match='picture_minutes=-1'):
    runs.prepare(make_run(tmp_path / 'run', -1.0))


@pytest.mark.parametrize('error', [RuntimeError('no screen'), SystemExit(0)])
def test_an_environment_that_cannot_be_played_is_reported(
  tmp_path, monkeypatch, error
):
  class Breaking(_Sketches):
    def draw(self, params, environment, key, directory):
      raise error

  monkeypatch.setattr(drawing, 'Visualizer', Breaking)
  said = []
  periodic = periodic_pictures.PeriodicPictures(
    make_run(tmp_path, 10.0), None, said.append
  )
  periodic.draw(lambda: ([], 7))
  assert len(said) == 1 and type(error).__name__ in said[0]
