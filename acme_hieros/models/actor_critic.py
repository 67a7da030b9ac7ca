"""Actor, critics and their losses (docs/algorithm.md, 4; DreamerV3)."""

from collections.abc import Callable, Iterable
import functools
import math
from typing import Any, NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from acme_hieros.config import ActorCriticConfig, WorldModelConfig
from acme_hieros.models import distributions, mlp, shares, spaces
from acme_hieros.models.cores import base, s5
from acme_hieros.models.ops import linear

Array = jax.Array


class Categoricals(NamedTuple):
  """Independent discrete choices; log_probs is [..., count, classes]."""

  log_probs: Array

  @property
  def size(self) -> int:
    return math.prod(self.log_probs.shape[-2:])

  def sample(self, key: Array) -> Array:
    """One-hot choices [..., count * classes]."""
    index = distributions.sample_index(key, self.log_probs)
    return self._onehot(index)

  def mode(self) -> Array:
    return self._onehot(jnp.argmax(self.log_probs, -1))

  def log_prob(self, action: Array) -> Array:
    """[..., count * classes] to [...]."""
    action = action.reshape(self.log_probs.shape)
    return jnp.sum(action * self.log_probs, (-2, -1))

  def log_prob_of_choices(self, action: Array) -> Array:
    """Of all but numbers, [..., size] to [...]."""
    return self.log_prob(action)

  def entropy(self) -> Array:
    return distributions.entropy(self.log_probs)

  def _onehot(self, index: Array) -> Array:
    onehot = jax.nn.one_hot(index, self.log_probs.shape[-1])
    return onehot.reshape(onehot.shape[:-2] + (-1,))


class Gaussian(NamedTuple):
  """Independent normal numbers, [..., size]; the mean lies in [-1, 1]."""

  mean: Array
  std: Array

  @property
  def size(self) -> int:
    return self.mean.shape[-1]

  def sample(self, key: Array) -> Array:
    """Reparameterised: gradients reach mean and std."""
    noise = shares.draw(jax.random.normal, key, self.mean.shape)
    return self.mean + self.std * noise

  def mode(self) -> Array:
    return self.mean

  def log_prob(self, action: Array) -> Array:
    scaled = (action - self.mean) / self.std
    return jnp.sum(
      -0.5 * jnp.square(scaled) - jnp.log(self.std) - 0.5 * jnp.log(2 * jnp.pi),
      -1,
    )

  def log_prob_of_choices(self, action: Array) -> Array:
    """There are none: 0."""
    return jnp.zeros(action.shape[:-1])

  def entropy(self) -> Array:
    return jnp.sum(jnp.log(self.std) + 0.5 * jnp.log(2 * jnp.pi * jnp.e), -1)


class Independent(NamedTuple):
  """Several policies at once, of the parts of a joint action."""

  parts: tuple[Categoricals | Gaussian, ...]

  def sample(self, key: Array) -> Array:
    """All parts beside each other, [..., size]."""
    keys = jax.random.split(key, len(self.parts))
    samples = [part.sample(k) for part, k in zip(self.parts, keys)]
    return jnp.concatenate(samples, -1)

  def mode(self) -> Array:
    return jnp.concatenate([part.mode() for part in self.parts], -1)

  def log_prob(self, action: Array) -> Array:
    """[..., size] to [...]."""
    return _sum(part.log_prob(x) for part, x in self._zip(action))

  def log_prob_of_choices(self, action: Array) -> Array:
    """Of all but numbers, [..., size] to [...]."""
    return _sum(part.log_prob_of_choices(x) for part, x in self._zip(action))

  def entropy(self) -> Array:
    return _sum(part.entropy() for part in self.parts)

  def _zip(self, action: Array) -> Iterable[tuple[Any, Array]]:
    ends = np.cumsum([part.size for part in self.parts])
    return zip(self.parts, jnp.split(action, ends[:-1], -1), strict=True)


def _sum(terms: Iterable[Array]) -> Array:
  return functools.reduce(jnp.add, terms)


Policy = Categoricals | Gaussian | Independent


class Network(NamedTuple):
  """Pure functions init(key, inputs) -> params, apply(params, inputs)."""

  init: Callable[..., hk.Params]
  apply: Callable[..., Array]


class Actor(NamedTuple):
  """The pure functions of a policy, which may have a memory of its own.

  init: (key, inputs [B, ...]) -> params.
  initial_state: B -> the memory [B, ...] of which nothing counts; () without.
  step: (params, inputs [B, ...], reset bool [B] or None, memory) -> (Policy
    [B, ...], memory).
  before: (params, inputs [B, T, ...], reset bool [B, T]) -> the memories before
    each step [B, T, ...], of what the sequence holds. The first step is reset.
  apply: (params, inputs [H, N, ...], memory before [N, ...]) -> Policy [H, N,
    ...]; without a memory inputs and policy can be [..., any].
  """

  init: Callable[..., hk.Params]
  initial_state: Callable[[int], Any]
  step: Callable[..., tuple[Policy, Any]]
  before: Callable[..., Any]
  apply: Callable[..., Policy]


