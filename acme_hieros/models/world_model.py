"""The world model of one level (docs/algorithm.md, 3; Hieros, section 3.2).

By default the posterior sees only the observation, so a whole sequence is
inferred in parallel: all z_t at once, then one scan of the core over them gives
priors and h_t. With the core S5 this is the paper's S5WM. One that sees h_t as
well, as that of RSSM, is followed step by step.
"""

from collections.abc import Callable, Mapping
import functools
import math
from typing import Any, NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from acme_hieros.config import WorldModelConfig
from acme_hieros.models import (
  cores,
  distributions,
  encoders,
  mlp,
  shares,
  spaces,
  turns,
)
from acme_hieros.models.cores import base
from acme_hieros.models.ops import linear

Array = jax.Array
Observation = Mapping[str, Array]


# What actor and critics see, see `Prediction`.
Features = tuple[linear.OneHots | Array, ...]


class State(NamedTuple):
  """What a level knows at one of its steps.

  stoch: z, straight-through; values are float32 [..., categoricals, classes].
  log_probs: the distribution z was drawn from, like its values: the posterior
    where an observation was seen, the prior in imagination.
  deter: h, float32 [..., deter_size].
  output: of the core, of which the prior of z is told, float32 [...,
    output_size].
  memory: of the core; in `observe`'s answer its trace.
  """

  stoch: linear.OneHots
  log_probs: Array
  deter: Array
  output: Array
  memory: base.Memory


class Context(NamedTuple):
  """What a level carries from step to step while it looks and acts, [B, ...].

  state: with the memory that counts.
  younger, age: as in `turns.Turns`.
  """

  state: State
  younger: base.Memory
  age: Array


class Prediction(NamedTuple):
  """What the heads say about a State.

  features: inputs of actor and critics, see `WorldModelConfig.features`. Those
    of Hieros are z, h, symlog(reward) and continuation; it has the entropy of z
    as well, which is the posterior's where it acts and the prior's where it is
    trained.
  reward: mean of the reward that came with the state, [...].
  continuation: probability that the episode goes on, [...].
  """

  features: Features
  reward: Array
  continuation: Array


class Sequence(NamedTuple):
  """Steps of replay in Acme's convention, all [B, T, ...].

  observation: dict of named arrays; action: chosen after seeing it; reward and
  discount: what that action led to; start_of_episode: bool.
  """

  observation: Observation
  action: Array
  reward: Array
  discount: Array
  start_of_episode: Array


class Arrivals(NamedTuple):
  """What came with each observation: the rows of a Sequence, one step later.

  previous_action: encoded, [B, T, A]; zero at an episode's start.
  reward, continuation: float32 [B, T]; 0 and 1 at an episode's start.
  known: bool [B, T]; False at the first step of a sequence that starts in the
    middle of an episode: its previous step is not in the sequence.
  """

  previous_action: Array
  reward: Array
  continuation: Array
  known: Array


def arrivals(sequence: Sequence, action_space: spaces.ActionSpace) -> Arrivals:
  """Pairs observations with what came before them (docs/algorithm.md, 1.2)."""
  start = sequence.start_of_episode
  action = base.delay(action_space.encode(sequence.action))
  return Arrivals(
    previous_action=jnp.where(start[..., None], 0.0, action),
    reward=jnp.where(start, 0.0, base.delay(sequence.reward)),
    continuation=jnp.where(start, 1.0, base.delay(sequence.discount) > 0),
    known=start | (jnp.arange(start.shape[1]) > 0),
  )


class _Told(NamedTuple):
  """What the prior is told itself of the step before, [..., any].

  stoch: z; action: what a layer makes of it.
  """

  stoch: linear.OneHots
  action: Array


