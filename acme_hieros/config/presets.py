"""Presets: configurations of whole agents, by size and by system.

A size (`PRESETS`) says how large and how fast everything is; a system
(`SYSTEMS`) what it computes. Any two go together.
"""

from collections.abc import Mapping
import types
from typing import Any

from acme_hieros.config.fields import (
  ActorCriticConfig,
  AttentionConfig,
  BlockGRUConfig,
  ExplorationConfig,
  GRUConfig,
  HierosConfig,
  HybridConfig,
  OptimizerConfig,
  ReplayConfig,
  S3MConfig,
  S5Config,
  SubgoalConfig,
  WorldModelConfig,
)
from acme_hieros.config.overrides import fields_by_name, override

# What is unlike the paper here was chosen by measurement: docs/learning.md.
_SMALL = HierosConfig(
  depth=1,
  batch_size=8,
  sequence_length=32,
  world_model=WorldModelConfig(
    s5=S5Config(num_blocks=2, width=128, state_size=64),
    s3m=S3MConfig(layers=4, width=128, state_size=64),
    gru=GRUConfig(width=128),
    # Eight blocks of so small an h see little of it.
    block_gru=BlockGRUConfig(width=128, blocks=1),
    attention=AttentionConfig(width=128, units=256),
    # Four categoricals for each of the 16 parts of an image of 64 pixels.
    categoricals=64,
    classes=8,
    deter_size=128,
    patch_size=8,
    cnn_depths=(64, 96),
    cell_latents=True,
    direct_prior=True,
    overshooting=10,
    change_share=10.0,
    information_scale=5.0,
    mlp_units=256,
    hidden_units=256,
    head_units=128,
    optimizer=OptimizerConfig(2e-3, 1e-8, 1000.0),
  ),
  actor_critic=ActorCriticConfig(
    s5=S5Config(num_blocks=1, width=128, state_size=64),
    units=128,
    horizon=12,
    # Some thousand updates hear of no rewards that are 300 steps away.
    discount=0.99,
    # With less, policies become sure of what is not so.
    entropy_scale=(5e-2,),
    advantage_scale='deviation',
    scale_floor=0.1,
    replay_scale=0.3,
    replay_actor_scale=1.0,
    optimizer=OptimizerConfig(3e-4, 1e-5, 100.0),
  ),
  subgoals=SubgoalConfig(
    decoder_units=128, optimizer=OptimizerConfig(3e-4, 1e-6, 100.0)
  ),
  exploration=ExplorationConfig(scale_floor=0.1),
  replay=ReplayConfig(capacity=100_000, min_size=128, ratio=16.0),
)

# Time constants for episodes of some ten steps.
_TINY_SSM: Mapping[str, Any] = {
  'width': 64,
  'state_size': 64,
  'hippo_blocks': 2,
  'dt_min': 1e-2,
  'dt_max': 1.0,
}

_TINY = HierosConfig(
  depth=2,
  batch_size=10,
  sequence_length=32,
  variable_update_period=4,
  world_model=WorldModelConfig(
    s5=S5Config(num_blocks=1, **_TINY_SSM),
    s3m=S3MConfig(layers=2, **_TINY_SSM),
    gru=GRUConfig(width=64),
    block_gru=BlockGRUConfig(width=64, blocks=1),
    attention=AttentionConfig(layers=1, width=64, units=128),
    hybrid=HybridConfig('s5,attention'),
    categoricals=8,
    classes=8,
    deter_size=128,
    cnn_depths=(8, 16),
    mlp_units=64,
    hidden_units=64,
    posterior_init_scale=4.0,
    head_units=64,
    # A step of a small world holds no more than 1 nat: all would be free.
    free_nats=0.3,
    optimizer=OptimizerConfig(3e-3, 1e-8, 1000.0),
  ),
  actor_critic=ActorCriticConfig(
    s5=S5Config(num_blocks=1, **_TINY_SSM),
    units=64,
    horizon=10,
    discount=0.97,
    entropy_scale=(3e-2,),
    optimizer=OptimizerConfig(3e-4, 1e-5, 100.0),
  ),
  subgoals=SubgoalConfig(
    categoricals=4,
    classes=4,
    encoder_layers=2,
    encoder_units=32,
    decoder_layers=2,
    decoder_units=64,
    optimizer=OptimizerConfig(1e-3, 1e-6, 100.0),
  ),
  exploration=ExplorationConfig(optimizer=OptimizerConfig(3e-3, 1e-6, 100.0)),
  replay=ReplayConfig(capacity=50_000, min_size=32, chunk_length=1, ratio=80.0),
)