def make_actor(
  config: ActorCriticConfig,
  action: spaces.ActionSpace,
  dtype: jnp.dtype = jnp.float32,
) -> Actor:
  """The policy: inputs [..., any] to a distribution of encoded actions.

  Args:
    config: its sizes, and its memory.
    action: what it chooses from.
    dtype: of its arithmetic.
  """
  head = _HEADS[type(action)]
  if config.core == 'none':
    policy = hk.transform(lambda inputs: head(config, action, dtype, inputs))

    def apply(params, inputs, memory=()):
      return policy.apply(params, None, inputs)

    return Actor(
      init=policy.init,
      initial_state=lambda batch_size: (),
      step=lambda params, inputs, reset, memory: (apply(params, inputs), ()),
      before=lambda params, inputs, reset: (),
      apply=apply,
    )
  return _make_remembering_actor(config, action, dtype, head)


def _make_remembering_actor(config, action, dtype, head) -> Actor:
  """An S5 policy (2303.03982): its head sees what it remembers as well."""
  core = s5.S5Core(
    WorldModelConfig(s5=config.s5, deter_size=config.units), dtype
  )

  def modules():
    inwards = mlp.Dense(core.width, name='input')
    memory = core.make_module('core')

    def run(inputs, reset, state, how):
      u = inwards(linear.cast(inputs, dtype))
      output, state = how(u, reset, state)
      deter = memory.deter(output, state)
      return head(config, action, dtype, (*linear.parts(inputs), deter)), state

    def step(inputs, reset, state):
      return run(inputs, reset, state, memory.step)

    def scan(inputs, reset, state):
      return run(inputs, reset, state, memory.scan)

    return step, (step, scan)

  init, (step, scan) = hk.without_apply_rng(hk.multi_transform(modules))

  def before(params, inputs, reset):
    _, after = scan(params, inputs, reset, core.initial_state(len(reset)))

    return jax.tree.map(
      lambda x: jnp.where(reset[..., None], 0.0, x), base.delay(after)
    )

  def apply(params, inputs, memory):
    inputs = jax.tree.map(lambda x: x.swapaxes(0, 1), inputs)
    leading = jax.tree.leaves(inputs)[0].shape[:2]
    policy, _ = scan(params, inputs, jnp.zeros(leading, bool), memory)
    return jax.tree.map(lambda x: x.swapaxes(0, 1), policy)

  def first(key, inputs):
    batch = len(jax.tree.leaves(inputs)[0])
    return init(key, inputs, None, core.initial_state(batch))

  return Actor(first, core.initial_state, step, before, apply)


def _discrete(config, action, dtype, inputs) -> Categoricals:
  logits = mlp.MLP(
    config.layers,
    config.units,
    action.size,
    output_scale=0.0,
    dtype=dtype,
    name='actor',
  )(inputs)
  return _categoricals(config, action, logits)


def _categoricals(config, action, logits) -> Categoricals:
  logits = logits.reshape(
    logits.shape[:-1] + (action.num_choices, action.classes)
  )
  if action.sizes:
    return Categoricals(
      distributions.mix_uniform_among(logits, config.unimix, action.sizes)
    )
  return Categoricals(distributions.mix_uniform(logits, config.unimix))


def _continuous(config, action, dtype, inputs) -> Gaussian:
  out = mlp.MLP(
    config.layers, config.units, 2 * action.size, dtype=dtype, name='actor'
  )(inputs)
  return _gaussian(config, out)


def _gaussian(config, out) -> Gaussian:
  mean, std = jnp.split(out, 2, -1)
  spread = config.max_std - config.min_std
  # +2 starts exploration near the largest standard deviation.
  return Gaussian(
    jnp.tanh(mean), config.min_std + spread * jax.nn.sigmoid(std + 2.0)
  )


def _joint(config, action, dtype, inputs) -> Independent:
  """A layer for each part on top of the layers that they share."""
  x = mlp.MLP(config.layers, config.units, dtype=dtype, name='actor')(inputs)
  parts = []
  for i, part in enumerate(action.parts.values()):
    sizes = (
      {'output_size': part.size, 'output_scale': 0.0}
      if part.has_choices
      else {'output_size': 2 * part.size}
    )
    out = mlp.MLP(0, 0, dtype=dtype, name=f'actor_part_{i}', **sizes)(x)
    parts.append(
      _categoricals(config, part, out)
      if part.has_choices
      else _gaussian(config, out)
    )
  return Independent(tuple(parts))


_HEADS = {
  spaces.Discrete: _discrete,
  spaces.Continuous: _continuous,
  spaces.Joint: _joint,
}


