"""A small run in an environment of each family."""

import importlib.util
import json

import pytest

from acme_hieros.experiments import runs, training
from benchmarks import smallest

pytestmark = pytest.mark.usefixtures('compile_quickly')

# By the package that each needs: environments that look as most of the family.
_FAMILIES = {
  'dm_control': ('dmc/cartpole_swingup', dict(time_limit=50)),
  'bsuite': ('bsuite/memory_len/3', {}),
  'popgym': ('popgym/AutoencodeEasy', {}),
  'minatar': ('minatar/Breakout', {}),
  'minigrid': ('minigrid/MiniGrid-Empty-5x5-v0', dict(max_steps=50)),
  'crafter': ('crafter/reward', dict(length=50)),
  'memory_maze': ('memory_maze/9x9', dict(time_limit=50)),
}

# To the learner these are vectors and choices, as popgym's are, or images as
# those of `debug/`: compiling it for each would be all that their runs cost.
_ONLY_PLAYED = ('bsuite', 'minatar', 'minigrid')


@pytest.mark.parametrize('package', _FAMILIES)
def test_a_run_ends_with_its_last_step(tmp_path, package):
  if importlib.util.find_spec(package) is None:
    pytest.skip(f'{package} is not installed')
  environment, options = _FAMILIES[package]
  ratio = 0.01 if package in _ONLY_PLAYED else 0.5
  run = runs.Run(
    environment=environment,
    environment_options=options,
    config=smallest.make_config(depth=1, replay__ratio=ratio),
    num_steps=250,
    workdir=str(tmp_path),
  )
  summary = training.Trainer(run).train()
  assert summary.steps == 250 and summary.episodes >= 2
  assert (
    summary.updates == 0 if package in _ONLY_PLAYED else summary.updates > 10
  )
  assert json.loads((tmp_path / 'summary.json').read_text())['steps'] == 250
