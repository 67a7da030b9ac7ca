"""The fields: frozen dataclasses of plain values that check themselves."""

from collections.abc import Mapping, Sequence
import dataclasses
import math
import types
from typing import Any, TypeVar, get_origin


def plain(value: Any) -> Any:
  """The value with Python's own numbers, lists and dicts for NumPy's."""
  if hasattr(value, 'tolist'):  # NumPy may not even be there.
    return value.tolist()
  if isinstance(value, Mapping):
    return {name: plain(v) for name, v in value.items()}
  if isinstance(value, (tuple, list)):
    return type(value)(map(plain, value))
  return value


def make_plain(part: Any):
  """Makes the fields of a frozen dataclass plain, and tuples where they are."""
  for field in dataclasses.fields(part):
    value = plain(getattr(part, field.name))
    value = tuple(value) if isinstance(value, list) else value
    if get_origin(field.type) is tuple and not isinstance(value, tuple):
      value = (value,)
    object.__setattr__(part, field.name, value)


@dataclasses.dataclass(frozen=True)
class _Part:
  """A dataclass of plain values that checks itself."""

  def __post_init__(self):
    make_plain(self)
    self._check()

  def _check(self):
    """Raises ValueError for what cannot work."""


def _require(condition: bool, sentence: str):
  if not condition:
    raise ValueError(sentence)


def _all_of(value: Any) -> tuple:
  """The numbers of a field that has one or several."""
  return value if isinstance(value, tuple) else (value,)


def _require_positive(config, *names: str):
  for name in names:
    value = getattr(config, name)
    _require(
      all(v > 0 for v in _all_of(value)),
      f'{name}={value!r} must be greater than 0.',
    )


def _require_fraction(config, *names: str):
  for name in names:
    value = getattr(config, name)
    _require(0 <= value <= 1, f'{name}={value!r} must lie in [0, 1].')


def _require_not_negative(config, *names: str):
  for name in names:
    value = getattr(config, name)
    _require(
      all(v >= 0 for v in _all_of(value)),
      f'{name}={value!r} must not be negative.',
    )


def _require_one_of(config, name: str, *known: str):
  value = getattr(config, name)
  *most, last = (f'"{word}"' for word in known)
  _require(
    value in known, f'{name}={value!r} must be {", ".join(most)} or {last}.'
  )


@dataclasses.dataclass(frozen=True)
class OptimizerConfig(_Part):
  """AdamW with clipping of the gradient's global norm."""

  # Size of a step.
  learning_rate: float
  # Beside the root of the mean squared gradient that a step is divided by.
  epsilon: float
  # Norm of the gradient of all parameters that is not exceeded.
  clip_norm: float
  # By which matrices shrink at each step, as a share of the learning rate.
  weight_decay: float = 0.0

  def _check(self):
    _require_positive(self, 'learning_rate', 'epsilon', 'clip_norm')
    _require_not_negative(self, 'weight_decay')


@dataclasses.dataclass(frozen=True)
class SSMConfig(_Part):
  """A diagonal state space layer (S5, Smith et al. 2023)."""

  # Features in and out of every layer.
  width: int = 256
  # Complex states of one layer.
  state_size: int = 128
  # The state matrix starts as this many HiPPO-LegS blocks on its diagonal.
  hippo_blocks: int = 4
  # Time steps Delta start log-uniform in [dt_min, dt_max].
  dt_min: float = 1e-3
  dt_max: float = 1e-1

  def _check(self):
    _require_positive(
      self, 'width', 'state_size', 'hippo_blocks', 'dt_min', 'dt_max'
    )
    _require(
      self.state_size % self.hippo_blocks == 0,
      f'state_size={self.state_size} must be a multiple of '
      f'hippo_blocks={self.hippo_blocks}.',
    )
    _require(
      self.dt_min <= self.dt_max,
      f'dt_min={self.dt_min} must not exceed dt_max={self.dt_max}.',
    )


@dataclasses.dataclass(frozen=True)
class S5Config(SSMConfig):
  """The S5 stack that carries a level's memory (core 's5')."""

  # Double blocks; each holds two S5 layers.
  num_blocks: int = 4
  # h is read from the states of the layers ('state') or their output.
  deter_from: str = 'state'

  def _check(self):
    super()._check()
    _require_positive(self, 'num_blocks')
    _require_one_of(self, 'deter_from', 'state', 'output')


