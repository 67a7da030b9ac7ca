"""What is not known yet: disagreement of several models (Plan2Explore).

Sekar et al., "Planning to explore via self-supervised world models"
(2005.05960, section 3). Several models of what a state will show, which is z,
learn from the same replay and differ in how they began: where they agree there
is nothing to be learned, be it certain or chance. They are told what the prior
is told: the output of the core, which has taken in the state before and what
was done in it.
"""

from collections.abc import Callable
from typing import NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp

from acme_hieros.config import ExplorationConfig
from acme_hieros.models import distributions
from acme_hieros.models.ops import linear, normalization

Array = jax.Array


class Ensemble(NamedTuple):
  """Pure functions of E models of the z that a state will show.

  init: (key, output [..., output_size]) -> params.
  predict: (params, output [..., output_size]) -> log-probabilities of z, [...,
    E, categoricals, classes].
  """

  init: Callable[..., hk.Params]
  predict: Callable[..., Array]


def make_ensemble(
  config: ExplorationConfig,
  categoricals: int,
  classes: int,
  dtype: jnp.dtype = jnp.float32,
) -> Ensemble:
  """Builds an ensemble.

  Args:
    config: its sizes.
    categoricals, classes: of z.
    dtype: of its arithmetic.
  """
  members, units, size = config.members, config.units, categoricals * classes

  def predict(output):
    # The first layers of all stand beside each other, as one.
    x = linear.Linear(members * units, with_bias=False)(output.astype(dtype))
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
    logits = logits.reshape((*logits.shape[:-1], categoricals, classes))
    return jax.nn.log_softmax(logits.astype(jnp.float32))

  return Ensemble(*hk.without_apply_rng(hk.transform(predict)))


def loss(
  ensemble: Ensemble, params: hk.Params, output: Array, log_probs: Array
) -> Array:
  """Nats of z that the members do not know, their mean: [].

  Args:
    ensemble, params: the models.
    output: of the core, [..., output_size], left alone.
    log_probs: of the z that the observation showed, [..., categoricals,
      classes], left alone.
  """
  output, log_probs = jax.lax.stop_gradient((output, log_probs))
  told = ensemble.predict(params, output)
  return jnp.mean(distributions.kl_divergence(log_probs[..., None, :, :], told))


def disagreement(log_probs: Array) -> Array:
  """What z would tell of who is right, in nats: [...].

  The entropy of the members' mean less the mean of their entropies, which is
  the mutual information of Plan2Explore (equation 3), of categoricals exactly.

  Args:
    log_probs: of the members, [..., E, categoricals, classes].
  """
  mean = jax.nn.logsumexp(log_probs, -3) - jnp.log(log_probs.shape[-3])
  return distributions.entropy(mean) - jnp.mean(
    distributions.entropy(log_probs), -1
  )
