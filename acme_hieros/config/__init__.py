"""The configuration of Hieros: frozen dataclasses, one per part, and presets.

Every field can be set by its dotted name, as on the launcher's command line:

  config = override(preset('small'), {'world_model.deter_size': '128'})
  config = preset('small', system='rssm')

A wrong name, type or combination raises `ValueError` with one sentence. This
package imports nothing but the standard library.
"""

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
  SSMConfig,
  SubgoalConfig,
  WorldModelConfig,
  make_plain,
  plain,
)
from acme_hieros.config.overrides import (
  field_names,
  fields_by_name,
  from_dict,
  override,
  to_dict,
)
from acme_hieros.config.presets import PRESETS, SYSTEMS, describe, preset

__all__ = [
  'PRESETS',
  'SYSTEMS',
  'ActorCriticConfig',
  'AttentionConfig',
  'BlockGRUConfig',
  'ExplorationConfig',
  'GRUConfig',
  'HierosConfig',
  'HybridConfig',
  'OptimizerConfig',
  'ReplayConfig',
  'S3MConfig',
  'S5Config',
  'SSMConfig',
  'SubgoalConfig',
  'WorldModelConfig',
  'describe',
  'field_names',
  'fields_by_name',
  'from_dict',
  'make_plain',
  'override',
  'plain',
  'preset',
  'to_dict',
]
