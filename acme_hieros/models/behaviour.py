"""What an actor and its critics learn in imagination (docs/algorithm.md, 4).

A `Behaviour` knows inputs, actions and rewards; not what world they are of.
"""

from collections.abc import Mapping
import types
from typing import Any, NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp

from acme_hieros.config import ActorCriticConfig
from acme_hieros.models import actor_critic, distributions, shares, spaces
from acme_hieros.models.ops import linear

Array = jax.Array

# The reward streams.
EXTRINSIC, SUBGOAL, NOVELTY = 'extrinsic', 'subgoal', 'novelty'


class Learned(NamedTuple):
  """Parameters; critics by reward stream."""

  actor: hk.Params
  critics: Mapping[str, hk.Params]


class Known(NamedTuple):
  """What a behaviour knows beside its parameters.

  slow_critics: moving average of the critics.
  scales: running size of each stream's returns or advantages, [].
  steps: updates so far, int32 [].
  entropy_scale: weight of the entropy in the actor's loss.
  """

  slow_critics: Mapping[str, hk.Params]
  scales: Mapping[str, Array]
  steps: Array
  entropy_scale: Array | float


class Imagined(NamedTuple):
  """H imagined steps from N states, and what came of them.

  inputs: of actor and critics in states 0..H, [H + 1, N, ...].
  action: encoded, chosen in states 0..H-1, [H, N, A].
  rewards: of each stream, on arrival in states 1..H, [H, N].
  continuation: of states 1..H, [H, N].
  alive: of state 0, [N].
  memory: of the actor before state 0, [N, ...]; () without.
  """

  inputs: linear.Inputs
  action: Array
  rewards: Mapping[str, Array]
  continuation: Array
  alive: Array
  memory: Any = ()


class Replayed(NamedTuple):
  """What came with the states that imagination starts from, [B, T].

  reward, continuation, start_of_episode: from replay, see
    `world_model.Arrivals`.
  alive: whether the episode goes on from there; a probability where replay does
    not say.
  action: what was done in them, encoded, [B, T, A].
  log_prob: of the actions, by the policy that took them; None where it is not
    known.
  told: 1 where imagination starts under the subgoal that they were taken under,
    and 0 under another, of which what came tells nothing.
  """

  reward: Array
  continuation: Array
  start_of_episode: Array
  alive: Array
  action: Array
  log_prob: Array | None
  told: Array


class Judged(NamedTuple):
  """Of a reward stream in imagined states.

  logits: of its critic in states 0..H-1, [H, N, bins].
  value: expected in states 0..H, [H + 1, N].
  returns: lambda-returns of states 0..H-1, [H, N].
  """

  logits: Array
  value: Array
  returns: Array


