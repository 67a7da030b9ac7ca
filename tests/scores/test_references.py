"""What scores are set against."""

import pytest

from acme_hieros.scores import atari, references


@pytest.mark.parametrize(
  'environment,score,normalised',
  [
    # 1598 and 2665.5.
    ('atari/Krull', 2665.5, 1.0),
    ('atari/Krull', 1598.0, 0.0),
    ('atari/Tetris', 1.0, None),
    ('dmc/walker_walk', 950.0, 0.95),
    ('dmc/lqr_lqr_2_1', 950.0, None),
    ('popgym/AutoencodeEasy', -1.0, 0.0),
    ('popgym/AutoencodeEasy', 0.5, 0.75),
    ('memory_maze/9x9', 26.4, 1.0),
    # The oracle is better than a human by 87.7 to 67.7.
    ('memory_maze/15x15', 87.7, 87.7 / 67.7),
    ('minatar/Breakout', 5.0, None),
    ('debug/catch', 1.0, None),
    ('my_package:make', 1.0, None),
    ('', 1.0, None),
  ],
)
def test_a_score_is_set_against_what_was_published(
  environment, score, normalised
):
  found = references.normalised(environment, score)
  assert found == (normalised and pytest.approx(normalised))


def test_options_say_what_can_be_earned():
  # So many steps, each of which pays 1 at most.
  for limit, best in ((50, 50.0), (1000, 1000.0), (5000, 1000.0)):
    options = {'time_limit': limit, 'pixels': True}
    assert references.normalised('dmc/walker_walk', best, options) == 1.0
  # Atari's time limit is a part of the protocol that humans had as well.
  for options in ({}, {'time_limit': 50}, {'time_limit': 'damaged'}):
    assert references.normalised('atari/Krull', 1598.0, options) == 0.0
  assert references.unscaled(5.0, {'reward_scale': -0.5}) == -10.0
  for options in ({}, {'reward_scale': 0}, {'reward_scale': 'damaged'}):
    assert references.unscaled(5.0, options) == 5.0


def test_of_atari_games_it_is_the_human_normalised_score():
  for game in atari.REFERENCES:
    name = f'atari/{game}'
    for score in (0.0, 1234.5):
      assert references.normalised(name, score) == atari.human_normalised(
        name, score
      )
  assert references.scale('atari/Krull') == '0: random play, 1: human'


def test_lower_scores_come_first():
  for name in ('atari/Skiing', 'memory_maze/11x11', 'popgym/X', 'dmc/x_y'):
    scores = list(references.references(name).values())
    assert scores == sorted(scores) and len(scores) >= 2
