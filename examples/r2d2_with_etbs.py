"""Acme's R2D2 on a table that samples by ETBS.

  python examples/r2d2_with_etbs.py

Only the replay changes, in R2D2's own builder: the table, how it is read, and
how its items are numbered (which the native ETBS sampler does not even need).
R2D2's sampling by error falls away, and with it its updates of priorities.
"""

from acme_hieros import compat  # noqa: F401, I001  Comes before Acme.

import acme
from absl import app, flags
from acme import specs
from acme.adders import reverb as adders_reverb
from acme.agents.jax import r2d2
from acme.agents.jax.r2d2 import networks as r2d2_networks
from acme.jax.layouts.local_layout import LocalLayout
from acme.utils import loggers
import haiku as hk
import jax
import reverb

from acme_hieros import make_environment
from acme_hieros.replay import etbs

_EPISODES = flags.DEFINE_integer('num_episodes', 300, 'Episodes to play.')

SAMPLER = etbs.Etbs(temperature=0.3)


class R2D2WithEtbs(r2d2.R2D2Builder):
  """R2D2 whose table favours the young sequences by just so much."""

  def make_replay_tables(self, environment_spec):
    config = self._config
    return [
      etbs.make_table(
        name=config.replay_table_name,
        sampler=SAMPLER,
        remover=reverb.selectors.Fifo(),
        max_size=config.max_replay_size,
        rate_limiter=reverb.rate_limiters.MinSize(config.min_replay_size),
        signature=adders_reverb.SequenceAdder.signature(
          environment_spec, self._extra_spec
        ),
      )
    ]

  def make_dataset_iterator(self, replay_client):
    dataset = etbs.make_dataset(
      replay_client.server_address,
      self._config.replay_table_name,
      SAMPLER,
      max_in_flight_samples_per_worker=2 * self._config.batch_size,
    )
    return dataset.batch(self._config.batch_size).as_numpy_iterator()

  def make_adder(self, replay_client):
    table = self._config.replay_table_name
    return adders_reverb.SequenceAdder(
      client=replay_client,
      period=self._config.sequence_period,
      sequence_length=self._sequence_length,
      delta_encoded=True,
      priority_fns={table: etbs.InsertionOrder(replay_client, table)},
    )

  def make_learner(self, random_key, networks, dataset, replay_client, counter):
    # Without a client the learner leaves the priorities alone.
    return super().make_learner(random_key, networks, dataset, None, counter)


class QNetwork(hk.RNNCore):
  """A small recurrent network; its input is a vector."""

  def __init__(self, num_actions):
    super().__init__('q_network')
    self._core = hk.DeepRNN(
      [hk.Linear(32), jax.nn.relu, hk.LSTM(32), hk.Linear(num_actions)]
    )

  def __call__(self, inputs, state):
    return self._core(inputs, state)

  def initial_state(self, batch_size, **unused_kwargs):
    return self._core.initial_state(batch_size)

  def unroll(self, inputs, state):
    return hk.static_unroll(self._core, inputs, state)


def main(_):
  environment = make_environment('debug/catch', observation='vector')
  spec = specs.make_environment_spec(environment)

  def make_core():
    return QNetwork(spec.actions.num_values)

  config = r2d2.R2D2Config(
    burn_in_length=0,
    trace_length=8,
    sequence_period=4,
    min_replay_size=50,
    max_replay_size=10_000,
    batch_size=32,
    num_epsilons=8,
    target_update_period=100,
    variable_update_period=20,
  )
  networks = r2d2_networks.make_networks(
    spec,
    forward_fn=lambda x, state: make_core()(x, state),
    initial_state_fn=lambda batch_size=None: make_core().initial_state(
      batch_size
    ),
    unroll_fn=lambda x, state: make_core().unroll(x, state),
    batch_size=config.batch_size,
  )
  agent = LocalLayout(
    seed=0,
    environment_spec=spec,
    builder=R2D2WithEtbs(networks, config, loggers.NoOpLogger),
    networks=networks,
    policy_network=r2d2_networks.make_behavior_policy(networks, config),
    min_replay_size=1000,
    samples_per_insert=32.0,
    batch_size=config.batch_size,
    checkpoint=False,
  )
  loop = acme.EnvironmentLoop(environment, agent, logger=loggers.NoOpLogger())
  returns = []
  for _ in range(_EPISODES.value):
    returns.append(float(loop.run_episode()['episode_return']))
  recent = returns[-100:]
  print(
    f'R2D2 with {SAMPLER}: mean return of the last {len(recent)} episodes '
    f'{sum(recent) / len(recent):.2f}'
  )


if __name__ == '__main__':
  app.run(main)
