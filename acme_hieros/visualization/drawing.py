"""All that can be seen of an agent in an episode, drawn into a directory."""

import os
import shutil
import tempfile
from typing import Any

import dm_env
import jax

from acme_hieros.models import hierarchy
from acme_hieros.visualization import figures, pictures, recording, videos

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
PARTIAL = '.partial-'


class Visualizer:
  """Draws an agent whose parameters may change.

  It writes open_loop.png (and .gif), episode.png (and .gif), where there are
  state space layers eigenvalues.png, and where there are subgoals subgoals.png.
  Animations and subgoals need an image among the observations.
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
    partial = tempfile.mkdtemp(prefix=PARTIAL, dir=parent)
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
    spectra = pictures.eigenvalues(self._networks.levels, params)
    if spectra:
      save(spectra, 'eigenvalues')
    if not pictures.images(observation):
      return
    pictured = [
      self._recorder.picture_subgoals(params, episode, i)
      for i, level in enumerate(self._networks.levels)
      if level.subgoal_space
    ]
    if pictured:
      save(pictures.subgoals(observation, episode, pictured), 'subgoals')
    # One after the other: their frames need memory.
    for name, frames in (
      ('open_loop', videos.open_loop(observation, episode, starts, forecast)),
      ('episode', videos.episode(self._networks.config, observation, episode)),
    ):
      videos.write(os.path.join(directory, f'{name}.gif'), frames)


def files(directory: str) -> list[str]:
  """The pictures and animations in a directory that was drawn."""
  paths = [os.path.join(directory, name) for name in _NAMES]
  return [path for path in paths if os.path.exists(path)]


def is_replaceable(directory: str) -> bool:
  """Whether there is nothing else than pictures of an agent."""
  return os.path.isdir(directory) and set(os.listdir(directory)) <= set(_NAMES)


def _check_replaceable(directory: str):
  if os.path.exists(directory) and not is_replaceable(directory):
    raise ValueError(
      f'{directory} holds other things than pictures of an agent, which would '
      'be lost; choose another directory.'
    )
