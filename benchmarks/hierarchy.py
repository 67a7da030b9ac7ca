"""Does the hierarchy help? Tasks with rare rewards, at equal CPU time.

  python -m benchmarks.hierarchy
  python -m benchmarks.hierarchy --tasks=pads2,pads3 \\
    --variants=depth1,director --seeds=5 --cpu_minutes=15,30 --name=pads

Trains every variant on every task with the seeds 0, 1, ... by the launcher,
each run on one core of the CPU and as many at once as there are --cores, and
evaluates it at each mark. The same command goes on with what was interrupted.
In benchmarks/results are

  <name>.csv                      a row for each task, variant, seed and mark
  <name>-<variant>-episodes.csv   the training episodes of its runs

and in --workdir, by default runs/hierarchy/<name>, the runs. Prints a line a
row and, last, a table by task: means over seeds, and what share of the way from
random play to the best there is they have come, with 95 % intervals.
"""

from collections.abc import Mapping, Sequence
import math
import os
import sys

from absl import app, flags
import numpy as np
from scipy import stats

from acme_hieros import command_line
from acme_hieros.scores import statistics
from acme_hieros.studies import processes
import benchmarks
from benchmarks import campaign, tables
from benchmarks.variants import TASKS, VARIANTS

_TASKS = flags.DEFINE_list('tasks', [], 'Of TASKS; default: all.')
_VARIANTS = flags.DEFINE_list(
  'variants', [], 'Of VARIANTS; default: depths, director, its flat agents.'
)
_SEEDS = flags.DEFINE_integer('seeds', 5, 'Runs of each.', lower_bound=1)
_PRESET = flags.DEFINE_string('preset', 'tiny', 'Size of the agents.')
_OVERRIDE = flags.DEFINE_multi_string(
  'override', [], 'A field of the configuration of all, as name=value.'
)
_CPU_MINUTES = flags.DEFINE_list(
  'cpu_minutes', ['15', '30'], 'The marks, ascending, in CPU minutes.'
)
_EPISODES = flags.DEFINE_integer(
  'episodes', 40, 'Played at each mark.', lower_bound=1
)
_NAME = flags.DEFINE_string('name', 'hierarchy', 'Of the table.')
_CORES = flags.DEFINE_list(
  'cores', [], 'Of the CPU; default: all that this process may use.'
)
_WORKDIR = flags.DEFINE_string(
  'workdir', None, 'Where the runs go; default: runs/hierarchy/<name>.'
)
_RESULTS = flags.DEFINE_string(
  'results', benchmarks.RESULTS, 'Where the tables go.'
)


_USUAL = ('depth1', 'depth2', 'depth3', 'flat', 'explorer', 'director')


def main(argv):
  command_line.refuse_arguments(argv)
  try:
    tasks = _chosen(_TASKS, TASKS, list(TASKS))
    variants = _chosen(_VARIANTS, VARIANTS, _USUAL)
    cores = campaign.read_cores(_CORES.value)
    plans = make_plans(variants)
    with processes.locked(_workdir()):
      # The first seed of all comes first: it tells most.
      code = campaign.work(
        [
          campaign.Run(
            task,
            seed,
            plan,
            campaign.environment_flags(
              TASKS[task].environment, TASKS[task].options
            ),
          )
          for seed in range(_SEEDS.value)
          for task in tasks
          for plan in plans.values()
        ],
        cores,
        'hierarchy',
      )
  except (ValueError, OSError) as error:
    sys.exit(f'hierarchy: {error}')
  if code == campaign.INTERRUPTED:
    print('Interrupted; the same command goes on.')
  else:
    print(describe(plans, tasks))
  print(f'Rows: {next(iter(plans.values())).table.path}')
  sys.exit(code)


def _chosen(
  flag, known: Mapping[str, object], usual: Sequence[str]
) -> list[str]:
  """What a flag names, or else the usual.

  Raises:
    ValueError: it names something else.
  """
  for name in flag.value:
    if name not in known:
      raise ValueError(f'--{flag.name}={name}: there are {", ".join(known)}.')
  return list(dict.fromkeys(flag.value or usual))


def _workdir() -> str:
  return _WORKDIR.value or os.path.join('runs', 'hierarchy', _NAME.value)


def make_plans(variants: Sequence[str]) -> dict[str, campaign.Plan]:
  """What is to be done, by variant.

  Raises:
    ValueError: a sentence about a flag that will not do.
  """
  path = tables.table_path(_RESULTS.value, _NAME.value)
  table = tables.Table(f'{path}.csv', campaign.COLUMNS)
  marks = campaign.read_marks(_CPU_MINUTES.value)
  values = command_line.read_pairs(_OVERRIDE)
  plans = {}
  for variant in variants:
    system, changed = VARIANTS[variant]
    plans[variant] = campaign.make_plan(
      marks=marks,
      episodes=_EPISODES.value,
      preset=_PRESET.value,
      system=system,
      values={**values, **changed},
      workdir=os.path.join(_workdir(), variant),
      table=table,
      played=f'{path}-{variant}-episodes.csv',
      name=variant,
    )
  return plans


def describe(plans: Mapping[str, campaign.Plan], tasks: Sequence[str]) -> str:
  """For each mark and task a line a variant: all seeds in the table."""
  lines = []
  marks = next(iter(plans.values())).marks
  for mark in marks:
    lines += [
      f'\nafter {mark}:',
      f'{"task":10}  {"variant":10}  seeds  {"mean ± standard error":>24}  '
      'of the way to the best',
    ]
    for task in tasks:
      for variant, plan in plans.items():
        rows = plan.table.of(
          game=task, mark=mark, configuration=plan.configuration
        )
        if not rows:
          continue
        means = [float(row['mean']) for row in rows]
        share, margin = interval([TASKS[task].share(mean) for mean in means])
        score = campaign.readable(
          float(np.mean(means)), statistics.standard_error(means)
        )
        lines.append(
          f'{task:10}  {variant:10}  {len(means):5}  {score:>24}  {share:6.3f}'
          + ('' if math.isnan(margin) else f' ± {margin:.3f}')
        )
  return '\n'.join(lines)


def interval(values: Sequence[float]) -> tuple[float, float]:
  """Mean, and half of Student's 95 % interval; NaN of one value."""
  if len(values) < 2:
    return float(np.mean(values)), math.nan
  error = stats.sem(values)
  margin = error * stats.t.ppf(0.975, len(values) - 1)
  return float(np.mean(values)), float(margin)


if __name__ == '__main__':
  app.run(main)
