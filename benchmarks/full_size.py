"""The agent whose cost is told: that of Atari with all actions."""

from acme_hieros import config as config_lib
from acme_hieros.models import hierarchy, spaces


def make_agent(config: config_lib.HierosConfig) -> hierarchy.Hierarchy:
  """An agent for one 64 x 64 image in colour and 18 actions."""
  return hierarchy.Hierarchy(
    config, {spaces.SINGLE: spaces.Image((64, 64, 3))}, spaces.Discrete((), 18)
  )
