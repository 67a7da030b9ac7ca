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
  behaviour,
  distributions,
  encoders,
  exploration,
  optimizers,
  shares,
  spaces,
  subgoals,
  turns,
  world_model,
)
from acme_hieros.models.behaviour import EXTRINSIC, NOVELTY, SUBGOAL
from acme_hieros.models.ops import linear, packing

Array = jax.Array

# Split at once for what draws parameters.
_KEYS = 16

# Begins the names of a manager's streams.
MANAGER = 'manager_'


class Params(NamedTuple):
  """All that a level learns.

  critics: by reward stream; a manager's as `MANAGER` begins them.
  autoencoder: empty without subgoals and novelty by its error.
  manager: the policy that sets subgoals; empty where another level does.
  ensemble: whose disagreement is novelty; empty where it is not.
  """

  world_model: hk.Params
  actor: hk.Params
  critics: dict[str, hk.Params]
  autoencoder: hk.Params
  manager: hk.Params
  ensemble: hk.Params


class Optimizers(NamedTuple):
  """Of each field of Params, its optimizer or what that carries along."""

  world_model: Any
  actor: Any
  critics: Any
  autoencoder: Any
  manager: Any
  ensemble: Any


class PolicyParams(NamedTuple):
  """What acting needs: no decoder, no critics, no autoencoder."""

  world_model: hk.Params
  actor: hk.Params
  manager: hk.Params


class PackedPolicy(NamedTuple):
  """PolicyParams as an actor keeps them.

  From `policy_params`; a level's functions take what `unpack_policy` makes of
  them.
  """

  world_model: packing.Packed
  actor: packing.Packed
  manager: packing.Packed


class TrainingState(NamedTuple):
  """A level's whole learning state.

  slow_critics: moving average of params.critics.
  optimizers: an optax state for each part.
  scales: running size of each stream's returns or advantages, [].
  held: weights of losses that are held at a target, by name, [].
  key: of the next update. steps: updates so far, int32 [].
  """

  params: Params
  slow_critics: dict[str, hk.Params]
  optimizers: Optimizers
  scales: dict[str, Array]
  held: dict[str, Array]
  key: Array
  steps: Array


class Batch(NamedTuple):
  """A batch of one level's replay.

  subgoal: indices [B, T, categoricals] of the code that was set; None where
    nobody sets any.
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
  reward: extrinsic, as it is learned, on arrival in states 1..H, [H, N].
  continuation: of states 1..H, [H, N].
  deter: of states 1..H, [H, N, D].
  output: of the core before states 1..H, [H, N, output_size].
  """

  inputs: linear.Inputs
  action: Array
  reward: Array
  continuation: Array
  deter: Array
  output: Array


class Managed(NamedTuple):
  """P stretches of k imagined steps, each under a subgoal of the manager.

  trajectory: of all stretches, [k, P * N, ...]: those of one come together.
  code: one-hot subgoals of them, [P * N, G].
  features: where the manager chose, and at the end, [P + 1, N, ...].
  reached: probability that the start of each stretch is, given that the first
    one is, [P, N].
  """

  trajectory: Trajectory
  code: Array
  features: world_model.Features
  reached: Array


class _Target(NamedTuple):
  """What the weight of a loss holds where.

  metric: its name. value: that it is held at.
  raises: whether a higher weight makes the metric higher.
  start: the weight before the first update.
  """

  metric: str
  value: float
  raises: bool
  start: float


