"""Work directories with checkpoints of agents that nobody trained."""

from acme_hieros import compat  # noqa: F401, I001  Comes before Acme.

import os

import jax
import smallest

from acme_hieros import config as config_lib
from acme_hieros.experiments import checkpoints, runs

CONFIG = config_lib.override(
  config_lib.preset('tiny'), smallest.OVERRIDES | {'depth': 2}
)


class Replay:
  """Stands for a client of the replay, which has nothing to save."""

  def __init__(self, directory):
    self._directory = directory

  def checkpoint(self):
    path = os.path.join(self._directory, '.empty')
    os.makedirs(path)
    return path


def make_workdir(
  path, environment, options, steps=(100,), edit=lambda state: state, **changes
):
  """A run with a checkpoint after each of these steps; half as many updates.

  Args:
    path: of the directory, which is made.
    environment, options: of the run.
    steps: of the checkpoints.
    edit: changes a fresh learning state before it is saved.
    **changes: other fields of the run.
  """
  run = runs.Run(
    **{
      'environment': environment,
      'environment_options': options,
      'config': CONFIG,
      'num_steps': 1000,
      'workdir': str(path),
      **changes,
    }
  )
  prepared = runs.prepare(run)
  prepared.workdir.close()
  init = jax.jit(prepared.networks.init)
  state = edit(jax.device_get(init(jax.random.PRNGKey(0))))
  store = checkpoints.Checkpoints(prepared.workdir.checkpoints, len(steps))
  for count in steps:
    counts = dict(
      actor_steps=count, actor_episodes=9, learner_steps=count // 2
    )
    metadata = {'launch': run.launch, 'counts': counts}
    store.save(state, lambda: metadata, Replay(prepared.workdir.path))
  return run
