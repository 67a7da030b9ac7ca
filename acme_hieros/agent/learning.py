"""The learner: one jitted update of every level that is due.

Several devices, which may be cores of the CPU, take an equal share of every
batch each, and exchange what is of the whole batch: means, percentiles and
random numbers (`models/shares.py`).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
import functools
import os
from typing import Any

import acme
from acme.adders.reverb import base as reverb_base
from acme.jax import networks as networks_lib
from acme.utils import counting, loggers
import jax
import jax.numpy as jnp
import numpy as np

from acme_hieros.models import (
  diagnostics,
  hierarchy,
  shares,
  spaces,
  world_model,
)
from acme_hieros.models import level as level_lib
from acme_hieros.replay import datasets

# A logger for each level's updates and one for its diagnoses: what they log
# differs, and so does when.
LoggerFactory = Callable[[str], loggers.Logger]

# A level's updates between two diagnoses of it.
DIAGNOSIS_PERIOD = 50

TrainingState = tuple[level_lib.TrainingState, ...]

# By level, and name.
Metrics = dict[int, dict[str, np.ndarray]]


class NonFiniteLossError(FloatingPointError):
  """A loss was NaN or infinite; the learner is as it was before that update.

  Attributes:
    level: the level it happened at.
    names: metrics that are not finite, losses first.
    batch: the batch that caused it.
  """

  def __init__(self, level: int, names: Sequence[str], batch: level_lib.Batch):
    super().__init__(f'Not finite at level {level}: {", ".join(names)}.')
    self.level = level
    self.names = names
    self.batch = batch


class HierosLearner(acme.Learner):
  """Trains every level on its own table (docs/algorithm.md, 6.3)."""

  def __init__(
    self,
    networks: hierarchy.Hierarchy,
    random_key: networks_lib.PRNGKey,
    dataset: Iterator[datasets.LevelBatches],
    counter: counting.Counter | None = None,
    logger_fn: LoggerFactory | None = None,
    devices: Sequence[jax.Device] | None = None,
  ):
    """Creates a learner with fresh parameters.

    Args:
      networks: the hierarchy to train.
      random_key: for parameters and sampling.
      dataset: what each step needs; see `datasets.LevelDataset`.
      counter: counts learner steps.
      logger_fn: label to logger; called with 'level_0', 'level_0_diagnostics',
        'level_1', ...
      devices: that share each batch; by default those of
        `shares.share_devices`.

    Raises:
      ValueError: they cannot share a batch equally.
    """
    devices = shares.share_devices(networks.config.batch_size, devices)
    self._placement, share = shares.place(devices)
    # Is told, in a sentence, what will take long.
    self.announce: Callable[[str], None] = lambda sentence: None
    self._compiled: set[int] = set()
    self._networks = networks
    self._dataset = dataset
    self._counter = counter or counting.Counter()
    logger_fn = logger_fn or (lambda label: loggers.make_default_logger(label))
    self._loggers = [
      logger_fn(f'level_{i}') for i in range(len(networks.levels))
    ]
    self._diagnosis_loggers = [
      logger_fn(f'level_{i}_diagnostics') for i in range(len(networks.levels))
    ]
    self._diagnoses = [
      jax.jit(functools.partial(_diagnose, level)) for level in networks.levels
    ]
    self._updates = [share(level.update) for level in networks.levels]
    # Actors hold what they were given while later updates overwrite the state.
    self._publish = jax.jit(level_lib.policy_params)
    self._policies: list[Any] = [None] * len(networks.levels)
    # Levels of which they have not been given the newest.
    self._learned: set[int] = set()
    # Who calls acts meanwhile: XLA computes without Python's lock.
    self._thread = futures.ThreadPoolExecutor(1, 'learner')
    self._begun: futures.Future[tuple[Metrics, Metrics]] | None = None
    self._set_states(level_lib.draw(networks.init, random_key))

  def step(self):
    """Updates every level that the dataset has a batch for.

    Raises:
      NonFiniteLossError: a loss is not finite. That level's state is unchanged.
    """
    self.begin()
    self.finish()
    self._give()

  def begin(self):
    """Starts a step, which another thread takes meanwhile.

    The one before is finished first, and what actors get from now on is what it
    has learned: they lag by a step, no matter how long it takes.

    Raises:
      NonFiniteLossError: see `finish`.
    """
    self.finish()
    self._give()
    rows = next(self._dataset)
    batches = {i: to_batch(r) for i, r in enumerate(rows) if r is not None}
    if not batches:
      return
    for i in sorted(batches.keys() - self._compiled):
      self._compiled.add(i)
      self.announce(
        f'Compiling level {i}, which takes a minute or more where it was not '
        'done before, and may alarm XLA.'
      )
    self._counts = self._counter.increment(steps=1)
    self._begun = self._thread.submit(self._update, batches)

  def finish(self):
    """Waits for the step that was begun, if there is one, and logs it.

    Raises:
      NonFiniteLossError: a loss was not finite. That level's state and those
        above it are unchanged.
    """
    if self._begun is None:
      return
    begun, self._begun = self._begun, None
    metrics, diagnoses = begun.result()
    self._learned.update(metrics)
    for i, values in metrics.items():
      self._loggers[i].write({**values, **self._counts})
    for i, values in diagnoses.items():
      self._diagnosis_loggers[i].write({**values, **self._counts})

  def _update(
    self, batches: Mapping[int, level_lib.Batch]
  ) -> tuple[Metrics, Metrics]:
    """Updates levels; returns metrics and diagnoses, by level."""
    metrics, diagnoses = {}, {}
    for i, batch in batches.items():
      self._num_updates[i] += 1
      if self._num_updates[i] % DIAGNOSIS_PERIOD == 0:
        # Before the level learns from this batch.
        diagnoses[i] = self._diagnoses[i](_on_first(self._states[i]), batch)
      self._states[i], values = self._updates[i](
        self._states[i], batch, self._guidance(i)
      )
      metrics[i] = jax.device_get(values)
      wrong = [n for n, value in metrics[i].items() if not np.isfinite(value)]
      if wrong:
        wrong.sort(key=lambda name: not name.endswith('_loss'))
        raise NonFiniteLossError(i, wrong, batch)
    return metrics, jax.device_get(diagnoses)

  def _give(self):
    """Has actors get what finished steps have learned."""
    for i in self._learned:
      self._policies[i] = self._publish(_on_first(self._states[i].params))
    self._learned.clear()

  def get_variables(self, names: Sequence[str]) -> list[networks_lib.Params]:
    """'policy': what acting needs of every level, on one device."""
    for name in names:
      if name != 'policy':
        raise ValueError(f'Unknown variables {name!r}; known: "policy".')
    return [tuple(self._policies) for _ in names]

  def save(self) -> TrainingState:
    """The whole learning state, as NumPy arrays, after what was begun.

    Raises:
      NonFiniteLossError: see `finish`.
    """
    self.finish()
    return jax.device_get(tuple(self._states))

  def restore(self, state: TrainingState):
    """Continues from what `save` returned."""
    self.finish()
    # Copies: updates overwrite the learner's state, but not the caller's.
    self._set_states(jax.tree.map(jnp.array, state))

  def _guidance(self, level: int) -> np.float32:
    """How much a level's subgoals count: the one above must learn first."""
    above = self._num_updates[level + 1 : level + 2]
    if not above:
      return np.float32(1.0)
    return np.float32(self._networks.config.guidance(above[0]))

  def _set_states(self, states: TrainingState):
    self._states = [jax.device_put(state, self._placement) for state in states]
    self._num_updates = [int(state.steps) for state in states]
    self._learned.update(range(len(states)))
    self._give()