@dataclasses.dataclass(frozen=True)
class S3MConfig(SSMConfig):
  """The stack of Recall to Imagine (core 's3m')."""

  # Layers, one on the other.
  layers: int = 4

  def _check(self):
    super()._check()
    _require_positive(self, 'layers')


@dataclasses.dataclass(frozen=True)
class GRUConfig(_Part):
  """The recurrent unit of RSSM, whose state is h (core 'gru')."""

  # Numbers of z and action that go in.
  width: int = 256

  def _check(self):
    _require_positive(self, 'width')


@dataclasses.dataclass(frozen=True)
class BlockGRUConfig(GRUConfig):
  """One in blocks (core 'block_gru')."""

  # Equal parts of h, each with weights of its own.
  blocks: int = 8

  def _check(self):
    super()._check()
    _require_positive(self, 'blocks')


@dataclasses.dataclass(frozen=True)
class AttentionConfig(_Part):
  """Causal attention (core 'attention', and layers of 'hybrid')."""

  # Layers of attention, features in and out of each, and its heads.
  layers: int = 2
  width: int = 256
  heads: int = 4
  # Of the layer between two of attention.
  units: int = 512
  # Steps that one looks back on, itself included; 0 for all that a memory
  # holds (`context_length`).
  window: int = 0

  def _check(self):
    _require_positive(self, 'layers', 'width', 'heads', 'units')
    _require_not_negative(self, 'window')


@dataclasses.dataclass(frozen=True)
class HybridConfig(_Part):
  """A stack of S5 with layers of attention in it (core 'hybrid').

  Sizes are those of `s5`, heads and window those of `attention`.
  """

  # The kinds of the layers, from below.
  pattern: str = 's5,s5,s5,attention'

  @property
  def kinds(self) -> tuple[str, ...]:
    """Of each layer."""
    return tuple(kind.strip() for kind in self.pattern.split(','))

  def _check(self):
    _require(
      set(self.kinds) <= {'s5', 'attention'} and 's5' in self.kinds,
      f'pattern={self.pattern!r} must be a list of "s5" and "attention", as in '
      's5,s5,s5,attention, with "s5" in it.',
    )


# The parts of `WorldModelConfig` that each core reads, or the fields where it
# does not read all; of cores that are not here, which others have registered,
# nothing is known.
CORE_PARTS: Mapping[str, tuple[str, ...]] = types.MappingProxyType(
  {
    's5': ('s5',),
    's3m': ('s3m',),
    'gru': ('gru',),
    'block_gru': ('block_gru',),
    'attention': ('attention',),
    'hybrid': (
      'hybrid',
      's5.width',
      's5.state_size',
      's5.hippo_blocks',
      's5.dt_min',
      's5.dt_max',
      's5.deter_from',
      'attention.heads',
      'attention.window',
    ),
  }
)

# The same of `ActorCriticConfig`.
ACTOR_CORE_PARTS: Mapping[str, tuple[str, ...]] = types.MappingProxyType(
  {'none': (), 's5': ('s5',)}
)


# What tells a number, see `models.distributions`.
SCALAR_HEADS = 'two_hot', 'symlog_two_hot', 'normal'


