"""Finished runs as a table of pandas."""

from collections.abc import Sequence
import glob
import os
from typing import TYPE_CHECKING
import warnings

from acme_hieros import config as config_lib
from acme_hieros import extras
from acme_hieros.reports import results

if TYPE_CHECKING:
  import pandas


def read_runs(pattern: str | Sequence[str]) -> 'pandas.DataFrame':
  """Reads finished runs, a row each.

  Columns: 'environment', 'options', 'configuration' (as `config.describe` has
  it), 'seed', 'steps', 'updates', 'minutes'; 'score', its 'standard_error', the
  'episodes' that it is the mean return of, and their 'source'; 'returns' and
  'return_steps', of each training episode.

  Example:
    runs = acme_hieros.read_runs('runs/*')
    runs.groupby(['environment', 'configuration']).score.mean()

  Args:
    pattern: of work directories, as a shell reads it; or a list of them. Runs
      that are unfinished or damaged are left out, with a warning that says why.

  Returns:
    The table, with the work directories as its index.

  Raises:
    ValueError: nothing is there, or pandas is missing.
  """
  try:
    import pandas
  except ModuleNotFoundError as error:
    raise ValueError(extras.missing('pandas', 'report')) from error
  paths = pattern
  if isinstance(pattern, (str, os.PathLike)):
    paths = sorted(glob.glob(os.path.expanduser(pattern)))
    if not paths:
      raise ValueError(f'Nothing is called {pattern}.')
  rows = {}
  for path in map(os.fspath, paths):
    try:
      rows[path] = _row(results.read(path))
    except results.ResultError as error:
      warnings.warn(f'Left out: {path}: {error}', stacklevel=2)
  table = pandas.DataFrame.from_dict(rows, orient='index', columns=_COLUMNS)
  return table.rename_axis('workdir')


_COLUMNS = (
  'environment',
  'options',
  'configuration',
  'seed',
  'steps',
  'updates',
  'minutes',
  'score',
  'standard_error',
  'episodes',
  'source',
  'returns',
  'return_steps',
)


def _row(result: results.Result) -> list:
  score = result.score
  return [
    result.environment,
    dict(result.options),
    config_lib.describe(result.config),
    result.seed,
    result.num_steps,
    result.updates,
    result.seconds / 60,
    score.mean,
    score.standard_error,
    score.episodes,
    score.source,
    result.episodes['episode_return'],
    result.episodes['actor_steps'].astype(int),
  ]
