"""All that can be seen of an agent in an episode, drawn into a directory."""

import glob
import os
import shutil
from typing import Any

import dm_env
import jax

from acme_hieros.experiments import pictures, recording, videos
from acme_hieros.models import hierarchy

_DPI = 100


class Visualizer:
  """Draws an agent whose parameters may change.

  It writes open_loop.png (and .gif), episode.png (and .gif), eigenvalues.png
  and, where there are several levels, subgoals.png. Animations and subgoals
  need an image among the observations.
  """

  def __init__(
    self, networks: hierarchy.Hierarchy, max_steps: int, horizon: int
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
      directory: that the files go to; it is new or whole, never half done.
      deterministic: take the likeliest actions instead of sampling.

    Returns:
      What was played.
    """
    play_key, forecast_key = jax.random.split(key)
    episode = self._recorder.record(
      params, environment, play_key, deterministic
    )
    partial = f'{directory}.partial'
    shutil.rmtree(partial, ignore_errors=True)
    os.makedirs(partial)
    self._draw(params, episode, forecast_key, partial)
    shutil.rmtree(directory, ignore_errors=True)
    os.rename(partial, directory)
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
    for name, frames in (
      ('open_loop', videos.open_loop(observation, episode, starts, forecast)),
      (
        'episode',
        videos.episode(self._networks.config, observation, episode),
      ),
    ):
      videos.write(os.path.join(directory, f'{name}.gif'), frames)


def directory(workdir: str, steps: int) -> str:
  """Where a run's pictures after so many steps are."""
  return os.path.join(workdir, 'pictures', f'{steps:09d}')


def files(directory: str) -> list[str]:
  """The pictures and animations in a directory that was drawn, sorted."""
  return sorted(
    path
    for extension in ('png', 'gif')
    for path in glob.glob(os.path.join(directory, f'*.{extension}'))
  )
