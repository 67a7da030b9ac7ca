"""One level of the hierarchy: a world model, an actor, critics, subgoals.

A level knows its own observation, its own actions and the subgoal it was given;
nothing here depends on how many levels there are.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
import optax

from acme_hieros.config import HierosConfig
from acme_hieros.models import (
  actor_critic,
  distributions,
  encoders,
  optimizers,
  spaces,
  subgoals,
  turns,
  world_model,
)
from acme_hieros.models.ops import linear, packing

Array = jax.Array

# The reward streams.
EXTRINSIC, SUBGOAL, NOVELTY = 'extrinsic', 'subgoal', 'novelty'


class Params(NamedTuple):
  """All that a level learns; critics by reward stream.

  A level without subgoals and novelty has an empty autoencoder.
  """

  world_model: hk.Params
  actor: hk.Params
  critics: dict[str, hk.Params]
  autoencoder: hk.Params


class Optimizers(NamedTuple):
  """Of each field of Params, its optimizer or what that carries along."""

  world_model: Any
  actor: Any
  critics: Any
  autoencoder: Any


class PolicyParams(NamedTuple):
  """What acting needs: no decoder, no critics, no autoencoder."""

  world_model: hk.Params
  actor: hk.Params


class PackedPolicy(NamedTuple):
  """PolicyParams as an actor keeps them.

  From `policy_params`; a level's functions take what `unpack_policy` makes of
  them.
  """

  world_model: packing.Packed
  actor: packing.Packed


class TrainingState(NamedTuple):
  """A level's whole learning state.

  slow_critics: moving average of params.critics.
  optimizers: an optax state for each part.
  scales: running size of each stream's returns or advantages, [].
  key: of the next update. steps: updates so far, int32 [].
  """

  params: Params
  slow_critics: dict[str, hk.Params]
  optimizers: Optimizers
  scales: dict[str, Array]
  key: Array
  steps: Array


class Batch(NamedTuple):
  """A batch of one level's replay.

  subgoal: indices [B, T, categoricals] of the code that the level above had
    set; None at the top.
  log_prob: of the actions, by the policy that took them, [B, T]; None where it
    is not known, as of another agent's.
  """

  sequence: world_model.Sequence
  subgoal: Array | None = None
  log_prob: Array | None = None


class Trajectory(NamedTuple):
  """H imagined steps from N states.

  inputs: of actor and critics in states 0..H, [H + 1, N, ...].
  action: encoded, chosen in states 0..H-1, [H, N, A].
  reward: extrinsic, on arrival in states 1..H, [H, N].
  continuation: of states 1..H, [H, N].
  deter: of states 1..H, [H, N, D].
  """

  inputs: linear.Inputs
  action: Array
  reward: Array
  continuation: Array
  deter: Array


class Replayed(NamedTuple):
  """What came with the states that imagination starts from, [B, T].

  reward, continuation, start_of_episode: from replay, see
    `world_model.Arrivals`.
  alive: whether the episode goes on from there; a probability where replay does
    not say.
  action: what was done in them, encoded, [B, T, A].
  log_prob: as `Batch` has it.
  """

  reward: Array
  continuation: Array
  start_of_episode: Array
  alive: Array
  action: Array
  log_prob: Array | None


class Judged(NamedTuple):
  """Of a reward stream in imagined states.

  logits: of its critic in states 0..H-1, [H, N, bins].
  value: expected in states 0..H, [H + 1, N].
  returns: lambda-returns of states 0..H-1, [H, N].
  """

  logits: Array
  value: Array
  returns: Array


class Level:
  """The pure functions of one level."""

  def __init__(
    self,
    config: HierosConfig,
    observation_spaces: Mapping[str, spaces.ObservationSpace],
    action_space: spaces.ActionSpace,
    subgoal_space: spaces.Discrete | None = None,
    novelty: bool = False,
    reward_divisor: int = 1,
  ):
    """Builds a level.

    Args:
      config: of the whole agent.
      observation_spaces: what this level sees, by name.
      action_space: what it does.
      subgoal_space: of the code it is given; None at the top.
      novelty: whether it is rewarded for states new to its autoencoder.
      reward_divisor: by which its rewards are smaller than the environment's.

    Raises:
      ValueError: an observation does not fit the encoder.
    """
    self.observation_spaces = observation_spaces
    self.action_space = action_space
    self.subgoal_space = subgoal_space
    self._config = config
    settings = config.actor_critic
    weights = {
      EXTRINSIC: settings.extrinsic_weight,
      SUBGOAL: settings.subgoal_weight * (subgoal_space is not None),
      NOVELTY: settings.novelty_weight * novelty,
    }
    self.streams = {name: w for name, w in weights.items() if w > 0}
    self._scale_floors = dict.fromkeys(self.streams, settings.scale_floor)
    self._scale_floors[EXTRINSIC] /= reward_divisor
    self._context_length = config.context_length or config.sequence_length
    # By name NumPy could find TensorFlow's bfloat16, which is another.
    dtype = getattr(jnp, config.precision)
    self.world_model = world_model.make_world_model(
      config.world_model,
      observation_spaces,
      action_space,
      self._context_length,
      dtype,
    )
    self._value_head = distributions.SCALAR_HEADS[settings.value_head]
    self.actor = actor_critic.make_actor(settings, action_space, dtype)
    self.critic = actor_critic.make_critic(settings, dtype)
    # Wanted even where the subgoal stream has no weight: subgoals are shown.
    self.autoencoder = None
    if subgoal_space is not None or NOVELTY in self.streams:
      self.autoencoder = subgoals.make_autoencoder(
        config.subgoals, config.world_model.deter_size, dtype
      )
    self.optimizers = Optimizers(
      world_model=optax.chain(
        optimizers.make(config.world_model.optimizer),
        optimizers.scale_core(config.world_model.core_learning_rate_scale),
      ),
      actor=optimizers.make(settings.optimizer),
      critics=optimizers.make(settings.optimizer),
      autoencoder=optimizers.make(config.subgoals.optimizer)
      if self.autoencoder
      else optax.identity(),
    )

  def init(self, key: Array) -> TrainingState:
    """Draws the parameters."""
    key, model_key, actor_key, critic_key, coder_key = jax.random.split(key, 5)
    features = self.world_model.no_features(1)
    code = (
      jnp.zeros((1, self.subgoal_space.size)) if self.subgoal_space else None
    )
    inputs = self.policy_inputs(features, code)
    critic_keys = jax.random.split(critic_key, len(self.streams))
    critics = {
      name: self.critic.init(k, inputs)
      for name, k in zip(self.streams, critic_keys)
    }
    autoencoder: hk.Params = {}
    if self.autoencoder:
      deter = jnp.zeros((1, self._config.world_model.deter_size))
      autoencoder = self.autoencoder.init(coder_key, deter)
    params = Params(
      world_model=self.world_model.init(model_key),
      actor=self.actor.init(actor_key, inputs),
      critics=critics,
      autoencoder=autoencoder,
    )
    return TrainingState(
      params=params,
      # Copies: the update donates its input, which must not alias itself.
      slow_critics=jax.tree.map(jnp.copy, critics),
      optimizers=Optimizers(
        *(
          optimizer.init(part)
          for optimizer, part in zip(self.optimizers, params)
        )
      ),
      scales={name: jnp.zeros(()) for name in self.streams},
      key=key,
      steps=jnp.zeros((), jnp.int32),
    )

  def policy_inputs(
    self, features: world_model.Features, code: Array | None
  ) -> linear.Inputs:
    """Features and one-hot subgoal code [..., G] together."""
    return features if code is None else (*features, code)

  def initial_policy(self, batch_size: int) -> Any:
    """What the actor carries before an episode's first step; () if nothing."""
    if not self.actor.initial_state(1):
      return ()
    return turns.begin(self.actor.initial_state, batch_size)

  def act(
    self,
    params: PolicyParams,
    key: Array,
    state: world_model.State,
    code: Array | None,
    memory: Any,
    first: Array,
    deterministic: bool = False,
  ) -> tuple[Array, Array, Any]:
    """Chooses encoded actions [B, A] in states [B, ...] under codes [B, G].

    Args:
      params: of world model and actor.
      key: random key.
      state: [B, ...].
      code: one-hot subgoals, or None.
      memory: from `initial_policy` or the last step.
      first: whether the step is an episode's first, bool [B].
      deterministic: take the likeliest actions instead of sampling.

    Returns:
      The actions, their log-probabilities [B], and the memory.
    """
    prediction = self.world_model.predict(params.world_model, state)
    inputs = self.policy_inputs(prediction.features, code)
    if memory:
      memory, resets = turns.before_step(memory, first, self._context_length)
      policies, memories = self.actor.step(
        params.actor,
        turns.both((inputs, inputs)),
        turns.both(resets),
        turns.both((memory.memory, memory.younger)),
      )
      policy, _ = turns.apart(policies)
      older, younger = turns.apart(memories)
      memory = turns.Turns(older, younger, memory.age)
    else:
      policy = self.actor.apply(params.actor, inputs)
    action = self._as_taken(
      policy.mode() if deterministic else policy.sample(key)
    )
    return action, policy.log_prob(action), memory

  def _as_taken(self, action: Array) -> Array:
    """Encoded actions [..., A] as the environment takes them: within bounds.

    This is what replay will say that was done. The gradient passes unchanged.
    """
    taken = self.action_space.encode(self.action_space.decode(action))
    return action + jax.lax.stop_gradient(taken - action)

  def imagine(
    self,
    params: PolicyParams,
    key: Array,
    start: world_model.State,
    start_features: world_model.Features,
    code: Array | None,
    memory: Any = (),
  ) -> Trajectory:
    """Rolls the prior forward under the policy and a fixed subgoal.

    Args:
      params: of world model and actor.
      key: random key.
      start: states [N, ...] to start from.
      start_features: their features, [N, ...].
      code: one-hot subgoals [N, G], or None.
      memory: of the actor, before the starts, [N, ...].

    Returns:
      A Trajectory, differentiable through the dynamics.
    """

    def step(carry, key):
      state, features, memory = carry
      policy_key, model_key = jax.random.split(key)
      inputs = self.policy_inputs(features, code)
      # As in DreamerV3 the actor is no path for gradients between states.
      policy, memory = self.actor.step(
        params.actor, linear.stop_gradient(inputs), None, memory
      )
      action = self._as_taken(policy.sample(policy_key))
      state = self.world_model.imagine_step(
        params.world_model, model_key, state, action
      )
      prediction = self.world_model.predict(params.world_model, state)
      return (state, prediction.features, memory), (
        inputs,
        action,
        prediction.reward,
        prediction.continuation,
        state.deter,
      )

    keys = jax.random.split(key, self._config.actor_critic.horizon)
    (_, features, _), steps = jax.lax.scan(
      step, (start, start_features, memory), keys
    )
    inputs, action, reward, continuation, deter = steps
    last = self.policy_inputs(features, code)
    return Trajectory(
      inputs=jax.tree.map(
        lambda some, one: jnp.concatenate([some, one[None]]), inputs, last
      ),
      action=action,
      reward=reward,
      continuation=continuation,
      deter=deter,
    )

  def update(
    self,
    state: TrainingState,
    batch: Batch,
    guidance: Array | float = 1.0,
  ) -> tuple[TrainingState, dict[str, Array]]:
    """One update of everything on one batch (docs/algorithm.md, 6.4).

    Where a loss or a gradient is not finite, only the metrics tell: the state
    comes back as it was, so that the update can be looked at again.

    Args:
      state: the level's learning state.
      batch: [B, T, ...] of its replay.
      guidance: how much its subgoals count, from 0 to 1.

    Returns:
      The new state, and scalar metrics by name; losses end in '_loss'.
    """
    settings = self._config.actor_critic
    if self._config.reward_transform == 'tanh':
      sequence = batch.sequence
      sequence = sequence._replace(reward=jnp.tanh(sequence.reward))
      batch = batch._replace(sequence=sequence)
    params = state.params._replace(
      world_model=encoders.track_means(
        state.params.world_model,
        batch.sequence.observation,
        self.observation_spaces,
        state.steps,
      )
    )
    key, model_key, behaviour_key = jax.random.split(state.key, 3)

    (_, (posterior, prediction, came, metrics)), model_grads = (
      jax.value_and_grad(self.world_model.loss, has_aux=True)(
        params.world_model,
        model_key,
        batch.sequence,
      )
    )

    # Imagination starts from every posterior state of the batch, and nothing
    # that follows may change the world model.
    def flatten(x):
      return jax.lax.stop_gradient(x).reshape((-1,) + x.shape[2:])

    start = jax.lax.stop_gradient(
      self.world_model.starts(posterior, slice(None), settings.horizon)
    )
    code = None
    if self.subgoal_space:
      assert batch.subgoal is not None, 'below the top each step has a subgoal'
      code = self.subgoal_space.encode(batch.subgoal)
    memory = jax.tree.map(
      flatten,
      self.actor.before(
        params.actor,
        self.policy_inputs(prediction.features, code),
        batch.sequence.start_of_episode.at[:, 0].set(True),
      ),
    )
    prediction, code = jax.tree.map(flatten, (prediction, code))
    # Mid-episode, the first step of a sequence has only the model's opinion.
    alive = jnp.where(
      came.known,
      came.continuation,
      prediction.continuation.reshape(came.known.shape),
    )
    replayed = Replayed(
      came.reward,
      came.continuation,
      batch.sequence.start_of_episode,
      alive,
      self.action_space.encode(batch.sequence.action),
      batch.log_prob,
    )

    learned = params._replace(world_model={})
    (_, (scales, more)), grads = jax.value_and_grad(
      self._behaviour_loss, has_aux=True
    )(
      learned,
      params.world_model,
      state,
      behaviour_key,
      start,
      prediction.features,
      memory,
      replayed,
      code,
      guidance,
    )
    metrics.update(more)

    parts, carried = [], []
    for name, optimizer, grad, part, optimizer_state in zip(
      Params._fields,
      self.optimizers,
      grads._replace(world_model=model_grads),
      params,
      state.optimizers,
    ):
      if part:
        metrics[f'{name}_grad_norm'] = optax.tree.norm(grad)
      change, optimizer_state = optimizer.update(grad, optimizer_state, part)
      parts.append(optax.apply_updates(part, change))
      carried.append(optimizer_state)
    updated = Params(*parts)
    slow_critics = optax.incremental_update(
      updated.critics, state.slow_critics, settings.slow_rate
    )
    if settings.slow_period > 1:
      slow_critics = optax.periodic_update(
        slow_critics, state.slow_critics, state.steps + 1, settings.slow_period
      )
    new_state = TrainingState(
      params=updated,
      slow_critics=slow_critics,
      optimizers=Optimizers(*carried),
      scales=scales,
      key=key,
      steps=state.steps + 1,
    )
    finite = jnp.all(jnp.isfinite(jnp.stack(list(metrics.values()))))
    new_state = jax.tree.map(
      lambda new, old: jnp.where(finite, new, old), new_state, state
    )
    return new_state, metrics

  def value(self, critic: hk.Params, inputs: linear.Inputs) -> Array:
    """What a critic expects in states with such inputs: [...]."""
    return self._value_head.mean(self.critic.apply(critic, inputs))

  def _behaviour_loss(
    self,
    learned: Params,
    model_params: hk.Params,
    state: TrainingState,
    key: Array,
    start: world_model.State,
    start_features: world_model.Features,
    memory: Any,
    replayed: Replayed,
    code: Array | None,
    guidance: Array | float,
  ):
    """Actor, critic and autoencoder losses on imagined trajectories.

    Args:
      learned: parameters to differentiate by; world_model is empty.
      model_params: parameters of the world model, not differentiated.
      state: slow critics, scales and steps are read.
      key: random key.
      start, start_features, memory, code: as in `imagine`; N = B T.
      replayed: what came with the starts.
      guidance: as in `update`.

    Returns:
      The summed loss, and (new scales, metrics).
    """
    stop = jax.lax.stop_gradient
    settings = self._config.actor_critic
    imagine_key, coder_key = jax.random.split(key)
    # REINFORCE takes the trajectory as given; only a continuous policy is
    # improved through the dynamics.
    actor = learned.actor if self._through_dynamics else stop(learned.actor)
    trajectory = self.imagine(
      PolicyParams(model_params, actor),
      imagine_key,
      start,
      start_features,
      code,
      memory,
    )
    rewards, losses, metrics = self._rewards(
      learned.autoencoder, coder_key, trajectory, code
    )
    discount = settings.discount * trajectory.continuation
    weight = stop(
      actor_critic.trajectory_weights(replayed.alive.reshape(-1), discount)
    )
    inputs = trajectory.inputs
    # Of states 0..H-1, for what is to learn and leaves the states alone.
    given = linear.stop_gradient(jax.tree.map(lambda x: x[:-1], inputs))
    judged = {
      name: self._judge(
        learned.critics[name],
        state.slow_critics[name] if settings.slow_target else None,
        inputs,
        given,
        rewards[name],
        discount,
      )
      for name in self.streams
    }
    earned = actor_critic.replay_returns(
      replayed.reward,
      settings.discount * replayed.continuation,
      replayed.start_of_episode,
      stop(judged[EXTRINSIC].returns[0]).reshape(replayed.reward.shape),
      settings.return_lambda,
    )
    losses['critic'], more = self._critic_loss(
      judged, state.slow_critics, given, weight, replayed, earned
    )
    metrics.update(more)
    advantages, scales, more = self._advantages(
      judged, weight, state.scales, state.steps, guidance
    )
    metrics.update(more)
    more, entropy = self._actor_losses(
      learned.actor,
      given,
      trajectory.action,
      memory,
      advantages,
      weight,
      replayed,
      judged,
      earned,
    )
    losses.update(more)
    metrics.update(
      policy_entropy=jnp.mean(entropy),
      imagined_continuation=jnp.mean(trajectory.continuation),
      **{f'{name}_reward': jnp.mean(rewards[name]) for name in judged},
      **{f'{name}_loss': loss for name, loss in losses.items()},
    )
    total = sum(losses.values(), jnp.zeros(()))
    return total, (stop(scales), stop(metrics))

  @property
  def _through_dynamics(self) -> bool:
    return isinstance(self.action_space, spaces.Continuous)

  def _rewards(
    self,
    autoencoder: hk.Params,
    key: Array,
    trajectory: Trajectory,
    code: Array | None,
  ) -> tuple[dict[str, Array], dict[str, Array], dict[str, Array]]:
    """Rewards [H, N] by stream, losses of the autoencoder, and metrics."""
    stop = jax.lax.stop_gradient
    rewards = {EXTRINSIC: trajectory.reward}
    if not self.autoencoder:
      return rewards, {}, {}
    if code is not None:
      goal = stop(self.autoencoder.decode(autoencoder, code))
      rewards[SUBGOAL] = subgoals.subgoal_reward(goal, trajectory.deter)
    # The same pass twice, of which the compiler makes one: the first learns
    # and leaves the states alone, the second rewards the states.
    coded = subgoals.reconstruct(
      self.autoencoder, autoencoder, key, stop(trajectory.deter)
    )
    seen = subgoals.reconstruct(
      self.autoencoder, stop(autoencoder), key, trajectory.deter
    )
    rewards[NOVELTY] = subgoals.novelty_reward(
      seen.error, self._config.world_model.deter_size
    )
    error, kl = jnp.mean(coded.error), jnp.mean(coded.kl)
    loss = error + self._config.subgoals.kl_scale * kl
    metrics = {'autoencoder_error': error, 'autoencoder_kl': kl}
    return rewards, {'autoencoder': loss}, metrics

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
    logits = self.critic.apply(critic, given)
    # The last states teach nothing. The pass over the others is the one above
    # but for its gradient, and the compiler makes one of both.
    value = jnp.concatenate(
      [self.value(stop(critic), before), self.value(stop(critic), last)]
    )
    following = value[1:]
    if target is not None:
      following = self.value(target, jax.tree.map(lambda x: x[1:], inputs))
    returns = actor_critic.lambda_returns(
      reward, discount, following, self._config.actor_critic.return_lambda
    )
    return Judged(logits, value, returns)

  def _critic_loss(
    self,
    judged: Mapping[str, Judged],
    slow_critics: Mapping[str, hk.Params],
    given: linear.Inputs,
    weight: Array,
    replayed: Replayed,
    earned: Array,
  ) -> tuple[Array, dict[str, Array]]:
    """The sum of all critics' losses, and metrics.

    Args:
      judged: by stream.
      slow_critics: by stream.
      given: inputs in states 0..H-1, [H, N, ...].
      weight: of states 0..H-1, [H, N].
      replayed: what came with the starts.
      earned: extrinsic returns of the starts as replay has them, [B, T].
    """
    stop = jax.lax.stop_gradient
    settings = self._config.actor_critic
    losses, metrics = {}, {}
    for name, (logits, value, returns) in judged.items():
      loss = self._value_head.loss(logits, stop(returns))
      if settings.slow_scale:
        slow = self.value(slow_critics[name], given)
        loss += settings.slow_scale * self._value_head.loss(logits, slow)
      losses[f'{name}_critic_loss'] = jnp.mean(weight * loss)
      if name == EXTRINSIC and settings.replay_scale:
        loss = self._value_head.loss(logits[0], earned.reshape(-1))
        losses['replay_critic_loss'] = settings.replay_scale * jnp.mean(
          replayed.alive.reshape(-1) * loss
        )
      metrics[f'{name}_return'] = jnp.mean(returns)
      metrics[f'{name}_value'] = jnp.mean(value)
    total = sum(losses.values(), jnp.zeros(()))
    return total, {**losses, **metrics}

  def _advantages(
    self,
    judged: Mapping[str, Judged],
    weight: Array,
    scales: Mapping[str, Array],
    steps: Array,
    guidance: Array | float,
  ) -> tuple[Array, dict[str, Array], dict[str, Array]]:
    """The weighted sum of all streams' scaled advantages [H, N].

    Also the new running scales, and metrics.
    """
    stop = jax.lax.stop_gradient
    settings = self._config.actor_critic
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
      counts = guidance if name == SUBGOAL else 1.0
      parts[name] = (
        counts
        * self.streams[name]
        * (advantage - centre)
        / jnp.maximum(self._scale_floors[name], debias * moved[name])
      )
      metrics[f'{name}_scale'] = debias * moved[name]
    magnitude = {n: jnp.mean(jnp.abs(part)) for n, part in parts.items()}
    total = sum(magnitude.values())
    metrics.update(
      {
        f'{name}_advantage_share': part / jnp.maximum(total, 1e-12)
        for name, part in magnitude.items()
      }
    )
    return sum(parts.values(), jnp.zeros(())), moved, metrics

  def _actor_losses(
    self,
    actor: hk.Params,
    given: linear.Inputs,
    action: Array,
    memory: Any,
    advantage: Array,
    weight: Array,
    replayed: Replayed,
    judged: Mapping[str, Judged],
    earned: Array,
  ) -> tuple[dict[str, Array], Array]:
    """Losses of the actor by name, and its entropy [H, N].

    Args: as of `_critic_loss`, with
      actor: its parameters.
      action: chosen in states 0..H-1, encoded, [H, N, A].
      memory: of the actor, before the starts, [N, ...].
      advantage: [H, N].
    """
    stop = jax.lax.stop_gradient
    settings = self._config.actor_critic
    policy = self.actor.apply(actor, given, memory)
    entropy = policy.entropy()
    if self._through_dynamics:
      objective = advantage
    else:
      objective = policy.log_prob(action) * stop(advantage)
    losses = {
      'actor': -jnp.mean(
        weight * (objective + settings.entropy_scale * entropy)
      )
    }
    if settings.replay_actor_scale and replayed.log_prob is not None:
      log_prob = jax.tree.map(lambda x: x[0], policy).log_prob(
        replayed.action.reshape(action[0].shape)
      )
      value = stop(judged[EXTRINSIC].value[0])
      losses['replay_actor'] = settings.replay_actor_scale * (
        actor_critic.replay_policy_loss(
          log_prob.reshape(earned.shape),
          replayed.log_prob,
          earned - value.reshape(earned.shape),
          replayed.alive,
          replayed.start_of_episode,
          self._scale_floors[EXTRINSIC],
        )
      )
    return losses, entropy


