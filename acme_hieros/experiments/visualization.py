"""All that can be seen of an agent in an episode, drawn into a directory."""

from collections.abc import Callable
import glob
import os
import shutil
import tempfile
import time
from typing import Any

import dm_env
import jax

from acme_hieros.experiments import (
  environment_loop,
  pictures,
  recording,
  runs,
  videos,
  workdirs,
)
from acme_hieros.models import hierarchy

# Of an episode that is drawn, and of a prediction in it.
MAX_STEPS = 200
HORIZON = 50

_DPI = 100

_NAMES = (
  'eigenvalues.png',
  'episode.gif',
  'episode.png',
  'open_loop.gif',
  'open_loop.png',
  'subgoals.png',
)

# What begins so is not complete.
_PARTIAL = '.partial-'

# Tells the random numbers of drawing from those of a run's other parts.
_SEED_NAME = 0x70_69_63


class Visualizer:
  """Draws an agent whose parameters may change.

  It writes open_loop.png (and .gif), episode.png (and .gif), eigenvalues.png
  and, where there are several levels, subgoals.png. Animations and subgoals
  need an image among the observations.
  """

  def __init__(
    self,
    networks: hierarchy.Hierarchy,
    max_steps: int = MAX_STEPS,
    horizon: int = HORIZON,
  ):
    """Creates a visualizer.

    Args:
      networks: of the agent.
      max_steps: of the episode are shown.
      horizon: steps ahead of the open-loop predictions.
    """
    self._networks = networks
    self._horizon = horizon
    self._recorder = recording.Recorder(networks, max_steps)

  def draw(
    self,
    params: recording.Params,
    environment: dm_env.Environment,
    key: jax.Array,
    directory: str,
    deterministic: bool = False,
  ) -> recording.Recording:
    """Plays an episode and draws it.

    Args:
      params: all parameters of each level.
      environment: to play in.
      key: random key.
      directory: that the files go to. It is whole or as it was, never half
        done; older pictures in it are replaced.
      deterministic: take the likeliest actions instead of sampling.

    Returns:
      What was played.

    Raises:
      ValueError: there is something else in that directory.
    """
    directory = os.path.abspath(os.path.expanduser(directory))
    _check_replaceable(directory)
    parent = os.path.dirname(directory)
    os.makedirs(parent, exist_ok=True)
    play_key, forecast_key = jax.random.split(key)
    episode = self._recorder.record(
      params, environment, play_key, deterministic
    )
    partial = tempfile.mkdtemp(prefix=_PARTIAL, dir=parent)
    try:
      os.chmod(partial, 0o755)
      self._draw(params, episode, forecast_key, partial)
      _check_replaceable(directory)
      shutil.rmtree(directory, ignore_errors=True)
      os.rename(partial, directory)
    except BaseException:
      shutil.rmtree(partial, ignore_errors=True)
      raise
    return episode

  def _draw(
    self,
    params: recording.Params,
    episode: recording.Recording,
    key: jax.Array,
    directory: str,
  ):
    observation = self._networks.observation
    starts, forecast = self._recorder.forecast(
      params, episode, key, self._horizon
    )

    def save(figure: Any, name: str):
      figure.savefig(os.path.join(directory, f'{name}.png'), dpi=_DPI)

    save(
      pictures.open_loop(observation, episode, starts, forecast), 'open_loop'
    )
    figure, _ = pictures.episode(self._networks.config, observation, episode)
    save(figure, 'episode')
    save(pictures.eigenvalues(params), 'eigenvalues')
    if not pictures.images(observation):
      return
    if len(self._networks.levels) > 1:
      pictured = [
        self._recorder.picture_subgoals(params, episode, level)
        for level in range(len(self._networks.levels) - 1)
      ]
      save(pictures.subgoals(observation, episode, pictured), 'subgoals')
    # One after the other: their frames need memory.
    for name, frames in (
      ('open_loop', videos.open_loop(observation, episode, starts, forecast)),
      ('episode', videos.episode(self._networks.config, observation, episode)),
    ):
      videos.write(os.path.join(directory, f'{name}.gif'), frames)


class PeriodicPictures:
  """Draws the agent of a run every so often, while it is learning.

  The pictures go to the work directory and to TensorBoard. What goes wrong is
  reported, and the run goes on.
  """

  def __init__(
    self,
    run: runs.Run,
    networks: hierarchy.Hierarchy,
    report: Callable[[str], None],
  ):
    """Creates it; nothing is drawn or compiled yet.

    Args:
      run: says how often.
      networks: of its agent.
      report: is told in a sentence why there are no pictures.
    """
    self._run = run
    self._workdir = workdirs.Workdir(run.workdir)
    # Of a process that was killed while it drew.
    for path in glob.glob(os.path.join(self._workdir.pictures, f'{_PARTIAL}*')):
      shutil.rmtree(path, ignore_errors=True)
    self._visualizer = Visualizer(networks)
    self._report = report
    self._last = time.time()

  def draw_if_due(self, read: Callable[[], tuple[recording.Params, int]]):
    """Draws if it is time.

    Args:
      read: gives all parameters of each level, and the steps they come after.
    """
    minutes = self._run.picture_minutes
    if minutes > 0 and time.time() - self._last > 60 * minutes:
      self.draw(read)

  def draw(self, read: Callable[[], tuple[recording.Params, int]]):
    """Draws the agent; `read` as in `draw_if_due`."""
    try:
      self._draw(*read())
    except Exception as error:  # Whatever it is, the run is worth more.
      reason = environment_loop.in_one_line(error)
      self._report(f'The agent could not be drawn ({reason}).')
    self._last = time.time()

  def _draw(self, params: recording.Params, steps: int):
    path = self._workdir.pictures_of(steps)
    if os.path.exists(path):
      return  # There is nothing new.
    seeds = runs.seed_sequence(self._run, steps, _SEED_NAME).generate_state(2)
    environment = self._run.make_environment(int(seeds[0]))
    try:
      key = jax.random.PRNGKey(int(seeds[1]))
      self._visualizer.draw(params, environment, key, path)
    finally:
      environment_loop.close(environment, self._report)
    self._workdir.log_pictures(files(path), steps)


def files(directory: str) -> list[str]:
  """The pictures and animations in a directory that was drawn."""
  paths = [os.path.join(directory, name) for name in _NAMES]
  return [path for path in paths if os.path.exists(path)]


def _check_replaceable(directory: str):
  if os.path.exists(directory) and not (
    os.path.isdir(directory) and set(os.listdir(directory)) <= set(_NAMES)
  ):
    raise ValueError(
      f'{directory} holds other things than pictures of an agent, which would '
      'be lost; choose another directory.'
    )
