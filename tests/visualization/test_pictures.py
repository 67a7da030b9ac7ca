"""Pictures show what they say, the right way up, and none of them is empty."""

import colorsys
import io
import os

import acme
import jax
from matplotlib.figure import Figure
import numpy as np
from PIL import Image
import pytest
import untrained

from acme_hieros import config as config_lib
from acme_hieros.agent import networks as networks_lib
from acme_hieros.environments import debug, make_environment
from acme_hieros.models import spaces
from acme_hieros.visualization import (
  drawing,
  figures,
  pictures,
  recording,
  videos,
)

pytestmark = pytest.mark.usefixtures('compile_quickly')


@pytest.fixture(scope='module')
def catch(compile_quickly):
  """An agent of three levels, an episode of 8 steps and its forecasts."""
  environment = debug.Catch(rows=9, columns=5)
  networks, params = untrained.make_agent(environment, depth=3)
  recorder = recording.Recorder(networks, 20)
  episode = recorder.record(params, environment, jax.random.PRNGKey(0))
  starts, forecast = recorder.forecast(
    params, episode, jax.random.PRNGKey(1), horizon=5
  )
  return networks, params, recorder, episode, starts, forecast


def check_figure(figure):
  """Every axes has something in it, and lines have labels on both axes."""
  parts = [figure, *figure.subfigs]
  found = [axes for part in parts for axes in part.axes]
  assert found
  for axes in found:
    data = [*axes.images, *axes.collections, *axes.lines]
    assert data, axes
    if axes.images:
      (image,) = axes.images
      assert image.origin == 'upper'
      assert np.isfinite(image.get_array()).all()
    else:
      assert axes.get_ylabel(), axes
      # Of several points, or of one with a marker.
      shown = [
        line
        for line in axes.lines
        if line.get_transform() == axes.transData
        and np.isfinite(np.asarray(line.get_ydata(), float)).sum()
        > (line.get_marker() in ('None', None))
      ]
      assert shown or axes.collections, axes.get_ylabel()
  assert any(axes.get_xlabel() for axes in found)


def test_no_figure_is_empty_or_without_labels(catch):
  networks, params, recorder, episode, starts, forecast = catch
  observation = networks.observation_spaces
  check_figure(pictures.open_loop(observation, episode, starts, forecast))
  figure, timelines = pictures.episode(networks.config, observation, episode)
  check_figure(figure)
  assert len(timelines) == 3 + 3 + 2  # The top has no code.
  check_figure(pictures.eigenvalues(networks.levels, params))
  pictured = [
    recorder.picture_subgoals(params, episode, level) for level in (0, 1)
  ]
  figure = pictures.subgoals(observation, episode, pictured)
  check_figure(figure)
  assert len(figure.subfigs) == 2


def titles_of(catch, episode):
  networks, _, _, _, starts, forecast = catch
  observation = networks.observation_spaces
  figure, _ = pictures.episode(networks.config, observation, episode)
  other = pictures.open_loop(observation, episode, starts, forecast)
  return figure.get_suptitle(), other.get_suptitle()


def test_an_episode_that_was_cut_says_so(catch):
  networks, params, _, episode, _, _ = catch
  first, second = titles_of(catch, episode)
  assert first.startswith('A whole episode of 8 steps;')
  assert second.endswith('; a whole episode of 8 steps')
  # That it ends with the last step that is recorded does not cut it.
  environment = debug.Catch(rows=9, columns=5)
  for most, ended in ((8, True), (7, False)):
    shorter = recording.Recorder(networks, most).record(
      params, environment, jax.random.PRNGKey(0)
    )
    assert len(shorter.reward) == most and shorter.ended == ended
  first, second = titles_of(catch, episode._replace(ended=False))
  assert first.startswith('The first 8 steps of an episode that goes on;')
  assert second.endswith('; the first 8 steps of an episode that goes on')


def test_probabilities_are_drawn_between_nothing_and_all(catch):
  networks, _, _, episode, starts, forecast = catch
  figure = pictures.open_loop(
    networks.observation_spaces, episode, starts, forecast
  )
  (axes,) = (a for a in figure.axes if 'probability' in a.get_ylabel())
  assert axes.get_ylim() == (-0.05, 1.05)


def test_rewards_are_drawn_as_they_are_learned(catch, monkeypatch):
  """Beside what is expected, which is of such."""
  networks, params, recorder, _, starts, forecast = catch
  for level in networks.levels:
    monkeypatch.setattr(level, 'reward_as_learned', np.tanh)
  environment = debug.Catch(rows=9, columns=5)
  episode = recorder.record(params, environment, jax.random.PRNGKey(0))
  # All comes at the end; upper levels have a half and a quarter of it.
  assert np.abs(episode.reward).tolist() == [0.0] * 7 + [1.0]
  for record, size in zip(episode.levels, (1.0, 0.5, 0.25)):
    last = np.tanh(size * episode.reward[-1])
    np.testing.assert_allclose(record.reward['extrinsic'][-1], last, rtol=1e-6)

  figure = pictures.open_loop(
    networks.observation_spaces, episode, starts, forecast
  )
  (axes,) = (a for a in figure.axes if a.get_ylabel() == 'reward')
  (real,) = (x for x in axes.lines if x.get_label() == 'real')
  np.testing.assert_allclose(
    real.get_ydata()[1:], np.tanh(episode.reward), rtol=1e-6
  )


