"""The script by which Slurm has the runs of a study run."""

from collections.abc import Sequence
import os
import shlex

from acme_hieros.machines import clusters
from acme_hieros.studies import study as study_lib

# Hours of a job; a run that needs more goes on in the next one.
_HOURS = 4

# Slurm's signals come to the shell, which hears them while it waits. What
# SIGTERM ends is put into the queue again by Slurm itself, where it has to make
# way, and is not where somebody cancels it.
_SCRIPT = """#!/bin/bash
# All runs of the study {name} that were not finished when this was written, a
# task of the array each. Five minutes before its time is over a task saves and
# puts itself into the queue again, where it goes on. What is said to sbatch
# counts before the lines below: sbatch --time=... {script}
#SBATCH --job-name={name}
#SBATCH --array=0-{last}{most}
#SBATCH --cpus-per-task={cpus}
#SBATCH --mem={memory}M{gpus}
#SBATCH --time={hours:02d}:00:00
#SBATCH --signal=B:USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output="{output}"

names=(
{names}
)
cd {here} || exit 1
PYTHONPATH={path}${{PYTHONPATH:+:$PYTHONPATH}} {command} \\
  --only="${{names[$SLURM_ARRAY_TASK_ID]}}" &
sweep=$!

trap 'kill -USR1 $sweep' USR1
trap 'kill -TERM $sweep' TERM
while kill -0 "$sweep" 2>/dev/null; do
  wait "$sweep"
done
wait "$sweep"  # Again, since the one above may have ended for a signal.
code=$?

# 128 and the number of SIGUSR1: saved, and there is more to do.
if [ "$code" -eq $((128 + $(kill -l USR1))) ]; then
  scontrol requeue "$SLURM_JOB_ID" && exit 0
fi
exit "$code"
"""


def script(
  study: study_lib.Study,
  names: Sequence[str],
  command: Sequence[str],
  workdir: str,
  at_once: int | None,
) -> str:
  """A job array for `sbatch`.

  Args:
    study: whose runs they are.
    names: of the runs, at least one.
    command: that carries out one, but for its name.
    workdir: of the study, at the same path on all machines.
    at_once: runs; None for as many as Slurm lets.
  """
  needs = study.needs
  return _SCRIPT.format(
    name=study.name,
    script=os.path.join(workdir, 'sweep.sbatch'),
    last=len(names) - 1,
    most=f'%{at_once}' if at_once else '',
    cpus=max(needs.cpus, 1),
    memory=round(1024 * needs.memory_gb),
    gpus=f'\n#SBATCH --gres=gpu:{needs.gpus}' if needs.gpus else '',
    hours=_HOURS,
    # A per cent sign is Slurm's own, and %a the number of the task.
    output=os.path.join(workdir, 'logs', 'slurm-%a.log'),
    names='\n'.join(f'  {shlex.quote(name)}' for name in names),
    here=shlex.quote(os.getcwd()),
    path=shlex.quote(clusters.ROOT),
    command=shlex.join(command),
  )
