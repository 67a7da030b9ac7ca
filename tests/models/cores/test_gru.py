"""The recurrences of the GRUs, written out in NumPy."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from acme_hieros.config import (
  BlockGRUConfig,
  GRUConfig,
  WorldModelConfig,
)
from acme_hieros.models import cores

BATCH, LENGTH, SIZE, WIDTH, BLOCKS = 2, 5, 6, 4, 3


def sigmoid(x):
  return 1 / (1 + np.exp(-x))


def norm(x, scale, offset):
  x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
  return x * scale + offset


def silu(x):
  return x * sigmoid(x)


def gates(reset, candidate, update, h):
  candidate = np.tanh(sigmoid(reset) * candidate)
  update = sigmoid(update - 1)
  return update * candidate + (1 - update) * h


def gru(p, u, h):
  parts = norm(u @ p['w_u'] + h @ p['w_h'], p['scale'], p['offset'])
  return gates(*np.split(parts, 3, -1), h)


def block_gru(p, u, h):
  seen = silu(norm(h @ p['w_down'], p['look_scale'], p['look_offset']))
  own = SIZE // BLOCKS
  hidden = []
  for b in range(BLOCKS):
    mine = slice(b * own, (b + 1) * own)
    hidden.append(
      h[:, mine] @ p['w_h'][b]
      + seen @ p['w_look'][:, mine]
      + u @ p['w_u'][:, mine]
    )
  hidden = np.concatenate(hidden, -1)
  hidden = silu(norm(hidden, p['hidden_scale'], p['hidden_offset']))
  after = []
  for b in range(BLOCKS):
    mine = slice(b * own, (b + 1) * own)
    parts = hidden[:, mine] @ p['w_gates'][b]
    after.append(gates(*np.split(parts, 3, -1), h[:, mine]))
  return np.concatenate(after, -1)


@pytest.mark.parametrize(
  'name,reference', [('gru', gru), ('block_gru', block_gru)]
)
def test_h_follows_the_recurrence(name, reference):
  config = WorldModelConfig(
    core=name,
    deter_size=SIZE,
    gru=GRUConfig(width=WIDTH),
    block_gru=BlockGRUConfig(width=WIDTH, blocks=BLOCKS),
  )
  core = cores.make(config, LENGTH, jnp.float32)
  rng = np.random.default_rng(0)
  u = rng.normal(size=(BATCH, LENGTH, WIDTH)).astype(np.float32)
  reset = np.zeros((BATCH, LENGTH), bool)
  reset[1, 2] = True
  h = rng.normal(size=(BATCH, SIZE)).astype(np.float32)
  scan = hk.without_apply_rng(
    hk.transform(lambda *args: core.make_module('core').scan(*args))
  )
  (module,) = jax.eval_shape(
    scan.init, jax.random.PRNGKey(0), u, reset, h
  ).items()
  params = {
    name: rng.normal(size=x.shape).astype(np.float32)
    for name, x in module[1].items()
  }
  _, found = scan.apply({module[0]: params}, u, reset, h)
  wide = {name: x.astype(np.float64) for name, x in params.items()}
  for t in range(LENGTH):
    h = np.where(reset[:, t, None], 0.0, h)
    h = reference(wide, u[:, t], h)
    np.testing.assert_allclose(found[:, t], h, rtol=1e-4, atol=1e-5)