def test_strips_are_of_one_size_and_stand_below_each_other(catch):
  networks, _, _, episode, starts, forecast = catch
  figure = pictures.open_loop(
    networks.observation_spaces, episode, starts, forecast
  )
  figure.savefig(io.BytesIO())  # Which lays it out.
  boxes = np.array(
    [axes.get_position().bounds for axes in figure.axes if axes.images]
  ).reshape(3, -1, 4)
  left, bottom, width, height = np.moveaxis(boxes, -1, 0)
  assert np.ptp(left, 0).max() < 1e-6 and np.ptp(bottom, 1).max() < 1e-6
  assert np.ptp(width) < 1e-6 and np.ptp(height) < 1e-6


def test_no_stream_makes_another_flat(catch):
  networks, _, _, episode, _, _ = catch
  level = episode.levels[0]
  small = 0.01 * np.sin(np.arange(9.0))
  large = np.append(np.nan, np.full(8, -500.0))
  assert set(level.reward) == {'extrinsic', 'subgoal'}

  def drawn(**reward):
    changed = level._replace(reward=reward)
    figure, timelines = pictures.episode(
      networks.config,
      networks.observation_spaces,
      episode._replace(levels=[changed, *episode.levels[1:]]),
    )
    (axes,) = (
      a for a in timelines if a.get_ylabel().startswith('level 0\nreward')
    )
    return axes, {line.get_label(): line.get_ydata() for line in axes.lines}

  axes, lines = drawn(extrinsic=large, subgoal=small)
  assert axes.get_ylabel().endswith('shares')
  largest = np.abs(small).max()
  np.testing.assert_allclose(lines['extrinsic\n(1 is 500)'], large / 500)
  np.testing.assert_allclose(
    lines[f'subgoal\n(1 is {largest:.3g})'], small / largest
  )
  # Of one size they are in their units; so are those that are 0 throughout.
  axes, lines = drawn(extrinsic=0 * small, subgoal=large)
  assert axes.get_ylabel() == 'level 0\nreward'
  np.testing.assert_array_equal(lines['subgoal'], large)


