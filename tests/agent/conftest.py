"""An agent as small as it goes, since compiling is all that a test costs."""

from acme_hieros import compat  # noqa: F401, I001  Comes before Acme.

import jax
import pytest

from acme_hieros import config as config_lib

# Fields of the preset 'tiny' that can be smaller still.
SMALLEST = {
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
  'subgoals.categoricals': 2,
  'subgoals.classes': 3,
  'subgoals.encoder_layers': 1,
  'subgoals.encoder_units': 8,
  'subgoals.decoder_layers': 1,
  'subgoals.decoder_units': 8,
  'replay.min_size': 4,
}


@pytest.fixture(scope='session')
def make_config():
  """Makes a configuration from fields by their dotted names."""

  def make_config(**fields):
    changes = {name.replace('__', '.'): v for name, v in fields.items()}
    return config_lib.override(
      config_lib.preset('tiny'), {**SMALLEST, **changes}
    )

  return make_config


@pytest.fixture(scope='module', autouse=True)
def _compile_quickly():
  jax.config.update('jax_disable_most_optimizations', True)
  yield
  jax.config.update('jax_disable_most_optimizations', False)
