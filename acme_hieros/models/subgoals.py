"""Subgoals: an autoencoder of h, and rewards (docs/algorithm.md, 5)."""

from collections.abc import Callable
from typing import NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp

from acme_hieros.config import SubgoalConfig
from acme_hieros.models import distributions, mlp, shares, spaces

Array = jax.Array

# States of which so many categoricals are not the same count as 1/e of one.
_ALIKE = 0.1


class Autoencoder(NamedTuple):
  """Pure functions of a level's subgoal autoencoder.

  init: (key, deter [..., D]) -> params.
  encode: (params, deter [..., D]) -> log-probabilities [..., count, classes].
  decode: (params, code [..., count * classes]) -> symlog(h) [..., D].
  """

  init: Callable[..., hk.Params]
  encode: Callable[..., Array]
  decode: Callable[..., Array]


def code_space(config: SubgoalConfig) -> spaces.Discrete:
  """The action of an upper level: the code of a subgoal for the level below."""
  return spaces.Discrete((config.categoricals,), config.classes)


def make_autoencoder(
  config: SubgoalConfig, deter_size: int, dtype: jnp.dtype = jnp.float32
) -> Autoencoder:
  """Builds the autoencoder of a level whose h has `deter_size` numbers."""

  def modules():
    encoder = mlp.MLP(
      config.encoder_layers,
      config.encoder_units,
      config.categoricals * config.classes,
      dtype=dtype,
      name='encoder',
    )
    decoder = mlp.MLP(
      config.decoder_layers,
      config.decoder_units,
      deter_size,
      dtype=dtype,
      name='decoder',
    )

    def encode(deter):
      logits = encoder(distributions.symlog(deter))
      logits = logits.reshape(
        deter.shape[:-1] + (config.categoricals, config.classes)
      )
      return distributions.mix_uniform(logits, config.unimix)

    def init(deter):
      log_probs = encode(deter)
      return decoder(log_probs.reshape(deter.shape[:-1] + (-1,)))

    return init, (encode, decoder)

  init, (encode, decode) = hk.without_apply_rng(hk.multi_transform(modules))
  return Autoencoder(init, encode, decode)


class Reconstruction(NamedTuple):
  """A pass through the autoencoder.

  error: squared error in symlog space, summed over the units of h, [...].
  kl: KL(code || uniform) in nats, [...].
  log_probs: of the code, [..., count, classes].
  """

  error: Array
  kl: Array
  log_probs: Array


def reconstruct(
  autoencoder: Autoencoder,
  params: hk.Params,
  key: Array,
  deter: Array,
  rows: shares.Rows = shares.FIRST,
) -> Reconstruction:
  """Encodes h [..., D], samples the code and decodes it.

  Args:
    autoencoder, params: the functions and their parameters.
    key: random key.
    deter: h.
    rows: where those are that devices may share.
  """
  log_probs = autoencoder.encode(params, deter)
  code = distributions.sample_onehot(key, log_probs, rows)
  decoded = autoencoder.decode(
    params, code.value.reshape(deter.shape[:-1] + (-1,))
  )
  error = jnp.sum(jnp.square(decoded - distributions.symlog(deter)), -1)
  uniform = jnp.full_like(log_probs, -jnp.log(log_probs.shape[-1]))
  return Reconstruction(
    error, distributions.kl_divergence(log_probs, uniform), log_probs
  )


def rarity(stoch: Array, exponent: float) -> Array:
  """How much each state of a batch counts, so that rare ones count for more.

  (density of states like it)^-exponent, where the density at a state is the
  mean of exp((share of equal categoricals - 1) / 0.1) over the batch. With 1
  all places count alike, however often one is there; with 0 all states do.
  (Skew-Fit, Pong et al., 1903.03698, section 3, which has a learned density.)

  It is z that tells places apart: h also has what was before, and is not much
  more like another h of the same place than like those of its neighbours.

  Args:
    stoch: z, one-hot [..., C, K].
    exponent: from 0 to 1.

  Returns:
    [...], of mean 1; no gradient.
  """
  *batch, count, classes = stoch.shape
  if not exponent:
    return jnp.ones(batch)
  state = jax.lax.stop_gradient(stoch).reshape((-1, count * classes))
  equal = state @ shares.gather(state).reshape((-1, count * classes)).T / count
  weight = jnp.mean(jnp.exp((equal - 1.0) / _ALIKE), -1) ** -exponent
  return (weight / shares.mean(jnp.mean(weight))).reshape(batch)


