"""Runs in Weights & Biases, beside the files that they write."""

from collections.abc import Callable, Mapping
import contextlib
import os
from typing import Any
import uuid

from acme.utils import loggers

from acme_hieros import extras
from acme_hieros.storage import workdirs

# What only says where something stands; curves are drawn over the first.
_STEPS = 'actor_steps'
_COUNTERS = {
  _STEPS,
  'actor_episodes',
  'learner_steps',
  'episode',
  'evaluator',
  'walltime',
}

_PROJECT = 'acme_hieros'


def measured(data: Mapping[str, Any]) -> dict[str, Any]:
  """Of a record what is worth a curve: all but counters and clocks."""
  return {n: value for n, value in data.items() if n not in _COUNTERS}


class Tracker:
  """Is told all that is logged; this one has nobody to tell it to."""

  def make_logger(self, label: str) -> loggers.Logger:
    """Creates the logger of what is called 'episodes', 'level_0', ..."""
    del label
    return loggers.NoOpLogger()

  def log_results(self, values: Mapping[str, float]):
    """Takes in what came of the run."""

  def close(self):
    """Nothing more will come."""


def begin(
  track: str,
  hyperparameters: Mapping[str, Any],
  workdir: workdirs.Workdir,
  warn: Callable[[str], None],
  part: str = '',
) -> Tracker:
  """The tracker that a run asks for.

  Args:
    track: of the run, checked by `check`.
    hyperparameters: of the run.
    workdir: of the run, open.
    warn: is told, in a sentence, what goes wrong; the run goes on.
    part: of the run, where each has a process of its own.
  """
  if not track:
    return Tracker()
  try:
    return _WandbTracker(hyperparameters, workdir, warn, part)
  except Exception as error:  # Whatever it is, the run is worth more.
    warn(f'Weights & Biases does not track this run ({_reason(error)}).')
    return Tracker()


class _WandbTracker(Tracker):
  """A run of Weights & Biases, which goes on with the run's own.

  Its files are in wandb/ of the work directory.
  """

  def __init__(
    self,
    hyperparameters: Mapping[str, Any],
    workdir: workdirs.Workdir,
    warn: Callable[[str], None],
    part: str,
  ):
    import wandb

    self._warn = warn
    self._failed = False
    run_id = _run_id(workdir)
    settings = {
      'project': os.environ.get('WANDB_PROJECT', _PROJECT),
      'id': '-'.join(filter(None, (run_id, part))),
      'name': ' '.join(filter(None, (os.path.basename(workdir.path), part))),
      # Several processes of one run are found together.
      'group': run_id if part else None,
      'job_type': part or None,
      # Without a network nobody can be asked what was there before.
      'resume': 'allow' if _is_online() else None,
      'dir': workdir.path,
      'config': dict(hyperparameters),
      # Nodes may be threads of one process.
      'reinit': 'create_new',
      # The live line is the run's own.
      'settings': wandb.Settings(console='off', silent=True),
    }
    try:
      self._run = wandb.init(**settings)
    except wandb.errors.CommError as error:
      self._run = wandb.init(**{**settings, 'mode': 'offline', 'resume': None})
      warn(
        f'Weights & Biases cannot be reached ({_reason(error)}); what it is '
        f'told is in {workdir.path}/wandb, for `wandb sync`.'
      )
    self._run.define_metric(_STEPS, hidden=True)
    self._run.define_metric('*', step_metric=_STEPS)

  def make_logger(self, label: str) -> loggers.Logger:
    return _WandbLogger(self, label)

  def log(self, values: Mapping[str, Any]):
    """Takes in plain numbers, by name."""
    self._try(lambda: self._run.log(dict(values)))

  def log_results(self, values: Mapping[str, float]):
    self._try(lambda: self._run.summary.update(dict(values)))

  def close(self):
    self._try(self._run.finish)

  def _try(self, tell: Callable[[], None]):
    try:
      tell()
    except Exception as error:  # As in `begin`.
      if not self._failed:
        self._warn(
          f'Weights & Biases takes no more ({_reason(error)}); the run goes on.'
        )
      self._failed = True


class _WandbLogger(loggers.Logger):
  """Curves over environment steps, named <label>/<name> as in the CSV files."""

  def __init__(self, tracker: _WandbTracker, label: str):
    self._tracker = tracker
    self._label = label

  def write(self, data: loggers.LoggingData):
    values = {_STEPS: int(data[_STEPS])}
    for name, value in measured(data).items():
      values[f'{self._label}/{name}'] = float(value)
    self._tracker.log(values)

  def close(self):
    pass  # The tracker is closed once, after all of them.


def check(track: str):
  """Raises ValueError if nothing here can track a run so."""
  if not track:
    return
  if track != 'wandb':
    raise ValueError(f'track={track!r} is unknown; known: wandb.')
  try:
    import wandb
  except ImportError as error:
    raise ValueError(extras.missing(error.name, 'wandb')) from error
  if _is_online() and not wandb.api.api_key:
    raise ValueError(
      'Weights & Biases does not know who you are: run `wandb login` once, or '
      'set WANDB_MODE=offline, and `wandb sync` what was tracked later.'
    )


def _is_online() -> bool:
  return os.environ.get('WANDB_MODE', 'online') == 'online'


def _run_id(workdir: workdirs.Workdir) -> str:
  """One for as long as the work directory is there."""
  path = os.path.join(workdir.path, 'wandb', 'id')
  os.makedirs(os.path.dirname(path), exist_ok=True)
  with contextlib.suppress(FileExistsError), open(path, 'x') as file:
    file.write(uuid.uuid4().hex[:8])
  with open(path) as file:
    return file.read()


def _reason(error: Exception) -> str:
  return str(error).partition('\n')[0].rstrip('.') or type(error).__name__
