"""A study from its file to its report, from programs and from Python."""

from collections.abc import Mapping, Sequence
import contextlib
import dataclasses
import os
import signal
import sys
from typing import Any

from acme_hieros.command_line import counted
from acme_hieros.reports import writing
from acme_hieros.storage import files
from acme_hieros.studies import (
  processes,
  ray_cluster,
  slurm,
  sweeping,
  table,
)
from acme_hieros.studies import study as study_lib
from acme_hieros.studies import tasks as tasks_lib


@dataclasses.dataclass(frozen=True)
class Outcome:
  """What came of a study.

  runs: each with its name, state, mean return, work directory, and the reason
    where it has failed.
  report: path of its page; None where there is none.
  signal: that ended it early, as 'SIGINT'; None if none did.
  """

  runs: Sequence[tasks_lib.Task]
  report: str | None
  signal: str | None

  @property
  def failed(self) -> Sequence[tasks_lib.Task]:
    return [run for run in self.runs if run.state == tasks_lib.FAILED]

  @property
  def exit_code(self) -> int:
    if self.signal:
      return 128 + signal.Signals[self.signal]
    return int(bool(self.failed))


def sweep(
  study: str | os.PathLike | Mapping[str, Any],
  *,
  variant: str = '',
  workdir: str = '',
  only: Sequence[str] = (),
  at_once: int | None = None,
  retries: int = 2,
  ray: str = '',
  replications: int = 10_000,
) -> Outcome:
  """Has the runs of a study run, evaluates and reports them.

  Each run is a process of its own, as of `hieros train`. What is finished is
  skipped and what was interrupted goes on; Ctrl-C saves all and ends earlier.

  Example:
    acme_hieros.sweep(
      {
        'run': {
          'environment': 'debug/catch',
          'preset': 'tiny',
          'num_steps': 3000,
        },
        'grid': {'depth': [1, 2], 'seed': [0, 1, 2]},
      },
      workdir='runs/depth',
    )

  Args:
    study: path of its file; or what would be in it (docs/studies.md).
    variant: of the study, as 'laptop'.
    workdir: where everything is written; by default runs/<study>.
    only: names of runs; by default all. They are not reported.
    at_once: runs; by default as many as cores and accelerators allow.
    retries: how often a run that has failed is tried again.
    ray: address of a Ray cluster whose machines share `workdir`, or 'auto';
      by default all is run on this machine.
    replications: of the bootstrap of the report.

  Returns:
    What came of it.

  Raises:
    ValueError: one sentence about what cannot be run.
  """
  which = study_lib.read(study, variant)
  study_lib.check_environments(which)
  path = directory(which, workdir)
  # Of single runs others may be at work on others.
  with contextlib.nullcontext() if only else processes.locked(path):
    tasks = chosen(tasks_lib.plan(which, path), only)
    if ray:
      machines = ray_cluster.Cluster(ray, which.needs, path, at_once)
    else:
      machines = processes.Machine(which.needs.cpus, which.needs.gpus, at_once)
    print(
      f'{which.name}: {counted(len(tasks), "run")}, {machines.at_once} at '
      f'once, everything in {path}'
    )
    status = None if only else os.path.join(path, 'status.json')
    display = table.Display(which, status, tasks, machines.at_once)
    stop = sweeping.carry_out(tasks, machines, retries, display)
    page = None
    if not (only or stop):
      page = report(which, path, tasks, replications)
  return Outcome(tasks, page, stop and stop.name)


def report_now(
  study: str | os.PathLike | Mapping[str, Any],
  variant: str = '',
  workdir: str = '',
  replications: int = 10_000,
) -> str | None:
  """Reports what is finished, and runs nothing; see `sweep` and `report`."""
  which = study_lib.read(study, variant)
  path = directory(which, workdir)
  return report(which, path, tasks_lib.plan(which, path), replications)


