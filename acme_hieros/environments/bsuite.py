"""bsuite: one ability each, at growing difficulty, `bsuite/<experiment>/<n>`.

The experiments are those of the package bsuite (Osband et al., 2020,
https://arxiv.org/abs/1908.03568), as they are.
"""

import inspect
import itertools
import os
import pathlib
from typing import Any

import dm_env
import numpy as np

from acme_hieros.environments import base, construction, modules

# Experiments and how many settings each has.
_SETTINGS = {
  'bandit': 20,
  'bandit_noise': 20,
  'bandit_scale': 20,
  'cartpole': 20,
  'cartpole_noise': 20,
  'cartpole_scale': 20,
  'cartpole_swingup': 20,
  'catch': 20,
  'catch_noise': 20,
  'catch_scale': 20,
  'deep_sea': 21,
  'deep_sea_stochastic': 21,
  'discounting_chain': 20,
  'memory_len': 23,
  'memory_size': 17,
  'mnist': 20,
  'mnist_noise': 20,
  'mnist_scale': 20,
  'mountain_car': 20,
  'mountain_car_noise': 20,
  'mountain_car_scale': 20,
  'umbrella_distract': 23,
  'umbrella_length': 23,
}
_NAMES = tuple(
  f'{experiment}/{i}'
  for experiment, count in _SETTINGS.items()
  for i in range(count)
)


def load(
  bsuite_id: str, seed: int = 0, record: str | None = None
) -> dm_env.Environment:
  """Sets up an experiment.

  Args:
    bsuite_id: 'memory_len/3', the experiment and which of its settings.
    seed: Decides all that is random in episodes, and nothing of the setting.
    record: A directory to which bsuite's own recorder writes, for
      `scores.bsuite`: what the first environment plays goes to its directory 0,
      what others play beside it and later ones do, to 1, 2 and so on.

  Returns:
    The environment; observations and actions are the package's.

  Raises:
    ValueError: The package or the data of mnist are missing.
  """
  name = f'bsuite/{bsuite_id}'
  if record is not None:
    _check_directory(record)
  package = modules.import_extra(name, 'bsuite.bsuite', 'bsuite', 'bsuite')
  sweep = modules.import_extra(name, 'bsuite.sweep', 'bsuite', 'bsuite')
  experiment = bsuite_id.partition('/')[0]
  maker = package.EXPERIMENT_NAME_TO_ENVIRONMENT[experiment]
  settings = dict(sweep.SETTINGS[bsuite_id])
  drawn = int(np.random.SeedSequence(seed).generate_state(1)[0])
  takes_seed = 'seed' in inspect.signature(maker).parameters
  if takes_seed:
    settings['seed'] = drawn
  try:
    environment = maker(**settings)
  except OSError as error:
    raise ValueError(
      f'Environment {name!r} cannot get its data, which it downloads to '
      f'/tmp/mnist: {modules.sentence(error)}'
    ) from error
  if not takes_seed:
    environment._rng = np.random.RandomState(drawn)
  if record is not None:
    environment = _recorded(environment, bsuite_id, record)
  return environment


def _check_directory(record: Any):
  """Raises ValueError where no directory could be made, and makes none."""
  if not isinstance(record, str) or not record:
    raise ValueError(
      f'record={record!r} will not do: it has to be a directory.'
    )
  place = pathlib.Path(record).absolute()
  place = next(p for p in (place, *place.parents) if p.exists())
  if not place.is_dir() or not os.access(place, os.W_OK):
    raise ValueError(
      f'record={record!r} will not do: nothing can be written to {place}.'
    )


def _recorded(
  environment: dm_env.Environment, bsuite_id: str, directory: str
) -> dm_env.Environment:
  # What is imported here is part of the package.
  from bsuite.logging import base as logging_base
  from bsuite.logging import csv_logging
  from bsuite.utils import wrappers

  class Logger(logging_base.Logger):
    """Takes a place when there is something to write."""

    _logger = None

    def write(self, data):
      if self._logger is None:
        place = _take_place(directory, bsuite_id)
        self._logger = csv_logging.Logger(bsuite_id, place, overwrite=True)
      self._logger.write(data)

  return wrappers.Logging(environment, Logger())


def _take_place(directory: str, bsuite_id: str) -> str:
  """The first of directory/0, directory/1, ... without this experiment."""
  for i in itertools.count():
    place = os.path.join(directory, str(i))
    os.makedirs(place, exist_ok=True)
    # As the package calls the file.
    file = f'bsuite_id_-_{bsuite_id.replace("/", "-")}.csv'
    try:
      open(os.path.join(place, file), 'x').close()
    except FileExistsError:
      continue
    return place


def make(
  bsuite_id: str, seed: int, options: dict[str, Any]
) -> dm_env.Environment:
  """Makes `bsuite/<bsuite_id>`; the options are those of `load`."""
  name = f'bsuite/{bsuite_id}'
  if bsuite_id not in _NAMES:
    raise base.unknown_environment(name, names())
  return construction.construct(
    load, name, options, bsuite_id=bsuite_id, seed=seed
  )


def names() -> list[str]:
  """The full names of this family's environments."""
  return [f'bsuite/{bsuite_id}' for bsuite_id in _NAMES]
