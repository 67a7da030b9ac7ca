"""What is not known yet: disagreement of several models (Plan2Explore).

Sekar et al., "Planning to explore via self-supervised world models"
(2005.05960, section 3). Several models of one step see the same replay and
differ in how they began: where they agree there is nothing to be learned, be it
certain or chance.
"""

from collections.abc import Callable
from typing import NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp

from acme_hieros.config import ExplorationConfig, WorldModelConfig
from acme_hieros.models import distributions
from acme_hieros.models.ops import linear, normalization

Array = jax.Array


class Step(NamedTuple):
  """A state and what is done in it, [..., any].

  stoch: z. deter: h. action: encoded.
  """

  stoch: linear.OneHots
  deter: Array
  action: Array


class Ensemble(NamedTuple):
  """Pure functions of E models of what comes next.

  init: (key, Step [..., any]) -> params.
  predict: (params, Step [..., any]) -> log-probabilities of the next z,
    [..., E, categoricals, classes].
  """

  init: Callable[..., hk.Params]
  predict: Callable[..., Array]


def make_ensemble(
  config: ExplorationConfig,
  model: WorldModelConfig,
  dtype: jnp.dtype = jnp.float32,
) -> Ensemble:
  """Builds the ensemble of a level whose world model is such."""
  members, units = config.members, config.units
  size = model.categoricals * model.classes

  def predict(step):
    inputs = linear.cast(tuple(step), dtype)
    # The first layers of all stand beside each other, as one.
    x = linear.Linear(members * units, with_bias=False)(inputs)
    x = x.reshape((*x.shape[:-1], members, units))
    # Neither scaled nor shifted: that would be shared by the members.
    x = normalization.layer_norm(x, jnp.ones(units), jnp.zeros(units), True)
    weights = hk.get_parameter(
      'w',
      (members, units, size),
      init=hk.initializers.VarianceScaling(fan_in_axes=(1,)),
    )
    bias = hk.get_parameter('b', (members, size), init=jnp.zeros)
    logits = jnp.einsum('...eu,eus->...es', x, weights.astype(dtype)) + bias
    logits = logits.astype(jnp.float32)
    logits = logits.reshape(
      (*logits.shape[:-1], model.categoricals, model.classes)
    )
    return jax.nn.log_softmax(logits)

  return Ensemble(*hk.without_apply_rng(hk.transform(predict)))


def loss(
  ensemble: Ensemble,
  params: hk.Params,
  step: Step,
  following: Array,
  counts: Array,
) -> Array:
  """Nats of the next z that the members do not know, their mean: [].

  Args:
    ensemble, params: the models.
    step: [..., any].
    following: log-probabilities of the z that came, [..., categoricals,
      classes].
    counts: whether anything came, [...].
  """
  step, following = jax.lax.stop_gradient((step, following))
  log_probs = ensemble.predict(params, step)
  missing = jnp.mean(
    distributions.kl_divergence(following[..., None, :, :], log_probs), -1
  )
  return jnp.sum(counts * missing) / jnp.maximum(jnp.sum(counts), 1.0)


def disagreement(log_probs: Array) -> Array:
  """What the next z would tell of who is right, in nats: [...].

  The entropy of the members' mean less the mean of their entropies, which is
  the mutual information of Plan2Explore (equation 3), of categoricals exactly.

  Args:
    log_probs: of the members, [..., E, categoricals, classes].
  """
  mean = jax.nn.logsumexp(log_probs, -3) - jnp.log(log_probs.shape[-3])
  return distributions.entropy(mean) - jnp.mean(
    distributions.entropy(log_probs), -1
  )
