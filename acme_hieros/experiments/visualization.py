"""All that can be seen of an agent in an episode, drawn into a directory."""

from collections.abc import Callable
import contextlib
import os
import shutil
import tempfile
import time
from typing import Any

import dm_env
import jax

from acme_hieros.experiments import (
  environment_loop,
  figures,
  loggers,
  pictures,
  recording,
  runs,
  videos,
)
from acme_hieros.models import hierarchy
from acme_hieros.storage import thinning, workdirs

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

# Sets of pictures that a run keeps; one has some 6 MB, and as much again in
# TensorBoard's files.
MOST_SETS = 20

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
    observation = self._networks.observation_spaces
    starts, forecast = self._recorder.forecast(
      params, episode, key, self._horizon
    )

    def save(figure: Any, name: str):
      figures.take_literally(figure)
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
    for path in _inside(self._workdir.pictures):
      if os.path.basename(path).startswith(_PARTIAL):
        shutil.rmtree(path, ignore_errors=True)
    self._visualizer = Visualizer(networks)
    self._report = report
    self._last = time.monotonic()

  def draw_if_due(self, read: Callable[[], tuple[recording.Params, int]]):
    """Draws if it is time.

    Args:
      read: gives all parameters of each level, and the steps they come after.
    """
    minutes = self._run.picture_minutes
    if minutes > 0 and time.monotonic() - self._last > 60 * minutes:
      self.draw(read)

  def draw(self, read: Callable[[], tuple[recording.Params, int]]):
    """Draws the agent; `read` as in `draw_if_due`."""
    try:
      self._draw(*read())
    except Exception as error:  # Whatever it is, the run is worth more.
      reason = environment_loop.in_one_line(error)
      self._report(f'The agent could not be drawn ({reason}).')
    self._last = time.monotonic()

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
    loggers.log_pictures(self._workdir, files(path), steps)
    self._thin()

  def _thin(self):
    """Gives up pictures of the past: a long run must not fill the disk."""
    ours = []
    for path in _inside(self._workdir.pictures):
      name = os.path.basename(path)
      if name.isdecimal() and path == self._workdir.pictures_of(int(name)):
        # What somebody has put something into, or elsewhere, is not given up.
        if _is_replaceable(path) and not os.path.islink(path):
          ours.append(int(name))
    for steps in thinning.superfluous(ours, MOST_SETS):
      shutil.rmtree(self._workdir.pictures_of(steps), ignore_errors=True)
      for path in loggers.picture_event_files(self._workdir, steps):
        with contextlib.suppress(OSError):
          os.remove(path)


def files(directory: str) -> list[str]:
  """The pictures and animations in a directory that was drawn."""
  paths = [os.path.join(directory, name) for name in _NAMES]
  return [path for path in paths if os.path.exists(path)]


def _inside(directory: str) -> list[str]:
  """The paths of all that lies in a directory, if it can be read."""
  try:
    names = os.listdir(directory)
  except OSError:
    return []
  return [os.path.join(directory, name) for name in names]


def _is_replaceable(directory: str) -> bool:
  """Whether there is nothing else than pictures of an agent."""
  return os.path.isdir(directory) and set(os.listdir(directory)) <= set(_NAMES)


def _check_replaceable(directory: str):
  if os.path.exists(directory) and not _is_replaceable(directory):
    raise ValueError(
      f'{directory} holds other things than pictures of an agent, which would '
      'be lost; choose another directory.'
    )
