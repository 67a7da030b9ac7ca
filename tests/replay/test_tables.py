"""Tables as a configuration asks for them."""

import numpy as np

from acme_hieros import config as config_lib
from acme_hieros.replay import tables


def test_the_replay_ratio_can_be_held_whatever_it_is():
  """Reverb refuses some by the last bit of a difference, as 8 of `tiny`."""
  for name in config_lib.PRESETS:
    for ratio in [8.0, *np.geomspace(0.1, 1e4, 200)]:
      config = config_lib.override(
        config_lib.preset(name), {'replay.ratio': ratio}
      )
      assert tables.make_step_table(config).info.name == tables.STEP_TABLE