@dataclasses.dataclass(frozen=True)
class WorldModelConfig(_Part):
  """One level's world model (docs/algorithm.md, 3)."""

  # What the memory is, see `models.cores`; each has a part of its own.
  core: str = 's5'
  s5: S5Config = S5Config()
  s3m: S3MConfig = S3MConfig()
  gru: GRUConfig = GRUConfig()
  block_gru: BlockGRUConfig = BlockGRUConfig()
  attention: AttentionConfig = AttentionConfig()
  hybrid: HybridConfig = HybridConfig()
  # What tells z: the 'observation' alone, so that all steps are inferred at
  # once, or the 'history' as well, by h (RSSM).
  posterior: str = 'observation'
  # What actor and critics see beside the subgoal: z, and
  # 'hieros': h, the predicted reward and continuation (Hieros);
  # 'latent': h (Dreamer); 'z': nothing (IRIS and others);
  # 'memory': the memory's own numbers; 'full': h and these (R2I has all three).
  features: str = 'hieros'
  # Stochastic state z: this many categoricals of this many classes each.
  categoricals: int = 32
  classes: int = 32
  # Size of the deterministic state h.
  deter_size: int = 256
  # Channels of the image encoder's stride-2 convolutions; the decoder mirrors.
  cnn_depths: tuple[int, ...] = (24, 48, 96, 192)
  # Above 1, images are cut into squares of so many pixels a side, whose linear
  # map, to the first of `cnn_depths`, takes the place of the first convolution:
  # on a CPU a third of the time for images of 64 pixels and patches of 8.
  patch_size: int = 1
  # Whether each categorical of z is also told what its own part of the image
  # shows, by a linear map that all parts share.
  cell_latents: bool = False
  # Encoder and decoder of vectors, and of the windows of the upper levels. Two
  # layers of 1024 give the parameter counts of the paper's upper levels.
  mlp_layers: int = 2
  mlp_units: int = 1024
  # Hidden layer between encoder or S5 output and the logits of z.
  hidden_units: int = 256
  # Scale of the posterior's first logits. Above 1, z starts as a sharp code of
  # the observation rather than as noise, which a short run cannot afford.
  posterior_init_scale: float = 1.0
  # Whether the prior is told z and action of the step before themselves, and
  # not only what the S5 stack makes of them.
  direct_prior: bool = False
  # Reward and continuation heads.
  head_layers: int = 2
  head_units: int = 256
  # What tells the reward: 'two_hot' bins; the same with their mean in symlog
  # space, 'symlog_two_hot' (DreamerV3's first); or the mean of a 'normal'
  # distribution (DreamerV2).
  reward_head: str = 'two_hot'
  # Of either 'two_hot'; one of them stands for 0.
  reward_bins: int = 255
  # Share of the uniform distribution in the categoricals of z.
  unimix: float = 0.01
  # A representation's KL below this many nats is free; and that of the prior,
  # for which none should be, since an action may decide less than a nat of what
  # comes next. DreamerV3 has 1 for both.
  free_nats: float = 1.0
  dynamics_free_nats: float = 0.0
  # Weights in the loss: of what is observed, whose squared errors have no half,
  # of the prior's KL, and of continuations.
  observation_scale: float = 1.0
  dynamics_scale: float = 0.5
  continuation_scale: float = 1.0
  # What all changed pixels of an image together are worth beside the whole.
  change_share: float = 0.0
  # Steps over which z, rewards and continuations are also foreseen without
  # looking at what comes in between; 0 for one step alone.
  overshooting: int = 0
  # Weight of the information that z has of the observation, which is maximised:
  # z says more, and says it surely, so that it can be foreseen.
  information_scale: float = 0.0
  # Weight of the representation's KL in the loss.
  representation_scale: float = 0.1
  # Learning rate of the core, as a share of the optimizer's. A large rate
  # otherwise moves what the heads read faster than they can follow; the S5
  # paper likewise gives its state space parameters a rate of their own.
  core_learning_rate_scale: float = 1.0
  optimizer: OptimizerConfig = OptimizerConfig(1e-4, 1e-8, 1000.0)

  def _check(self):
    _require_positive(
      self,
      'categoricals',
      'classes',
      'deter_size',
      'cnn_depths',
      'patch_size',
      'mlp_layers',
      'mlp_units',
      'hidden_units',
      'head_layers',
      'head_units',
      'posterior_init_scale',
      'core_learning_rate_scale',
    )
    _require_one_of(self, 'posterior', 'observation', 'history')
    _require_one_of(self, 'features', 'hieros', 'latent', 'z', 'memory', 'full')
    _require_one_of(self, 'reward_head', *SCALAR_HEADS)
    if self.core == 'block_gru':
      _require(
        self.deter_size % self.block_gru.blocks == 0,
        f'deter_size={self.deter_size} must be a multiple of '
        f'block_gru.blocks={self.block_gru.blocks}.',
      )
    if self.core == 'attention':
      # Positions turn pairs of numbers; those of a hybrid have none.
      _require(
        self.attention.width % (2 * self.attention.heads) == 0,
        f'attention.width={self.attention.width} must be a multiple of twice '
        f'attention.heads={self.attention.heads}.',
      )
    if self.core == 'hybrid':
      _require(
        self.s5.width % self.attention.heads == 0,
        f's5.width={self.s5.width} must be a multiple of '
        f'attention.heads={self.attention.heads}.',
      )
    _require_fraction(self, 'unimix')
    # Replay stores z as one byte a categorical, one value of which is padding.
    _require(
      self.classes <= 255, f'classes={self.classes} must not exceed 255.'
    )
    _require(
      self.reward_bins >= 3 and self.reward_bins % 2 == 1,
      f'reward_bins={self.reward_bins} must be odd and at '
      'least 3, so that one bin stands for 0.',
    )
    _require_not_negative(
      self,
      'free_nats',
      'dynamics_free_nats',
      'observation_scale',
      'continuation_scale',
      'overshooting',
      'dynamics_scale',
      'representation_scale',
      'change_share',
      'information_scale',
    )


