"""The core in docs/architecture.md, added from outside as a reader would."""

import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from acme_hieros import config as config_lib
from acme_hieros.models import cores, spaces, world_model
from acme_hieros.models import level as level_lib

PAGE = pathlib.Path(__file__).parents[3] / 'docs' / 'architecture.md'


@pytest.fixture
def leaky(monkeypatch):
  """Registers it, for one test."""
  monkeypatch.setattr(cores, '_MAKERS', dict(cores._MAKERS))
  (code,) = re.findall(r'```python\n(.*?)```', PAGE.read_text(), re.DOTALL)
  exec(code, {'__name__': 'a_reader_s_module'})


def test_the_page_s_core_learns_in_a_level(leaky, compile_quickly):
  config = config_lib.override(
    config_lib.preset('tiny'),
    {'depth': 1, 'world_model.core': 'leaky', 'world_model.hidden_units': 16},
  )
  level = level_lib.Level(
    config, {'body': spaces.Vector((3,))}, spaces.Discrete((), 2)
  )
  rng = np.random.default_rng(0)
  shape = (2, 8)
  batch = level_lib.Batch(
    world_model.Sequence(
      observation={'body': rng.normal(size=(*shape, 3)).astype(np.float32)},
      action=rng.integers(0, 2, shape).astype(np.int32),
      reward=rng.normal(size=shape).astype(np.float32),
      discount=np.ones(shape, np.float32),
      start_of_episode=jnp.zeros(shape, bool),
    )
  )
  state = level_lib.draw(level.init, jax.random.PRNGKey(0))
  update = jax.jit(level.update)
  losses = []
  for _ in range(20):
    state, metrics = update(state, batch)
    losses.append(float(metrics['world_model_loss']))
  assert np.mean(losses[-5:]) < np.mean(losses[:5])
  (decay,) = (
    parameters['decay']
    for module, parameters in state.params.world_model.items()
    if 'decay' in parameters
  )
  assert np.all(decay != 0.0)
