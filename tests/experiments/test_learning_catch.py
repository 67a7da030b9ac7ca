"""The flat agent learns to catch, in the time that a test may take."""

import pytest

from acme_hieros import config as config_lib
from acme_hieros.experiments import runs, training


@pytest.mark.timeout(900)
def test_the_flat_agent_learns_to_catch(tmp_path):
  # A ball on a board of 3 x 3 is caught one time in three by moving at random;
  # the mean return is then -1/3. `benchmarks/learning.py` has the full games.
  config = config_lib.override(
    config_lib.preset('tiny'), {'depth': 1, 'replay.ratio': 160}
  )
  run = runs.Run(
    environment='debug/catch',
    environment_options={'observation': 'vector', 'rows': 3, 'columns': 3},
    config=config,
    num_steps=1000,
    workdir=str(tmp_path / 'run'),
  )
  summary = training.Trainer(run).train()
  assert summary.steps == run.num_steps and not summary.interrupted
  assert summary.mean_return > 0.5
