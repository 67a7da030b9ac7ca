"""Acme's DQN learns from `level_0`, which a Hieros actor fills meanwhile.

  python examples/dqn_from_level_0.py

`level_0` holds sequences of Acme `Step`s, which run on across episodes. DQN
wants transitions: two neighbouring steps, unless the second starts an episode.
"""

from acme_hieros import compat  # noqa: F401, I001  Comes before Acme.

import acme
from absl import app, flags
from acme import specs, types
from acme.agents.jax.dqn import learning_lib, losses
from acme.jax import networks as networks_lib
from acme.utils import loggers
import haiku as hk
import jax
import numpy as np
import optax
import reverb
import tensorflow as tf

from acme_hieros import HierosBuilder, make_environment, make_networks
from acme_hieros import make_policy, preset
from acme_hieros.replay import etbs

_STEPS = flags.DEFINE_integer('num_steps', 2000, 'DQN learner steps.')
_EPISODES = flags.DEFINE_integer('num_episodes', 100, 'Episodes Hieros plays.')

BATCH_SIZE = 64


def transitions(sample: reverb.ReplaySample) -> tf.data.Dataset:
  """The transitions [N] of one sequence of T > N steps."""
  step = sample.data
  follows = tf.logical_not(step.start_of_episode[1:])

  def where_followed(x):
    return tf.boolean_mask(x, follows)

  return tf.data.Dataset.from_tensor_slices(
    reverb.ReplaySample(
      info=tf.nest.map_structure(
        lambda x: tf.repeat(x, tf.reduce_sum(tf.cast(follows, tf.int32))),
        sample.info,
      ),
      data=types.Transition(
        observation=where_followed(step.observation[:-1]),
        action=where_followed(step.action[:-1]),
        reward=where_followed(step.reward[:-1]),
        discount=where_followed(step.discount[:-1]),
        next_observation=where_followed(step.observation[1:]),
      ),
    )
  )


def main(_):
  environment = make_environment('debug/catch', observation='vector')
  spec = specs.make_environment_spec(environment)

  # Hieros: a server of its tables and an actor that fills them. Its learner
  # could run beside; here it only provides the first parameters.
  config = preset('tiny')
  builder = HierosBuilder(config, lambda label: loggers.NoOpLogger())
  server = reverb.Server(builder.make_replay_tables(spec))
  client = reverb.Client(f'localhost:{server.port}')
  networks = make_networks(config, spec)
  learner_key, actor_key, dqn_key = jax.random.split(jax.random.PRNGKey(0), 3)
  hieros = builder.make_actor(
    actor_key,
    make_policy(networks),
    builder.make_adder(client),
    variable_source=builder.make_learner(
      learner_key, networks, builder.make_dataset_iterator(client)
    ),
  )
  loop = acme.EnvironmentLoop(environment, hieros, logger=loggers.NoOpLogger())
  loop.run(num_episodes=_EPISODES.value // 2)

  # DQN: nothing but its learner, on level_0.
  dataset = etbs.make_dataset(
    client.server_address,
    'level_0',
    etbs.Etbs(config.replay.temperature),
    max_in_flight_samples_per_worker=BATCH_SIZE,
  )
  dataset = dataset.flat_map(transitions).shuffle(1000).batch(BATCH_SIZE)
  q_values = hk.without_apply_rng(
    hk.transform(lambda x: hk.nets.MLP([64, 64, spec.actions.num_values])(x))
  )
  observation = np.zeros((1,) + spec.observations.shape, np.float32)
  dqn = learning_lib.SGDLearner(
    network=networks_lib.FeedForwardNetwork(
      init=lambda key: q_values.init(key, observation), apply=q_values.apply
    ),
    loss_fn=losses.PrioritizedDoubleQLearning(
      discount=0.97, importance_sampling_exponent=0.0
    ),
    optimizer=optax.adam(1e-3),
    data_iterator=dataset.as_numpy_iterator(),
    target_update_period=100,
    random_key=dqn_key,
    logger=loggers.NoOpLogger(),
  )
  for step in range(_STEPS.value):
    if step % 100 == 0:  # Hieros plays on.
      loop.run(num_episodes=_EPISODES.value // 20)
    dqn.step()

  # What DQN has learned, by its greedy policy.
  (params,) = dqn.get_variables([''])
  greedy = jax.jit(lambda x: q_values.apply(params, x).argmax(-1))
  returns = []
  for _ in range(100):
    timestep, episode_return = environment.reset(), 0.0
    while not timestep.last():
      action = np.int32(greedy(timestep.observation[None])[0])
      timestep = environment.step(action)
      episode_return += timestep.reward
    returns.append(episode_return)
  print(
    f'DQN on level_0: mean return of {len(returns)} episodes '
    f'{np.mean(returns):.2f}'
  )


if __name__ == '__main__':
  app.run(main)
