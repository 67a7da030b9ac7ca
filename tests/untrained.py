"""Work directories with checkpoints of agents that nobody trained."""

from acme_hieros import compat  # noqa: F401, I001  Comes before Acme.

import functools
import os

import acme
import jax
import numpy as np

from acme_hieros.agent import networks as networks_lib
from acme_hieros.experiments import checkpoints, runs
from benchmarks import smallest


def make_config(depth):
  return smallest.make_config(depth=depth)


class Replay:
  """Stands for a client of the replay, which has nothing to save."""

  def __init__(self, directory):
    self._directory = directory

  def server_info(self):
    return {}

  def checkpoint(self):
    path = os.path.join(self._directory, '.empty')
    os.makedirs(path)
    for name in ('tables.tfrecord', 'chunks.tfrecord', 'DONE'):
      with open(os.path.join(path, name), 'w'):
        pass
    return path


class Trainer:
  """A trainer that has checked its run, and is done.

  last: what was run last.
  """

  steps, written_by, notes, parameter_counts = 0, None, (), [1_500_000]
  last = None

  def __init__(self, run):
    runs.prepare(run).workdir.close()
    Trainer.last = run

  def train(self):
    return summary(interrupted=False)


def summary(interrupted):
  """What came of a run that nobody ran."""
  stop = 'SIGINT' if interrupted else None
  return runs.Summary(5, 1, 0, None, None, 1.0, 1.0, interrupted, stop, 'here')


def make_workdir(
  path,
  environment,
  options,
  steps=(100,),
  depth=2,
  edit=lambda state: state,
  **changes,
):
  """A run with a checkpoint after each of these steps; half as many updates.

  Args:
    path: of the directory, which is made.
    environment, options: of the run.
    steps: of the checkpoints.
    depth: levels.
    edit: changes a fresh learning state before it is saved.
    **changes: other fields of the run.
  """
  run = runs.Run(
    **{
      'environment': environment,
      'environment_options': options,
      'config': make_config(depth),
      'num_steps': 1000,
      'workdir': str(path),
      **changes,
    }
  )
  prepared = runs.prepare(run)
  prepared.workdir.close()
  state = edit(draw_state(prepared.networks))
  store = checkpoints.Checkpoints(prepared.workdir.checkpoints, len(steps))
  for count in steps:
    store.save(
      state,
      functools.partial(make_metadata, run, count),
      Replay(prepared.workdir.path),
    )
  return run


def draw_state(networks):
  """A learning state of every level: its parameters are random, the rest zeros.

  `init` would have to be compiled, and that takes seconds.
  """
  rng = np.random.default_rng(0)

  def draw(shape):
    return rng.normal(0.0, 0.3, shape.shape).astype(shape.dtype)

  shapes = jax.eval_shape(networks.init, jax.random.PRNGKey(0))
  zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
  return tuple(
    state._replace(params=jax.tree.map(draw, state.params)) for state in zeros
  )


def make_metadata(run, steps):
  counts = dict(actor_steps=steps, actor_episodes=9, learner_steps=steps // 2)
  return {'launch': run.launch, 'counts': counts}


def make_agent(environment, depth):
  """Networks for an environment, and all parameters of each level."""
  networks = networks_lib.make_networks(
    make_config(depth), acme.make_environment_spec(environment)
  )
  return networks, [state.params for state in draw_state(networks)]
