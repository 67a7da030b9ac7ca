"""Tasks that ask for a hierarchy, and agents with one and without."""

from collections.abc import Mapping
from typing import NamedTuple


class Task(NamedTuple):
  """An environment, and the returns of random play and of the best there is.

  See `acme_hieros.environments.sparse`.
  """

  environment: str
  options: Mapping[str, int | str]
  random: float
  best: float

  def share(self, score: float) -> float:
    """Of the way from random play to the best."""
    return (score - self.random) / (self.best - self.random)


TASKS = {
  **{
    f'pads{order}': Task('sparse/pads', {'order': order}, random, best)
    for order, random, best in (
      (2, 0.209, 126.2),
      (3, 0.0288, 93.7),
      (4, 4.4e-4, 60.3),
      (5, 2.2e-5, 50.0),
      (6, 1.1e-6, 40.2),
    )
  },
  'key': Task('sparse/key', {}, 0.281, 10.0),
  'corridor3': Task('sparse/corridor', {'rows': 3}, 0.0888, 10.0),
  'corridor4': Task('sparse/corridor', {'rows': 4}, 0.00234, 10.0),
  # So far that random play never comes there, and a discounted reward hardly.
  'corridor8': Task(
    'sparse/corridor', {'rows': 8, 'side': 16, 'length': 400}, 0.0, 10.0
  ),
  'signal': Task('sparse/signal', {}, 1.36, 10.0),
  'signal_end': Task(
    'sparse/signal', {'decides': 'end', 'length': 48}, 0.625, 10.0
  ),
}

_FLAT = {'subgoals.manager': 'level', 'actor_critic.extrinsic_weight': '1'}

_GUIDED = {
  'depth': '1',
  'subgoals.manager': 'policy',
  'subgoals.learns_from': 'replay',
  'subgoals.kl_target': '10',
  'subgoals.categoricals': '8',
  'subgoals.classes': '8',
  'subgoals.duration': '8',
  'actor_critic.horizon': '16',
  'actor_critic.extrinsic_weight': '1',
  'actor_critic.subgoal_weight': '1',
}

# Director's model and worker, which sees and remembers enough of `signal`...
_ALONE = {
  'depth': '1',
  'subgoals.manager': 'level',
  'world_model.categoricals': '32',
  'world_model.cnn_depths': '48',
  'world_model.patch_size': '4',
  'world_model.cell_latents': 'true',
  'world_model.mlp_units': '256',
  'world_model.hidden_units': '256',
  'world_model.head_units': '128',
  'world_model.change_share': '10',
  'actor_critic.horizon': '8',
  'actor_critic.discount': '0.97',
  'actor_critic.entropy_target': '0',
  'actor_critic.entropy_scale': '0.03,0.1',
  'actor_critic.scale_floor': '0.1',
  'actor_critic.extrinsic_weight': '1',
  'actor_critic.novelty_weight': '0',
  'replay.min_size': '10000',
  'replay.ratio': '16',
}
# ... under a level of Hieros, which has it practise on what states are.
_TOLD = _ALONE | {
  'depth': '2',
  'actor_critic.extrinsic_weight': '0.1,1',
  'actor_critic.novelty_weight': '0,0.1',
  'subgoals.categoricals': '1',
  'subgoals.classes': '64',
  'subgoals.kl_target': '0',
  'subgoals.kl_scale': '0',
  'subgoals.absorbing': 'true',
  'subgoals.practice': '0.5',
  'subgoals.information_scale': '0.5',
  'replay.upper_ratio': '8',
}

# Of each a system, and the fields that it changes.
VARIANTS: Mapping[str, tuple[str, Mapping[str, str]]] = {
  'depth1': ('hieros', {'depth': '1'}),
  'depth2': ('hieros', {'depth': '2'}),
  'depth3': ('hieros', {'depth': '3'}),
  'director': ('director', {}),
  # Its own flat agents, without and with novelty: all else is the same.
  'flat': ('director', _FLAT | {'actor_critic.novelty_weight': '0'}),
  'explorer': ('director', _FLAT | {'actor_critic.novelty_weight': '0.1'}),
  # A weight of the entropy that stays, and a floor under what advantages are
  # divided by: as long as no reward is known, goals are drawn at random.
  'steady': (
    'director',
    {
      'actor_critic.entropy_target': '0',
      'actor_critic.entropy_scale': '0.03',
      'actor_critic.scale_floor': '0.1',
    },
  ),
  # Hieros' lowest level, guided by a manager; it learns from rewards itself.
  'guided': ('hieros', _GUIDED | {'actor_critic.novelty_weight': '0'}),
  # What an ensemble does not know yet rewards: the flat agent itself, the level
  # above it, or the manager.
  'curious': ('curious', {}),
  'curious2': (
    'curious',
    {'depth': '2', 'actor_critic.novelty_weight': '0,0.3'},
  ),
  'curious_guided': (
    'curious',
    _GUIDED | {'actor_critic.novelty_weight': '0,0.3'},
  ),
  # What `signal` needs two levels for, and its lowest level alone.
  'told': ('director', _TOLD),
  'alone': ('director', _ALONE),
  # The director without one of what makes it.
  'extrinsic': ('director', {'actor_critic.extrinsic_weight': '1'}),
  'no_novelty': ('director', {'actor_critic.novelty_weight': '0'}),
  'imagined': ('director', {'subgoals.learns_from': 'imagination'}),
  'free_kl': ('director', {'subgoals.kl_target': '0'}),
  'free_entropy': ('director', {'actor_critic.entropy_target': '0'}),
  'range': ('director', {'actor_critic.advantage_scale': 'range'}),
  'k4': ('director', {'subgoals.duration': '4'}),
}
