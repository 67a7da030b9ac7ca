"""Updates of the preset `small`, at full size, on four devices.

`test_sharding.py` runs it where JAX has four. Were they to wait for each other
in different exchanges, XLA would end this program.
"""

import jax
import numpy as np

from acme_hieros import config as config_lib
from acme_hieros.models import level as level_lib
from acme_hieros.models import shares
from benchmarks import batches, full_size

UPDATES = 3


def main():
  config = config_lib.preset('small')
  (level,) = full_size.make_agent(config).levels
  batch = batches.draw(config, level)
  devices = shares.share_devices(config.batch_size)
  assert len(devices) == 4
  placement, share = shares.place(devices)
  # What is exchanged, and in which order, is the same in slow code.
  update = share(level.update, xla_backend_optimization_level=0)
  state = jax.device_put(
    level_lib.draw(level.init, jax.random.PRNGKey(0)), placement
  )
  for _ in range(UPDATES):
    state, metrics = update(state, batch, np.float32(1.0))
    assert all(np.isfinite(list(jax.device_get(metrics).values())))
  assert int(state.steps) == UPDATES
  for x in jax.tree.leaves(state):
    first, *others = (np.asarray(shard.data) for shard in x.addressable_shards)
    for other in others:
      np.testing.assert_array_equal(other, first)


if __name__ == '__main__':
  main()
