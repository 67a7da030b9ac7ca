"""Optimizers against AdamW as it is written down (1711.05101, algorithm 2)."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from acme_hieros.config import OptimizerConfig
from acme_hieros.models import optimizers

PARAMS = {
  'net/linear': {'w': jnp.array([[2.0, -4.0]]), 'b': jnp.array([8.0])},
  'net/gru': {'w_gates': jnp.full((2, 1, 1), 3.0)},
  'net/norm': {'scale': jnp.ones(2), 'offset': jnp.full(2, 5.0)},
  'net/core/ssm': {
    'log_step': jnp.full(2, -3.0),
    'complex_b': jnp.ones((1, 2)),
  },
}
GRADIENT = {
  module: {name: jnp.full(x.shape, 0.25) for name, x in values.items()}
  for module, values in PARAMS.items()
}


def step(**changes):
  """The first change of each parameter."""
  config = OptimizerConfig(0.1, 1e-8, 100.0, **changes)
  optimizer = optimizers.make(config)
  changed, _ = optimizer.update(GRADIENT, optimizer.init(PARAMS), PARAMS)
  return changed


def test_weights_decay_and_nothing_else():
  changed = step(weight_decay=0.5)
  for module, values in PARAMS.items():
    for name, x in values.items():
      # The first step of Adam is the sign of the gradient.
      wanted = np.full(x.shape, -0.1)
      if name in ('w', 'w_gates'):
        wanted = wanted - 0.1 * 0.5 * np.asarray(x)
      np.testing.assert_allclose(changed[module][name], wanted, rtol=1e-5)


def test_the_gradient_is_clipped_as_a_whole():
  optimizer = optimizers.make(OptimizerConfig(0.1, 1.0, 0.5))
  state = optimizer.init(PARAMS)
  changed, _ = optimizer.update(GRADIENT, state, PARAMS)
  norm = float(optax.global_norm(GRADIENT))
  assert norm > 0.5
  g = 0.25 * 0.5 / norm
  for values in changed.values():
    for x in values.values():
      # An epsilon of 1 leaves the size of a gradient visible.
      np.testing.assert_allclose(x, -0.1 * g / (g + 1.0), rtol=1e-5)


@pytest.mark.parametrize(
  ('value', 'raises', 'weight', 'expected'),
  [
    # KL: too much of it gets more weight.
    (12.0, False, 0.5, 0.55),
    (10.5, False, 0.5, 0.5),
    (8.0, False, 0.5, 0.5 / 1.1),
    # Entropy: too much of it gets less.
    (12.0, True, 0.5, 0.5 / 1.1),
    (9.5, True, 0.5, 0.5),
    (8.0, True, 0.5, 0.55),
    # Neither vanishes nor explodes.
    (12.0, False, 100.0, 100.0),
    (0.0, False, 1e-5, 1e-5),
    (0.0, True, 0.5, 0.55),
  ],
)
def test_weights_are_moved_towards_what_holds_a_target(
  value, raises, weight, expected
):
  held = optimizers.hold(jnp.float32(weight), jnp.float32(value), 10.0, raises)
  np.testing.assert_allclose(held, expected, rtol=1e-5)
