"""Plays by what a run has learned, and says how well that goes."""

import collections
from collections.abc import Iterator, Mapping, Sequence
import contextlib
import dataclasses
import os
from typing import Any
import uuid

from acme import core
from acme.utils import loggers as acme_loggers
import jax
import numpy as np

from acme_hieros.agent import builder as builder_lib
from acme_hieros.agent import learning
from acme_hieros.agent import networks as networks_lib
from acme_hieros.experiments import (
  console,
  environment_loop,
  episodes,
  filming,
  loggers,
  runs,
)
from acme_hieros.models import level as level_lib
from acme_hieros.scores import atari as atari_scores
from acme_hieros.scores import references, statistics
from acme_hieros.storage import files, json_lines, reading, workdirs
from acme_hieros.visualization import videos

_MOST_ENVIRONMENTS = 10_000


@dataclasses.dataclass(frozen=True)
class Settings:
  """How to play (docs/algorithm.md, 7).

  episodes: in all.
  environments: that are played in at once, with one call of the policy.
  deterministic: take the likeliest actions and subgoals instead of sampling.
  seed: of environments and actions. What is played depends on the number of
    environments, too.

  Raises:
    ValueError: a number that cannot be.
  """

  episodes: int = 100
  environments: int = 8
  deterministic: bool = False
  seed: int = 0

  def __post_init__(self):
    for name in ('episodes', 'environments'):
      value = getattr(self, name)
      if value < 1:
        raise ValueError(f'{name}={value} must be at least 1.')
    if self.environments > _MOST_ENVIRONMENTS:
      raise ValueError(
        f'environments={self.environments} must be at most '
        f'{_MOST_ENVIRONMENTS}: each is a simulator with memory of its own.'
      )
    if not 0 <= self.seed < 2**32:
      raise ValueError(f'seed={self.seed} must lie in 0..{2**32 - 1}.')

  def shares(self) -> list[int]:
    """Episodes that each environment plays, none of them without any.

    They are fixed beforehand: of those that end first most would be short.
    """
    count = min(self.environments, self.episodes)
    return [len(range(i, self.episodes, count)) for i in range(count)]


@dataclasses.dataclass(frozen=True)
class Summary:
  """How well an agent plays.

  checkpoint: its number, as '000012'; None for the newest policies of a run
    that was at work.
  steps, updates: of actors and learner, until that policy.
  environment: its full name.
  episodes: that were played; the others are of their returns.
  standard_error: of the mean; None for one episode.
  human_normalised: the mean, where 0 is random play and 1 a human's; None where
    nobody has measured them.
  normalised: the mean, where 0 and 1 are what `references.scale` says; None
    where nothing is known of the environment's scores.
  """

  checkpoint: str | None
  steps: int
  updates: int
  environment: str
  seed: int
  deterministic: bool
  episodes: int
  mean: float
  standard_error: float | None
  median: float
  human_normalised: float | None
  normalised: float | None

  def __str__(self) -> str:
    text = f'Return of {self.episodes} episodes: {_readable(self.mean)}'
    if self.standard_error is not None:
      text += f' ± {_readable(self.standard_error)} (mean ± standard error)'
    text += f', median {_readable(self.median)}'
    if self.human_normalised is not None:
      text += f', human-normalised {self.human_normalised:.3f}'
    elif self.normalised is not None:
      scale = references.scale(self.environment)
      text += f', normalised {self.normalised:.3f} ({scale})'
    return text + '.'


def summarise(
  environment: str,
  returns: Sequence[float],
  options: Mapping[str, Any],
  **about: Any,
) -> Summary:
  """Statistics of the returns of at least one episode.

  Args:
    environment: its full name.
    returns: of the episodes.
    options: of the environment; other people's rewards have no `reward_scale`.
    **about: other fields.
  """
  mean = float(np.mean(returns))
  unscaled = references.unscaled(mean, options)
  return Summary(
    environment=environment,
    episodes=len(returns),
    mean=mean,
    standard_error=statistics.standard_error(returns),
    median=float(np.median(returns)),
    human_normalised=atari_scores.human_normalised(environment, unscaled),
    normalised=references.normalised(environment, unscaled, options),
    **about,
  )


def _readable(number: float) -> str:
  """About four digits, and never an exponent for a score."""
  return f'{number:,.0f}' if abs(number) >= 1000 else f'{number:.4g}'


