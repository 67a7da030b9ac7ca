"""A learner that is given its batches one by one."""

from acme import specs
from acme.utils import counting
import jax
import numpy as np
import tree

from acme_hieros.agent import learning
from acme_hieros.agent import networks as networks_lib
from acme_hieros.environments import make_environment
from acme_hieros.replay import tables


class Records(list):
  """In place of a logger."""

  write = list.append


class Setup:
  """A learner on a scripted dataset."""

  def __init__(self, config, seed, devices=None):
    environment = make_environment('debug/catch', observation='vector')
    self.spec = specs.make_environment_spec(environment)
    self.config = config
    self.networks = networks_lib.make_networks(config, self.spec)
    self.batches = []
    self.counter = counting.Counter(time_delta=0.0)
    self.records = {}
    self.learner = learning.HierosLearner(
      self.networks,
      jax.random.PRNGKey(seed),
      iter(lambda: self.batches.pop(0), None),
      self.counter,
      lambda label: self.records.setdefault(label, Records()),
      devices,
    )
    self.fresh = self.learner.save()

  def batch(self, level, seed=0, rows=None):
    """A random batch of a level."""
    config = self.config
    rng = np.random.default_rng((seed, level))
    highest = {'action': 2, 'stoch': 2, 'subgoal': 3}

    def draw(path, spec):
      shape = (config.batch_size, config.sequence_length, *spec.shape)
      if np.issubdtype(spec.dtype, np.floating):
        if path[-1] == 'discount':
          return np.ones(shape, spec.dtype)
        return rng.normal(size=shape).astype(spec.dtype)
      return rng.integers(highest.get(path[-1], 2), size=shape).astype(
        spec.dtype
      )

    drawn = tree.map_structure_with_path(
      lambda path, spec: draw(tuple(map(str, path)), spec),
      tables.step_spec(self.networks, self.spec, level),
    )
    return drawn._replace(**(rows or {}))

  def step(self, *batches):
    self.batches.append(batches)
    self.learner.step()

  def begin(self, *batches):
    self.batches.append(batches)
    self.learner.begin()

  def steps(self, seeds):
    for seed in seeds:
      self.step(self.batch(0, seed), self.batch(1, seed) if seed % 2 else None)


def assert_equal(one, other):
  assert jax.tree.structure(one) == jax.tree.structure(other)
  jax.tree.map(np.testing.assert_array_equal, one, other)


def differ(one, other):
  same = jax.tree.map(np.array_equal, one, other)
  return not all(jax.tree.leaves(same))