@dataclasses.dataclass(frozen=True)
class ActorCriticConfig(_Part):
  """Actor and critics of one level (docs/algorithm.md, 4)."""

  # The actor's own memory: 'none', or an 's5' stack over what it sees.
  core: str = 'none'
  s5: S5Config = S5Config(num_blocks=1)
  # Of the actor and of each critic.
  layers: int = 2
  units: int = 256
  # Imagined steps, in the level's own steps.
  horizon: int = 16
  # What a reward is worth one own step earlier.
  discount: float = 0.997
  # The lambda of the lambda-returns.
  return_lambda: float = 0.95
  # Weight of the policy's entropy in its loss, by level; see `by_level`.
  entropy_scale: tuple[float, ...] = (3e-4,)
  # Share of the most entropy that a discrete policy is to have: entropy_scale
  # grows and shrinks to hold it (Director). 0 leaves the scale as it is.
  entropy_target: float = 0.0
  # Share of the uniform distribution in a discrete policy.
  unimix: float = 0.01
  # Bounds of the standard deviation of a continuous policy.
  min_std: float = 0.1
  max_std: float = 1.0
  # What tells values, see `WorldModelConfig.reward_head`.
  value_head: str = 'two_hot'
  # Of either 'two_hot'; one of them stands for 0.
  value_bins: int = 255
  # Every so many updates the slow critics follow, at this rate; their weight in
  # the critics' loss; whether returns are bootstrapped from them, and not from
  # the critics themselves (DreamerV2).
  slow_period: int = 1
  slow_rate: float = 0.02
  slow_scale: float = 1.0
  slow_target: bool = False
  # What advantages are divided by: the 5-95 percentile 'range' of the returns
  # over states (DreamerV3), the 'deviation' of the advantages themselves, or
  # 'nothing' (DreamerV2).
  advantage_scale: str = 'range'
  # Decay of its running mean, and the least that counts.
  scale_decay: float = 0.99
  scale_floor: float = 1.0
  # Weight of the critics' loss on replayed returns (DreamerV3, "Critic
  # learning"); 0 for none.
  replay_scale: float = 0.0
  # Weight of the policy gradient by replayed returns beside the imagined one:
  # what a model does not know yet of actions is in what came of them.
  replay_actor_scale: float = 0.0
  # Weight of each reward stream in the advantage, by level; see `by_level`. A
  # stream of weight 0 is left out altogether; levels without the stream ignore
  # its weight.
  extrinsic_weight: tuple[float, ...] = (1.0,)
  subgoal_weight: tuple[float, ...] = (0.3,)
  novelty_weight: tuple[float, ...] = (0.0, 0.1)
  optimizer: OptimizerConfig = OptimizerConfig(3e-5, 1e-5, 100.0)

  def _check(self):
    _require_positive(self, 'layers', 'units', 'horizon', 'min_std', 'max_std')
    _require_fraction(
      self,
      'discount',
      'return_lambda',
      'entropy_target',
      'unimix',
      'slow_rate',
      'scale_decay',
    )
    _require(
      self.min_std <= self.max_std,
      f'min_std={self.min_std} must not exceed max_std={self.max_std}.',
    )
    _require_positive(self, 'scale_floor', 'slow_period')
    _require_one_of(self, 'advantage_scale', 'range', 'deviation', 'nothing')
    _require_one_of(self, 'core', *ACTOR_CORE_PARTS)
    _require_one_of(self, 'value_head', *SCALAR_HEADS)
    _require(
      self.value_bins >= 3 and self.value_bins % 2 == 1,
      f'value_bins={self.value_bins} must be odd and at '
      'least 3, so that one bin stands for 0.',
    )
    _require_not_negative(
      self,
      'entropy_scale',
      'slow_scale',
      'replay_scale',
      'replay_actor_scale',
      'extrinsic_weight',
      'subgoal_weight',
      'novelty_weight',
    )