def make_critic(
  config: ActorCriticConfig, dtype: jnp.dtype = jnp.float32
) -> Network:
  """One reward stream's critic: inputs [..., any] to logits [..., bins]."""

  def critic(inputs):
    return mlp.MLP(
      config.layers,
      config.units,
      distributions.SCALAR_HEADS[config.value_head].size(config.value_bins),
      output_scale=0.0,
      dtype=dtype,
      name='critic',
    )(inputs)

  return Network(*hk.without_apply_rng(hk.transform(critic)))


def lambda_returns(
  reward: Array, discount: Array, value: Array, return_lambda: float
) -> Array:
  """Lambda-returns of an imagined trajectory (DreamerV3, eq. 7).

  R_t = r_{t+1} + d_{t+1} ((1 - lambda) v_{t+1} + lambda R_{t+1}), R_H = v_H.

  Args:
    reward: [H, ...], rewards on arrival in states 1..H.
    discount: [H, ...], continuation times discount of states 1..H.
    value: [H, ...], values of states 1..H.
    return_lambda: lambda.

  Returns:
    [H, ...]: the returns of states 0..H-1.
  """

  def step(following, inputs):
    reward, discount, value = inputs
    following = reward + discount * (
      (1.0 - return_lambda) * value + return_lambda * following
    )
    return following, following

  _, returns = jax.lax.scan(
    step, value[-1], (reward, discount, value), reverse=True
  )
  return returns


def trajectory_weights(start: Array, discount: Array) -> Array:
  """Probability, with discount, that an imagined state is ever reached.

  Args:
    start: [...], continuation of state 0; 0 where the episode is over.
    discount: [H, ...] of states 1..H.

  Returns:
    [H, ...]: weights of states 0..H-1.
  """
  return jnp.cumprod(jnp.concatenate([start[None], discount[:-1]]), 0)


def replay_returns(
  reward: Array,
  discount: Array,
  start_of_episode: Array,
  bootstrap: Array,
  return_lambda: float,
) -> Array:
  """Lambda-returns of what was really earned (DreamerV3, "Critic learning").

  Args:
    reward, discount: [B, T], that came with the states.
    start_of_episode: [B, T]; nothing is known of what comes after an episode's
      last state.
    bootstrap: [B, T], imagined returns from the states.
    return_lambda: lambda.

  Returns:
    [B, T]: of each state, that of the last is its bootstrap.
  """

  def step(following, inputs):
    reward, discount, value, starts, own = inputs
    following = reward + discount * (
      (1.0 - return_lambda) * value + return_lambda * following
    )
    following = jnp.where(starts, own, following)
    return following, following

  arrived = (x.T[1:] for x in (reward, discount, bootstrap, start_of_episode))
  _, returns = jax.lax.scan(
    step,
    bootstrap[:, -1],
    (*arrived, bootstrap.T[:-1]),
    reverse=True,
  )
  return jnp.concatenate([returns.T, bootstrap[:, -1:]], 1)


def replay_policy_loss(
  log_prob: Array,
  behaviour: Array,
  advantage: Array,
  alive: Array,
  start_of_episode: Array,
  floor: float,
) -> Array:
  """Policy gradient by what really came of actions, as a loss.

  Importance weights are cut at 1 (V-trace, 1802.01561, section 4.1); returns
  are those of the policies that were followed. Advantages are taken from their
  mean and divided by their own deviation.

  Args:
    log_prob: of the actions by the policy, [B, T]; what is differentiated.
    behaviour: the same by the policy that took them, [B, T].
    advantage: of the actions, [B, T]; not differentiated. That of the last step
      is not known, nor is what came of an episode's last.
    alive: whether the episode went on, [B, T].
    start_of_episode: [B, T].
    floor: least deviation.

  Returns:
    The loss, [].
  """
  followed = 1.0 - start_of_episode[:, 1:].astype(advantage.dtype)
  weight = alive * jnp.pad(followed, ((0, 0), (0, 1)))
  mean, deviation = moments(advantage, weight)
  weight *= jnp.minimum(1.0, jnp.exp(log_prob - behaviour))
  weight *= (advantage - mean) / jnp.maximum(floor, deviation)
  return -jnp.mean(jax.lax.stop_gradient(weight) * log_prob)


def percentile_range(returns: Array) -> Array:
  """From the 5th to the 95th percentile (DreamerV3, "Actor learning")."""
  everyones = shares.gather(returns)
  low, high = jnp.percentile(everyones, jnp.array([5.0, 95.0]))
  return high - low


def moments(advantage: Array, weight: Array) -> tuple[Array, Array]:
  """Weighted mean and standard deviation of advantages, [H, ...] to []."""
  total = jnp.maximum(shares.total(jnp.sum(weight)), 1e-8)
  mean = shares.total(jnp.sum(weight * advantage)) / total
  squares = weight * jnp.square(advantage - mean)
  variance = shares.total(jnp.sum(squares)) / total
  return mean, jnp.sqrt(variance)
