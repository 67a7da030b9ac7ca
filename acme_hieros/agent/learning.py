"""The learner: one jitted update of every level that is due.

With several devices each takes an equal share of every batch. The update is the
same program on arrays of the same shapes, which XLA splits: means, percentiles
and random numbers are those of the whole batch.
"""

from collections.abc import Callable, Iterator, Sequence

import acme
from acme.adders.reverb import base as reverb_base
from acme.jax import networks as networks_lib
from acme.utils import counting, loggers
import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
import numpy as np

from acme_hieros.models import hierarchy, spaces, world_model
from acme_hieros.models import level as level_lib
from acme_hieros.replay import datasets

# A logger for each level: their metrics differ, and so do their due times.
LoggerFactory = Callable[[str], loggers.Logger]

TrainingState = tuple[level_lib.TrainingState, ...]

# The axis of the mesh, and the first of every array of a batch.
_BATCH = 'batch'


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
  """Trains every level on its own table (algorithm section 4)."""

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
      logger_fn: label to logger; called with 'level_0', 'level_1', ...
      devices: as in `make_mesh`.

    Raises:
      ValueError: the devices cannot share a batch equally.
    """
    mesh = make_mesh(networks.config.batch_size, devices)
    self._replicated = NamedSharding(mesh, PartitionSpec())
    self._networks = networks
    self._dataset = dataset
    self._counter = counter or counting.Counter()
    logger_fn = logger_fn or (lambda label: loggers.make_default_logger(label))
    self._loggers = [
      logger_fn(f'level_{i}') for i in range(len(networks.levels))
    ]
    self._updates = [
      jax.jit(
        level.update,
        # The old state is overwritten in place.
        donate_argnums=0,
        in_shardings=(
          self._replicated,
          NamedSharding(mesh, PartitionSpec(_BATCH)),
        ),
        out_shardings=self._replicated,
      )
      for level in networks.levels
    ]
    self._copy = jax.jit(lambda params: jax.tree.map(jnp.copy, params))
    # It runs once: compiling it well takes far longer than running it.
    init = jax.jit(
      networks.init, compiler_options={'xla_backend_optimization_level': 0}
    )
    self._set_states(init(random_key))

  def step(self):
    """Updates every level that the dataset has a batch for.

    Raises:
      NonFiniteLossError: a loss is not finite. That level's state is unchanged.
    """
    batches = next(self._dataset)
    if all(batch is None for batch in batches):
      return
    metrics = {}
    for i, rows in enumerate(batches):
      if rows is None:
        continue
      batch = to_batch(rows)
      self._states[i], values = self._updates[i](self._states[i], batch)
      metrics[i] = jax.device_get(values)
      wrong = [n for n, value in metrics[i].items() if not np.isfinite(value)]
      if wrong:
        wrong.sort(key=lambda name: not name.endswith('_loss'))
        raise NonFiniteLossError(i, wrong, batch)
      self._policies[i] = self._publish(self._states[i].params)
    counts = self._counter.increment(steps=1)
    for i, values in metrics.items():
      self._loggers[i].write({**values, **counts})

  def get_variables(self, names: Sequence[str]) -> list[networks_lib.Params]:
    """'policy': what acting needs of every level."""
    for name in names:
      if name != 'policy':
        raise ValueError(f'Unknown variables {name!r}; known: "policy".')
    return [tuple(self._policies) for _ in names]

  def save(self) -> TrainingState:
    """The whole learning state, as NumPy arrays."""
    return jax.device_get(tuple(self._states))

  def restore(self, state: TrainingState):
    """Continues from what `save` returned."""
    # Copies: updates overwrite the learner's state, but not the caller's.
    self._set_states(jax.tree.map(jnp.array, state))

  def _set_states(self, states: TrainingState):
    self._states = [jax.device_put(state, self._replicated) for state in states]
    self._policies = [self._publish(state.params) for state in self._states]

  def _publish(self, params: level_lib.Params) -> level_lib.PolicyParams:
    """What actors get: on one device, however many the learner has."""
    # Every device has all of it; no actor should have to know the mesh.
    ours = jax.tree.map(
      lambda x: x.addressable_data(0), level_lib.policy_params(params)
    )
    # Actors hold what they were given while later updates overwrite the state.
    return self._copy(ours)


def make_mesh(
  batch_size: int, devices: Sequence[jax.Device] | None = None
) -> Mesh:
  """Lines up the devices that share a batch [B, ...] along its first axis.

  Args:
    batch_size: B, of the whole batch.
    devices: to use; without it all that JAX has for this process.

  Raises:
    ValueError: the shares would not be equal.
  """
  devices = jax.local_devices() if devices is None else devices
  if batch_size % len(devices):
    raise ValueError(
      f'batch_size={batch_size} cannot be shared equally by {len(devices)} '
      f'devices: make it a multiple of {len(devices)}, or show JAX fewer '
      'devices, for example with CUDA_VISIBLE_DEVICES.'
    )
  return Mesh(np.array(devices), (_BATCH,))


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
  )
