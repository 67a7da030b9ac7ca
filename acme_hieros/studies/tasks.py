"""A run of a study on its way: what is to be done next, and what it takes."""

from collections.abc import Sequence
import dataclasses
import os

from acme_hieros.storage import workdirs
from acme_hieros.studies import progress, study

# States, in the order in which a table has them.
TRAINING = 'training'
EVALUATING = 'evaluating'
FAILED = 'failed'
INTERRUPTED = 'interrupted'
WAITING = 'waiting'
FINISHED = 'finished'
STATES = (TRAINING, EVALUATING, FAILED, INTERRUPTED, WAITING, FINISHED)

# What a run costs before and after its steps: start, compilation, evaluation.
_STARTING_MINUTES = 1.5


@dataclasses.dataclass
class Task:
  """A run, and how far it is.

  workdir: of the run. log: of what its programs say.
  state: of STATES. tries: that failed. reason: of the last failure.
  steps, seconds: so far. mean_return: of the last episodes, or of those that
  were played at its end; None before one has ended.
  """

  run: study.Run
  workdir: str
  log: str
  evaluation: study.Evaluation
  state: str = WAITING
  tries: int = 0
  reason: str = ''
  steps: int = 0
  seconds: float = 0.0
  mean_return: float | None = None

  def next(self) -> tuple[str, Sequence[str]] | None:
    """What it does next, TRAINING or EVALUATING, and what `python` is told.

    Returns:
      None where nothing is left to do.

    Raises:
      ValueError: the work directory holds something else.
    """
    if not self._has_ended():
      return TRAINING, self.run.training(self.workdir)
    if self.evaluation.episodes and not self._is_evaluated():
      return EVALUATING, self.run.evaluating(self.workdir, self.evaluation)
    return None

  def look(self):
    """Takes in what the work directory holds; at work, how far it is.

    Raises:
      ValueError: as `next`.
    """
    config = workdirs.Workdir(self.workdir).read_config()
    if config is None:
      return
    found = progress.read(self.workdir)
    self.steps, self.seconds, self.mean_return = found
    if self.state in (TRAINING, EVALUATING):
      return
    wanted = self.run.identity()
    differing = workdirs.differences({n: config.get(n) for n in wanted}, wanted)
    if differing:
      raise ValueError(
        f'{self.workdir} holds a run with another configuration, which differs '
        f'in {", ".join(differing)}: choose another --workdir, or remove it.'
      )
    if self.next() is not None:
      self.state = INTERRUPTED
      return
    self.state = FINISHED
    if self.evaluation.episodes:
      self.mean_return = progress.newest_evaluation(self.workdir)['mean']

  def _has_ended(self) -> bool:
    try:
      return progress.has_ended(
        self.workdir, self.run.num_steps, self.run.cpu_minutes
      )
    except progress.BeyondError as error:
      raise ValueError(
        f'{self.workdir} was to go on for {error}, which is longer than the '
        'study says now: choose another --workdir, or remove it.'
      ) from error

  def _is_evaluated(self) -> bool:
    played = progress.newest_evaluation(self.workdir)
    return (
      played is not None
      and played['steps'] == progress.read(self.workdir).steps
      and played['episodes'] >= self.evaluation.episodes
    )

  @property
  def share(self) -> float:
    """How much of its training is done, from 0 to 1."""
    if self.state in (EVALUATING, FINISHED):
      return 1.0
    shares = [self.steps / self.run.num_steps]
    if self.run.cpu_minutes:
      shares.append(self.seconds / 60 / self.run.cpu_minutes)
    return min(max(shares), 1.0)


def plan(which: study.Study, workdir: str) -> Sequence[Task]:
  """The runs of a study, as they are found in its directory.

  Raises:
    ValueError: one cannot be continued there.
  """
  tasks = []
  for run in which.runs:
    path = os.path.join(workdir, 'runs', run.name)
    log = os.path.join(workdir, 'logs', f'{run.name}.log')
    tasks.append(Task(run, path, log, which.evaluation))
    tasks[-1].look()
  return tasks


def minutes(tasks: Sequence[Task], needs: study.Needs) -> list[float | None]:
  """How long each will still take; None where nobody can know.

  By its CPU minutes, or by its steps and the speed of those that have made
  some, or by what the study says of a run.
  """
  steps = sum(task.steps for task in tasks)
  pace = steps and sum(task.seconds for task in tasks) / steps / 60
  found = []
  for task in tasks:
    if task.state == FINISHED:
      found.append(0.0)
      continue
    whole = [task.run.cpu_minutes] if task.run.cpu_minutes else []
    if pace and 'num_steps' in task.run.values:
      whole.append(pace * task.run.num_steps)
    elif not whole and needs.minutes is not None:
      whole.append(needs.minutes)
    left = min(whole) * (1 - task.share) + _STARTING_MINUTES if whole else None
    found.append(left)
  return found
