"""Draws learning curves from the tables of `benchmarks.atari`.

  python -m benchmarks.curves --name=krull-hour --out=learning.png

One panel a game: the returns of each run's training episodes, their running
mean over so many, and random play and a human where they are known.
"""

from collections.abc import Sequence
import csv
import os
import sys

from absl import app, flags
import matplotlib
import numpy as np

from acme_hieros import command_line
from acme_hieros.scores import atari as atari_scores
import benchmarks

matplotlib.use('Agg')
from matplotlib import pyplot  # noqa: E402  After the choice of what draws.

_NAME = flags.DEFINE_string('name', 'krull-hour', 'Of the tables.')
_RESULTS = flags.DEFINE_string(
  'results',
  benchmarks.RESULTS,
  'Where they are.',
)
_OUT = flags.DEFINE_string('out', 'learning.png', 'The picture to write.')
_WINDOW = flags.DEFINE_integer(
  'window', 10, 'Episodes of the running mean.', lower_bound=1
)


def main(argv: Sequence[str]):
  command_line.refuse_arguments(argv)
  path = os.path.join(_RESULTS.value, f'{_NAME.value}-episodes.csv')
  try:
    with open(path, newline='') as file:
      rows = list(csv.DictReader(file))
    runs = {}
    for row in rows:
      run = runs.setdefault(row['game'], {}).setdefault(int(row['seed']), [])
      run.append((int(row['steps']), float(row['episode_return'])))
  except (OSError, KeyError, ValueError) as error:
    sys.exit(f'curves: {path} cannot be drawn: {error}.')
  if not runs:
    sys.exit(f'curves: {path} has no episodes.')
  figure, panels = pyplot.subplots(
    1, len(runs), figsize=(5 * len(runs), 3.4), squeeze=False, dpi=120
  )
  for panel, (game, seeds) in zip(panels[0], runs.items()):
    draw(panel, game, seeds)
  figure.tight_layout()
  figure.savefig(_OUT.value)
  print(_OUT.value)


def draw(panel, game: str, seeds: dict[int, list[tuple[int, float]]]):
  """One game's runs, by seed: pairs of steps and return."""
  for seed, run in sorted(seeds.items()):
    steps, returns = np.array(run).T
    (points,) = panel.plot(steps, returns, '.', alpha=0.3)
    count = min(_WINDOW.value, len(returns))
    mean = np.convolve(returns, np.ones(count) / count, 'valid')
    panel.plot(
      steps[count - 1 :], mean, color=points.get_color(), label=f'seed {seed}'
    )
  reference = atari_scores.REFERENCES.get(game.rpartition('/')[2])
  if reference:
    panel.axhline(reference.random, color='0.6', ls=':', label='random play')
    panel.axhline(reference.human, color='0.3', ls='--', label='a human')
  panel.set(title=game, xlabel='environment steps', ylabel='return')
  panel.legend(fontsize='small')


if __name__ == '__main__':
  app.run(main)
