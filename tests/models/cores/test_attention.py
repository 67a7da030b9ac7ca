"""Attention beside a dense softmax in NumPy."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from acme_hieros.models.cores import attention

BATCH, LENGTH, WIDTH, HEADS = 2, 7, 8, 2
SIZE = WIDTH // HEADS


def rotated(x, position):
  """Pairs of numbers (i, i + SIZE / 2) as complex ones, turned."""
  half = SIZE // 2
  turned = x[..., :half] + 1j * x[..., half:]
  rate = 10000.0 ** (-np.arange(half) / half)
  turned = turned * np.exp(1j * position * rate)
  return np.concatenate([turned.real, turned.imag], -1)


def dense(weights, u, reset, window, rotary):
  """Each step, head and sequence by itself."""
  query, key, value = np.split(u @ weights, 3, -1)
  out = np.zeros_like(query)
  for b in range(BATCH):
    episode = np.cumsum(reset[b])
    for head in range(HEADS):
      mine = slice(head * SIZE, (head + 1) * SIZE)
      for t in range(LENGTH):
        seen = [
          s for s in range(t + 1) if episode[s] == episode[t] and t - s < window
        ]
        q, k = query[b, t, mine], key[b, seen, mine]
        if rotary:
          q = rotated(q, t)
          k = np.stack([rotated(x, s) for x, s in zip(k, seen)])
        score = np.exp(k @ q / np.sqrt(SIZE))
        out[b, t, mine] = score / score.sum() @ value[b, seen, mine]
  return out


@pytest.mark.parametrize('rotary', [False, True])
@pytest.mark.parametrize('window', [LENGTH, 3])
def test_attention_is_a_masked_softmax(rotary, window):
  rng = np.random.default_rng(0)
  u = rng.normal(size=(BATCH, LENGTH, WIDTH)).astype(np.float32)
  reset = np.zeros((BATCH, LENGTH), bool)
  reset[:, 0] = reset[1, 4] = True
  transformed = hk.without_apply_rng(
    hk.transform(
      lambda *args: attention.Attention(WIDTH, HEADS, window, rotary).scan(
        *args
      )
    )
  )
  empty = attention.initial_ring(WIDTH, window, BATCH)
  params = transformed.init(jax.random.PRNGKey(0), u, jnp.asarray(reset), empty)
  (weights,) = (np.asarray(p['w'], np.float64) for p in params.values())
  # Sharper than they start, so that it matters where they look.
  expected = dense(3.0 * weights, u, reset, window, rotary)
  sharp = jax.tree.map(lambda x: 3.0 * x, params)
  found, _ = transformed.apply(sharp, u, jnp.asarray(reset), empty)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
