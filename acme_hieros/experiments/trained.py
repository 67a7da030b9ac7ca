"""What a run has learned: to act by, to judge and to look into."""

import dataclasses
import functools
from typing import Any

import dm_env
import jax
import numpy as np

from acme_hieros.experiments import evaluation, runs
from acme_hieros.models import dreams, hierarchy
from acme_hieros.models import level as level_lib
from acme_hieros.models.ops import backend
from acme_hieros.policies import policy
from acme_hieros.visualization import pictures, videos


@dataclasses.dataclass(frozen=True)
class Imagined:
  """What an agent expects of the next H steps of one environment.

  observation: that each step would show, by name, [H, ...].
  action: that it would take, [H, ...].
  reward: that each step would bring, as it is learned: its tanh where the
    run's `reward_transform` says so; [H].
  continuation: probability that the episode goes on after it, [H].
  """

  observation: dict[str, np.ndarray]
  action: np.ndarray
  reward: np.ndarray
  continuation: np.ndarray

  def pictures(self) -> np.ndarray:
    """The first image of the observation, uint8 [H, height, width, 3].

    Raises:
      ValueError: nothing that is observed is an image.
    """
    for image in self.observation.values():
      if image.dtype == np.uint8 and image.ndim == 4:
        return pictures.as_rgb(image)
    raise ValueError('What the agent observes has no image.')

  def save(self, path: str):
    """Writes `pictures` as an animation (GIF)."""
    videos.write(path, videos.ahead(self.pictures()))


class Agent(policy.Policy):
  """What a run has learned by one of its checkpoints.

  Example:
    agent = acme_hieros.load('runs/catch')
    environment = agent.make_environment()
    action = agent.act(environment.reset().observation)
    print(agent.imagine(steps=5).reward)
    print(agent.evaluate(episodes=2))

  Attributes:
    learned: all that the checkpoint holds of it.
  """

  def __init__(
    self, learned: runs.Learned, deterministic: bool = False, seed: int = 0
  ):
    """Creates an agent; see `Policy`."""
    self.learned = learned
    self._deterministic = deterministic
    self._seed = seed
    super().__init__(
      learned.networks,
      [level_lib.policy_params(level.params) for level in learned.state],
      {
        'environment': learned.run.environment_name,
        'environment_options': dict(learned.run.environment_options),
        'steps': learned.steps,
        'updates': learned.updates,
        'checkpoint': learned.checkpoint,
        'written_by': learned.written_by,
      },
      deterministic,
      seed,
    )
    self._dream_key = jax.device_put(
      jax.random.fold_in(self._key, 1), self._cpu
    )

  def make_environment(self, seed: int = 0) -> dm_env.Environment:
    """One like those that it has learned in."""
    return self.learned.run.make_environment(seed)

  def evaluate(
    self, episodes: int = 100, environments: int = 8, video: bool = False
  ) -> evaluation.Summary | None:
    """Plays episodes of its own, as `hieros evaluate` does.

    What was played is written to `evaluation/` of the work directory. What
    `act` remembers stays as it is.

    Args:
      episodes: to play.
      environments: that are played in at once.
      video: film the episodes of the first one, an MP4 file beside the rest.

    Returns:
      How well that went; None if Ctrl-C has ended it.

    Raises:
      ValueError: a number that cannot be, or nothing can be filmed.
      environment_loop.BrokenEnvironmentError: one that breaks down for good.
    """
    settings = evaluation.Settings(
      episodes, environments, self._deterministic, self._seed
    )
    return evaluation.evaluate(self.learned, settings, video).summary

  def imagine(self, steps: int = 15, environment: int = 0) -> Imagined:
    """What it expects after its last action if it goes on as it would.

    Subgoals stay as they are. What comes is drawn anew with each call.

    Args:
      steps: H, to look ahead.
      environment: which one, where it acts in several.

    Raises:
      ValueError: it has not acted yet, or there is no such environment.
    """
    if self._state is None:
      raise ValueError('Nothing was seen yet: act(observation) comes first.')
    if steps < 1 or not 0 <= environment < len(self._starting):
      raise ValueError(
        f'steps={steps} must be at least 1, and environment={environment} one '
        f'of the {len(self._starting)} that it acts in.'
      )
    self._dream_key, key = jax.random.split(self._dream_key)
    dream = self._dream(
      self._dream_params, key, self._state.memories, environment, steps
    )
    dream = jax.tree.map(lambda x: np.asarray(x)[0], dream)
    return Imagined(**dream._asdict())

  @functools.cached_property
  def _dream_params(self) -> level_lib.Params:
    return jax.device_put(self.learned.state[0].params, self._cpu)

  @functools.cached_property
  def _dream(self) -> Any:
    def dream(params, key, packed, environment, steps):
      memories = jax.tree.map(
        lambda x: x[environment][None], self.networks.memories(packed)
      )
      return dreams.dream(
        self.networks.levels[0],
        params,
        key,
        memories[0],
        hierarchy.subgoal(memories, 0),
        steps,
        self._deterministic,
      )

    return jax.jit(backend.for_cpu(dream), static_argnums=4)
