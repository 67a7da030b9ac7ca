"""Hieros in Acme's own DistributedLayout: a process for every part.

  python examples/distributed_layout.py --lp_launch_type=local_mp

Several actors write into the same tables, which ETBS allows where its native
sampler was built; elsewhere use one actor or `replay.sampler='uniform'`.
"""

from acme_hieros import compat  # noqa: F401, I001  Comes before Acme.

from absl import app, flags
from acme.jax.layouts.distributed_layout import DistributedLayout
import launchpad as lp

from acme_hieros import HierosBuilder, make_environment, make_networks
from acme_hieros import make_policy, preset

_STEPS = flags.DEFINE_integer('num_steps', 20_000, 'Steps of all actors.')
_ACTORS = flags.DEFINE_integer('num_actors', 2, 'Actors.')


def main(_):
  config = preset('tiny')
  program = DistributedLayout(
    seed=0,
    environment_factory=lambda seed: make_environment('debug/catch', seed),
    network_factory=lambda spec: make_networks(config, spec),
    builder=HierosBuilder(config, limit_ratio=True),
    policy_network=make_policy,
    num_actors=_ACTORS.value,
    max_number_of_steps=_STEPS.value,
  ).build('hieros')
  lp.launch(program, terminal='output_to_files')


if __name__ == '__main__':
  app.run(main)