@dataclasses.dataclass(frozen=True)
class Outcome:
  """What came of an evaluation.

  summary: None where it was interrupted.
  played: episodes that have ended.
  paths: of what was written.
  """

  summary: Summary | None
  played: int
  paths: Sequence[str]

  def __str__(self) -> str:
    if self.summary:
      return f'{self.summary}\nWritten: {", ".join(self.paths)}'
    if not self.played:
      return 'Interrupted before an episode had ended; nothing was written.'
    return (
      f'Interrupted after {self.played} episodes, which are in '
      f'{self.paths[0]}. There is no summary, since short episodes end first.'
    )


def evaluate(
  learned: runs.Learned, settings: Settings, video: bool = False
) -> Outcome:
  """Plays to the last episode or to Ctrl-C, and writes what was played.

  It goes to the run's work directory: evaluation/000012.jsonl, or
  000012-deterministic.jsonl, a line an episode, and 000012.json, the summary.
  Older ones stay until the last episode has ended. If it never does, the lines
  of those that have are in 000012.jsonl.incomplete.

  Args:
    learned: what to play by.
    settings: how.
    video: film the episodes of the first environment, from beginning to end,
      in 000012.mp4; see `filming`. What is played is the same. Without the last
      episode it is 000012.incomplete.mp4.

  Raises:
    ValueError: there is nothing to film, or not what it takes.
    workdirs.WorkdirError: the files cannot be written.
    environment_loop.BrokenEnvironmentError: rebuilding one does not help.
  """
  workdir = workdirs.Workdir(learned.run.workdir)
  label = learned.checkpoint + '-deterministic' * settings.deterministic
  path = workdir.evaluation_file(label, 'jsonl')
  incomplete = path + '.incomplete'
  # Somebody else may be evaluating the same checkpoint.
  under_way = f'{path}.{uuid.uuid4().hex[:8]}'
  film_path = workdir.evaluation_file(label, 'mp4')
  film_under_way = f'{under_way}.mp4'
  film = filming.begin(learned, film_under_way) if video else None
  records, summary = [], None
  with contextlib.ExitStack() as stack:
    stack.enter_context(
      workdirs.writing(
        workdir.evaluation, 'make room or change its permissions'
      )
    )
    os.makedirs(workdir.evaluation, exist_ok=True)
    logger = loggers.JsonLinesLogger(under_way)
    stack.callback(logger.close)
    if film:
      stack.callback(film.close)
    played = stack.enter_context(
      contextlib.closing(_play(learned, settings, film))
    )
    try:
      for number, episode in played:
        records.append({'episode': number, **episode._asdict()})
        logger.write(records[-1])
      if len(records) == settings.episodes:
        records.sort(key=lambda record: record['episode'])
        summary_path = workdir.evaluation_file(label, 'json')
        summary = _write(path, summary_path, records, learned, settings)
    except environment_loop.BrokenEnvironmentError as error:
      raise environment_loop.BrokenEnvironmentError(
        f'{error} {len(records)} episodes had ended.'
      ) from error
    finally:
      if records and not summary:
        os.replace(under_way, incomplete)
      else:
        os.remove(under_way)
      if film:
        film.close()
        _keep(film_under_way, film_path, bool(summary))
  if summary:
    files.remove(incomplete)
    paths = [path, summary_path, *([film_path] if film else [])]
    return Outcome(summary, len(records), paths)
  return Outcome(None, len(records), [incomplete] if records else [])


def _keep(film: str, path: str, complete: bool):
  """Gives a film its name; without a frame it is not there."""
  incomplete = path.removesuffix('.mp4') + '.incomplete.mp4'
  if os.path.exists(film):
    os.replace(film, path if complete else incomplete)
  if complete:
    files.remove(incomplete)


