"""Steps the environments of one actor, and rebuilds those that break down."""

from collections.abc import Callable, Sequence

import dm_env
import numpy as np

from acme_hieros.agent import acting
from acme_hieros.environments import checked, checking
from acme_hieros.experiments.episodes import Episode

# An environment that broke down so often without ending an episode stays so.
_MOST_BREAKDOWNS = 5

# Whatever an environment may raise: some end the whole program.
ERRORS = (Exception, SystemExit)

# Of what an error says, in a sentence.
_MOST_CHARACTERS = 200


class BrokenEnvironmentError(RuntimeError):
  """An environment breaks down again and again; the message says how."""


class EnvironmentLoop:
  """The environments of one actor, which takes a step in all of them at once.

  One that raises, or returns what it should not (`environments.checked`), is
  closed and built anew; its episode is over without an end, and what it has
  returned last goes nowhere.
  """

  def __init__(
    self,
    actor: acting.BatchActor,
    make_environment: Callable[[int], dm_env.Environment],
    num_environments: int,
    seeds: np.random.SeedSequence,
    update: Callable[[], None],
    report: Callable[[str], None],
  ):
    """Creates the loop; the environments are built with its first step.

    Args:
      actor: for `num_environments` environments.
      make_environment: seed to environment.
      num_environments: to step.
      seeds: of the environments.
      update: is called after each step, for newer parameters.
      report: is told, in a sentence, that an environment was rebuilt or could
        not be closed.
    """
    self._actor = actor
    self._make_environment = make_environment
    self._rngs = [
      np.random.default_rng(s) for s in seeds.spawn(num_environments)
    ]
    self._update = update
    self._report = report
    self._environments = [None] * num_environments
    self._at_work = list(range(num_environments))
    self._timesteps = [None] * num_environments
    self._returns = np.zeros(num_environments)
    self._lengths = np.zeros(num_environments, int)
    self._breakdowns = [0] * num_environments

  def step(self) -> tuple[int, Sequence[Episode]]:
    """Takes a step in every environment but those that are retired.

    Returns:
      The steps that were taken, and the episodes that have ended with them.

    Raises:
      BrokenEnvironmentError: rebuilding one does not help.
    """
    for i in self._at_work:
      if self._timesteps[i] is None or self._timesteps[i].last():
        self._start_episode(i)
    actions = self._actor.select_actions(
      [timestep.observation for timestep in self._timesteps]
    )
    timesteps = [None] * len(actions)
    for i in self._at_work:
      timesteps[i] = self._timesteps[i] = self._step(i, actions[i])
    self._actor.observe(actions, timesteps)
    self._update()
    steps, ended = 0, []
    for i, timestep in enumerate(timesteps):
      if timestep is None:
        continue
      steps += 1
      self._returns[i] += timestep.reward
      self._lengths[i] += 1
      if timestep.last():
        self._breakdowns[i] = 0
        ended.append(
          Episode(
            float(self._returns[i]),
            int(self._lengths[i]),
            bool(timestep.discount == 0.0),
            i,
          )
        )
    return steps, ended

  def retire(self, i: int):
    """Steps this environment, whose episode has ended, no more.

    The actor goes on to choose an action for it, which nobody takes.
    """
    self._at_work.remove(i)

  def close(self):
    """Closes the environments and lets go of them; one that raises is reported.

    Some have more to give back than they do when they are closed.
    """
    for environment in self._environments:
      if environment is not None:
        close(environment, self._report)
    self._environments.clear()

  def _start_episode(self, i: int):
    while True:
      try:
        if self._environments[i] is None:
          seed = int(self._rngs[i].integers(2**32))
          self._environments[i] = checked(self._make_environment(seed))
        timestep = self._environments[i].reset()
        break
      except ERRORS as error:
        self._break_down(i, error)
    self._timesteps[i] = timestep
    self._returns[i], self._lengths[i] = 0.0, 0
    self._actor.observe_first(i, timestep)

  def _step(self, i: int, action) -> dm_env.TimeStep | None:
    try:
      return self._environments[i].step(action)
    except ERRORS as error:
      self._break_down(i, error)
      return None

  def _break_down(self, i: int, error: BaseException):
    self._breakdowns[i] += 1
    if self._environments[i] is not None:
      close(self._environments[i], lambda unused: None)  # It is broken.
      self._environments[i] = None
    reason = in_one_line(error)
    if self._breakdowns[i] >= _MOST_BREAKDOWNS:
      raise BrokenEnvironmentError(
        f'The environment broke down {self._breakdowns[i]} times in a row '
        f'without ending an episode, the last time by {reason}.'
      ) from error
    self._report(f'The environment broke down and is built anew ({reason}).')


def close(environment: dm_env.Environment, report: Callable[[str], None]):
  """Closes it; one that raises costs nothing but a report, a sentence."""
  try:
    environment.close()
  except ERRORS as error:
    report(f'An environment could not be closed ({in_one_line(error)}).')


def in_one_line(error: BaseException) -> str:
  """What an error is, and the first line of what it says."""
  text = str(error).strip().partition('\n')[0]
  text = f'{type(error).__name__}: {text}'
  if not isinstance(error, checking.UnfitValueError):  # Its advice comes last.
    text = text[:_MOST_CHARACTERS]
  return text.rstrip('.: ')
