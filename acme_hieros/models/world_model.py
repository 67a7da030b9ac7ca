"""The S5 world model of one level (Hieros, section 3.1; S5WM).

The posterior sees only the observation, so a whole sequence is inferred in
parallel: all z_t at once, then one S5 scan over them gives priors and h_t.
"""

from collections.abc import Callable, Mapping
import math
from typing import Any, NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from acme_hieros.config import WorldModelConfig
from acme_hieros.models import (
  convolution,
  distributions,
  linear,
  mlp,
  normalization,
  placement,
  reductions,
  s5,
  spaces,
)

Array = jax.Array
Observation = Mapping[str, Array]
Metrics = dict[str, Array]


class State(NamedTuple):
  """What a level knows at one of its steps.

  stoch: z, straight-through; values are float32 [..., categoricals, classes].
  log_probs: the distribution z was drawn from, like its values: the posterior
    where an observation was seen, the prior in imagination.
  deter: h, float32 [..., deter_size].
  memory: of the S5 stack.
  """

  stoch: linear.OneHots
  log_probs: Array
  deter: Array
  memory: s5.State


class Prediction(NamedTuple):
  """What the heads say about a State.

  features: inputs of actor and critics: z, and numbers [..., D + 3], which are
    h, symlog(reward), continuation and symlog(entropy of z).
  reward: mean of the reward that came with the state, in symlog space [...].
  continuation: probability that the episode goes on, [...].
  """

  features: tuple[linear.OneHots, Array]
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
  """Pairs every observation with the action, reward and discount before it."""

  def shift(x):
    return jnp.concatenate([jnp.zeros_like(x[:, :1]), x[:, :-1]], 1)

  start = sequence.start_of_episode
  action = shift(action_space.encode(sequence.action))
  return Arrivals(
    previous_action=jnp.where(start[..., None], 0.0, action),
    reward=jnp.where(start, 0.0, shift(sequence.reward)),
    continuation=jnp.where(start, 1.0, shift(sequence.discount) > 0),
    known=start | (jnp.arange(start.shape[1]) > 0),
  )


class WorldModel(NamedTuple):
  """The pure functions of one level's world model.

  init: key -> params.
  observe: (params, key, observation [B, T, ...], previous_action [B, T, A],
    reset [B, T]) -> State [B, T, ...]. The first step always resets.
  observe_step: (params, key, State [B, ...], previous_action [B, A],
    observation [B, ...], reset [B]) -> State [B, ...].
  imagine_step: (params, key, State [B, ...], action [B, A]) -> State [B, ...].
  predict: (params, State) -> Prediction.
  decode: (params, State) -> observations by name, images in [-0.5, 0.5] and
    the rest as its space encodes it.
  loss: (params, key, Sequence) -> (scalar, (State, Prediction, Arrivals,
    metrics)).
  """

  init: Callable[..., hk.Params]
  observe: Callable[..., State]
  observe_step: Callable[..., State]
  imagine_step: Callable[..., State]
  predict: Callable[..., Prediction]
  decode: Callable[..., dict[str, Array]]
  loss: Callable[..., Any]


def no_choices(config: WorldModelConfig, batch_size: int) -> linear.OneHots:
  """The z before an episode's first step: zeros."""
  index = jnp.full((batch_size, config.categoricals), config.classes)
  return linear.one_hots(index, config.classes)


def no_features(
  config: WorldModelConfig, batch_size: int
) -> tuple[linear.OneHots, Array]:
  """Prediction.features of zeros."""
  numbers = jnp.zeros((batch_size, config.deter_size + 3))
  return no_choices(config, batch_size), numbers