def _move(mean: Array, value: Array, decay: float) -> Array:
  """A step of a running mean, which started at 0; see `_debias`."""
  return decay * mean + (1.0 - decay) * value


def _debias(decay: float, steps: Array) -> Array:
  """What a running mean of `steps` values is to be multiplied by."""
  return 1.0 / jnp.maximum(1.0 - decay**steps, 1e-6)


def draw(init: Callable[[Array], Any], key: Array) -> Any:
  """What `init` of a level or a hierarchy gives for a random key.

  It runs once: compiling it well takes far longer than running it.
  """
  options = {'xla_backend_optimization_level': 0}
  return jax.jit(init, compiler_options=options)(key)


def policy_params(params: Params) -> PackedPolicy:
  """A copy of what an actor needs of the parameters, each part packed."""
  used = hk.data_structures.filter(
    lambda module, *_: 'decoder' not in module.split('/'), params.world_model
  )
  return PackedPolicy(packing.pack(used), packing.pack(params.actor))


def unpack_policy(params: PackedPolicy) -> PolicyParams:
  """From `policy_params` to what a level's functions take."""
  return PolicyParams(*map(packing.unpack, params))


def parameter_count(params: Any) -> int:
  """Numbers in a tree; complex ones count as one each.

  Means of images are none: nobody learns them.
  """
  count = 0
  for path, value in jax.tree_util.tree_flatten_with_path(params)[0]:
    module, name = (str(getattr(key, 'key', key)) for key in path[-2:])
    if encoders.is_mean(module):
      continue
    halves = name.startswith('complex_')
    count += value.size // 2 if halves else value.size
  return count
