#!/bin/bash
# A run that lasts longer than a job may: `sbatch examples/slurm.sh FLAGS`, with
# those of launchers/run_hieros.py. Five minutes before its time is over the job
# saves and puts itself into the queue again, where it goes on from there.
#SBATCH --job-name=hieros
#SBATCH --cpus-per-task=2
#SBATCH --mem=8G
#SBATCH --time=04:00:00
#SBATCH --signal=B:USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append

name=${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+-$SLURM_ARRAY_TASK_ID}

# FLAGS come last, so that a --workdir of theirs counts.
"${PYTHON:-.venv/bin/python}" launchers/run_hieros.py --auto_resume \
  --workdir="runs/slurm-$name" --seed="${SLURM_ARRAY_TASK_ID:-0}" "$@" &
run=$!

# Slurm's signals come to this shell, which hears them while it waits. SIGTERM is
# that of `scancel` and of a job that has to make way.
trap 'kill -USR1 $run' USR1
trap 'kill -TERM $run' TERM
while kill -0 "$run" 2>/dev/null; do
  wait "$run"
done
wait "$run"  # Again, since the one above may have ended for a signal.
code=$?

# 128 and the number of SIGUSR1: saved, and there is more to do.
if [ "$code" -eq $((128 + $(kill -l USR1))) ]; then
  scontrol requeue "$SLURM_JOB_ID" && exit 0
fi
exit "$code"