def make_world_model(
  config: WorldModelConfig,
  observation: Mapping[str, spaces.ObservationSpace],
  action: spaces.ActionSpace,
  dtype: jnp.dtype = jnp.float32,
) -> WorldModel:
  """Builds the world model of one level.

  Args:
    config: its sizes.
    observation: what the level sees, by name.
    action: what it does.
    dtype: of the arithmetic of its networks; S5 states, h and all that comes
      out are float32.

  Raises:
    ValueError: an image does not fit the convolutions.
  """
  for name, space in observation.items():
    stride = 2 ** len(config.cnn_depths)
    if isinstance(space, spaces.Image) and any(
      side % stride for side in space.shape[:2]
    ):
      raise ValueError(
        f'No encoder fits the observation {name!r} of shape {space.shape}: '
        f'{len(config.cnn_depths)} halvings (world_model.cnn_depths) need '
        f'sides that are multiples of {stride}.'
      )

  def modules():
    model = _S5WorldModel(config, observation, action, dtype)

    def init():
      return model.loss(
        Sequence(
          observation={
            name: jnp.zeros((1, 2) + space.shape, space.dtype)
            for name, space in observation.items()
          },
          action=jnp.zeros((1, 2) + action.shape, action.dtype),
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
    observe=observe,
    observe_step=observe_step,
    imagine_step=imagine_step,
    predict=lambda params, *args: predict(params, None, *args),
    decode=lambda params, *args: decode(params, None, *args),
    loss=loss,
  )


class _S5WorldModel(hk.Module):
  """The modules behind `WorldModel`; see there for the methods."""

  def __init__(self, config, observation, action, dtype):
    super().__init__('world_model')
    self._config = config
    self._action = action
    self._dtype = dtype
    self._encoder = _Encoder(config, observation, dtype)
    self._decoder = _Decoder(config, observation, dtype)
    z_size = config.categoricals * config.classes
    self._posterior = mlp.MLP(
      1,
      config.hidden_units,
      z_size,
      output_scale=config.posterior_init_scale,
      dtype=dtype,
      name='posterior',
    )
    self._prior = mlp.MLP(
      1, config.hidden_units, z_size, dtype=dtype, name='prior'
    )
    self._input = mlp.Dense(config.s5.width, name='input')
    self._stack = s5.S5Stack(config.s5, name='s5')
    self._deter = linear.Linear(
      config.deter_size, w_init=self._deter_init, name='deter'
    )
    self._reward = mlp.MLP(
      config.head_layers,
      config.head_units,
      config.reward_bins,
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

  def _stack_input(
    self, stoch: linear.OneHots, action: Array, reset: Array | None
  ) -> Array:
    """u_t from z_{t-1}, a_{t-1} [..., A] and reset [...]: [..., width].

    At a reset neither z nor action counts. In the place of a learned first z,
    what that would be multiplied to is learned: a row of the weights.
    """
    start = jnp.zeros_like(action[..., :1])
    if reset is not None:
      start = reset[..., None].astype(action.dtype)
      stoch = linear.OneHots(
        jnp.where(reset[..., None], self._config.classes, stoch.index),
        jnp.where(reset[..., None, None], 0.0, stoch.value),
      )
      action = jnp.where(reset[..., None], 0.0, action)
    numbers = jnp.concatenate([action, start], -1)
    return self._input(linear.cast((stoch, numbers), self._dtype))

  def _deter_init(self, shape, dtype) -> Array:
    """Reads each S5 state in units of its response to a constant input.

    Slow states add up whatever is the same at every step, until what differs is
    a tenth of it; heads then take many thousand updates to find a cue given
    some steps ago. The response of x_t = Abar x_{t-1} + Bbar u to a constant u
    is |B / Lambda| u, and the rows of B have about unit length.
    """
    weights = hk.initializers.Orthogonal()(shape, dtype)
    if self._config.deter_from == 'output':
      return weights
    magnitude = np.abs(s5.initial_eigenvalues(self._config.s5))
    layers = shape[0] // len(magnitude)
    return weights * np.tile(magnitude, layers)[:, None]

  def _read_deter(self, output: Array, memory: s5.State) -> Array:
    if self._config.deter_from == 'state':
      output = s5.real_parts(memory)
    deter = self._deter(output.astype(self._dtype)).astype(jnp.float32)
    return distributions.symlog(placement.out_of_place(deter))

  def observe(self, observation, previous_action, reset) -> State:
    state, _ = self._observe(observation, previous_action, reset)
    return state

  def _observe(
    self, observation, previous_action, reset
  ) -> tuple[State, Array]:
    reset = reset.at[:, 0].set(True)
    log_probs = self._log_probs(self._posterior(self._encoder(observation)))
    stoch = distributions.sample_onehot(hk.next_rng_key(), log_probs)
    # What stands for the step before the first is reset.
    previous = jax.tree.map(
      lambda x: jnp.concatenate([jnp.zeros_like(x[:, :1]), x[:, :-1]], 1), stoch
    )
    u = self._stack_input(previous, previous_action, reset)
    start = s5.initial_state(self._config.s5, len(u))
    output, memory = self._stack.scan(u, reset, start)
    state = State(stoch, log_probs, self._read_deter(output, memory), memory)
    return state, output

  def observe_step(self, state, previous_action, observation, reset) -> State:
    log_probs = self._log_probs(self._posterior(self._encoder(observation)))
    stoch = distributions.sample_onehot(hk.next_rng_key(), log_probs)
    u = self._stack_input(state.stoch, previous_action, reset)
    output, memory = self._stack.step(u, reset, state.memory)
    return State(stoch, log_probs, self._read_deter(output, memory), memory)

  def imagine_step(self, state, action) -> State:
    u = self._stack_input(state.stoch, action, None)
    output, memory = self._stack.step(u, None, state.memory)
    log_probs = self._log_probs(self._prior(output))
    stoch = distributions.sample_onehot(hk.next_rng_key(), log_probs)
    return State(stoch, log_probs, self._read_deter(output, memory), memory)

  def _heads(self, state: State) -> tuple[Prediction, Array, Array]:
    latent = _latent(state)
    reward_logits = self._reward(latent)
    continue_logit = self._continue(latent)[..., 0]
    reward = distributions.two_hot_mean(reward_logits)
    continuation = jax.nn.sigmoid(continue_logit)
    surprise = distributions.symlog(distributions.entropy(state.log_probs))
    scalars = jnp.stack([reward, continuation, surprise], -1)
    features = (state.stoch, jnp.concatenate([state.deter, scalars], -1))
    prediction = Prediction(features, reward, continuation)
    return prediction, reward_logits, continue_logit

  def predict(self, state) -> Prediction:
    return self._heads(state)[0]

  def decode(self, state) -> dict[str, Array]:
    return self._decoder(_latent(state))

  def loss(self, sequence: Sequence):
    config = self._config
    came = arrivals(sequence, self._action)
    state, output = self._observe(
      sequence.observation, came.previous_action, sequence.start_of_episode
    )
    prediction, reward_logits, continue_logit = self._heads(state)
    prior = self._log_probs(self._prior(output))
    posterior = state.log_probs

    losses = self._decoder.losses(_latent(state), sequence.observation)
    stop = jax.lax.stop_gradient
    dynamics = distributions.kl_divergence(stop(posterior), prior)
    representation = distributions.kl_divergence(posterior, stop(prior))
    # What came before a sequence's first step is not known mid-episode: neither
    # what to predict there nor what to predict it from.
    weight = came.known / jnp.mean(came.known)
    losses.update(
      reward=weight * distributions.two_hot_loss(reward_logits, came.reward),
      continuation=weight * _bernoulli_loss(continue_logit, came.continuation),
      dynamics=weight
      * config.dynamics_scale
      * jnp.maximum(config.free_nats, dynamics),
      representation=weight
      * config.representation_scale
      * jnp.maximum(config.free_nats, representation),
    )
    metrics = {f'{name}_loss': jnp.mean(x) for name, x in losses.items()}
    total = sum(metrics.values())
    metrics.update(
      world_model_loss=total,
      kl=jnp.mean(weight * dynamics),
      prior_entropy=jnp.mean(distributions.entropy(prior)),
      posterior_entropy=jnp.mean(distributions.entropy(posterior)),
    )
    return total, (state, prediction, came, metrics)


def _latent(state: State) -> tuple[linear.OneHots, Array]:
  return state.stoch, state.deter


def _bernoulli_loss(logit: Array, target: Array) -> Array:
  return target * jax.nn.softplus(-logit) + (1.0 - target) * jax.nn.softplus(
    logit
  )


def _partition(observation):
  """Splits named spaces into images and the rest, in a fixed order."""
  names = sorted(observation)
  images = [n for n in names if isinstance(observation[n], spaces.Image)]
  return images, [n for n in names if n not in images]


class _Encoder(hk.Module):
  """Observations [..., *shape] by name to one embedding [..., E]."""

  def __init__(self, config: WorldModelConfig, observation, dtype):
    super().__init__('encoder')
    self._spaces = observation
    self._dtype = dtype
    self._images, self._vectors = _partition(observation)
    self._layers = {
      name: [
        (convolution.Downsample(depth), normalization.LayerNorm(silu=True))
        for depth in config.cnn_depths
      ]
      for name in self._images
    }
    self._mlp = mlp.MLP(config.mlp_layers, config.mlp_units, dtype=dtype)

  def __call__(self, observation: Observation) -> Array:
    embeddings = []
    for name in self._images:
      image = observation[name]
      x = self._convolve(name, image.reshape((-1,) + image.shape[-3:]))
      embeddings.append(x.reshape(image.shape[:-3] + (-1,)))
    if self._vectors:
      inputs = [self._spaces[n].inputs(observation[n]) for n in self._vectors]
      embeddings.append(self._mlp(tuple(inputs)))
    return jnp.concatenate(embeddings, -1)

  def _convolve(self, name: str, image: Array) -> Array:
    """uint8 [N, height, width, channels] to [N, h, w, depth]."""

    def prepare(x):
      return self._spaces[name].encode(x).astype(self._dtype)

    x = image
    for convolve, normalize in self._layers[name]:
      x = convolution.in_pieces(_layer(prepare, convolve), x.shape[1:], x)
      prepare = normalize
    return prepare(x).astype(jnp.float32)


class _Decoder(hk.Module):
  """The mirror of `_Encoder`: z and h to observations by name."""

  def __init__(self, config: WorldModelConfig, observation, dtype):
    super().__init__('decoder')
    self._spaces = observation
    self._dtype = dtype
    self._images, self._vectors = _partition(observation)
    depths = config.cnn_depths
    scale = 2 ** len(depths)
    self._starts = {}
    self._layers = {}
    for name in self._images:
      height, width, channels = observation[name].shape
      start = (height // scale, width // scale, depths[-1])
      self._starts[name] = start, linear.Linear(math.prod(start))
      self._layers[name] = [
        (
          normalization.LayerNorm(silu=True),
          convolution.Upsample(depth, with_bias=i == len(depths) - 1),
        )
        for i, depth in enumerate((*depths[-2::-1], channels))
      ]
    self._sizes = [observation[name].size for name in self._vectors]
    self._mlp = mlp.MLP(
      config.mlp_layers, config.mlp_units, sum(self._sizes), dtype=dtype
    )

  def __call__(self, latent: tuple[linear.OneHots, Array]) -> dict[str, Array]:
    decoded = {}
    batch = latent[1].shape[:-1]
    for name in self._images:
      x = self._deconvolve(name, latent, lambda x: x)
      decoded[name] = x.reshape(batch + self._spaces[name].shape)
    if self._vectors:
      parts = jnp.split(self._mlp(latent), np.cumsum(self._sizes)[:-1], -1)
      decoded.update(zip(self._vectors, parts))
    return decoded

  def losses(
    self, latent: tuple[linear.OneHots, Array], observation: Observation
  ) -> Metrics:
    """Squared errors [...], summed over pixels and numbers, of each kind."""
    losses = {}
    batch = latent[1].shape[:-1]
    for name in self._images:
      # Of each piece: neither images nor errors are ever there as a whole.
      def error(x, target, name=name):
        target = self._spaces[name].encode(target)
        # By rows of pixels: channels may be too few for a vector.
        rows = x.shape[:2] + (-1,)
        return _squares(x.reshape(rows) - target.reshape(rows))

      target = observation[name].reshape((-1,) + self._spaces[name].shape)
      errors = self._deconvolve(name, latent, error, target)
      losses['image'] = losses.get('image', 0.0) + errors.reshape(batch)
    if self._vectors:
      target = _encode_vectors(self._spaces, self._vectors, observation)
      errors = _squares(
        (self._mlp(latent) - target).reshape(-1, sum(self._sizes))
      )
      losses['vector'] = errors.reshape(batch)
    return losses

  def _deconvolve(
    self,
    name: str,
    latent: tuple[linear.OneHots, Array],
    finish: Callable[..., Array],
    *inputs: Array,
  ) -> Array:
    """z and h to what `finish` makes of images.

    Args:
      name: of the images.
      latent: [..., any], N of them.
      finish: takes float32 [n, height, width, channels] and as many inputs.
      *inputs: [N, ...].

    Returns:
      [N, ...].
    """
    shape, project = self._starts[name]
    x = project(linear.cast(latent, self._dtype)).reshape((-1,) + shape)
    *layers, last_layer = self._layers[name]
    for normalize, upsample in layers:
      image = (2 * x.shape[1], 2 * x.shape[2], upsample.channels)
      x = convolution.in_pieces(_layer(normalize, upsample), image, x)

    def last(x, *inputs):
      return finish(_layer(*last_layer)(x).astype(jnp.float32), *inputs)

    return convolution.in_pieces(last, self._spaces[name].shape, x, *inputs)


def _layer(
  prepare: Callable[[Array], Array], convolve: Callable[[Array], Array]
) -> Callable[[Array], Array]:
  """One after the other; for the gradient only its input is kept."""
  return hk.remat(lambda x: convolve(prepare(x)), prevent_cse=False)


def _squares(x: Array) -> Array:
  """Sum of squares of each of [N, ...]: [N]."""
  x = jnp.square(x)
  while x.ndim > 1:
    x = reductions.row_sums(x)
  return x


def _encode_vectors(observation_spaces, names, observation) -> Array:
  return jnp.concatenate(
    [observation_spaces[n].encode(observation[n]) for n in names], -1
  )