class Behaviour:
  """The pure functions of an actor and of a critic for each reward stream.

  Attributes:
    action_space: what it chooses from.
    streams: weight of each, by name.
    floors: of the scale of each.
  """

  def __init__(
    self,
    config: ActorCriticConfig,
    action_space: spaces.ActionSpace,
    streams: Mapping[str, float],
    floors: Mapping[str, float],
    dtype: jnp.dtype = jnp.float32,
  ):
    """Builds it.

    Args:
      config: sizes, and how it learns.
      action_space, streams, floors: see above.
      dtype: of its arithmetic.
    """
    self.action_space = action_space
    self.streams = streams
    self.floors = floors
    self.actor = actor_critic.make_actor(config, action_space, dtype)
    self._critic = actor_critic.make_critic(config, dtype)
    self._head = distributions.SCALAR_HEADS[config.value_head]
    self._config = config
    # REINFORCE takes a trajectory as given; only what chooses numbers is
    # improved through the dynamics.
    self.through_dynamics = action_space.has_numbers

  def init(
    self, actor_key: Array, critic_key: Array, inputs: linear.Inputs
  ) -> Learned:
    """Draws parameters for inputs [1, ...]."""
    keys = jax.random.split(critic_key, len(self.streams))
    return Learned(
      self.actor.init(actor_key, inputs),
      {
        name: self._critic.init(key, inputs)
        for name, key in zip(self.streams, keys)
      },
    )

  def value(self, critic: hk.Params, inputs: linear.Inputs) -> Array:
    """What a critic expects in states with such inputs: [...]."""
    return self._head.mean(self._critic.apply(critic, inputs))

  def loss(
    self,
    learned: Learned,
    known: Known,
    imagined: Imagined,
    replayed: Replayed | None = None,
    counts: Mapping[str, Array | float] = types.MappingProxyType({}),
  ) -> tuple[Array, tuple[dict[str, Array], dict[str, Array]]]:
    """The losses of actor and critics on imagined trajectories.

    Args:
      learned: parameters to differentiate by.
      known: what is read.
      imagined: N = B T, if anything is replayed.
      replayed: what came with the starts.
      counts: factors of streams' weights, by name; 1 where there is none.

    Returns:
      The summed loss, and (new scales, metrics).
    """
    stop = jax.lax.stop_gradient
    settings = self._config
    discount = settings.discount * imagined.continuation
    weight = stop(actor_critic.trajectory_weights(imagined.alive, discount))
    # Of states 0..H-1, for what is to learn and leaves the states alone.
    given = linear.stop_gradient(
      jax.tree.map(lambda x: x[:-1], imagined.inputs)
    )
    judged = {
      name: self._judge(
        learned.critics[name],
        known.slow_critics[name] if settings.slow_target else None,
        imagined.inputs,
        given,
        imagined.rewards[name],
        discount,
      )
      for name in self.streams
    }
    critics, metrics = self._critic_loss(
      judged, known.slow_critics, given, weight
    )
    advantages, scales, more = self._advantages(
      judged, weight, known.scales, known.steps, counts
    )
    metrics.update(more)
    policy = self.actor.apply(learned.actor, given, imagined.memory)
    entropy = policy.entropy()
    objective = advantages
    if self.action_space.has_choices:
      log_prob = policy.log_prob_of_choices(imagined.action)
      reinforced = log_prob * stop(advantages)
      objective = reinforced
      if self.through_dynamics:
        objective += advantages
    losses = {
      'critic': critics,
      'actor': -jnp.mean(weight * (objective + known.entropy_scale * entropy)),
    }
    if replayed is not None and EXTRINSIC in judged:
      first = jax.tree.map(lambda x: x[0], policy)
      losses.update(self._replay_losses(judged[EXTRINSIC], first, replayed))
    metrics.update(
      policy_entropy=jnp.mean(entropy),
      **{f'{name}_reward': jnp.mean(imagined.rewards[name]) for name in judged},
      **{f'{name}_loss': loss for name, loss in losses.items()},
    )
    return sum(losses.values(), jnp.zeros(())), (stop(scales), stop(metrics))

  def _judge(
    self,
    critic: hk.Params,
    target: hk.Params | None,
    inputs: linear.Inputs,
    given: linear.Inputs,
    reward: Array,
    discount: Array,
  ) -> Judged:
    """What a stream's critic says of imagined states, and what came of them.

    Args:
      critic: its parameters.
      target: those whose values the returns are bootstrapped from, if others.
      inputs: in states 0..H, [H + 1, N, ...].
      given: those of states 0..H-1, which have no gradient.
      reward, discount: on arrival in states 1..H, [H, N].
    """
    stop = jax.lax.stop_gradient
    before, last = (
      jax.tree.map(lambda x, part=part: x[part], inputs)
      for part in (slice(None, -1), slice(-1, None))
    )
    logits = self._critic.apply(critic, given)
    # The last states teach nothing. The pass over the others is the one above
    # but for its gradient, and the compiler makes one of both.
    value = jnp.concatenate(
      [self.value(stop(critic), before), self.value(stop(critic), last)]
    )
    following = value[1:]
    if target is not None:
      following = self.value(target, jax.tree.map(lambda x: x[1:], inputs))
    returns = actor_critic.lambda_returns(
      reward, discount, following, self._config.return_lambda
    )
    return Judged(logits, value, returns)

  def _critic_loss(
    self,
    judged: Mapping[str, Judged],
    slow_critics: Mapping[str, hk.Params],
    given: linear.Inputs,
    weight: Array,
  ) -> tuple[Array, dict[str, Array]]:
    """The sum of all critics' losses, and metrics.

    Args:
      judged: by stream.
      slow_critics: by stream.
      given: inputs in states 0..H-1, [H, N, ...].
      weight: of states 0..H-1, [H, N].
    """
    losses, metrics = {}, {}
    for name, (logits, value, returns) in judged.items():
      loss = self._head.loss(logits, jax.lax.stop_gradient(returns))
      if self._config.slow_scale:
        slow = self.value(slow_critics[name], given)
        loss += self._config.slow_scale * self._head.loss(logits, slow)
      losses[f'{name}_critic_loss'] = jnp.mean(weight * loss)
      metrics[f'{name}_return'] = jnp.mean(returns)
      metrics[f'{name}_value'] = jnp.mean(value)
    return sum(losses.values(), jnp.zeros(())), {**losses, **metrics}

  def _replay_losses(
    self, judged: Judged, policy: actor_critic.Policy, replayed: Replayed
  ) -> dict[str, Array]:
    """Losses by what really came of the states that imagination starts from.

    Args:
      judged: extrinsic.
      policy: in those states, [N, ...].
      replayed: what came.
    """
    stop = jax.lax.stop_gradient
    settings = self._config
    shape = replayed.reward.shape
    earned = actor_critic.replay_returns(
      replayed.reward,
      settings.discount * replayed.continuation,
      replayed.start_of_episode,
      stop(judged.returns[0]).reshape(shape),
      settings.return_lambda,
    )
    alive = replayed.alive * replayed.told
    losses = {}
    if settings.replay_scale:
      loss = self._head.loss(judged.logits[0], earned.reshape(-1))
      losses['replay_critic'] = settings.replay_scale * jnp.mean(
        alive.reshape(-1) * loss
      )
    if settings.replay_actor_scale and replayed.log_prob is not None:
      action = replayed.action
      log_prob = policy.log_prob(action.reshape((-1, action.shape[-1])))
      losses['replay_actor'] = settings.replay_actor_scale * (
        actor_critic.replay_policy_loss(
          log_prob.reshape(shape),
          replayed.log_prob,
          earned - stop(judged.value[0]).reshape(shape),
          alive,
          replayed.start_of_episode,
          self.floors[EXTRINSIC],
        )
      )
    return losses

  def _advantages(
    self,
    judged: Mapping[str, Judged],
    weight: Array,
    scales: Mapping[str, Array],
    steps: Array,
    counts: Mapping[str, Array | float],
  ) -> tuple[Array, dict[str, Array], dict[str, Array]]:
    """The weighted sum of all streams' scaled advantages [H, N].

    Also the new running scales, and metrics.
    """
    stop = jax.lax.stop_gradient
    settings = self._config
    debias = _debias(settings.scale_decay, steps + 1)
    parts, moved, metrics = {}, {}, {}
    for name, (_, value, returns) in judged.items():
      advantage = returns - stop(value[:-1])
      centre, scale = jnp.zeros(()), jnp.ones(())
      if settings.advantage_scale == 'range':
        scale = actor_critic.percentile_range(stop(returns))
      elif settings.advantage_scale == 'deviation':
        centre, scale = actor_critic.moments(stop(advantage), weight)
      moved[name] = _move(scales[name], scale, settings.scale_decay)
      parts[name] = (
        counts.get(name, 1.0)
        * self.streams[name]
        * (advantage - centre)
        / jnp.maximum(self.floors[name], debias * moved[name])
      )
      metrics[f'{name}_scale'] = debias * moved[name]
    magnitude = shares.mean(
      {n: jnp.mean(jnp.abs(part)) for n, part in parts.items()}
    )
    total = sum(magnitude.values())
    metrics.update(
      {
        f'{name}_advantage_share': part / jnp.maximum(total, 1e-12)
        for name, part in magnitude.items()
      }
    )
    return sum(parts.values(), jnp.zeros(())), moved, metrics


def _move(mean: Array, value: Array, decay: float) -> Array:
  """A step of a running mean, which started at 0; see `_debias`."""
  return decay * mean + (1.0 - decay) * value


def _debias(decay: float, steps: Array) -> Array:
  """What a running mean of `steps` values is to be multiplied by."""
  return 1.0 / jnp.maximum(1.0 - decay**steps, 1e-6)