class WorldModel(NamedTuple):
  """The pure functions of one level's world model.

  init: key -> params.
  initial_context: B -> the Context [B, ...] before an episode's first step.
  no_features: B -> Prediction.features of zeros, [B, ...].
  observe: (params, key, observation [B, T, ...], previous_action [B, T, A],
    start_of_episode [B, T]) -> State [B, T, ...]. The first step finds an empty
    memory, also in mid-episode.
  starts: (State [B, T, ...] of `observe`, slice of steps, horizon) -> State
    [B * steps, ...], from which at most so many steps are imagined.
  observe_step: (params, key, Context [B, ...], previous_action [B, A],
    observation [B, ...], start_of_episode [B]) -> Context [B, ...].
  imagine_step: (params, key, State [B, ...], action [B, A]) -> State [B, ...].
  predict: (params, State) -> Prediction.
  decode: (params, State) -> observations by name, images in [-0.5, 0.5] and
    the rest as its space encodes it.
  loss: (params, key, Sequence) -> (scalar, (State, Prediction, Arrivals,
    metrics)).
  eigenvalues: params -> see `cores.base.Core`.
  """

  init: Callable[..., hk.Params]
  initial_context: Callable[[int], Context]
  no_features: Callable[[int], Features]
  observe: Callable[..., State]
  starts: Callable[[State, slice, int], State]
  observe_step: Callable[..., Context]
  imagine_step: Callable[..., State]
  predict: Callable[..., Prediction]
  decode: Callable[..., dict[str, Array]]
  loss: Callable[..., Any]
  eigenvalues: Callable[[hk.Params], dict[str, Array]]


def no_choices(config: WorldModelConfig, batch_size: int) -> linear.OneHots:
  """The z before an episode's first step: zeros."""
  index = jnp.full((batch_size, config.categoricals), config.classes)
  return linear.one_hots(index, config.classes)


def make_world_model(
  config: WorldModelConfig,
  observation_spaces: Mapping[str, spaces.ObservationSpace],
  action_space: spaces.ActionSpace,
  context_length: int,
  dtype: jnp.dtype = jnp.float32,
) -> WorldModel:
  """Builds the world model of one level.

  Args:
    config: its sizes.
    observation_spaces: what the level sees, by name.
    action_space: what it does.
    context_length: most steps that the memory holds in `observe_step`.
    dtype: of the arithmetic of its networks; S5 states, h and all that comes
      out are float32.
  """
  core = cores.make(config, context_length, dtype)

  def modules():
    model = _WorldModel(
      config,
      observation_spaces,
      action_space,
      core,
      context_length,
      dtype,
    )

    def init():
      return model.loss(
        Sequence(
          observation={
            name: jnp.zeros((1, 2) + space.shape, space.dtype)
            for name, space in observation_spaces.items()
          },
          action=action_space.zeros((1, 2)),
          reward=jnp.zeros((1, 2)),
          discount=jnp.ones((1, 2)),
          start_of_episode=jnp.ones((1, 2), bool),
        )
      )

    return init, (
      model.observe,
      model.observe_step,
      model.imagine_step,
      model.predict,
      model.decode,
      model.loss,
    )

  init, apply = hk.multi_transform(modules)
  observe, observe_step, imagine_step, predict, decode, loss = apply
  return WorldModel(
    init=init,
    initial_context=functools.partial(_initial_context, config, core),
    no_features=functools.partial(_no_features, config, core),
    observe=observe,
    starts=functools.partial(_starts, core),
    observe_step=observe_step,
    imagine_step=imagine_step,
    predict=lambda params, *args: predict(params, None, *args),
    decode=lambda params, *args: decode(params, None, *args),
    loss=loss,
    eigenvalues=core.eigenvalues,
  )


def _initial_context(
  config: WorldModelConfig, core: base.Core, batch_size: int
) -> Context:
  stoch = no_choices(config, batch_size)
  memory, younger, age = turns.begin(core.initial_state, batch_size)
  state = State(
    stoch=stoch,
    log_probs=jnp.zeros_like(stoch.value),
    deter=jnp.zeros((batch_size, config.deter_size)),
    output=jnp.zeros((batch_size, core.output_size)),
    memory=memory,
  )
  return Context(state, younger, age)