@dataclasses.dataclass(frozen=True)
class SubgoalConfig(_Part):
  """The subgoal autoencoder: h <-> a code (docs/algorithm.md, 5)."""

  # Ticks of a level, see `by_level`, from one of the level above to its next
  # (k): what a subgoal lasts.
  duration: tuple[int, ...] = (4,)
  # Who sets subgoals: the 'level' above, with a world model of its own; or, at
  # depth 1, a second 'policy' on the same world model, which sets new ones in
  # imagination, too (Director).
  manager: str = 'level'
  # Whose states the autoencoder learns: those of 'imagination' or of 'replay'.
  learns_from: str = 'imagination'
  # A code: this many categoricals of this many classes each.
  categoricals: int = 8
  classes: int = 8
  # From h to the code, and back.
  encoder_layers: int = 3
  encoder_units: int = 64
  decoder_layers: int = 3
  decoder_units: int = 256
  # Share of the uniform distribution in the categoricals of a code.
  unimix: float = 0.01
  # Whether an episode's end is where one stays for ever, for the subgoal's
  # reward. If not, who is rewarded for being near a subgoal shuns ends.
  absorbing: bool = False
  # Share of imagined starts whose subgoal is the code of a state of the batch,
  # and not what was told there: half of them one that was reached from there
  # while a subgoal lasts, half any. What an upper level tells while it knows
  # nothing leads nowhere, and who follows it learns to go nowhere.
  practice: float = 0.0
  # Updates of a level until its subgoals count in full for the level below:
  # before it has learned they are random.
  warmup: int = 100
  # Weight of KL(code || uniform).
  kl_scale: float = 0.5
  # Nats that it is to be: kl_scale grows and shrinks to hold it (Director). 0
  # leaves the scale as it is.
  kl_target: float = 0.0
  # Weight of the information that a code has of h, which is maximised: all are
  # in use, each for few states.
  information_scale: float = 0.0
  # How far codes are for all places alike, however often one is there: states
  # of replay count by the density of those like them, to the power of minus
  # this (Skew-Fit). With 0 whoever goes to one place has codes for no other.
  balance: float = 0.0
  optimizer: OptimizerConfig = OptimizerConfig(1e-4, 1e-6, 100.0)

  def _check(self):
    _require_positive(
      self,
      'categoricals',
      'classes',
      'encoder_layers',
      'encoder_units',
      'decoder_layers',
      'decoder_units',
    )
    _require(
      min(self.duration) >= 2,
      f'duration={self.duration} must be at least 2; for a '
      'flat agent set depth=1.',
    )
    _require_fraction(self, 'unimix', 'practice', 'balance')
    _require(
      self.balance == 0 or self.learns_from == 'replay',
      f'balance={self.balance} is of states of replay: set it to 0, or '
      "learns_from to 'replay'.",
    )
    _require(
      self.classes <= 255, f'classes={self.classes} must not exceed 255.'
    )
    _require_not_negative(
      self, 'warmup', 'kl_scale', 'kl_target', 'information_scale'
    )
    most = self.categoricals * math.log(self.classes)
    _require(
      self.kl_target == 0 or self.kl_target < most,
      f'kl_target={self.kl_target} must be less than {most:.3g}, what '
      f'categoricals={self.categoricals} of classes={self.classes} can hold.',
    )
    _require_one_of(self, 'manager', 'level', 'policy')
    _require(
      self.manager == 'level' or not self.practice,
      f'practice={self.practice} is for subgoals of a level above: set it to '
      "0, or manager to 'level'.",
    )
    _require_one_of(self, 'learns_from', 'imagination', 'replay')


@dataclasses.dataclass(frozen=True)
class ExplorationConfig(_Part):
  """What the novelty stream rewards (docs/algorithm.md, 5.3)."""

  # The error of the subgoal 'autoencoder' (Director), or the 'disagreement' of
  # several models of the next z (Plan2Explore, 2005.05960).
  novelty: str = 'autoencoder'
  # Of 'disagreement': how many models, of one layer of so many units each.
  members: int = 5
  units: int = 64
  # The least that counts of what its advantages are divided by, as
  # `ActorCriticConfig.scale_floor`; but novelty has no unit, and the smaller
  # this is the longer what little is new counts.
  scale_floor: float = 1.0
  optimizer: OptimizerConfig = OptimizerConfig(1e-3, 1e-6, 100.0)

  def _check(self):
    _require_one_of(self, 'novelty', 'autoencoder', 'disagreement')
    _require(
      self.members >= 2,
      f'members={self.members} must be at least 2: one agrees with itself.',
    )
    _require_positive(self, 'units', 'scale_floor')