def write_slurm(
  study: str | os.PathLike,
  *,
  variant: str = '',
  workdir: str = '',
  at_once: int | None = None,
  retries: int = 2,
) -> str:
  """Writes a script by which Slurm has the runs run; arguments as of `sweep`.

  Returns:
    Its path.

  Raises:
    ValueError: as `sweep`; or there is nothing left to do.
  """
  which = study_lib.read(study, variant)
  study_lib.check_environments(which)
  path = directory(which, workdir)
  tasks = tasks_lib.plan(which, path)
  names = [t.run.name for t in tasks if t.state != tasks_lib.FINISHED]
  if not names:
    raise ValueError(
      f'All runs in {path} are finished; --report says what they answer.'
    )
  command = [
    sys.executable,
    '-m',
    'acme_hieros',
    'sweep',
    os.path.abspath(study),
    f'--variant={variant}',
    f'--workdir={path}',
    f'--retries={retries}',
  ]
  script = os.path.join(path, 'sweep.sbatch')
  # Slurm makes no directories for what jobs say.
  os.makedirs(os.path.join(path, 'logs'), exist_ok=True)
  with files.replacing(script, 'w') as file:
    file.write(slurm.script(which, names, command, path, at_once))
  os.chmod(script, 0o755)
  return script


def report(
  which: study_lib.Study,
  path: str,
  tasks: Sequence[tasks_lib.Task],
  replications: int,
) -> str | None:
  """Writes the page of the runs that are finished, and says its answer.

  Args:
    which: the study.
    path: of its directory.
    tasks: its runs.
    replications: of the bootstrap.

  Returns:
    Its path; None where there is none, which is said.
  """
  page = os.path.join(path, 'report.html')
  groups = which.groups()
  finished = [t for t in tasks if t.state == tasks_lib.FINISHED]
  asked = writing.Asked(
    **{text: getattr(which, text) for text in study_lib.TEXTS},
    groups={
      task.workdir: groups[task.run.name]
      for task in finished
      if task.run.name in groups
    },
    against=which.answer.compare
    and study_lib.label(which.answer.compare, which.answer.against),
  )
  try:
    writing.write(
      [task.workdir for task in finished], page, replications, asked
    )
  except ValueError as error:
    print(f'There is no report: {error}', file=sys.stderr)
    return None
  return page


def directory(which: study_lib.Study, workdir: str) -> str:
  """Where a study is written."""
  return os.path.abspath(
    os.path.expanduser(workdir or os.path.join('runs', which.name))
  )


def chosen(
  tasks: Sequence[tasks_lib.Task], only: Sequence[str]
) -> Sequence[tasks_lib.Task]:
  """Those that are named; all where none is.

  Raises:
    ValueError: there is none of that name.
  """
  names = [task.run.name for task in tasks]
  for name in only:
    if name not in names:
      raise ValueError(
        f'There is no run {name}; the first of them is {names[0]}.'
      )
  return [task for task in tasks if not only or task.run.name in only]


def describe(
  study: str | os.PathLike | Mapping[str, Any],
  variant: str = '',
  workdir: str = '',
  at_once: int | None = None,
) -> str:
  """What `sweep` would do, and what it would cost.

  Raises:
    ValueError: as `sweep`.
  """
  which = study_lib.read(study, variant)
  study_lib.check_environments(which)
  tasks = tasks_lib.plan(which, directory(which, workdir))
  machines = processes.Machine(which.needs.cpus, which.needs.gpus, at_once)
  left = tasks_lib.minutes(tasks, which.needs)
  lines = [
    f'{text.capitalize()}: {getattr(which, text)}'
    for text in study_lib.TEXTS
    if getattr(which, text)
  ]
  lines += table.table(tasks, which.needs, machines.at_once)
  if None in left:
    lines.append(
      'What it costs is not known: give the study needs.minutes of a run, or '
      'let one run begin.'
    )
  else:
    hours = sum(left) / 60
    cores = f'{hours * max(which.needs.cpus, 1):.1f} hours of CPU cores'
    gpus = f' and {hours * which.needs.gpus:.1f} of GPUs' * (
      which.needs.gpus > 0
    )
    lines.append(f'All together: about {cores}{gpus}.')
  return '\n'.join(lines)
