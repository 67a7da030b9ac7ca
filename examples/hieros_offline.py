"""Hieros learns from a table that another agent's actor filled.

  python examples/hieros_offline.py

The other agent is Acme's DQN, with its own actor and Acme's sequence adder; by
the time Hieros learns it is gone, so that the table is a fixed data set. Such
steps serve a Hieros of depth 1: what the upper levels see and want, only
Hieros' own actor can tell.
"""

from acme_hieros import compat  # noqa: F401, I001  Comes before Acme.

import acme
from absl import app, flags
from acme import specs
from acme.adders import reverb as adders_reverb
from acme.adders.reverb import sequence as adders_sequence
from acme.agents.jax import dqn
from acme.jax import networks as networks_lib
from acme.utils import loggers
import haiku as hk
import jax
import numpy as np
import reverb

from acme_hieros import HierosBuilder, make_environment, make_networks
from acme_hieros import make_policy, override, preset
from acme_hieros.replay import datasets, etbs

_EPISODES = flags.DEFINE_integer('num_episodes', 500, 'Episodes DQN plays.')
_STEPS = flags.DEFINE_integer('num_steps', 2000, 'Hieros learner steps.')

TABLE = 'recorded'


def play_dqn(environment, spec, client, sequence_length):
  """Fills the table by DQN's actor, whose parameters are fresh."""
  q_values = hk.without_apply_rng(
    hk.transform(lambda x: hk.nets.MLP([32, spec.actions.num_values])(x))
  )
  observation = np.zeros((1,) + spec.observations.shape, np.float32)
  network = networks_lib.FeedForwardNetwork(
    init=lambda key: q_values.init(key, observation), apply=q_values.apply
  )
  loss = dqn.PrioritizedDoubleQLearning()
  builder = dqn.DQNBuilder(dqn.DQNConfig(epsilon=0.8), loss)
  learner_key, actor_key = jax.random.split(jax.random.PRNGKey(1))
  learner = builder.make_learner(learner_key, network, iter(()))
  adder = adders_reverb.SequenceAdder(
    client,
    sequence_length=sequence_length,
    period=1,
    # One episode after the other, without steps that only fill up.
    end_of_episode_behavior=adders_sequence.EndBehavior.CONTINUE,
    priority_fns={TABLE: etbs.InsertionOrder(client, TABLE)},
  )
  actor = builder.make_actor(
    actor_key, dqn.behavior_policy(network), adder, learner
  )
  loop = acme.EnvironmentLoop(environment, actor, logger=loggers.NoOpLogger())
  loop.run(num_episodes=_EPISODES.value)


def main(_):
  environment = make_environment('debug/catch', observation='vector')
  spec = specs.make_environment_spec(environment)
  config = override(preset('tiny'), {'depth': 1})

  sampler = etbs.Etbs(temperature=0.3)
  table = etbs.make_table(
    name=TABLE,
    sampler=sampler,
    remover=reverb.selectors.Fifo(),
    max_size=100_000,
    rate_limiter=reverb.rate_limiters.MinSize(config.batch_size),
    signature=adders_reverb.SequenceAdder.signature(
      spec, sequence_length=config.sequence_length
    ),
  )
  server = reverb.Server([table])
  client = reverb.Client(f'localhost:{server.port}')
  play_dqn(environment, spec, client, config.sequence_length)

  dataset = etbs.make_dataset(
    client.server_address,
    TABLE,
    sampler,
    max_in_flight_samples_per_worker=config.batch_size,
  )
  samples = dataset.batch(config.batch_size).as_numpy_iterator()
  builder = HierosBuilder(config, lambda label: loggers.NoOpLogger())
  networks = make_networks(config, spec)
  learner_key, actor_key = jax.random.split(jax.random.PRNGKey(0))
  learner = builder.make_learner(
    learner_key, networks, datasets.foreign_batches(samples)
  )
  for _ in range(_STEPS.value):
    learner.step()

  # An actor without an adder plays what was learned.
  actor = builder.make_actor(
    actor_key, make_policy(networks), variable_source=learner
  )
  loop = acme.EnvironmentLoop(environment, actor, logger=loggers.NoOpLogger())
  returns = [float(loop.run_episode()['episode_return']) for _ in range(100)]
  print(
    f'Hieros from a table of DQN: mean return of {len(returns)} episodes '
    f'{np.mean(returns):.2f}'
  )


if __name__ == '__main__':
  app.run(main)
