"""What an update and an environment step cost, beside a matrix product.

  python -m benchmarks.learner
  python -m benchmarks.learner --preset=small --json

The agent is that of Atari with all 18 actions. On a CPU it gets one core, and
CPU seconds count, which other work on the machine disturbs least; the yardstick
is one float32 product of two 4096 x 4096 matrices there. On an accelerator
seconds of waiting count. Every figure comes from a process of its own, so that
its peak of memory is its own. It needs JAX, Haiku and Optax alone.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import time

from absl import app, flags

_PRESET = flags.DEFINE_string('preset', 'atari100k', 'Configuration.')
_UPDATES = flags.DEFINE_integer('updates', 5, 'Timed, of each level.')
_STEPS = flags.DEFINE_integer('steps', 256, 'Timed, of the environment.')
_JSON = flags.DEFINE_bool('json', False, 'End with one line of JSON.')
_PART = flags.DEFINE_string('part', None, 'Measure only this, in this process.')

_ACTIONS = 18
_SIDE = 4096
_MATRIX_PRODUCTS = 5


def main(_):
  if _PART.value:
    print(json.dumps(measure(_PART.value)))
    return
  from acme_hieros import config as config_lib

  depth = config_lib.preset(_PRESET.value).depth
  parts = ['yardstick', *(f'level_{i}' for i in range(depth)), 'policy']
  figures = {}
  for part in parts:
    print(f'measuring {part} ...', file=sys.stderr, flush=True)
    done = subprocess.run(
      [sys.executable, '-m', 'benchmarks.learner', f'--part={part}']
      + [f'--{flag.name}={flag.value}' for flag in (_PRESET, _UPDATES, _STEPS)],
      stdout=subprocess.PIPE,
      text=True,
    )
    if done.returncode:
      sys.exit(f'Measuring {part} failed.')
    figures[part] = json.loads(done.stdout.splitlines()[-1])
  yardstick = figures['yardstick']['seconds']
  kind = figures['yardstick']['device']
  print(f'{_PRESET.value} on {kind}; seconds of {figures["policy"]["clock"]}')
  print(f'{"":12}{"seconds":>10}{"yardsticks":>12}{"peak GiB":>10}')
  for part, figure in figures.items():
    print(
      f'{part:12}{figure["seconds"]:10.4f}'
      f'{figure["seconds"] / yardstick:12.2f}{figure["peak_gib"]:10.2f}'
    )
  if _JSON.value:
    print(
      json.dumps(
        {
          'preset': _PRESET.value,
          'device': kind,
          'yardstick_seconds': yardstick,
          **{
            f'{part.replace("_", "")}_yardsticks': figure['seconds'] / yardstick
            for part, figure in figures.items()
            if part.startswith('level')
          },
          'policy_ms': 1000 * figures['policy']['seconds'],
          'peak_rss_gib': max(f['peak_gib'] for f in figures.values()),
        }
      )
    )


def measure(part: str) -> dict[str, object]:
  """Times one thing, on one core where there is no accelerator."""
  # Threads are started with JAX and inherit this.
  os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
  import jax

  device = jax.devices()[0]
  on_cpu = device.platform == 'cpu'
  clock = time.process_time if on_cpu else time.perf_counter
  times, compile_seconds = {
    'yardstick': time_yardstick,
    'policy': time_policy,
  }.get(part, lambda clock: time_update(int(part.partition('_')[2]), clock))(
    clock
  )
  if on_cpu:
    # KiB on Linux.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
  else:
    peak = device.memory_stats()['peak_bytes_in_use']
  return {
    'seconds': statistics.median(times),
    'least': min(times),
    'most': max(times),
    'first': compile_seconds,
    'peak_gib': peak / 2**30,
    'device': 'one CPU core' if on_cpu else device.device_kind,
    'clock': 'CPU time' if on_cpu else 'waiting',
  }


def repeat(function, times: int, clock) -> tuple[list[float], float]:
  """Seconds of each of so many calls, and of the first, which compiles."""
  seconds = []
  for _ in range(times + 1):
    start = clock()
    function()
    seconds.append(clock() - start)
  return seconds[1:], seconds[0]


def time_yardstick(clock):
  import jax
  import jax.numpy as jnp

  x, y = jax.random.normal(jax.random.PRNGKey(0), (2, _SIDE, _SIDE))
  product = jax.jit(
    lambda x, y: jnp.matmul(x, y, precision=jax.lax.Precision.HIGHEST)
  )
  return repeat(
    lambda: product(x, y).block_until_ready(), _MATRIX_PRODUCTS, clock
  )


def make_hierarchy():
  from acme_hieros import config as config_lib
  from acme_hieros.models import hierarchy, spaces

  return hierarchy.Hierarchy(
    config_lib.preset(_PRESET.value),
    {spaces.SINGLE: spaces.Image((64, 64, 3))},
    spaces.Discrete((), _ACTIONS),
  )


def time_update(index: int, clock):
  import jax

  agent = make_hierarchy()
  level = agent.levels[index]
  state = draw(level.init)
  batch = jax.device_put(random_batch(agent.config, level))
  update = jax.jit(level.update, donate_argnums=0)

  def run():
    nonlocal state
    state, metrics = update(state, batch)
    jax.block_until_ready((state, metrics))

  return repeat(run, _UPDATES.value, clock)


def time_policy(clock):
  """Mean of a period of the top level, at which all kinds of ticks occur."""
  import jax
  import numpy as np

  from acme_hieros.models import level as level_lib

  agent = make_hierarchy()
  params = [level_lib.policy_params(s.params) for s in draw(agent.init)]
  rng = np.random.default_rng(0)
  images = {
    name: rng.integers(0, 256, (1, *space.shape), np.uint8)
    for name, space in agent.observation.items()
  }
  step = jax.jit(agent.step)
  state = agent.initial_state(jax.random.PRNGKey(0), 1)
  period = agent.config.tick_period(agent.config.depth - 1)

  def run():
    nonlocal state
    for _ in range(period):
      action, state = step(params, images, state)
      np.asarray(action)

  seconds, first = repeat(run, max(1, _STEPS.value // period), clock)
  return [s / period for s in seconds], first


def draw(init):
  """What `init` gives; it runs once, so it is compiled badly and fast."""
  import jax

  return jax.jit(init, compiler_options={'xla_backend_optimization_level': 0})(
    jax.random.PRNGKey(0)
  )


def random_batch(config, level):
  """What replay could hold, without meaning; NumPy, [B, T, ...]."""
  import numpy as np

  from acme_hieros.models import level as level_lib
  from acme_hieros.models import spaces, world_model

  rng = np.random.default_rng(0)
  shape = (config.batch_size, config.sequence_length)

  def draw(space):
    size = (*shape, *space.shape)
    if isinstance(space, spaces.Vector):
      return rng.normal(size=size).astype(space.dtype)
    high = 256 if isinstance(space, spaces.Image) else space.classes
    return rng.integers(0, high, size).astype(space.dtype)

  return level_lib.Batch(
    world_model.Sequence(
      observation={n: draw(space) for n, space in level.observation.items()},
      action=draw(level.action),
      reward=rng.normal(size=shape).astype(np.float32),
      discount=np.ones(shape, np.float32),
      start_of_episode=rng.random(shape) < 0.01,
    ),
    draw(level.subgoal).astype(np.uint8) if level.subgoal else None,
  )


if __name__ == '__main__':
  app.run(main)
