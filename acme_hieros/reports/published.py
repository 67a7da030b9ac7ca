"""Results that others have published on Atari 100k, to stand beside ours."""

from collections.abc import Mapping
from typing import NamedTuple

# What the published numbers have in common.
STEPS = 100_000
EPISODES = 100


class Aggregates(NamedTuple):
  """Aggregates of human-normalised scores; None where they are not published.

  source: where the numbers stand; an arXiv number unless it says otherwise.
  remark: what else one must know to compare with them.
  """

  system: str
  year: int
  mean: float | None
  median: float | None
  iqm: float | None
  source: str
  remark: str = ''


_SEARCH = 'searches ahead while it plays'

# 26 games unless the remark says otherwise.
AGGREGATES = (
  Aggregates(
    'SimPLe', 2019, 0.332, 0.134, 0.130, '1903.00374', 'as in 2209.00588'
  ),
  Aggregates('EfficientZero', 2021, 1.943, 1.090, None, '2111.00210', _SEARCH),
  Aggregates('IRIS', 2022, 1.046, 0.289, 0.501, '2209.00588'),
  Aggregates('DreamerV3', 2023, 1.12, 0.49, None, '2301.04104, version 1'),
  Aggregates('TWM', 2023, 0.956, 0.505, None, '2303.07109'),
  Aggregates('STORM', 2023, 1.267, 0.584, None, '2310.09615, table 2'),
  Aggregates(
    'Hieros',
    2023,
    1.20,
    0.56,
    0.53,
    '2310.05167, table 1',
    '25 games (without UpNDown), 3 seeds',
  ),
  Aggregates('REM', 2024, 1.222, 0.280, 0.673, '2402.05643'),
  Aggregates(
    'EfficientZero V2', 2024, 2.428, 1.286, None, '2403.00564', _SEARCH
  ),
  Aggregates('DIAMOND', 2024, 1.459, None, 0.641, '2405.12399'),
  Aggregates('Delta-IRIS', 2024, 1.39, None, 0.65, '2406.19320'),
  Aggregates('Drama', 2024, 1.05, 0.27, None, '2410.08893'),
  Aggregates('EDELINE', 2025, 1.866, 0.817, 0.940, '2502.00466', '3 seeds'),
  Aggregates('Simulus', 2025, 1.645, 0.982, 0.990, '2502.11537'),
  Aggregates('TWISTER', 2025, 1.62, 0.77, None, '2503.04416'),
  Aggregates('DreamerV3', 2025, 1.25, 0.49, None, '2301.04104, version 2'),
  Aggregates('DyMoDreamer', 2025, 1.566, 0.713, None, '2509.24804'),
  Aggregates('EASimulus', 2026, 1.818, 0.773, 1.004, 'its paper'),
)


class Scores(NamedTuple):
  """Mean returns of a published system by game, and where they stand."""

  system: str
  source: str
  by_game: Mapping[str, float]


BY_GAME = (
  Scores(
    'Hieros',
    '2310.05167, table 1: the games that are known here',
    {'Frostbite': 2901.0, 'Jamesbond': 939.0, 'PrivateEye': 1507.0},
  ),
  Scores(
    'DreamerV3',
    'last values of the published curves, mean of 5 seeds',
    {
      'Alien': 1278.0,
      'Amidar': 120.0,
      'Assault': 741.0,
      'Asterix': 1020.0,
      'BankHeist': 422.0,
      'BattleZone': 20800.0,
      'Boxing': 87.0,
      'Breakout': 11.0,
      'ChopperCommand': 2440.0,
      'CrazyClimber': 80060.0,
      'DemonAttack': 454.0,
      'Freeway': 0.0,
      'Frostbite': 3914.0,
      'Gopher': 2252.0,
      'Hero': 13324.0,
      'Jamesbond': 490.0,
      'Kangaroo': 2840.0,
      'Krull': 8604.0,
      'KungFuMaster': 25560.0,
      'MsPacman': 1400.0,
      'Pong': -5.0,
      'PrivateEye': 3238.0,
      'Qbert': 3700.0,
      'RoadRunner': 18440.0,
      'Seaquest': 964.0,
      'UpNDown': 49456.0,
    },
  ),
)
