"""Hieros in Acme's own LocalLayout: actor and learner in one process.

python examples/local_layout.py
"""

from acme_hieros import compat  # noqa: F401, I001  Comes before Acme.

import acme
from absl import app, flags
from acme.jax.layouts.local_layout import LocalLayout

from acme_hieros import HierosBuilder, make_environment, make_networks
from acme_hieros import make_policy, preset

_EPISODES = flags.DEFINE_integer('num_episodes', 1000, 'Episodes to play.')


def main(_):
  config = preset('tiny')
  environment = make_environment('debug/catch')
  spec = acme.make_environment_spec(environment)
  networks = make_networks(config, spec)
  agent = LocalLayout(
    seed=0,
    environment_spec=spec,
    builder=HierosBuilder(config),
    networks=networks,
    policy_network=make_policy(networks),
    min_replay_size=config.replay.min_size + config.sequence_length,
    batch_size=config.batch_size,
    samples_per_insert=config.replay.ratio / config.sequence_length,
    checkpoint=False,
  )
  acme.EnvironmentLoop(environment, agent).run(num_episodes=_EPISODES.value)


if __name__ == '__main__':
  app.run(main)