def _play(
  learned: runs.Learned, settings: Settings, film: videos.Film | None
) -> Iterator[tuple[int, episodes.Episode]]:
  """Yields episodes, with their numbers, as they end; less after Ctrl-C."""
  shares = settings.shares()
  actor_seed, environment_seeds = np.random.SeedSequence(settings.seed).spawn(2)
  actor = builder_lib.HierosBuilder(learned.run.config).make_batch_actor(
    jax.random.PRNGKey(int(actor_seed.generate_state(1)[0])),
    networks_lib.make_batch_policy(learned.networks, settings.deterministic),
    [None] * len(shares),
    _Constant(learned.state),
  )
  if film:
    actor = filming.FilmingActor(actor, learned, film, settings.seed)
  with contextlib.ExitStack() as stack:
    interruption = stack.enter_context(console.Interruption())
    line = stack.enter_context(console.EpisodesLine(settings.episodes))
    loop = environment_loop.EnvironmentLoop(
      actor,
      learned.run.make_environment,
      len(shares),
      environment_seeds,
      lambda: None,  # There are no newer parameters.
      lambda report: line.write(f'Warning: {report}'),
    )
    stack.callback(loop.close)
    played = [0] * len(shares)
    steps, total = 0, 0.0
    while played != shares and not interruption.requested:
      new_steps, ended = loop.step()
      steps += new_steps
      for episode in ended:
        i = episode.environment_index
        yield i + played[i] * len(shares), episode
        played[i] += 1
        total += episode.episode_return
        if played[i] == shares[i]:
          loop.retire(i)
      count = sum(played)
      line.show(count, steps, total / count if count else None)


class _Constant(core.VariableSource):
  """Gives actors the parameters of a state that nobody trains."""

  def __init__(self, state: learning.TrainingState):
    self._policies = tuple(
      level_lib.policy_params(level.params) for level in state
    )

  def get_variables(self, names: Sequence[str]) -> list[Any]:
    return [self._policies for _ in names]


def _write(
  path: str,
  summary_path: str,
  records: Sequence[Mapping[str, Any]],
  learned: runs.Learned,
  settings: Settings,
) -> Summary:
  """Writes both files of a complete evaluation, or neither."""
  summary = summarise(
    learned.run.environment_name,
    [record['episode_return'] for record in records],
    learned.run.environment_options,
    checkpoint=learned.checkpoint,
    steps=learned.steps,
    updates=learned.updates,
    seed=settings.seed,
    deterministic=settings.deterministic,
  )
  with files.replacing(path, 'w') as file:
    file.writelines(map(json_lines.to_line, records))
    file.flush()  # Where the disk is full, it is found here.
    workdirs.write_json(summary_path, dataclasses.asdict(summary))
  return summary


class EvaluatorLog:
  """What the evaluator nodes of a run have played.

  A line an episode in evaluation/evaluator.jsonl, and in evaluator.json the
  summary of the last ones.
  """

  def __init__(
    self,
    run: runs.Run,
    workdir: workdirs.Workdir,
    logger: acme_loggers.Logger,
  ):
    """Goes on where the file ends, with a logger that writes to it."""
    self._run = run
    self._summary = workdir.evaluation_file('evaluator', 'json')
    before = json_lines.read(workdir.evaluation_file('evaluator', 'jsonl'))
    self._count = len(before)
    # The updates before the last policy that each evaluator played by.
    self._played = {
      record['evaluator']: record['learner_steps']
      for record in before
      if reading.is_number(record.get('evaluator'))
      and reading.is_number(record.get('learner_steps'))
    }
    returns = (record.get('episode_return') for record in before)
    self._returns = collections.deque(
      filter(reading.is_number, returns), maxlen=statistics.RECENT
    )
    self._logger = logger

  def played(self, evaluator: int) -> int:
    """The updates before the policy that it played by last; 0 at first."""
    return self._played.get(evaluator, 0)

  def add(
    self,
    episode: episodes.Episode,
    evaluator: int,
    counts: Mapping[str, int],
    seconds: float,
  ):
    """Takes in an episode.

    Args:
      episode: that was played.
      evaluator: the index of who played it.
      counts: of the run, when it got the parameters that it played by.
      seconds: of the run, so far.
    """
    self._returns.append(episode.episode_return)
    self._count += 1
    self._played[evaluator] = counts['learner_steps']
    self._logger.write(
      {
        'episode': self._count - 1,
        **episode._asdict(),
        'evaluator': evaluator,
        **counts,
        'walltime': seconds,
      }
    )
    summary = summarise(
      self._run.environment_name,
      self._returns,
      self._run.environment_options,
      checkpoint=None,
      steps=counts['actor_steps'],
      updates=counts['learner_steps'],
      seed=self._run.seed,
      deterministic=False,
    )
    workdirs.write_json(self._summary, dataclasses.asdict(summary))
