"""What the runs of a study answer to its question, and how sure that is."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from acme_hieros.command_line import counted
from acme_hieros.reports import aggregates, contents, results
from acme_hieros.reports.writing import Asked
from acme_hieros.scores import references
from acme_hieros.storage import reading

# Of fewer runs of each environment, bootstrap intervals are too narrow.
_FEW = 5


def make(
  systems: Sequence[contents.System], asked: Asked, replications: int
) -> Mapping[str, Any]:
  """The study on a page, as plain values.

  Args:
    systems: as `contents.read` returns them.
    asked: of these runs.
    replications: of the bootstrap.
  """
  runs = [run for system in systems for run in system.runs]
  if asked.against:
    answers = _comparisons(runs, asked, replications)
  else:
    answers = [_level(runs, replications)]
  texts = asked._asdict()
  del texts['groups'], texts['against']
  return {**texts, 'answers': answers}


def _comparisons(
  runs: Sequence[results.Result], asked: Asked, replications: int
) -> Sequence[str]:
  """A sentence for each group but that which it is compared with."""
  paths = {reading.printable(path): g for path, g in asked.groups.items()}
  scores: dict[str, dict[str, list[float]]] = {}
  for run in sorted(runs, key=lambda run: run.seed):
    group = paths.get(run.path)
    if group is not None:
      tasks = scores.setdefault(group, {})
      tasks.setdefault(run.task, []).append(run.score.mean)
  others = [g for g in dict.fromkeys(paths.values()) if g != asked.against]
  return [
    _comparison(
      other,
      scores.get(other, {}),
      asked.against,
      scores.get(asked.against, {}),
      replications,
    )
    for other in others
  ]


def _comparison(
  name: str,
  ours: Mapping[str, Sequence[float]],
  against: str,
  theirs: Mapping[str, Sequence[float]],
  replications: int,
) -> str:
  """How one group stands to another.

  Args:
    name, against: of the groups.
    ours, theirs: scores by environment.
    replications: of the bootstrap.
  """
  tasks = [task for task in ours if task in theirs]
  if not tasks:
    return f'No environment has finished runs of both {name} and {against}.'
  matrices = [_balanced(scores, tasks) for scores in (ours, theirs)]
  found = aggregates.probability_of_improvement(*matrices, replications)
  few = min(map(len, matrices))
  where = (
    f'On these {sum(matrix.size for matrix in matrices)} runs in '
    f'{counted(len(tasks), "environment")}'
  )
  share = (
    f'in {_percent(found.value)} % of the pairs of runs in one environment '
    f'{name} scores more, draws counting half'
  )
  if found.low is None:
    return (
      f'{where} it is open how {name} stands to {against}: {share}, and single '
      'runs have no interval.'
    )
  if found.low > 0.5:
    verdict = f'{name} is better than {against}'
  elif found.high < 0.5:
    verdict = f'{name} is worse than {against}'
  else:
    verdict = f'{name} is neither shown to be better nor worse than {against}'
  return (
    f'{where} {verdict}: {share} (95 % interval: {_percent(found.low)} to '
    f'{_percent(found.high)} %{_caution(few)}).'
  )


def _level(runs: Sequence[results.Result], replications: int) -> str:
  """Where all runs stand, in units of what is known of their environments."""
  scores: dict[str, list[float]] = {}
  for run in sorted(runs, key=lambda run: run.seed):
    score = contents.normalised(run)
    if score is None:
      return (
        'The scores have no unit in common, since nothing is known of those of '
        f'{run.task}: see them one by one.'
      )
    scores.setdefault(run.task, []).append(score)
  matrix = _balanced(scores, list(scores))
  found = aggregates.estimate(matrix, aggregates.OVER_GAMES, replications)
  scales = {references.scale(run.environment) for run in runs}
  parts = [
    f'{title} {found[name].value:.3f}'
    + (
      ''
      if found[name].low is None
      else f' ({found[name].low:.3f} to {found[name].high:.3f})'
    )
    for name, title in (('mean', 'mean'), ('median', 'median'), ('iqm', 'IQM'))
  ]
  return (
    f'On these {matrix.size} runs in {counted(len(scores), "environment")} '
    f'normalised scores ({"; ".join(sorted(scales))}) have '
    f'{", ".join(parts)}'
    + (
      ', and single runs of each have no interval.'
      if len(matrix) < 2
      else f' (95 % intervals{_caution(len(matrix))}).'
    )
  )


def _balanced(
  scores: Mapping[str, Sequence[float]], tasks: Sequence[str]
) -> np.ndarray:
  """[runs, tasks] of as many runs of each, those with the lowest seeds."""
  count = min(len(scores[task]) for task in tasks)
  return np.array([scores[task][:count] for task in tasks]).T


def _caution(runs: int) -> str:
  """Of an interval; as docs/reports.md says of few runs."""
  return f', too narrow with {runs} runs of each' * (runs < _FEW)


def _percent(share: float) -> str:
  return f'{100 * share:.0f}'