class Level:
  """The pure functions of one level."""

  def __init__(
    self,
    config: HierosConfig,
    observation_spaces: Mapping[str, spaces.ObservationSpace],
    action_space: spaces.ActionSpace,
    index: int = 0,
  ):
    """Builds a level.

    Args:
      config: of the whole agent.
      observation_spaces: what this level sees, by name.
      action_space: what it does.
      index: of the level, from 0; what the configuration says of it.

    Raises:
      ValueError: an observation does not fit the encoder.
    """
    self.observation_spaces = observation_spaces
    self.action_space = action_space
    self.subgoal_space = None
    if config.has_subgoals(index):
      self.subgoal_space = subgoals.code_space(config.subgoals)
    self.duration = config.duration(index)
    self._config = config
    # Of its policy and its manager's, by what their metrics begin with.
    self._entropy_scales = {
      '': config.entropy_scale(index),
      MANAGER: config.entropy_scale(index + 1),
    }
    settings = config.actor_critic
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

    def make_behaviour(action_space, index):
      streams = config.streams(index)
      floors = dict.fromkeys(streams, settings.scale_floor)
      # Its rewards are as much smaller than the environment's.
      if EXTRINSIC in floors:
        floors[EXTRINSIC] /= config.reward_divisor(index)
      if NOVELTY in floors:
        floors[NOVELTY] = config.exploration.scale_floor
      return behaviour.Behaviour(settings, action_space, streams, floors, dtype)

    self.behaviour = make_behaviour(action_space, index)
    self.actor = self.behaviour.actor
    self.manager = None
    if config.has_manager:
      self.manager = make_behaviour(self.subgoal_space, index + 1)
    self.streams = self.behaviour.streams
    managers = self.manager.streams if self.manager else {}
    self.has_novelty = NOVELTY in self.streams or NOVELTY in managers
    by_disagreement = config.exploration.novelty == 'disagreement'
    self.ensemble = None
    if self.has_novelty and by_disagreement:
      self.ensemble = exploration.make_ensemble(
        config.exploration,
        config.world_model.categoricals,
        config.world_model.classes,
        dtype,
      )
    # Wanted even where the subgoal stream has no weight: subgoals are shown.
    self.autoencoder = None
    if self.subgoal_space or (self.has_novelty and not by_disagreement):
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
      manager=optimizers.make(settings.optimizer)
      if self.manager
      else optax.identity(),
      ensemble=optimizers.make(config.exploration.optimizer)
      if self.ensemble
      else optax.identity(),
    )

  def init(self, key: Array) -> TrainingState:
    """Draws the parameters."""
    key, model_key, actor_key, critic_key, coder_key = jax.random.split(key, 5)
    features = self.world_model.no_features(1)
    code = (
      jnp.zeros((1, self.subgoal_space.size)) if self.subgoal_space else None
    )
    actor, critics = self.behaviour.init(
      actor_key, critic_key, self.policy_inputs(features, code)
    )
    manager: hk.Params = {}
    if self.manager:
      coder_key, *manager_keys = jax.random.split(coder_key, 3)
      manager, of_manager = self.manager.init(*manager_keys, features)
      critics.update(_as_manager(of_manager))
    autoencoder: hk.Params = {}
    ensemble: hk.Params = {}
    if self.ensemble:
      coder_key, ensemble_key = jax.random.split(coder_key)
      output = self.world_model.initial_context(1).state.output
      ensemble = self.ensemble.init(ensemble_key, output)
    if self.autoencoder:
      deter = jnp.zeros((1, self._config.world_model.deter_size))
      autoencoder = self.autoencoder.init(coder_key, deter)
    params = Params(
      world_model=self.world_model.init(model_key),
      actor=actor,
      critics=critics,
      autoencoder=autoencoder,
      manager=manager,
      ensemble=ensemble,
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
      scales={name: jnp.zeros(()) for name in critics},
      held={
        name: jnp.float32(target.start)
        for name, target in self._targets().items()
      },
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

  def choose_subgoal(
    self,
    params: PolicyParams,
    key: Array,
    state: world_model.State,
    deterministic: bool = False,
  ) -> Array:
    """The manager's one-hot codes [B, G] in states [B, ...]; args of `act`."""
    assert self.manager
    prediction = self.world_model.predict(params.world_model, state)
    policy = self.manager.actor.apply(params.manager, prediction.features)
    return policy.mode() if deterministic else policy.sample(key)

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
    horizon: int | None = None,
  ) -> Trajectory:
    """Rolls the prior forward under the policy and a fixed subgoal.

    Args:
      params: of world model and actor.
      key: random key.
      start: states [N, ...] to start from.
      start_features: their features, [N, ...].
      code: one-hot subgoals [N, G], or None.
      memory: of the actor, before the starts, [N, ...].
      horizon: the number of steps; None for that of the configuration.

    Returns:
      A Trajectory, differentiable through the dynamics.
    """
    horizon = horizon or self._config.actor_critic.horizon
    return self._roll_out(
      params, key, horizon, start, start_features, code, memory
    )[0]

  def _roll_out(
    self,
    params: PolicyParams,
    key: Array,
    horizon: int,
    start: world_model.State,
    start_features: world_model.Features,
    code: Array | None,
    memory: Any = (),
  ) -> tuple[Trajectory, tuple[world_model.State, world_model.Features]]:
    """`imagine`, so many steps; also the last state and its features."""

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
        state.output,
      )

    (state, features, _), steps = jax.lax.scan(
      step, (start, start_features, memory), jax.random.split(key, horizon)
    )
    inputs, action, reward, continuation, deter, output = steps
    last = self.policy_inputs(features, code)
    trajectory = Trajectory(
      inputs=_append(inputs, last),
      action=action,
      reward=reward,
      continuation=continuation,
      deter=deter,
      output=output,
    )
    return trajectory, (state, features)

  def imagine_managed(
    self,
    params: PolicyParams,
    key: Array,
    start: world_model.State,
    start_features: world_model.Features,
  ) -> Managed:
    """Rolls the prior forward under subgoals that the manager chooses anew.

    Args: as of `imagine`, with the parameters of the manager. Each stretch is
      differentiable through the dynamics.
    """
    stop = jax.lax.stop_gradient
    manager = self.manager
    assert manager

    def stretch(carry, key):
      state, features, reached = stop(carry)
      choose_key, imagine_key = jax.random.split(key)
      code = stop(
        manager.actor.apply(params.manager, features).sample(choose_key)
      )
      trajectory, last = self._roll_out(
        params, imagine_key, self.duration, state, features, code
      )
      left = reached * jnp.prod(trajectory.continuation, 0)
      return (*last, left), (trajectory, code, features, reached)

    count = self._config.actor_critic.horizon // self.duration
    alive = jnp.ones(start.deter.shape[:1])
    (_, last, _), (trajectories, codes, features, reached) = jax.lax.scan(
      stretch, (start, start_features, alive), jax.random.split(key, count)
    )

    def together(x):
      x = x.swapaxes(0, 1)
      return x.reshape((len(x), -1, *x.shape[3:]))

    return Managed(
      jax.tree.map(together, trajectories),
      _flatten(codes),
      _append(features, last),
      reached,
    )

  def as_learned(self, sequence: world_model.Sequence) -> world_model.Sequence:
    """A sequence of replay with rewards as the world model learns them."""
    return sequence._replace(reward=self.reward_as_learned(sequence.reward))

  def reward_as_learned(self, reward: jax.typing.ArrayLike) -> Array:
    """The level's rewards [...] as its heads and critics know them."""
    if self._config.reward_transform == 'tanh':
      return jnp.tanh(reward)
    return jnp.asarray(reward)

  def update(
    self,
    state: TrainingState,
    batch: Batch,
    guidance: Array | float = 1.0,
  ) -> tuple[TrainingState, dict[str, Array]]:
    """One update of everything on one batch (docs/algorithm.md, 6.4).

    Where a loss or a gradient is not finite, only the metrics tell: the state
    comes back as it was, so that the update can be looked at again.

    Devices may share it, each with its rows of the batch (`shares`).

    Args:
      state: the level's learning state.
      batch: [B, T, ...] of its replay.
      guidance: how much its subgoals count, from 0 to 1.

    Returns:
      The new state, and scalar metrics by name; losses end in '_loss'.
    """
    settings = self._config.actor_critic
    batch = batch._replace(sequence=self.as_learned(batch.sequence))
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
      return _flatten(jax.lax.stop_gradient(x))

    start = jax.lax.stop_gradient(
      self.world_model.starts(posterior, slice(None), settings.horizon)
    )
    code = None
    if self.subgoal_space and not self.manager:
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
    told = jnp.ones(came.known.shape, bool)
    practice = self._config.subgoals.practice
    if code is not None and practice:
      assert self.autoencoder
      goal_key, share_key, behaviour_key = jax.random.split(behaviour_key, 3)
      goals = subgoals.practice(
        self.autoencoder,
        params.autoencoder,
        goal_key,
        posterior.deter,
        self._rarity(posterior),
        batch.sequence.start_of_episode,
        self.duration,
      )
      told = shares.draw(jax.random.uniform, share_key, told.shape) >= practice
      code = jnp.where(told[..., None], code, goals)
    prediction, code = jax.tree.map(flatten, (prediction, code))
    # Mid-episode, the first step of a sequence has only the model's opinion.
    alive = jnp.where(
      came.known,
      came.continuation,
      prediction.continuation.reshape(came.known.shape),
    )
    replayed = behaviour.Replayed(
      came.reward,
      came.continuation,
      batch.sequence.start_of_episode,
      alive,
      self.action_space.encode(batch.sequence.action),
      batch.log_prob,
      told.astype(jnp.float32),
    )

    learned = params._replace(world_model={})
    (_, (scales, held, more)), grads = jax.value_and_grad(
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
    grads, metrics = shares.mean(
      (grads._replace(world_model=model_grads), metrics)
    )

    parts, carried = [], []
    for name, optimizer, grad, part, optimizer_state in zip(
      Params._fields,
      self.optimizers,
      grads,
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
      held=held,
      key=key,
      steps=state.steps + 1,
    )
    finite = jnp.all(jnp.isfinite(jnp.stack(list(metrics.values()))))
    new_state = jax.tree.map(
      lambda new, old: jnp.where(finite, new, old), new_state, state
    )
    return new_state, metrics

  def _behaviour_loss(
    self,
    learned: Params,
    model_params: hk.Params,
    state: TrainingState,
    key: Array,
    start: world_model.State,
    start_features: world_model.Features,
    memory: Any,
    replayed: behaviour.Replayed,
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
      The summed loss, and (new scales, new held weights, metrics).
    """
    stop = jax.lax.stop_gradient
    imagine_key, coder_key = jax.random.split(key)
    through = self.behaviour.through_dynamics
    acting = PolicyParams(
      model_params,
      learned.actor if through else stop(learned.actor),
      stop(learned.manager),
    )
    alive = replayed.alive.reshape(-1)
    managed = None
    if self.manager:
      managed = self.imagine_managed(acting, imagine_key, start, start_features)
      trajectory, code = managed.trajectory, managed.code
    else:
      trajectory = self.imagine(
        acting, imagine_key, start, start_features, code, memory
      )
    rows = shares.Rows(1, len(managed.reached) if managed else 1)
    rewards = self._rewards(learned, coder_key, trajectory, code, rows)
    loss, (scales, metrics) = self.behaviour.loss(
      behaviour.Learned(learned.actor, learned.critics),
      self._known(state),
      behaviour.Imagined(
        trajectory.inputs,
        trajectory.action,
        rewards,
        trajectory.continuation,
        _flatten(alive * managed.reached) if managed else alive,
        memory,
      ),
      # What was done was done under other subgoals than are imagined.
      None if managed else replayed,
      {SUBGOAL: guidance},
    )
    if self.manager and managed:
      more_loss, (more_scales, more) = self.manager.loss(
        behaviour.Learned(learned.manager, _of_manager(learned.critics)),
        self._known(state, MANAGER),
        self._managing(managed, rewards, alive),
      )
      loss += more_loss
      scales.update(_as_manager(more_scales))
      metrics.update(_as_manager(more))
    if self.autoencoder:
      deter, weight = trajectory.deter, jnp.ones(trajectory.deter.shape[:-1])
      if self._config.subgoals.learns_from == 'replay':
        deter, weight = start.deter, self._rarity(start)
        coder_key, rows = jax.random.fold_in(coder_key, 1), shares.FIRST
      more_loss, more = self._autoencoder_loss(
        learned.autoencoder,
        coder_key,
        deter,
        weight,
        state.held.get('kl', self._config.subgoals.kl_scale),
        rows,
      )
      loss += more_loss
      metrics.update(more)
    if self.ensemble:
      metrics['ensemble_loss'] = exploration.loss(
        self.ensemble, learned.ensemble, start.output, start.log_probs
      )
      loss += metrics['ensemble_loss']
    metrics['imagined_continuation'] = jnp.mean(trajectory.continuation)
    held = stop(self._hold(state.held, metrics))
    metrics.update({f'{name}_weight': weight for name, weight in held.items()})
    return loss, (scales, held, stop(metrics))

  def _known(self, state: TrainingState, prefix: str = '') -> behaviour.Known:
    """What the behaviour whose streams begin so knows."""
    slow_critics, scales = state.slow_critics, state.scales
    if prefix:
      slow_critics, scales = _of_manager(slow_critics), _of_manager(scales)
    return behaviour.Known(
      slow_critics,
      scales,
      state.steps,
      state.held.get(f'{prefix}entropy', self._entropy_scales[prefix]),
    )

  def _managing(
    self, managed: Managed, rewards: Mapping[str, Array], alive: Array
  ) -> behaviour.Imagined:
    """What the manager did, with a step for each stretch.

    Args:
      managed: the stretches.
      rewards: of the steps of all stretches, by stream, [k, P * N].
      alive: of the first starts, [N].
    """
    count = len(managed.reached)
    continuation = managed.trajectory.continuation
    # That a step is, given that its stretch is.
    reach = jnp.cumprod(
      jnp.concatenate([jnp.ones_like(continuation[:1]), continuation[:-1]]), 0
    )
    assert self.manager
    # Rewards are as replay has those of the level that the manager stands for;
    # of all else counts what a step brings on average.
    divisors = dict.fromkeys(self.manager.streams, self.duration)
    divisors[EXTRINSIC] = self._config.reward_divisor(1)

    def by_stretch(x):
      return x.reshape((count, -1, *x.shape[1:]))

    return behaviour.Imagined(
      managed.features,
      by_stretch(managed.code),
      {
        name: by_stretch(jnp.sum(reach * rewards[name], 0) / divisor)
        for name, divisor in divisors.items()
      },
      by_stretch(jnp.prod(continuation, 0)),
      alive,
    )

  def _rewards(
    self,
    learned: Params,
    key: Array,
    trajectory: Trajectory,
    code: Array | None,
    rows: shares.Rows,
  ) -> dict[str, Array]:
    """Rewards [H, N] by stream; `rows` is where N has those of the batch."""
    rewards = {EXTRINSIC: trajectory.reward}
    if self.autoencoder and code is not None:
      goal = self.autoencoder.decode(
        jax.lax.stop_gradient(learned.autoencoder), code
      )
      reward = subgoals.subgoal_reward(goal, trajectory.deter)
      if self._config.subgoals.absorbing:
        reward = subgoals.absorb(
          reward,
          trajectory.continuation,
          self._config.actor_critic.discount,
        )
      rewards[SUBGOAL] = reward
    if self.has_novelty:
      rewards[NOVELTY] = self.novelty(
        learned, key, trajectory.deter, trajectory.output, rows
      )
    return rewards

  def novelty(
    self,
    params: Params,
    key: Array,
    deter: Array,
    output: Array,
    rows: shares.Rows = shares.FIRST,
  ) -> Array:
    """The novelty reward of states: [...]; leaves parameters alone.

    Args:
      params: of autoencoder or ensemble.
      key: random key.
      deter, output: of the states, [..., any].
      rows: where those are that devices may share.
    """
    params = jax.lax.stop_gradient(params)
    if self.ensemble:
      return exploration.disagreement(
        self.ensemble.predict(params.ensemble, output)
      )
    assert self.autoencoder
    seen = subgoals.reconstruct(
      self.autoencoder, params.autoencoder, key, deter, rows
    )
    return subgoals.novelty_reward(seen.error, deter.shape[-1])

  def _rarity(self, state: world_model.State) -> Array:
    """How much states of replay [...] count as subgoals, [...]."""
    return subgoals.rarity(state.stoch.value, self._config.subgoals.balance)

  def _autoencoder_loss(
    self,
    params: hk.Params,
    key: Array,
    deter: Array,
    weight: Array,
    kl_scale: Array | float,
    rows: shares.Rows,
  ) -> tuple[Array, dict[str, Array]]:
    """The loss on h [..., D] of a weight [...], left alone, and metrics.

    Where h and key are those of `_rewards`, the pass is as well, and the
    compiler makes one of both.
    """
    assert self.autoencoder
    coded = subgoals.reconstruct(
      self.autoencoder, params, key, jax.lax.stop_gradient(deter), rows
    )
    settings = self._config.subgoals
    error = jnp.mean(weight * coded.error)
    kl = jnp.mean(weight * coded.kl)
    loss = error + kl_scale * kl
    if settings.information_scale:
      loss -= settings.information_scale * (
        distributions.mutual_information(coded.log_probs, weight)
      )
    metrics = {
      'autoencoder_error': error,
      'autoencoder_kl': kl,
      'autoencoder_loss': loss,
    }
    return loss, metrics

  def _targets(self) -> dict[str, _Target]:
    """What each held weight holds."""
    settings = self._config.actor_critic
    targets = {}
    if self.autoencoder and self._config.subgoals.kl_target:
      coder = self._config.subgoals
      targets['kl'] = _Target(
        'autoencoder_kl', coder.kl_target, False, coder.kl_scale
      )
    for prefix, space in (
      ('', self.action_space),
      (MANAGER, self.subgoal_space if self.manager else None),
    ):
      most = space.most_entropy if space else 0.0
      if settings.entropy_target and most:
        targets[f'{prefix}entropy'] = _Target(
          f'{prefix}policy_entropy',
          settings.entropy_target * most,
          True,
          self._entropy_scales[prefix],
        )
    return targets

  def _hold(
    self, held: Mapping[str, Array], metrics: Mapping[str, Array]
  ) -> dict[str, Array]:
    """The weights after a step towards what holds their targets."""
    targets = self._targets()
    measured = shares.mean(
      {name: metrics[target.metric] for name, target in targets.items()}
    )
    return {
      name: optimizers.hold(
        held[name], measured[name], target.value, target.raises
      )
      for name, target in targets.items()
    }


def _flatten(x: Array) -> Array:
  """The first two axes as one."""
  return x.reshape((-1, *x.shape[2:]))


def _append(some: Any, one: Any) -> Any:
  """Trees [H, N, ...] and [N, ...] to [H + 1, N, ...]."""
  return jax.tree.map(lambda x, y: jnp.concatenate([x, y[None]]), some, one)


def _as_manager(values: Mapping[str, Any]) -> dict[str, Any]:
  """A manager's by their names among a level's."""
  return {MANAGER + name: value for name, value in values.items()}


def _of_manager(values: Mapping[str, Any]) -> dict[str, Any]:
  """The inverse of `_as_manager`: the manager's among others."""
  return {
    name.removeprefix(MANAGER): value
    for name, value in values.items()
    if name.startswith(MANAGER)
  }


def draw(init: Callable[[Array], Any], key: Array) -> Any:
  """What `init` of a level or a hierarchy gives for a random key.

  It runs once: compiling it well takes far longer than running it. Random keys
  that are split one by one would be half of what there is to compile.
  """
  options = {'xla_backend_optimization_level': 0}
  before = hk.experimental.rng_reserve_size(_KEYS)
  try:
    return jax.jit(init, compiler_options=options)(key)
  finally:
    hk.experimental.rng_reserve_size(before)


def policy_params(params: Params) -> PackedPolicy:
  """A copy of what an actor needs of the parameters, each part packed."""
  used = hk.data_structures.filter(
    lambda module, *_: 'decoder' not in module.split('/'), params.world_model
  )
  return PackedPolicy(
    packing.pack(used), packing.pack(params.actor), packing.pack(params.manager)
  )


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