@dataclasses.dataclass(frozen=True)
class ReplayConfig(_Part):
  """The Reverb tables, one per level (docs/algorithm.md, 6)."""

  # How sequences are drawn: 'etbs' (Hieros, section 3.3) or 'uniform'.
  sampler: str = 'etbs'
  # Of ETBS: 0 is uniform, and 1 favours the young most.
  temperature: float = 0.3
  # Sequences that a table holds before it drops the oldest.
  capacity: int = 1_000_000
  # Sequences that level 0's table must hold before it learns. Upper levels,
  # whose steps are longer, need as many fewer, but a batch at least.
  min_size: int = 1024
  # Steps of level 0 that are compressed and stored together; above, fewer take
  # as long. Longer chunks are smaller,
  # but a sequence appears only when its last chunk is full. Three levels of
  # Atari need 1.7 GiB for 100,000 steps with 4, 1.1 with 8, 0.8 with 16.
  chunk_length: int = 8
  # Steps replayed at level 0 for each environment step (Atari 100k: B * T).
  ratio: float = 1024.0
  # How many times as often as level 0's the steps of upper levels, which are
  # fewer, are replayed; an upper level learns as often as level 0 at most.
  upper_ratio: int = 1

  def _check(self):
    _require_positive(
      self, 'capacity', 'min_size', 'chunk_length', 'ratio', 'upper_ratio'
    )
    _require_one_of(self, 'sampler', 'etbs', 'uniform')
    _require_fraction(self, 'temperature')
    _require(
      self.min_size <= self.capacity,
      f'min_size={self.min_size} can never be reached in a table of '
      f'capacity={self.capacity}; lower one or raise the '
      'other.',
    )


_T = TypeVar('_T')


def by_level(values: Sequence[_T], level: int) -> _T:
  """Of one value a level, from level 0 on; the last is for all above, too."""
  return values[min(level, len(values) - 1)]


