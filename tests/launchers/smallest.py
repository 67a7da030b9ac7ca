"""A configuration that learns within seconds of the start."""

# Fields of the preset `tiny`.
OVERRIDES = {
  'batch_size': 2,
  'sequence_length': 4,
  'world_model.s5.width': 4,
  'world_model.s5.state_size': 4,
  'world_model.categoricals': 2,
  'world_model.classes': 2,
  'world_model.deter_size': 4,
  'world_model.mlp_layers': 1,
  'world_model.head_layers': 1,
  'actor_critic.layers': 1,
  'actor_critic.horizon': 2,
  'subgoals.duration': 2,
  'subgoals.encoder_layers': 1,
  'subgoals.decoder_layers': 1,
  'replay.min_size': 4,
  # One update for each step.
  'replay.ratio': 8,
}