PRESETS: Mapping[str, HierosConfig] = types.MappingProxyType(
  {
    # The paper's sizes (arXiv 2310.05167, appendix) for Atari 100k.
    'atari100k': HierosConfig(),
    # Learns something on a laptop's CPU within an hour.
    'small': _SMALL,
    # Tests and the `debug/` environments: learns them in minutes.
    'tiny': _TINY,
  }
)


# What Dreamer and its kin do alike, where presets of size may differ.
_DREAMER: Mapping[str, Any] = {
  'depth': 1,
  'reward_aggregation': 'mean',
  'replay.sampler': 'uniform',
  'world_model.features': 'latent',
  'world_model.direct_prior': False,
  'world_model.overshooting': 0,
  'world_model.change_share': 0.0,
  'world_model.information_scale': 0.0,
  'world_model.free_nats': 1.0,
  'world_model.dynamics_free_nats': 1.0,
  'world_model.dynamics_scale': 0.5,
  'world_model.representation_scale': 0.1,
  'actor_critic.horizon': 15,
  'actor_critic.discount': 0.997,
  'actor_critic.return_lambda': 0.95,
  'actor_critic.entropy_scale': (3e-4,),
  'actor_critic.advantage_scale': 'range',
  'actor_critic.scale_floor': 1.0,
  'actor_critic.replay_scale': 0.0,
  'actor_critic.replay_actor_scale': 0.0,
}