@dataclasses.dataclass(frozen=True)
class HierosConfig(_Part):
  """The whole agent. The defaults are the paper's Atari 100k sizes."""

  # Levels of the hierarchy; 1 is the flat agent.
  depth: int = 3
  # Sequences in a batch, and steps in a sequence, of every level.
  batch_size: int = 16
  sequence_length: int = 64
  # Own steps that the memory of a level that acts holds at most, and half of
  # them at least; 0 for `sequence_length`, all that it was trained for.
  context_length: int = 0
  # How an upper level's reward is made of the environment's: 'mean' or 'sum'.
  reward_aggregation: str = 'mean'
  # What of a replayed reward is learned: 'all', or its 'tanh' (DreamerV2).
  reward_transform: str = 'all'
  # Environment steps between two requests of an actor for new parameters.
  variable_update_period: int = 16
  world_model: WorldModelConfig = WorldModelConfig()
  actor_critic: ActorCriticConfig = ActorCriticConfig()
  subgoals: SubgoalConfig = SubgoalConfig()
  exploration: ExplorationConfig = ExplorationConfig()
  replay: ReplayConfig = ReplayConfig()

  # Type of the networks' arithmetic: float32, or bfloat16 for accelerators that
  # do it faster. Parameters, losses and the states of S5 stay float32.
  precision: str = 'float32'

  def _check(self):
    _require_one_of(self, 'precision', 'float32', 'bfloat16')
    _require(
      1 <= self.depth <= 8,
      f'depth={self.depth} must lie in 1..8; 1 is the flat agent.',
    )
    _require_positive(self, 'batch_size', 'variable_update_period')
    _require(
      self.context_length == 0 or self.context_length >= 2,
      f'context_length={self.context_length} must be at least 2, or 0 for as '
      'many steps as sequence_length.',
    )
    _require(
      self.sequence_length >= 2,
      f'sequence_length={self.sequence_length} must be at least 2: a '
      'model needs a step and the one before it.',
    )
    _require_one_of(self, 'reward_aggregation', 'mean', 'sum')
    _require_one_of(self, 'reward_transform', 'all', 'tanh')
    _require(
      not self.subgoals.absorbing or self.actor_critic.discount < 1,
      'subgoals.absorbing does not go with actor_critic.discount=1: what is '
      'rewarded for ever needs a discount below it.',
    )
    for level in range(self.depth + self.has_manager):
      _require(
        bool(self.streams(level)),
        f'level {level} of depth={self.depth} would have no reward: give it an '
        'actor_critic.extrinsic_weight or another that is not 0.',
      )
    if self.has_manager:
      horizon, k = self.actor_critic.horizon, self.duration(self.depth - 1)
      _require(
        self.depth == 1,
        f'depth={self.depth} does not go with subgoals.manager=policy: the '
        'second policy takes the place of the levels above. Set depth=1.',
      )
      _require(
        horizon % k == 0,
        f'actor_critic.horizon={horizon} must be a multiple of '
        f'subgoals.duration={k}, so that subgoals are imagined whole.',
      )
      _require(
        self.actor_critic.core == 'none',
        f'actor_critic.core={self.actor_critic.core} is not for '
        'subgoals.manager=policy: set it to none.',
      )

  @property
  def has_manager(self) -> bool:
    """Whether a second policy sets the subgoals of the highest level.

    It has the weights of the level above.
    """
    return self.subgoals.manager == 'policy'

  def has_subgoals(self, level: int) -> bool:
    """Whether somebody sets a level's subgoals."""
    return level < self.depth - 1 + self.has_manager

  def streams(self, level: int) -> dict[str, float]:
    """The weights of the rewards that a level has, by name."""
    settings = self.actor_critic
    weights = {
      'extrinsic': by_level(settings.extrinsic_weight, level),
      'subgoal': by_level(settings.subgoal_weight, level)
      * self.has_subgoals(level),
      'novelty': by_level(settings.novelty_weight, level),
    }
    return {name: weight for name, weight in weights.items() if weight}

  def duration(self, level: int) -> int:
    """Ticks of a level from one of the level above to its next."""
    return by_level(self.subgoals.duration, level)

  def entropy_scale(self, level: int) -> float:
    """Weight of the entropy of a level's policy."""
    return by_level(self.actor_critic.entropy_scale, level)

  def guidance(self, updates: int) -> float:
    """How much subgoals count of a level that has had so many updates."""
    warmup = self.subgoals.warmup
    return 1.0 if updates >= warmup else updates / warmup

  def tick_period(self, level: int) -> int:
    """Environment steps between two ticks of `level`."""
    return math.prod(self.duration(below) for below in range(level))

  @property
  def updates_per_step(self) -> float:
    """Learner steps for each environment step, once learning has started."""
    return self.replay.ratio / (self.batch_size * self.sequence_length)

  def update_period(self, level: int) -> int:
    """Learner steps between two updates of `level`."""
    return max(1, self.tick_period(level) // self.replay.upper_ratio)

  def reward_divisor(self, level: int) -> int:
    """What the sum of the environment's rewards in a window is divided by."""
    mean = self.reward_aggregation == 'mean'
    return self.tick_period(level) if mean else 1

  def least_sequences(self, level: int) -> int:
    """Sequences that a level's table must hold before that level learns."""
    least = self.replay.min_size // self.tick_period(level)
    return max(least, min(self.batch_size, self.replay.min_size))

  def chunk_length(self, level: int) -> int:
    """Own steps of `level` that are stored together."""
    longest = self.replay.chunk_length // self.tick_period(level)
    return min(max(1, longest), self.sequence_length)

  def check_fillable(self, num_steps: int, num_environments: int = 1):
    """Raises ValueError if a level's table could stay too small to learn.

    Args:
      num_steps: environment steps of the whole run. Only the ticks that endless
        episodes would give are counted: they are certain.
      num_environments: that share the steps, in whatever proportion.
    """
    among = f' in {num_environments} environments' * (num_environments > 1)
    for level in range(self.depth):
      period = self.tick_period(level)
      least = self.least_sequences(level)
      needed = least + num_environments * (self.sequence_length - 1)
      # Each environment may stop right before a tick.
      ticks = num_steps // period - (num_environments - 1)
      _require(
        ticks >= needed,
        f'Level {level} takes one step every {period} environment steps, so '
        f'{num_steps} steps{among} give it only {max(ticks, 0)} of the '
        f'{needed} that sequence_length={self.sequence_length} and '
        f'replay.min_size={self.replay.min_size} (here {least}) need before it '
        'can learn: '
        f'run at least {(needed + num_environments - 1) * period} steps, or '
        'lower depth, sequence_length or replay.min_size.',
      )
