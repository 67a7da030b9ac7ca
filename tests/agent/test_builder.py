"""The builder inside Acme's own layout, as it comes."""

import types

import acme
from acme import specs
from acme.jax.layouts import local_layout
from acme.utils import counting
import jax
import numpy as np
import pytest

from acme_hieros.agent import builder as builder_lib
from acme_hieros.agent import networks as networks_lib
from acme_hieros.environments import make_environment

NO_LOGGER = types.SimpleNamespace(write=lambda _: None)


@pytest.mark.parametrize(
  'name,options,depth,prefetch_size',
  [
    ('debug/catch', {'observation': 'vector', 'rows': 5}, 2, 1),
    ('debug/catch', {'observation': 'both', 'rows': 5}, 1, 2),
    ('debug/point', {'length': 5}, 1, 0),
  ],
  ids=['vector', 'dict-prefetched', 'continuous'],
)
def test_learns_in_acmes_local_layout(
  make_config, tmp_path, name, options, depth, prefetch_size
):
  config = make_config(depth=depth)
  environment = make_environment(name, **options)
  spec = specs.make_environment_spec(environment)
  networks = networks_lib.make_networks(config, spec)
  counter = counting.Counter(time_delta=0.0)
  agent = local_layout.LocalLayout(
    0,
    spec,
    builder_lib.HierosBuilder(config, lambda label: NO_LOGGER),
    networks,
    networks_lib.make_policy(networks),
    workdir=str(tmp_path),
    # The learner is called from the first step on, long before the tables have
    # anything for it.
    min_replay_size=1,
    batch_size=1,
    samples_per_insert=1,
    prefetch_size=prefetch_size,
    counter=counter,
    checkpoint=depth == 2,
  )
  before = jax.tree.map(np.array, agent.get_variables(['policy']))
  loop = acme.EnvironmentLoop(environment, agent, logger=NO_LOGGER)
  loop.run(num_episodes=3 * 2**depth)
  assert counter.get_counts()['steps'] > 0
  after = jax.tree.map(np.array, agent.get_variables(['policy']))
  for one, other in zip(before[0], after[0]):
    same = jax.tree.leaves(jax.tree.map(np.array_equal, one, other))
    assert not all(same)
  agent.save()
