"""Kills a run at random moments and resumes it, again and again.

  python -m benchmarks.kill
  python -m benchmarks.kill --launch=local_mp
  python -m benchmarks.kill --kills=3 --most_seconds=30

Each time a process gets SIGKILL, as from a machine that dies: the launcher's
or, in a program of several, that of its learner, its replay or an actor. What
is left is read, checked and resumed. Exits with 1 at the first thing wrong.
"""

import csv
import json
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
import psutil
import reverb

from acme_hieros import command_line
from acme_hieros.agent import builder as builder_lib
from acme_hieros.agent import networks as networks_lib
from acme_hieros.environments import make_environment
from acme_hieros.experiments import (
  checkpoints,
  nodes,
  runs,
)
from acme_hieros.replay import tables
from acme_hieros.storage import workdirs
import benchmarks

_LAUNCH = flags.DEFINE_enum(
  'launch',
  'local',
  [launch for launch in runs.LAUNCHES if launch != 'ray'],
  'What is killed.',
)
_KILLS = flags.DEFINE_integer('kills', 20, 'How many times.')
_MOST_SECONDS = flags.DEFINE_float(
  'most_seconds', 90.0, 'Most seconds between a start and its end.'
)
_CHECKPOINT_SECONDS = flags.DEFINE_float(
  'checkpoint_seconds', 5.0, 'Seconds between two checkpoints.'
)
_SEED = flags.DEFINE_integer('seed', 0, 'Decides when and whom.')
_OVERRIDE = flags.DEFINE_multi_string('override', [], "As the launcher's.")

# Of writing a checkpoint and of the step before it, in which an update may be
# compiled, on a busy machine.
_PATIENCE_SECONDS = 30.0

# Within which a program has to end whose learner or replay is gone.
_END_SECONDS = 30.0

_ACTORS = 2

# How many steps actors may have stored and not told the coordinator yet.
_UNREPORTED_STEPS = 200


def main(argv):
  command_line.refuse_arguments(argv)
  rng = random.Random(_SEED.value)
  victims = ['program']
  if _LAUNCH.value == 'local_mp':
    victims += [nodes.LEARNER, nodes.REPLAY, f'{nodes.ACTOR}_0']
  with tempfile.TemporaryDirectory() as directory:
    files = workdirs.Workdir(os.path.join(directory, 'run'))
    steps = lives = 0
    for kill in range(_KILLS.value):
      resume = os.path.exists(files.config)
      victim = rng.choice(victims)
      killed = run_for(
        rng.uniform(0, _MOST_SECONDS.value), files, resume, victim
      )
      # Of each actor; one that was killed had two.
      lives += 2
      if not os.path.exists(files.config):
        print(f'kill {kill + 1}: before there was a run', flush=True)
        continue
      counts, sizes = check(files, lives)
      assert counts['actor_steps'] >= steps, f'{counts} after {steps} steps'
      steps = counts['actor_steps']
      print(
        f'kill {kill + 1} ({killed}): {counts}, sequences {sizes}', flush=True
      )
  print(f'{_KILLS.value} kills, {steps} steps: nothing is wrong.')


def run_for(
  seconds: float, files: workdirs.Workdir, resume: bool, victim: str
) -> str:
  """Starts or resumes the run, and kills one of its processes.

  Args:
    seconds: after which.
    files: of the run.
    resume: whether there is one.
    victim: a node, or 'program' for the launcher.

  Returns:
    Who was killed: the program where the node did not exist yet.
  """
  arguments = ['--resume']
  if not resume:
    arguments = [
      '--preset=tiny',
      '--env=debug/catch',
      '--num_steps=100000000',
      f'--launch={_LAUNCH.value}',
      f'--num_actors={1 if _LAUNCH.value == "local" else _ACTORS}',
      *(f'--override={override}' for override in _OVERRIDE.value),
    ]
  with tempfile.TemporaryFile('w+') as log:
    process = subprocess.Popen(
      [
        sys.executable,
        benchmarks.LAUNCHER,
        *arguments,
        f'--workdir={files.path}',
        f'--checkpoint_minutes={_CHECKPOINT_SECONDS.value / 60}',
      ],
      stdout=log,
      stderr=subprocess.STDOUT,
      # What was compiled before is not again: most of a life is learning.
      env={
        'JAX_COMPILATION_CACHE_DIR': f'{files.path}-compiled',
        'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0.1',
        **os.environ,
      },
    )
    time.sleep(seconds)
    log.seek(0)
    assert process.poll() is None, f'It ended by itself:\n{log.read()}'
    family = psutil.Process(process.pid).children(recursive=True)
    pid = None
    if victim != 'program':
      pid = pids(files).get(victim)
      if pid not in [child.pid for child in family]:
        victim, pid = 'program', None  # Of an earlier stretch.
    if pid:
      os.kill(pid, signal.SIGKILL)
      if victim.startswith(nodes.ACTOR):
        wait_for(lambda: pids(files).get(victim) != pid, 'no new actor')
        family = psutil.Process(process.pid).children(recursive=True)
      else:
        wait_for(lambda: process.poll() is not None, 'the program goes on')
        log.seek(0)
        said = log.read()
        assert process.returncode == 1, said
        assert f'run_hieros: {victim} died' in said, said
    if process.poll() is None:
      process.kill()
      process.wait()
    wait_for(lambda: not any(map(is_alive, family)), 'there are orphans')
  return victim


def pids(files: workdirs.Workdir) -> dict[str, int]:
  """Of the nodes, by name."""
  try:
    with open(files.node_file('pids', 'json')) as file:
      return json.load(file)
  except FileNotFoundError:
    return {}


def is_alive(process: psutil.Process) -> bool:
  try:
    return process.status() != psutil.STATUS_ZOMBIE
  except psutil.NoSuchProcess:
    return False


def wait_for(condition, otherwise: str):
  end = time.monotonic() + _END_SECONDS
  while not condition():
    assert time.monotonic() < end, f'{otherwise} after {_END_SECONDS} s'
    time.sleep(0.1)


def check(files: workdirs.Workdir, lives: int) -> tuple[dict, list[int]]:
  """Asserts that what a killed run left fits together.

  Args:
    files: of the run.
    lives: at least as many as each actor has had.

  Returns:
    The counts and the table sizes of its last checkpoint; zeros without one.
  """
  run = runs.read_run(files.path)
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

  alone = run.launch == 'local'
  server = reverb.Server(
    builder_lib.HierosBuilder(
      run.config, limit_ratio=not alone
    ).make_replay_tables(spec),
    port=None,
    checkpointer=store.replay_checkpointer(restored.replay),
  )
  info = reverb.Client(f'localhost:{server.port}').server_info()
  server.stop()
  sizes = [
    info[tables.table_name(i)].current_size for i in range(run.config.depth)
  ]
  # A sequence for each step and each end of an episode, but for the first ones
  # of each life of an actor and those whose chunk is not full.
  most = counts['actor_steps'] + counts['actor_episodes']
  most = min(most, run.config.replay.capacity)
  length = run.config.sequence_length + run.config.replay.chunk_length
  least = most - (1 + lives) * run.num_environments * length
  unreported = 0 if alone else _UNREPORTED_STEPS
  assert least <= sizes[0] <= most + unreported, (counts, sizes)
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