def enlarged(frame, index, shape, scale):
  """One picture of an animation's frame, at its own size again."""
  height, width = (scale * side for side in shape)
  left = index * (width + 8) + 8
  part = frame[16 : 16 + height, left : left + width]
  return part[scale // 2 :: scale, scale // 2 :: scale]


def test_an_animation_shows_every_frame_the_right_way_up(catch, tmp_path):
  networks, _, _, episode, starts, forecast = catch
  frames = videos.open_loop(
    networks.observation_spaces, episode, starts, forecast
  )
  path = tmp_path / 'open_loop.gif'
  videos.write(path, frames)
  true = episode.observation['observation']
  scale = round(128 / 20)  # An image of 20 by 12 pixels.
  with Image.open(path) as gif:
    assert gif.n_frames == len(episode.reward) == 8
    for i in range(gif.n_frames):
      gif.seek(i)
      shown = enlarged(np.asarray(gif.convert('RGB')), 0, (20, 12), scale)
      # A GIF has 256 colours.
      difference = shown.astype(int) - true[i + 1]
      assert np.abs(difference).max() <= 8
  # The ball falls from above.
  assert true[1][:6].any() and not true[1][6:-4, :, 0].any()


def test_the_error_is_the_difference_of_the_pictures_beside_it(catch):
  networks, _, _, episode, starts, forecast = catch
  frames = list(
    videos.open_loop(networks.observation_spaces, episode, starts, forecast)
  )
  scale = round(128 / 20)
  real, expected, error = (
    enlarged(frames[6], i, (20, 12), scale).astype(int) for i in range(3)
  )
  np.testing.assert_array_equal(error, np.abs(real - expected))
  # The seventh prediction is the second from the second start.
  decoded = forecast.observation['observation'][1, 1]
  np.testing.assert_allclose(
    expected, 255 * np.clip(decoded + 0.5, 0, 1), atol=0.51
  )


def test_the_cursor_moves_through_the_episode(catch):
  networks, _, _, episode, _, _ = catch
  frames = list(
    videos.episode(networks.config, networks.observation_spaces, episode)
  )
  assert len(frames) == len(episode.reward) + 1
  assert len({frame.shape for frame in frames}) == 1
  marked = []
  for frame in frames:
    orange = (frame == (213, 94, 0)).all(-1).sum(0)
    marked.append(int(orange.argmax()))
  steps = np.diff(marked)
  assert (steps > 0).all()
  assert steps.max() - steps.min() <= 1


def test_one_channel_is_grey_and_three_are_rgb():
  grey = np.arange(6, dtype=np.uint8).reshape((2, 3, 1))
  np.testing.assert_array_equal(
    pictures.as_rgb(grey), np.broadcast_to(grey, (2, 3, 3))
  )
  rgb = np.arange(12, dtype=np.uint8).reshape((2, 2, 3))
  np.testing.assert_array_equal(pictures.as_rgb(rgb), rgb)


@pytest.mark.parametrize('channels', [2, 4, 7, 10])
def test_other_channels_have_hues_of_their_own(channels):
  # A pixel for each, with nothing in the others.
  image = np.diag(np.full(channels, 200, np.uint8))[None]
  expected = [
    [200 * part for part in colorsys.hsv_to_rgb(i / channels, 1, 1)]
    for i in range(channels)
  ]
  rgb = pictures.as_rgb(image)
  np.testing.assert_allclose(rgb[0], expected, atol=0.51)
  assert not pictures.as_rgb(np.zeros_like(image)).any()


def test_no_channel_hides_another():
  # Of four channels: red, yellowish green, cyan and violet.
  image = np.array([[[255, 0, 255, 0], [255, 51, 0, 0]]], np.uint8)
  rgb = pictures.as_rgb(image)
  assert rgb.tolist() == [[[255, 255, 255], [255, 51, 0]]]


def test_a_decoded_image_is_what_was_encoded():
  space = spaces.Image((2, 2, 3))
  image = np.random.default_rng(0).integers(0, 256, (5, 2, 2, 3), np.uint8)
  np.testing.assert_array_equal(
    pictures.decoded_image(np.asarray(space.encode(image))), image
  )
  far = np.full((2, 2, 3), 7.0)
  assert (pictures.decoded_image(far) == 255).all()
  assert (pictures.decoded_image(-far) == 0).all()


def test_eigenvalues_are_those_of_the_layers(catch):
  networks, params, _, _, _, _ = catch
  model = networks.levels[0].world_model
  found = model.eigenvalues(params[0].world_model)
  assert len(found) == 2  # A double block.
  for module, values in found.items():
    layer = params[0].world_model[module]
    rate = -np.exp(layer['log_decay']) + 1j * np.asarray(layer['frequency'])
    np.testing.assert_allclose(
      values, np.exp(rate * np.exp(layer['log_step'])), rtol=1e-5
    )
    assert (np.abs(values) < 1).all()


def test_a_manager_s_subgoals_are_drawn_and_a_gru_has_no_eigenvalues(tmp_path):
  environment = debug.Catch(rows=5, columns=5)
  config = config_lib.override(
    untrained.make_config(depth=1),
    {
      'world_model.core': 'gru',
      'world_model.gru.width': 4,
      'actor_critic.horizon': 2,
      'subgoals.manager': 'policy',
      'subgoals.duration': 2,
    },
  )
  networks = networks_lib.make_networks(
    config, acme.make_environment_spec(environment)
  )
  params = [s.params for s in untrained.draw_state(networks)]
  visualizer = drawing.Visualizer(networks, max_steps=4, horizon=3)
  path = str(tmp_path / 'pictures')
  episode = visualizer.draw(params, environment, jax.random.PRNGKey(0), path)
  assert episode.levels[0].proposed.tolist() == [0, 2, 4]
  names = os.listdir(path)
  assert 'subgoals.png' in names and 'eigenvalues.png' not in names


def test_an_agent_without_images_gets_what_can_be_drawn(tmp_path):
  environment = make_environment('debug/catch', observation='vector')
  networks, params = untrained.make_agent(environment, depth=1)
  visualizer = drawing.Visualizer(networks, 10, 3)
  path = str(tmp_path / 'pictures')
  episode = visualizer.draw(params, environment, jax.random.PRNGKey(0), path)
  assert sorted(os.listdir(path)) == [
    'eigenvalues.png',
    'episode.png',
    'open_loop.png',
  ]
  starts, forecast = visualizer._recorder.forecast(
    params, episode, jax.random.PRNGKey(0), 3
  )
  figure = pictures.open_loop(
    networks.observation_spaces, episode, starts, forecast
  )
  check_figure(figure)
  # Three numbers, reward and continuation.
  assert len(figure.axes) == 5


def test_a_name_in_a_figure_is_no_mathematics():
  figure = Figure()
  axes = figure.add_subplot()
  axes.set_title(r'$\frac{1}{$')
  with pytest.raises(ValueError):
    figure.savefig(io.BytesIO())
  figures.take_literally(figure)
  figure.savefig(io.BytesIO())


def test_what_is_half_drawn_goes_away(catch, tmp_path, monkeypatch):
  networks, params, recorder, episode, *_ = catch
  visualizer = drawing.Visualizer(networks, 20, 5)
  visualizer._recorder = recorder  # It is compiled.

  def fail(*unused_arguments):
    raise OSError('No space left on device')

  monkeypatch.setattr(videos, 'write', fail)
  with pytest.raises(OSError):
    visualizer.draw(
      params,
      debug.Catch(rows=9, columns=5),
      jax.random.PRNGKey(0),
      str(tmp_path / 'pictures' / '1'),
    )
  assert not os.listdir(tmp_path / 'pictures')