def _features(
  config: WorldModelConfig,
  core: base.Core,
  state: State,
  reward: Array,
  continuation: Array,
) -> Features:
  """Prediction.features of a State [..., ...]."""
  numbers = {
    'hieros': lambda: [
      state.deter,
      jnp.stack([distributions.symlog(reward), continuation], -1),
    ],
    'latent': lambda: [state.deter],
    'z': lambda: [],
    'memory': lambda: [core.summary(state.memory, state.deter)],
    'full': lambda: [
      state.deter,
      core.summary(state.memory, state.deter),
    ],
  }[config.features]()
  return (state.stoch, *([jnp.concatenate(numbers, -1)] if numbers else []))


def _no_features(
  config: WorldModelConfig, core: base.Core, batch_size: int
) -> Features:
  state = _initial_context(config, core, batch_size).state
  nothing = jnp.zeros(batch_size)
  return _features(config, core, state, nothing, nothing)


def _starts(core: base.Core, state: State, times: slice, horizon: int) -> State:
  memory = core.starts(state.memory, times, horizon)
  return base.rows(state._replace(memory=()), times)._replace(memory=memory)


class _WorldModel(hk.Module):
  """The modules behind `WorldModel`; see there for the methods."""

  def __init__(
    self,
    config,
    observation_spaces,
    action_space,
    core,
    context_length,
    dtype,
  ):
    super().__init__('world_model')
    self._config = config
    self._core = core
    self._context_length = context_length
    self._action_space = action_space
    self._dtype = dtype
    self._observation_spaces = observation_spaces
    means = encoders.ImageMeans(observation_spaces)
    self._encoder = encoders.Encoder(config, observation_spaces, means, dtype)
    self._decoder = encoders.Decoder(config, observation_spaces, means, dtype)
    z_size = config.categoricals * config.classes
    self._posterior = mlp.MLP(
      1,
      config.hidden_units,
      z_size,
      output_scale=config.posterior_init_scale,
      dtype=dtype,
      name='posterior',
    )
    self._cells = []
    for i, name in enumerate(encoders.images(observation_spaces)):
      cells = math.prod(encoders.fit(config, observation_spaces[name]).cells)
      told = config.classes * -(-config.categoricals // cells)
      self._cells.append(mlp.MLP(0, 0, told, dtype=dtype, name=f'cells_{i}'))
    self._prior = mlp.MLP(
      1, config.hidden_units, z_size, dtype=dtype, name='prior'
    )
    self._persistence = mlp.MLP(0, 0, z_size, dtype=dtype, name='persistence')
    self._stoch_input = mlp.Dense(core.width, name='stoch_input')
    self._action_input = mlp.Dense(core.width, name='action_input')
    self._input = mlp.Dense(core.width, name='input')
    self._memory = core.make_module('core')
    self._scalar = distributions.SCALAR_HEADS[config.reward_head]
    self._reward = mlp.MLP(
      config.head_layers,
      config.head_units,
      self._scalar.size(config.reward_bins),
      output_scale=0.0,
      dtype=dtype,
      name='reward',
    )
    self._continue = mlp.MLP(
      config.head_layers, config.head_units, 1, dtype=dtype, name='continue'
    )

  def _log_probs(self, logits: Array) -> Array:
    shape = (self._config.categoricals, self._config.classes)
    return distributions.mix_uniform(
      logits.reshape(logits.shape[:-1] + shape), self._config.unimix
    )

  def _foresee(self, output: Array, told: _Told | None) -> Array:
    """The prior after the core's output: [..., categoricals, classes]."""
    if told is None:
      return self._log_probs(self._prior(output))
    numbers = jnp.concatenate([output, told.action], -1)
    return self._log_probs(
      self._prior((told.stoch, numbers)) + self._persistence(told.stoch)
    )

  def _infer(
    self, seen: tuple[Array, list[Array]], deter: Array | None = None
  ) -> Array:
    """The posterior [..., categoricals, classes].

    Args:
      seen: what the encoder makes of observations [...].
      deter: h, for posteriors that see it, [..., deter_size].
    """
    embedding, images = seen
    logits = self._posterior(embedding if deter is None else (embedding, deter))
    if self._config.cell_latents:
      for cells, project in zip(images, self._cells):
        logits += self._share_out(project(cells))
    return self._log_probs(logits)

  def _share_out(self, told: Array) -> Array:
    """What cells tell [..., cells, any] to the categoricals, row by row.

    Where there are more, evenly spread ones are told of; all are in the
    embedding.
    """
    batch, classes = told.shape[:-2], self._config.classes
    count = self._config.categoricals
    number = math.prod(told.shape[-2:]) // classes
    if number != count:
      told = told.reshape(batch + (number, classes))
      told = told[..., np.arange(count) * number // count, :]
    return told.reshape(batch + (-1,))

  def _core_input(
    self,
    stoch: linear.OneHots,
    action: Array,
    begins: tuple[Array, Array] | None = None,
  ) -> tuple[Array, _Told | None]:
    """u_t [..., width] from z_{t-1} and a_{t-1} [..., A], for the core.

    `begins` has where the memory is reset, [...], and where an episode starts,
    [...]; None is nowhere. Where it is reset neither z nor action counts. If
    there an episode starts, something else does: in the place of a learned
    first z, what that would be multiplied to is learned, a row of the weights.
    The first step of a sequence in mid-episode is not to look like a start.

    The second output is what `direct_prior` has the prior told.
    """
    if begins is None:
      start = jnp.zeros_like(action[..., :1])
    else:
      reset, start = begins
      start = start[..., None].astype(action.dtype)
      stoch = linear.OneHots(
        jnp.where(reset[..., None], self._config.classes, stoch.chosen),
        jnp.where(reset[..., None, None], 0.0, stoch.value),
      )
      action = jnp.where(reset[..., None], 0.0, action)
    numbers = jnp.concatenate([action, start], -1)
    stoch, numbers = linear.cast((stoch, numbers), self._dtype)
    if not self._config.direct_prior:
      return self._input((stoch, numbers)), None
    # Each with a norm of its own: beside the many ones of z that of an action
    # would be lost.
    action = self._action_input(numbers)
    both = jnp.concatenate([self._stoch_input(stoch), action], -1)
    return self._input(both), _Told(stoch, action)

  def _state(self, stoch, log_probs, deter, output, memory) -> State:
    """A State, whose numbers are float32 whatever the core's output is."""
    output = output.astype(jnp.float32)
    return State(stoch, log_probs, deter, output, memory)

  def observe(self, observation, previous_action, start) -> State:
    state, _ = self._observe(observation, previous_action, start)
    return state

  def _observe(
    self, observation, previous_action, start
  ) -> tuple[State, Array]:
    """States, and the priors of their z."""
    reset = start.at[:, 0].set(True)
    inputs = (self._encoder(observation), previous_action, reset, start)
    follow = {
      'observation': self._follow_observations,
      'history': self._follow_history,
    }
    state, told = follow[self._config.posterior](*inputs)
    return state, self._foresee(state.output, told)

  def _follow_observations(
    self, seen, previous_action, reset, start
  ) -> tuple[State, _Told | None]:
    """All z at once, then the core over them. Also what priors are told."""
    log_probs = self._infer(seen)
    stoch = distributions.sample_onehot(hk.next_rng_key(), log_probs)
    # What stands for the step before the first is reset.
    u, told = self._core_input(
      base.delay(stoch), previous_action, (reset, start)
    )
    empty = self._core.initial_state(len(u))
    output, trace = self._memory.scan(u, reset, empty)
    deter = self._memory.deter(output, trace)
    return self._state(stoch, log_probs, deter, output, trace), told

  def _follow_history(
    self, seen, previous_action, reset, start
  ) -> tuple[State, _Told | None]:
    """The same step by step: each z is told of by the h before it."""

    def step(carry, inputs):
      stoch, memory = carry
      seen, action, reset, start = inputs
      u, told = self._core_input(stoch, action, (reset, start))
      output, memory = self._memory.step(u, reset, memory)
      deter = self._memory.deter(output, memory)
      log_probs = self._infer(seen, deter)
      stoch = distributions.sample_onehot(hk.next_rng_key(), log_probs)
      state = self._state(stoch, log_probs, deter, output, memory)
      return (stoch, memory), (state, told)

    batch = len(previous_action)
    first = no_choices(self._config, batch), self._core.initial_state(batch)
    inputs = jax.tree.map(
      lambda x: x.swapaxes(0, 1), (seen, previous_action, reset, start)
    )
    _, followed = hk.scan(step, first, inputs)
    return jax.tree.map(lambda x: x.swapaxes(0, 1), followed)

  def observe_step(
    self, context, previous_action, observation, start
  ) -> Context:
    state = context.state
    memories, resets = turns.before_step(
      turns.Turns(state.memory, context.younger, context.age),
      start,
      self._context_length,
    )
    # Both at once, in twice as many rows.
    u = turns.both(
      self._core_input(state.stoch, previous_action, (reset, start))[0]
      for reset in resets
    )
    output, memory = self._memory.step(
      u, turns.both(resets), turns.both((memories.memory, memories.younger))
    )
    output, _ = jnp.split(output, 2)
    memory, younger = turns.apart(memory)
    deter = self._memory.deter(output, memory)
    history = self._config.posterior == 'history'
    log_probs = self._infer(
      self._encoder(observation), deter if history else None
    )
    stoch = distributions.sample_onehot(hk.next_rng_key(), log_probs)
    state = self._state(stoch, log_probs, deter, output, memory)
    return Context(state, younger, memories.age)

  def imagine_step(self, state, action) -> State:
    u, told = self._core_input(state.stoch, action)
    output, memory = self._memory.step(u, None, state.memory)
    log_probs = self._foresee(output, told)
    stoch = distributions.sample_onehot(hk.next_rng_key(), log_probs)
    deter = self._memory.deter(output, memory)
    return self._state(stoch, log_probs, deter, output, memory)

  def _heads(self, state: State) -> tuple[Prediction, Array, Array]:
    latent = _latent(state)
    reward_logits = self._reward(latent)
    continue_logit = self._continue(latent)[..., 0]
    reward = self._scalar.mean(reward_logits)
    continuation = jax.nn.sigmoid(continue_logit)
    features = _features(self._config, self._core, state, reward, continuation)
    prediction = Prediction(features, reward, continuation)
    return prediction, reward_logits, continue_logit

  def predict(self, state) -> Prediction:
    return self._heads(state)[0]

  def decode(self, state) -> dict[str, Array]:
    return self._decoder(_latent(state))

  def loss(self, sequence: Sequence):
    config = self._config
    came = arrivals(sequence, self._action_space)
    state, prior = self._observe(
      sequence.observation, came.previous_action, sequence.start_of_episode
    )
    prediction, reward_logits, continue_logit = self._heads(state)
    posterior = state.log_probs

    observed = self._decoder.losses(
      _latent(state),
      sequence.observation,
      {
        name: encoders.change_weights(
          sequence.observation[name], config.change_share
        )
        for name in encoders.images(self._observation_spaces)
      },
    )
    losses = {
      name: config.observation_scale * x for name, x in observed.items()
    }
    stop = jax.lax.stop_gradient
    dynamics = distributions.kl_divergence(stop(posterior), prior)
    representation = distributions.kl_divergence(posterior, stop(prior))
    # What came before a sequence's first step is not known mid-episode: neither
    # what to predict there nor what to predict it from.
    known = came.known / shares.mean(jnp.mean(came.known))
    losses.update(
      self._prediction_losses(
        known, reward_logits, continue_logit, dynamics, came
      ),
      representation=known
      * config.representation_scale
      * jnp.maximum(config.free_nats, representation),
    )
    if config.information_scale:
      losses['information'] = -config.information_scale * (
        distributions.mutual_information(posterior)
      )
    if config.overshooting:
      losses.update(self._overshoot(state, sequence.start_of_episode, came))
    metrics = {f'{name}_loss': jnp.mean(x) for name, x in losses.items()}
    total = sum(metrics.values(), jnp.zeros(()))
    metrics.update(
      world_model_loss=total,
      kl=jnp.mean(known * dynamics),
      prior_entropy=jnp.mean(distributions.entropy(prior)),
      posterior_entropy=jnp.mean(distributions.entropy(posterior)),
    )
    return total, (state, prediction, came, metrics)

  def _overshoot(
    self, state: State, start: Array, came: Arrivals
  ) -> dict[str, Array]:
    """Losses of what is foreseen several steps ahead, not looking.

    What an action does adds up over some steps, and within one it is little
    beside all else that a z tells. These teach it, and teach prior and heads
    about states that came from the prior, as those of the actor do (PlaNet,
    1811.04551, section 4: latent overshooting; with rewards).

    The sequence is cut, from its end, into pieces of so many steps. Each is
    foreseen from the posterior before it, under the actions that were taken.

    Args:
      state: posterior states [B, T, ...].
      start: where an episode starts, [B, T].
      came: with the states.

    Returns:
      Losses [B * pieces, steps] by name.
    """
    steps = min(self._config.overshooting, start.shape[1] - 1)
    first = (start.shape[1] - 1) % steps
    before = _starts(self._core, state, slice(first, -1, steps), steps)

    def pieces(x):
      return x.reshape((-1, steps) + x.shape[2:])

    posterior, start, came = jax.tree.map(
      lambda x: pieces(x[:, first + 1 :]), (state.log_probs, start, came)
    )

    def step(state, action):
      state = self.imagine_step(state, action)
      return state, state

    _, foreseen = hk.scan(step, before, came.previous_action.swapaxes(0, 1))
    foreseen = jax.tree.map(lambda x: x.swapaxes(0, 1), foreseen)
    _, reward_logits, continue_logit = self._heads(foreseen)
    dynamics = distributions.kl_divergence(
      jax.lax.stop_gradient(posterior), foreseen.log_probs
    )
    # Nobody foresees what comes after an episode's end.
    known = jnp.cumsum(start, 1) == 0
    known = known / jnp.maximum(
      shares.mean(jnp.mean(known)), 1.0 / (known.size * shares.number())
    )
    losses = self._prediction_losses(
      known, reward_logits, continue_logit, dynamics, came
    )
    return {f'foreseen_{name}': loss for name, loss in losses.items()}

  def _prediction_losses(
    self,
    known: Array,
    reward_logits: Array,
    continue_logit: Array,
    dynamics: Array,
    came: Arrivals,
  ) -> dict[str, Array]:
    """Weighted losses [...] of heads and prior, whose KL is `dynamics`."""
    if self._config.dynamics_free_nats:
      dynamics = jnp.maximum(self._config.dynamics_free_nats, dynamics)
    losses = {
      'reward': self._scalar.loss(reward_logits, came.reward),
      'continuation': self._config.continuation_scale
      * _bernoulli_loss(continue_logit, came.continuation),
      'dynamics': self._config.dynamics_scale * dynamics,
    }
    return {name: known * loss for name, loss in losses.items()}


def _latent(state: State) -> tuple[linear.OneHots, Array]:
  return state.stoch, state.deter


def _bernoulli_loss(logit: Array, target: Array) -> Array:
  return target * jax.nn.softplus(-logit) + (1.0 - target) * jax.nn.softplus(
    logit
  )
