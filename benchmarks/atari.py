"""How well Hieros plays after so many CPU minutes, or so many steps.

  python -m benchmarks.atari --games=Krull,Boxing --seeds=2 --preset=small \\
    --cpu_minutes=30,60 --episodes=20 --name=small-hour
  python -m benchmarks.atari --games=debug/catch --preset=tiny --depth=1 \\
    --env_option=balls=3 --steps=5000,10000 --name=catch

Trains every game with the seeds 0, 1, ... by the launcher, each run in a
process on one core of the CPU, and as many at once as there are --cores. A bare
name is an Atari game, any other an environment's full name. At each mark, so
many --cpu_minutes of learning (as the launcher counts them) or --steps, the
checkpoint plays --episodes with sampled actions, always from the same seed, and
then training goes on to the next mark.

The same command goes on with whatever was interrupted, by Ctrl-C, which saves
first, or by anything else; what is in the table is not computed again. Games,
seeds and later marks can be added to a table, but no rows of another
configuration. In benchmarks/results are

  <name>.csv           a row for each game, seed and mark
  <name>-episodes.csv  the training episodes of these runs

and in --workdir, by default runs/atari/<name>, the runs and what they said
(<game>-<seed>.log). Prints a line a row and, last, a table by game. A run that
fails is named, and the others go on; the exit code is 1 then.
"""

from collections.abc import Sequence
import os
import sys

from absl import app, flags
import numpy as np

from acme_hieros import command_line
from acme_hieros.environments import make_environment
from acme_hieros.scores import atari as atari_scores
from acme_hieros.scores import statistics
from acme_hieros.studies import processes
import benchmarks
from benchmarks import campaign, tables

_GAMES = flags.DEFINE_list(
  'games', [], 'Games, as Krull, or full names, as debug/catch.'
)
_ENV_OPTION = flags.DEFINE_multi_string(
  'env_option', [], 'An option of all environments, as name=value.'
)
_SEEDS = flags.DEFINE_integer('seeds', 1, 'Runs of each game.', lower_bound=1)
_PRESET = flags.DEFINE_string('preset', 'small', 'Configuration.')
_SYSTEM = flags.DEFINE_string('system', 'hieros', 'What is computed.')
_DEPTH = flags.DEFINE_string('depth', None, 'Levels; default: as the preset.')
_OVERRIDE = flags.DEFINE_multi_string(
  'override', [], 'A field of the configuration, as name=value.'
)
_CPU_MINUTES = flags.DEFINE_list(
  'cpu_minutes', [], 'The marks, ascending, in CPU minutes of learning.'
)
_STEPS = flags.DEFINE_list(
  'steps', [], 'The marks, ascending, in environment steps.'
)
_EPISODES = flags.DEFINE_integer(
  'episodes', 20, 'Played at each mark.', lower_bound=1
)
_NAME = flags.DEFINE_string('name', None, 'Of the table.')
_CORES = flags.DEFINE_list(
  'cores', [], 'Of the CPU; default: all that this process may use.'
)
_WORKDIR = flags.DEFINE_string(
  'workdir', None, 'Where the runs go; default: runs/atari/<name>.'
)
_RESULTS = flags.DEFINE_string(
  'results', benchmarks.RESULTS, 'Where the tables go.'
)


def main(argv):
  command_line.refuse_arguments(argv)
  try:
    games, plan = read_games(), read_plan()
    options = command_line.read_pairs(_ENV_OPTION)
    cores = campaign.read_cores(_CORES.value)
    with processes.locked(plan.workdir):
      # The first seed of all games comes first: it tells most.
      code = campaign.work(
        [
          campaign.Run(
            game, i, plan, campaign.environment_flags(full_name(game), options)
          )
          for i in range(_SEEDS.value)
          for game in games
        ],
        cores,
        'atari',
      )
  except (ValueError, OSError) as error:
    sys.exit(f'atari: {error}')
  if code == campaign.INTERRUPTED:
    print('Interrupted; the same command goes on.')
  else:
    print(describe(plan, games))
  print(f'Rows: {plan.table.path}')
  sys.exit(code)


def read_games() -> list[str]:
  """As the flag names them, but for 'atari/'.

  Raises:
    ValueError: a sentence about a flag that will not do; as of those below.
  """
  names = [name.strip().removeprefix('atari/') for name in _GAMES.value]
  games = list(dict.fromkeys(filter(None, names)))
  if not games:
    raise ValueError('--games has to name games, as in --games=Krull,Boxing.')
  options = command_line.read_options(_ENV_OPTION)
  for game in games:
    make_environment(full_name(game), **options).close()
  return games


def full_name(game: str) -> str:
  """Of the environment."""
  return game if '/' in game else f'atari/{game}'


def read_plan() -> campaign.Plan:
  path = tables.table_path(_RESULTS.value, _NAME.value)
  values = command_line.read_pairs(_OVERRIDE)
  if _DEPTH.value is not None:
    values['depth'] = _DEPTH.value
  plan = campaign.make_plan(
    marks=campaign.read_marks(_CPU_MINUTES.value, _STEPS.value),
    episodes=_EPISODES.value,
    preset=_PRESET.value,
    system=_SYSTEM.value,
    values=values,
    workdir=_WORKDIR.value or os.path.join('runs', 'atari', _NAME.value),
    table=tables.Table(f'{path}.csv', campaign.COLUMNS),
    played=f'{path}-episodes.csv',
    options=command_line.read_pairs(_ENV_OPTION),
  )
  for row in plan.table.rows:
    if row['configuration'] != plan.configuration:
      raise ValueError(
        f'{path}.csv holds rows of {row["configuration"]!r} and not of '
        f'{plan.configuration!r}; choose another --name.'
      )
    if not row['mark'].endswith(plan.marks[0].unit):
      raise ValueError(
        f'{path}.csv holds rows after {row["mark"]}, not after so many '
        f'{plan.marks[0].unit}; choose another --name.'
      )
  return plan


def describe(plan: campaign.Plan, games: Sequence[str]) -> str:
  """For each mark a line a game: means over the seeds, of all in the table."""
  width = max(len('mean over games'), *map(len, games))
  lines = []
  for mark in plan.marks:
    lines += [
      f'\n{plan.configuration}, after {mark}:',
      f'{"game":{width}}  seeds  {"mean ± standard error":>24}  '
      'human-normalised',
    ]
    scores = []
    for game in games:
      means = [
        float(row['mean'])
        for row in plan.table.rows
        if (row['game'], row['mark']) == (game, str(mark))
      ]
      if not means:
        continue
      mean = float(np.mean(means))
      score = atari_scores.human_normalised(full_name(game), mean)
      scores += [] if score is None else [score]
      lines.append(
        f'{game:{width}}  {len(means):5}  '
        f'{campaign.readable(mean, statistics.standard_error(means)):>24}  '
        + ('' if score is None else f'{score:16.3f}')
      )
    if scores:
      lines.append(
        f'{"mean over games":{width}}  {"":5}  {"":24}  {np.mean(scores):16.3f}'
      )
  return '\n'.join(line.rstrip() for line in lines)


if __name__ == '__main__':
  app.run(main)
