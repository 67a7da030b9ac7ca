"""Episodes filmed while they are played: what came beside what was imagined."""

from collections.abc import Sequence

from acme import types
import dm_env
import jax
import numpy as np

from acme_hieros import extras
from acme_hieros.agent import acting
from acme_hieros.experiments import runs
from acme_hieros.models import dreams, hierarchy, spaces
from acme_hieros.models.ops import backend
from acme_hieros.visualization import pictures, videos

# Steps without looking; then the model looks, and imagines anew.
HORIZON = 15

# How often an episode's last frame is shown.
_LAST = 10


class FilmingActor:
  """A `BatchActor` that films what happens in the first of its environments.

  Level 0 looks every HORIZON steps and in between imagines, under the actions
  that are taken, as `diagnostics.forecast` does. It acts by what it sees all
  the time, as if nobody filmed it.
  """

  def __init__(
    self,
    actor: acting.BatchActor,
    learned: runs.Learned,
    film: videos.Film,
    seed: int = 0,
  ):
    """Creates it.

    Args:
      actor: that acts.
      learned: what it acts by.
      film: that frames are written to.
      seed: of what is imagined.
    """
    self._actor = actor
    self._film = film
    self._networks = learned.networks
    self._name = pictures.images(learned.networks.observation_spaces)[0]
    cpu = jax.local_devices(backend='cpu')[0]
    self._params = jax.device_put(learned.state[0].params.world_model, cpu)
    self._key = jax.device_put(jax.random.PRNGKey(seed), cpu)
    level = learned.networks.levels[0]

    @jax.jit
    @backend.for_cpu
    def look(params, packed):
      memory = _first(learned.networks.memories(packed)[0])
      decoded = level.world_model.decode(params, memory.state)
      shown = dreams.as_shown(level.observation_spaces, decoded)
      return memory.state, shown[self._name][0]

    @jax.jit
    @backend.for_cpu
    def follow(params, key, state, packed):
      memory = _first(learned.networks.memories(packed)[0])
      key, own = jax.random.split(key)
      state, shown = dreams.follow(level, params, own, state, memory.action)
      return key, state, shown[self._name][0]

    self._look, self._follow = look, follow
    self._episodes = 0
    self._steps, self._return = 0, 0.0
    self._observation = np.zeros(0)

  def observe_first(self, index: int, timestep: dm_env.TimeStep):
    self._actor.observe_first(index, timestep)
    if index == 0:
      self._episodes += 1
      self._steps, self._return = 0, 0.0
      self._observation = self._image(timestep)

  def select_actions(
    self, observations: Sequence[types.NestedArray]
  ) -> Sequence[types.NestedArray]:
    actions = self._actor.select_actions(observations)
    if self._steps % HORIZON == 0 and self._observation.size:
      self._state, seen = self._look(self._params, self._actor.state.memories)
      if not self._steps:
        self._show(self._observation, seen, 0)
    return actions

  def observe(
    self,
    actions: Sequence[types.NestedArray],
    timesteps: Sequence[dm_env.TimeStep | None],
  ):
    self._actor.observe(actions, timesteps)
    timestep = timesteps[0]
    if timestep is None:  # It broke down, or has played its share.
      self._observation = np.zeros(0)
      return
    ahead = self._steps % HORIZON + 1
    self._steps += 1
    self._return += float(timestep.reward)
    self._key, self._state, expected = self._follow(
      self._params, self._key, self._state, self._actor.state.memories
    )
    for _ in range(_LAST if timestep.last() else 1):
      self._show(self._image(timestep), expected, ahead)

  def _image(self, timestep: dm_env.TimeStep) -> np.ndarray:
    return spaces.flatten_observation(timestep.observation)[self._name]

  def _show(self, real: np.ndarray, expected: np.ndarray, ahead: int):
    self._film.write(
      videos.compared(
        f'episode {self._episodes}, step {self._steps}, return '
        f'{self._return:.6g}',
        pictures.as_rgb(np.asarray(real)),
        pictures.as_rgb(np.asarray(expected)),
        ahead,
      )
    )


def begin(learned: runs.Learned, path: str) -> videos.Film:
  """A film of what an agent plays.

  Args:
    learned: of the agent.
    path: of the file, MP4.

  Raises:
    ValueError: nothing can be filmed, and why.
  """
  if not pictures.images(learned.networks.observation_spaces):
    raise ValueError(
      f'{learned.run.environment_name} shows no image, so there is nothing to '
      'film: evaluate it without a video.'
    )
  try:
    return videos.Film(path)
  except ModuleNotFoundError as error:
    raise ValueError(extras.missing('imageio-ffmpeg', 'video')) from error


def _first(memory: hierarchy.LevelMemory) -> hierarchy.LevelMemory:
  """That of the first environment, [1, ...]."""
  return jax.tree.map(lambda x: x[:1], memory)
