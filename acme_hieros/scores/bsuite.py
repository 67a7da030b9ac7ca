"""Scores of bsuite, by its own analysis."""

from collections.abc import Iterator
import contextlib
import os
from typing import NamedTuple

from acme_hieros import extras


class Score(NamedTuple):
  """Of one experiment, over those of its settings that were recorded.

  score: 1 is the best that can be, 0 random play, by the experiment's own rule.
  finished: whether as many episodes were played as bsuite asks for.
  """

  score: float
  finished: bool


def score(record: str, place: int = 0) -> dict[str, Score]:
  """What was recorded by environments `bsuite/` with the option `record`.

  Args:
    record: that directory.
    place: which of its directories; the first is what training played.

  Returns:
    The score of each experiment.

  Raises:
    ValueError: Nothing was recorded, or the package is missing.
  """
  try:
    from bsuite.experiments import summary_analysis
    from bsuite.logging import csv_load
  except ModuleNotFoundError as error:
    raise ValueError(
      f'Scores of bsuite need it: {extras.missing(error.name, "bsuite")}'
    ) from error
  directory = os.path.join(record, str(place))
  files = []
  with contextlib.suppress(OSError):
    files = [n for n in os.listdir(directory) if n.endswith('.csv')]
  if not files:
    raise ValueError(
      f'{directory} has nothing to score: give an environment bsuite/ the '
      f'option record={record}.'
    )
  played, _ = csv_load.load_bsuite({'agent': directory})
  with _series_that_append():
    found = summary_analysis.bsuite_score(played)
  return {
    row.bsuite_env: Score(float(row.score), bool(row.finished))
    for row in found.itertuples()
  }


@contextlib.contextmanager
def _series_that_append() -> Iterator[None]:
  """Meanwhile pandas has what bsuite 0.3.6 asks of it for `deep_sea`.

  `Series.append` left with pandas 2.
  """
  import pandas

  if hasattr(pandas.Series, 'append'):
    yield
    return
  pandas.Series.append = lambda self, other: pandas.concat([self, other])
  try:
    yield
  finally:
    del pandas.Series.append
