"""Presets: configurations of whole agents, by their size."""

from collections.abc import Mapping
import types

from acme_hieros.config.fields import (
  ActorCriticConfig,
  HierosConfig,
  OptimizerConfig,
  ReplayConfig,
  S5Config,
  SubgoalConfig,
  WorldModelConfig,
)
from acme_hieros.config.overrides import fields_by_name

# What is unlike the paper here was chosen by measurement: docs/learning.md.
_SMALL = HierosConfig(
  depth=1,
  batch_size=8,
  sequence_length=32,
  world_model=WorldModelConfig(
    s5=S5Config(num_blocks=2, width=128, state_size=64),
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
    units=128,
    horizon=12,
    # Some thousand updates hear of no rewards that are 300 steps away.
    discount=0.99,
    # With less, policies become sure of what is not so.
    entropy_scale=5e-2,
    advantage_scale='deviation',
    scale_floor=0.1,
    replay_scale=0.3,
    replay_actor_scale=1.0,
    optimizer=OptimizerConfig(3e-4, 1e-5, 100.0),
  ),
  subgoals=SubgoalConfig(
    decoder_units=128, optimizer=OptimizerConfig(3e-4, 1e-6, 100.0)
  ),
  replay=ReplayConfig(capacity=100_000, min_size=128, ratio=16.0),
)

_TINY = HierosConfig(
  depth=2,
  batch_size=10,
  sequence_length=32,
  variable_update_period=4,
  world_model=WorldModelConfig(
    # Time constants for episodes of some ten steps.
    s5=S5Config(
      num_blocks=1,
      width=64,
      state_size=64,
      hippo_blocks=2,
      dt_min=1e-2,
      dt_max=1.0,
    ),
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
    units=64,
    horizon=10,
    discount=0.97,
    entropy_scale=3e-2,
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


def preset(name: str) -> HierosConfig:
  """Returns the preset of that name; raises ValueError if there is none."""
  if name not in PRESETS:
    raise ValueError(
      f'Unknown preset {name!r}; known presets: {", ".join(PRESETS)}.'
    )
  return PRESETS[name]


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
