"""Films of evaluated episodes: whole, and what is played is the same."""

from acme_hieros import compat  # noqa: F401, I001  Comes before Acme.

import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest
import untrained

import acme_hieros
from acme_hieros.environments import make_environment
from acme_hieros.experiments import environment_loop, evaluation, runs
from acme_hieros.models import diagnostics, dreams, world_model
from acme_hieros.visualization import pictures, videos

pytestmark = pytest.mark.usefixtures('compile_quickly')

# Rows are steps.
STEPS = 19
SETTINGS = evaluation.Settings(episodes=5, environments=2)


@pytest.fixture(scope='module')
def workdir(compile_quickly, tmp_path_factory):
  path = tmp_path_factory.mktemp('catch') / 'run'
  untrained.make_workdir(path, 'debug/catch', {'rows': STEPS + 1}, depth=2)
  return path


@pytest.fixture
def learned(workdir):
  return runs.read_learned(str(workdir))


class Film:
  """Keeps what it is shown."""

  def __init__(self, path):
    self.path = path
    self.frames = []
    Film.last = self

  def write(self, frame):
    with open(self.path, 'wb') as file:
      file.write(b'a film')
    self.frames.append(frame)

  def close(self):
    pass


@pytest.fixture
def films(monkeypatch):
  """Frames as they are asked for: (title, real, expected, ahead)."""
  monkeypatch.setattr(videos, 'Film', Film)
  monkeypatch.setattr(videos, 'compared', lambda *frame: frame)
  return Film


def test_episodes_are_filmed_from_beginning_to_end(learned, films, workdir):
  evaluation.evaluate(learned, SETTINGS)
  path = workdir / 'evaluation' / '000001.jsonl'
  before = path.read_text()
  outcome = evaluation.evaluate(learned, SETTINGS, video=True)
  assert path.read_text() == before
  assert os.path.basename(outcome.paths[-1]) == '000001.mp4'
  assert os.path.exists(outcome.paths[-1])
  frames = films.last.frames
  # It plays three of the five.
  played = [json.loads(line) for line in before.splitlines()]
  played = [e for e in played if e['environment_index'] == 0]
  assert len(played) == 3
  each = STEPS + 10
  assert len(frames) == 3 * each
  for i, episode in enumerate(played):
    shown = frames[i * each : (i + 1) * each]
    assert shown[0][0] == f'episode {i + 1}, step 0, return 0'
    total = episode['episode_return']
    assert shown[-1][0] == f'episode {i + 1}, step {STEPS}, return {total:g}'
    ahead = [frame[3] for frame in shown]
    wanted = [0, *range(1, 16), *range(1, STEPS - 14)]
    assert ahead == wanted + [wanted[-1]] * 9
  # What came: the ball falls as far in each step.
  balls = [frame[1][:-1].any((1, 2)).argmax() for frame in frames[:STEPS]]
  assert set(np.diff(balls)) == {balls[1] - balls[0]} and balls[1] > balls[0]
  assert all(frame[2].shape == frame[1].shape for frame in frames)


def test_a_film_that_was_interrupted_says_so(learned, films, monkeypatch):
  def break_down(self, i):
    raise environment_loop.BrokenEnvironmentError('It is broken.')

  monkeypatch.setattr(environment_loop.EnvironmentLoop, 'retire', break_down)
  with pytest.raises(environment_loop.BrokenEnvironmentError):
    evaluation.evaluate(
      learned, evaluation.Settings(2, 2, seed=3, deterministic=True), video=True
    )
  names = os.listdir(os.path.join(learned.run.workdir, 'evaluation'))
  assert '000001-deterministic.incomplete.mp4' in names
  assert '000001-deterministic.mp4' not in names
  assert not [name for name in names if name.count('.') > 2]


def test_what_is_imagined_is_an_open_loop_forecast(learned):
  level = learned.networks.levels[0]
  params = learned.state[0].params.world_model
  rng = np.random.default_rng(0)
  actions = level.action_space.encode(rng.integers(0, 2, (1, 4)))
  start = level.world_model.initial_context(1).state
  key = jax.random.PRNGKey(1)
  forecast = diagnostics.forecast(level, params, key, start, actions)
  state = start
  for h, own in enumerate(jax.random.split(key, 4)):
    state, shown = dreams.follow(level, params, own, state, actions[:, h])
    for name, image in shown.items():
      expected = np.asarray(forecast.observation[name][:, h])
      # Programs of their own, which may round in another way.
      np.testing.assert_allclose(
        pictures.as_rgb(np.asarray(image)).astype(int),
        pictures.decoded_image(expected).astype(int),
        atol=1,
      )
  assert isinstance(state, world_model.State)


def test_python_asks_for_films_as_well(workdir, films):
  agent = acme_hieros.load(str(workdir))
  assert agent.evaluate(episodes=1, environments=1, video=True).episodes == 1
  assert len(films.last.frames) == STEPS + 10


def test_what_shows_no_image_is_not_filmed(compile_quickly, tmp_path):
  untrained.make_workdir(tmp_path / 'run', 'debug/recall', {}, depth=1)
  learned = runs.read_learned(str(tmp_path / 'run'))
  with pytest.raises(ValueError, match='debug/recall shows no image') as error:
    evaluation.evaluate(learned, SETTINGS, video=True)
  assert '\n' not in str(error.value)


def test_a_missing_package_is_told(learned, monkeypatch):
  monkeypatch.setitem(sys.modules, 'imageio_ffmpeg', None)
  with pytest.raises(ValueError, match=r"imageio-ffmpeg is .*'\.\[video\]'"):
    evaluation.evaluate(learned, SETTINGS, video=True)


# --- files -------------------------------------------------------------------


def test_a_film_holds_all_frames(tmp_path):
  imageio_ffmpeg = pytest.importorskip('imageio_ffmpeg')
  path = str(tmp_path / 'film.mp4')
  film = videos.Film(path)
  environment = make_environment('debug/catch')
  image = environment.reset().observation
  for brightness in range(0, 250, 10):
    frame = videos.compared(
      'title', *(np.full((*image.shape[:2], 3), brightness, np.uint8),) * 2, 1
    )
    film.write(frame)
  film.close()
  program = imageio_ffmpeg.get_ffmpeg_exe()
  about = subprocess.run([program, '-i', path], capture_output=True, text=True)
  assert 'h264' in about.stderr and '15 fps' in about.stderr
  raw = subprocess.run(
    [program, '-i', path, '-f', 'rawvideo', '-pix_fmt', 'rgb24', '-'],
    capture_output=True,
  )
  height, width = (-(-side // 16) * 16 for side in frame.shape[:2])
  shown = np.frombuffer(raw.stdout, np.uint8).reshape(-1, height, width, 3)
  assert len(shown) == 25
  middle = frame.shape[0] // 2
  seen = [int(f[middle, 40].mean()) for f in shown]
  np.testing.assert_allclose(seen, range(0, 250, 10), atol=5)


def test_a_film_that_cannot_be_written_is_told(tmp_path):
  pytest.importorskip('imageio_ffmpeg')
  film = videos.Film(str(tmp_path / 'nowhere' / 'film.mp4'))
  with pytest.raises(OSError) as error:
    for _ in range(1000):
      film.write(np.zeros((64, 64, 3), np.uint8))
    film.close()
  assert 'No such file' in error.value.strerror
  assert '\n' not in error.value.strerror
  film.close()


def test_without_frames_there_is_no_film(tmp_path):
  pytest.importorskip('imageio_ffmpeg')
  videos.Film(str(tmp_path / 'film.mp4')).close()
  assert not os.listdir(tmp_path)
