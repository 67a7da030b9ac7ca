"""An agent as small as it goes, where compiling is all that it costs."""

from collections.abc import Mapping
from typing import Any

from acme_hieros import config as config_lib

# Of the preset `tiny`: what can be smaller still.
OVERRIDES = {
  'batch_size': 2,
  'sequence_length': 4,
  'world_model.s5.width': 4,
  'world_model.s5.state_size': 4,
  'world_model.categoricals': 2,
  'world_model.classes': 2,
  'world_model.deter_size': 4,
  'world_model.cnn_depths': (2,),
  'world_model.mlp_layers': 1,
  'world_model.mlp_units': 8,
  'world_model.hidden_units': 8,
  'world_model.head_layers': 1,
  'world_model.head_units': 8,
  'world_model.reward_bins': 11,
  'actor_critic.layers': 1,
  'actor_critic.units': 8,
  'actor_critic.horizon': 2,
  'actor_critic.value_bins': 11,
  'subgoals.duration': 2,
  'subgoals.warmup': 2,
  'subgoals.categoricals': 2,
  'subgoals.classes': 3,
  'subgoals.encoder_layers': 1,
  'subgoals.encoder_units': 8,
  'subgoals.decoder_layers': 1,
  'subgoals.decoder_units': 8,
  'replay.min_size': 4,
}


def make_config(**changes: Any) -> config_lib.HierosConfig:
  """Its configuration; changes: of fields, with two underscores for a dot."""
  return config_lib.override(
    config_lib.preset('tiny'), OVERRIDES | _dotted(changes)
  )


def make_flags(**changes: Any) -> list[str]:
  """The same as flags of a program, beside --preset=tiny."""
  overrides = OVERRIDES | _dotted(changes)
  return [f'--override={name}={value}' for name, value in overrides.items()]


def _dotted(changes: Mapping[str, Any]) -> Mapping[str, Any]:
  return {name.replace('__', '.'): value for name, value in changes.items()}
