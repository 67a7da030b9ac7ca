"""Kills a run at random moments and resumes it, again and again.

  python -m benchmarks.kill
  python -m benchmarks.kill --kills=3 --most_seconds=30

Each time the launcher's process gets SIGKILL, as from a machine that dies. What
it left is read, checked and resumed. Exits with 1 at the first thing wrong.
"""

import csv
import os
import random
import signal
import subprocess
import sys
import tempfile
import time

from absl import app, flags
from acme import specs
import jax
import reverb

from acme_hieros import compat  # noqa: F401  Comes before Acme.
from acme_hieros.agent import builder as builder_lib
from acme_hieros.agent import networks as networks_lib
from acme_hieros.environments import make_environment
from acme_hieros.experiments import checkpoints, runs, workdirs
import benchmarks

_KILLS = flags.DEFINE_integer('kills', 20, 'How many times.')
_MOST_SECONDS = flags.DEFINE_float(
  'most_seconds', 90.0, 'Most seconds between a start and its end.'
)
_CHECKPOINT_SECONDS = flags.DEFINE_float(
  'checkpoint_seconds', 5.0, 'Seconds between two checkpoints.'
)
_SEED = flags.DEFINE_integer('seed', 0, 'Decides when.')
_OVERRIDE = flags.DEFINE_multi_string('override', [], "As the launcher's.")

# Of writing a checkpoint and of the step before it, on a busy machine.
_PATIENCE_SECONDS = 10.0


def main(_):
  rng = random.Random(_SEED.value)
  with tempfile.TemporaryDirectory() as directory:
    workdir = os.path.join(directory, 'run')
    config = workdirs.Workdir(workdir).config
    steps = stretches = 0
    for kill in range(_KILLS.value):
      resume = os.path.exists(config)
      run_for(rng.uniform(0, _MOST_SECONDS.value), workdir, resume)
      if not os.path.exists(config):
        print(f'kill {kill + 1}: before there was a run', flush=True)
        continue
      counts, sizes = check(workdir, stretches)
      stretches += counts['actor_steps'] > steps
      assert counts['actor_steps'] >= steps, f'{counts} after {steps} steps'
      steps = counts['actor_steps']
      print(f'kill {kill + 1}: {counts}, sequences {sizes}', flush=True)
  print(f'{_KILLS.value} kills, {steps} steps: nothing is wrong.')


def run_for(seconds: float, workdir: str, resume: bool):
  """Starts or resumes the run, and kills it."""
  arguments = ['--resume']
  if not resume:
    arguments = [
      '--preset=tiny',
      '--env=debug/catch',
      '--depth=2',
      '--num_steps=100000000',
      *(f'--override={override}' for override in _OVERRIDE.value),
    ]
  with tempfile.TemporaryFile('w+') as log:
    process = subprocess.Popen(
      [
        sys.executable,
        benchmarks.LAUNCHER,
        *arguments,
        f'--workdir={workdir}',
        f'--checkpoint_minutes={_CHECKPOINT_SECONDS.value / 60}',
      ],
      stdout=log,
      stderr=subprocess.STDOUT,
    )
    time.sleep(seconds)
    process.kill()
    code = process.wait()
    log.seek(0)
    assert code == -signal.SIGKILL, f'It ended by itself:\n{log.read()}'


def check(workdir: str, stretches: int) -> tuple[dict, list[int]]:
  """Asserts that what a killed run left fits together.

  Args:
    workdir: of the run.
    stretches: at least as many as those the run was saved in, but one.

  Returns:
    The counts and the table sizes of its last checkpoint; zeros without one.
  """
  run = runs.read_run(workdir)
  files = workdirs.Workdir(workdir)
  spec = specs.make_environment_spec(make_environment(run.environment))
  networks = networks_lib.make_networks(run.config, spec)
  store = checkpoints.Checkpoints(files.checkpoints, run.keep_checkpoints)
  restored = store.restore(jax.eval_shape(networks.init, jax.random.PRNGKey(0)))
  seconds = restored.metadata['seconds'] if restored else 0.0
  lost = last_walltime(files.logs) - seconds
  assert lost < _CHECKPOINT_SECONDS.value + _PATIENCE_SECONDS, f'{lost} s lost'
  if restored is None:
    return {'actor_steps': 0}, []
  assert not restored.skipped, restored.skipped

  counts = restored.metadata['counts']
  for level, state in enumerate(restored.state):
    # An upper level's table may have been ready later than that of level 0.
    due = -(-counts['learner_steps'] // run.config.tick_period(level))
    updates = int(state.steps)
    assert updates <= due, f'level {level}: {updates} updates, {counts}'
    assert level or updates == due, f'{updates} updates, {counts}'

  server = reverb.Server(
    builder_lib.HierosBuilder(run.config).make_replay_tables(spec),
    port=None,
    checkpointer=store.replay_checkpointer(restored.replay),
  )
  info = reverb.Client(f'localhost:{server.port}').server_info()
  server.stop()
  sizes = [info[f'level_{i}'].current_size for i in range(run.config.depth)]
  # A sequence for each step and each end of an episode, but for the first ones
  # of each stretch and those whose chunk is not full.
  most = counts['actor_steps'] + counts['actor_episodes']
  most = min(most, run.config.replay.capacity)
  length = run.config.sequence_length + run.config.replay.chunk_length
  assert most - (1 + stretches) * length <= sizes[0] <= most, (counts, sizes)
  return counts, sizes


def last_walltime(logs: str) -> float:
  """Seconds of the run at the end of its last episode."""
  try:
    with open(os.path.join(logs, 'episodes.csv'), newline='') as file:
      rows = list(csv.DictReader(line for line in file if line.endswith('\n')))
  except FileNotFoundError:
    rows = []
  return float(rows[-1]['walltime']) if rows else 0.0


if __name__ == '__main__':
  app.run(main)