def practice(
  autoencoder: Autoencoder,
  params: hk.Params,
  key: Array,
  deter: Array,
  weight: Array,
  start_of_episode: Array,
  duration: int,
) -> Array:
  """Subgoals that are states: each the code of one of the batch, drawn.

  For half of the steps, by chance, it is a state that was reached from there
  within `duration` steps, or else the last one of the episode or the sequence;
  for the others any state, by its weight.

  Args:
    autoencoder, params: the functions and their parameters.
    key: random key.
    deter: h [B, T, D].
    weight: of each, such as its `rarity`, [B, T].
    start_of_episode: [B, T].
    duration: of subgoals.

  Returns:
    Codes [B, T, count * classes].
  """
  draw_key, code_key = jax.random.split(key)
  batch, length = start_of_episode.shape
  time = jnp.arange(length)
  # Of each step, the last one before the next episode starts.
  starts = jnp.where(start_of_episode, time, length)
  starts = jnp.concatenate([starts[:, 1:], jnp.full((batch, 1), length)], 1)
  last = jax.lax.cummin(starts, 1, reverse=True) - 1

  which, when, where = jnp.moveaxis(
    shares.draw(jax.random.uniform, draw_key, (batch, length, 3)), -1, 0
  )
  later = time + 1 + jnp.floor(when * duration).astype(jnp.int32)
  reached = jnp.minimum(later, last)[..., None, None]
  log_probs = autoencoder.encode(params, deter)
  everywhere = shares.gather(log_probs).reshape((-1, *log_probs.shape[2:]))
  up_to = jnp.cumsum(shares.gather(weight).reshape(-1))
  anywhere = jnp.searchsorted(up_to, where * up_to[-1], side='right')
  chosen = jnp.where(
    which[..., None, None] < 0.5,
    jnp.take_along_axis(log_probs, reached, 1),
    everywhere[jnp.minimum(anywhere, len(everywhere) - 1)],
  )
  code = distributions.sample_onehot(code_key, chosen).value
  return jax.lax.stop_gradient(code).reshape((batch, length, -1))


def similarity(goal: Array, deter: Array) -> Array:
  """How near h is to the subgoal, in both direction and length.

  max(0, g . s / max(|g|, |s|)^2) with s = symlog(h); the cosine of Director
  (2206.04114, section 2.4) with the longer vector's length twice.

  Args:
    goal: decoded subgoal g [..., D], in symlog space.
    deter: h [..., D].

  Returns:
    [...], in [0, 1].
  """
  state = distributions.symlog(deter)
  longer = jnp.maximum(
    jnp.sum(jnp.square(goal), -1), jnp.sum(jnp.square(state), -1)
  )
  nearness = jnp.sum(goal * state, -1) / jnp.maximum(longer, 1e-12)
  return jnp.maximum(0.0, nearness)


def subgoal_reward(goal: Array, deter: Array) -> Array:
  """symlog of the `similarity` to the subgoal: [...], in [0, log 2]."""
  return distributions.symlog(similarity(goal, deter))


def absorb(reward: Array, continuation: Array, discount: float) -> Array:
  """Rewards of episodes whose end is a state where one stays for ever.

  Absorbing states (Kostrikov et al., 1809.02925, section 4.1) whose reward is
  that of the last step: r (1 + (1 - c) gamma / (1 - gamma)). A return that is
  cut at the end by c is what it would be if it went on there.

  Args:
    reward: on arrival, [...].
    continuation: c, the probability that the episode goes on from there, [...].
    discount: gamma, of one step, below 1.
  """
  return reward * (1.0 + (1.0 - continuation) * discount / (1.0 - discount))


def novelty_reward(error: Array, deter_size: int) -> Array:
  """symlog of the mean squared error: what the code cannot yet say is new."""
  return distributions.symlog(error / deter_size)