def _on_first(tree: Any) -> Any:
  """Arrays that every device has, on the first one alone."""
  return jax.tree.map(lambda x: x.addressable_data(0), tree)


def _diagnose(
  level: level_lib.Level,
  state: level_lib.TrainingState,
  batch: level_lib.Batch,
) -> dict[str, jax.Array]:
  key = jax.random.fold_in(state.key, state.steps)
  return diagnostics.diagnose(level, state.params, key, batch)


def check_platforms():
  """Raises ValueError if JAX lacks what it was told to use, or the CPU."""
  asked = os.environ.get('JAX_PLATFORMS', '')
  try:
    found, cpus = jax.local_devices(), jax.local_devices(backend='cpu')
    # Where the CPU was added by `compat`, JAX takes it without a word.
    if found[0] == cpus[0] and jax.config.jax_platforms == f'{asked},cpu':
      raise RuntimeError('it finds no such device')
  except RuntimeError as error:
    reason = str(error).partition('\n')[0].rstrip('.')
    raise ValueError(
      f'JAX cannot use what JAX_PLATFORMS={asked} names ({reason}): install it '
      '(jax[cuda12] for NVIDIA), unset JAX_PLATFORMS to have JAX take what it '
      'finds, or set it to cpu.'
    ) from error


def to_batch(rows: reverb_base.Step) -> level_lib.Batch:
  """A level's batch of Acme steps [B, T, ...] as its update takes it."""
  return level_lib.Batch(
    sequence=world_model.Sequence(
      observation=spaces.flatten_observation(rows.observation),
      action=rows.action,
      reward=rows.reward,
      discount=rows.discount,
      start_of_episode=rows.start_of_episode,
    ),
    subgoal=rows.extras.get('subgoal'),
    log_prob=rows.extras.get('log_prob'),
  )
