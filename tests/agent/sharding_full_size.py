"""Updates of the preset `small`, at full size, on four devices and on one.

`test_sharding.py` runs it where JAX has four devices. Where they waited for
each other in different exchanges, XLA would end this program.
"""

import jax
import numpy as np

from acme_hieros import config as config_lib
from acme_hieros.models import hierarchy, shares, spaces
from acme_hieros.models import level as level_lib
from benchmarks import learner

UPDATES = 3


def main():
  config = config_lib.preset('small')
  networks = hierarchy.Hierarchy(
    config, {spaces.SINGLE: spaces.Image((64, 64, 3))}, spaces.Discrete((), 18)
  )
  (level,) = networks.levels
  batch = learner.random_batch(config, level)
  devices = jax.local_devices()
  assert len(devices) == 4
  told = {}
  for some in (devices[:1], devices):
    placement, share = shares.place(some)
    # What is exchanged, and in which order, is the same in slow code.
    update = share(level.update, xla_backend_optimization_level=0)
    state = level_lib.draw(level.init, jax.random.PRNGKey(0))
    state = jax.device_put(state, placement)
    for _ in range(UPDATES if len(some) > 1 else 1):
      state, metrics = update(state, batch, np.float32(1.0))
      told.setdefault(len(some), jax.device_get(metrics))
    assert int(state.steps) == (UPDATES if len(some) > 1 else 1)
  for name, value in told[1].items():
    np.testing.assert_allclose(
      told[4][name], value, rtol=1e-3, atol=1e-5, err_msg=name
    )


if __name__ == '__main__':
  main()
