"""The builder inside Acme's own layout, as it comes."""

import inspect
import types

import acme
from acme import specs
from acme.jax.layouts import local_layout
from acme.utils import counting
import jax
import numpy as np
import pytest
import reverb

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


# What Acme's repository calls builders with, in its order:
# acme/agents/jax/builders.py and acme/jax/experiments/run_experiment.py there.
NEWER = {
  'make_policy': ['networks', 'environment_spec', 'evaluation'],
  'make_replay_tables': ['environment_spec', 'policy'],
  'make_dataset_iterator': ['replay_client'],
  'make_adder': ['replay_client', 'environment_spec', 'policy'],
  'make_actor': [
    'random_key',
    'policy',
    'environment_spec',
    'variable_source',
    'adder',
  ],
  'make_learner': [
    'random_key',
    'networks',
    'dataset',
    'logger_fn',
    'environment_spec',
    'replay_client',
    'counter',
  ],
}


@pytest.mark.parametrize('name', NEWER)
def test_the_experiments_of_acme_s_repository_can_call_it(name):
  method = getattr(builder_lib.HierosExperimentBuilder, name)
  assert list(inspect.signature(method).parameters)[1:] == NEWER[name]


def test_what_experiments_build_acts_and_learns(make_config):
  config = make_config(depth=1)
  environment = make_environment('debug/catch', observation='vector', rows=5)
  spec = specs.make_environment_spec(environment)
  networks = networks_lib.make_networks(config, spec)
  builder = builder_lib.HierosExperimentBuilder(config)
  policy = builder.make_policy(networks, spec, evaluation=False)
  server = reverb.Server(builder.make_replay_tables(spec, policy), port=None)
  client = reverb.Client(f'localhost:{server.port}')
  asked = []

  def make_logger(label, steps_key=None, instance=None):
    asked.append(label)
    return NO_LOGGER

  counter = counting.Counter(time_delta=0.0)
  learner = builder.make_learner(
    random_key=jax.random.PRNGKey(0),
    networks=networks,
    dataset=builder.make_dataset_iterator(client),
    logger_fn=make_logger,
    environment_spec=spec,
    replay_client=client,
    counter=counter,
  )
  actor = builder.make_actor(
    jax.random.PRNGKey(1),
    policy,
    spec,
    variable_source=learner,
    adder=builder.make_adder(client, spec, policy),
  )
  acme.EnvironmentLoop(environment, actor, logger=NO_LOGGER).run(num_episodes=4)
  learner.step()
  assert counter.get_counts()['steps'] == 1
  assert asked == ['level_0', 'level_0_diagnostics']
  evaluator = builder.make_actor(
    random_key=jax.random.PRNGKey(2),
    policy=builder.make_policy(networks, spec, evaluation=True),
    environment_spec=spec,
    variable_source=learner,
  )
  acme.EnvironmentLoop(environment, evaluator, logger=NO_LOGGER).run(
    num_episodes=1
  )
  server.stop()