# Learning rates, batches, nets and how images are coded are those of the size.
SYSTEMS: Mapping[str, Mapping[str, Any]] = types.MappingProxyType(
  {
    # Hieros (2310.05167), with the corrections of docs/algorithm.md.
    'hieros': {},
    # Its lowest level alone.
    'flat': {'depth': 1},
    # The same, and it explores what an ensemble does not know yet
    # (Plan2Explore), for tasks whose rewards are rare.
    'curious': {
      'depth': 1,
      'exploration.novelty': 'disagreement',
      'exploration.scale_floor': 1e-3,
      'actor_critic.novelty_weight': (0.3,),
      'actor_critic.advantage_scale': 'deviation',
      'actor_critic.scale_floor': 0.1,
    },
    # Hieros that samples uniformly, for a look at ETBS.
    'uniform': {'replay.sampler': 'uniform'},
    # Hieros on RSSM, its ablation. In the released code h hears of z_{t-1} and
    # a_t; here of a_{t-1}, as everywhere.
    'rssm': {'world_model.core': 'gru', 'world_model.posterior': 'history'},
    # DreamerV2 (2010.02193). Its networks have ELU and no norms but in the GRU;
    # here they have SiLU and LayerNorm, and vectors go through symlog, as all
    # have. Its continuations learn a discount of 0.999; here they learn 1, and
    # the paper's 0.995 counts beside them. Advantages are against the critic,
    # as in the paper; in its code against the target critic. Its first 50,000
    # steps are random; here so many as the size has. Its images are gray, which
    # is the environment's to say: `--env_option=gray=true`.
    'dreamerv2': {
      **_DREAMER,
      'world_model.core': 'gru',
      'world_model.posterior': 'history',
      'world_model.unimix': 0.0,
      'world_model.reward_head': 'normal',
      # The log-likelihood of a normal distribution of deviation 1.
      'world_model.observation_scale': 0.5,
      'world_model.free_nats': 0.0,
      'world_model.dynamics_free_nats': 0.0,
      'world_model.dynamics_scale': 0.08,
      'world_model.representation_scale': 0.02,
      'world_model.continuation_scale': 5.0,
      'actor_critic.value_head': 'normal',
      'actor_critic.unimix': 0.0,
      'actor_critic.discount': 0.995,
      'actor_critic.entropy_scale': (1e-3,),
      'actor_critic.advantage_scale': 'nothing',
      'actor_critic.slow_target': True,
      'actor_critic.slow_scale': 0.0,
      'actor_critic.slow_rate': 1.0,
      'actor_critic.slow_period': 100,
      'reward_transform': 'tanh',
      'replay.ratio': 50.0,
    },
    # DreamerV3 (2301.04104) as its newest code has it, but for these: LayerNorm
    # for RMSNorm; the size's Adam, which clips by the global norm, for LaProp,
    # which does by that of each array and warms up; a prior of one hidden layer
    # for one of two; the size's replay ratio for 256, and no step before a
    # sequence whose latents are stored. Actions that are numbers learn through
    # the dynamics, as in its first version, where it has REINFORCE for all.
    'dreamerv3': {
      **_DREAMER,
      'world_model.core': 'block_gru',
      'world_model.posterior': 'history',
      'world_model.dynamics_scale': 1.0,
      'actor_critic.replay_scale': 0.3,
    },
    # Director (2206.04114): a manager on the same RSSM, whose goals the worker
    # alone follows. Its networks are DreamerV2's and its critics regress symlog
    # values; here they have this package's layers and heads. Its KL has a
    # weight that adapts as that of goals does; here it has free nats.
    'director': {
      **_DREAMER,
      'world_model.core': 'gru',
      'world_model.posterior': 'history',
      'world_model.dynamics_scale': 0.8,
      'world_model.representation_scale': 0.2,
      'actor_critic.horizon': 16,
      'actor_critic.discount': 0.99,
      'actor_critic.entropy_target': 0.5,
      'actor_critic.advantage_scale': 'deviation',
      'actor_critic.scale_decay': 0.999,
      'actor_critic.scale_floor': 1e-3,
      'exploration.scale_floor': 1e-3,
      'actor_critic.slow_target': True,
      'actor_critic.slow_scale': 0.0,
      'actor_critic.slow_rate': 1.0,
      'actor_critic.slow_period': 100,
      'actor_critic.extrinsic_weight': (0.0, 1.0),
      'actor_critic.subgoal_weight': (1.0,),
      'actor_critic.novelty_weight': (0.0, 0.1),
      'subgoals.manager': 'policy',
      'subgoals.duration': (8,),
      'subgoals.categoricals': 8,
      'subgoals.classes': 8,
      'subgoals.learns_from': 'replay',
      'subgoals.kl_target': 10.0,
    },
    # Recall to Imagine (2403.04253). What the policy sees is for each task to
    # choose: 'latent', 'memory' or 'full', its released default. Its sequences
    # have 1,024 steps; here as many as the size's, which bounds what it is
    # taught to remember. Its memory starts from zero, not from a learned state;
    # its resets act one step early, by an operator that is not associative and
    # with z of the episode before, those here when an episode starts. Its
    # eigenvalues may leave the left half plane; here they cannot. Its means of
    # rewards and values are taken where they are compressed, which makes rare
    # ones too small (docs/algorithm.md, 1.3).
    'r2i': {
      **_DREAMER,
      'world_model.core': 's3m',
      'world_model.posterior': 'observation',
      'world_model.features': 'full',
    },
  }
)


def preset(name: str, system: str = 'hieros') -> HierosConfig:
  """Returns a system in a size.

  Args:
    name: the size, of `PRESETS`.
    system: of `SYSTEMS`.

  Raises:
    ValueError: there is none of such a name, or the size cannot hold the
      system.
  """
  for given, known, what in (
    (name, PRESETS, 'preset'),
    (system, SYSTEMS, 'system'),
  ):
    if given not in known:
      raise ValueError(
        f'Unknown {what} {given!r}; known {what}s: {", ".join(known)}.'
      )
  try:
    return override(PRESETS[name], SYSTEMS[system])
  except ValueError as error:
    raise ValueError(
      f'The preset {name} cannot hold the system {system}: {error}'
    ) from error


def describe(config: HierosConfig) -> str:
  """The preset from which `config` differs least, and where, for a reader.

  'small', or 'small, depth=1, world_model.cnn_depths=8,16': `override` reads
  the fields as they stand there.
  """
  values = fields_by_name(config)
  name, differing = min(
    (
      (
        name,
        [f for f, value in fields_by_name(start).items() if values[f] != value],
      )
      for name, start in PRESETS.items()
    ),
    key=lambda found: len(found[1]),
  )
  parts = [name]
  for field in differing:
    value = values[field]
    text = ','.join(map(str, value)) if isinstance(value, tuple) else value
    parts.append(f'{field}={text}')
  return ', '.join(parts)
