"""What an update and an environment step cost, beside a matrix product.

  python -m benchmarks.learner
  python -m benchmarks.learner --preset=small --override=batch_size=8 --json
  python -m benchmarks.learner --preset=small --by_core
  python -m benchmarks.learner --only_cores --cores=2
  python -m benchmarks.learner --only_gpus --override=precision=bfloat16

The agent is that of Atari with all 18 actions, in a process with one core. On a
CPU its seconds count, which other work on the machine disturbs least; the
yardstick is one float32 product of two 4096 x 4096 matrices there. On an
accelerator seconds of waiting count. Every figure comes from a process of its
own, so that its peak of memory is its own. It needs JAX, Haiku and Optax alone.

With several cores it is also measured how much sooner level 0 is done where
they share each batch. There seconds of waiting count, and nothing else should
be at work on the machine.

What a GPU would have to do, and how long that takes it, is counted from the
program, and needs none (`benchmarks/accelerator.py`).
"""

from collections.abc import Callable, Sequence
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time

from absl import app, flags
import jax
import jax.numpy as jnp
import numpy as np

from acme_hieros import command_line, process
from acme_hieros import config as config_lib
from acme_hieros.models import cores as cores_lib
from acme_hieros.models import hierarchy, shares
from acme_hieros.models import level as level_lib
from benchmarks import accelerator, batches, full_size, timing

_PRESET = flags.DEFINE_string('preset', 'atari100k', 'Configuration.')
_SYSTEM = flags.DEFINE_string('system', 'hieros', 'What is computed.')
_OVERRIDE = flags.DEFINE_multi_string(
  'override', [], 'A field of the configuration, as name=value.'
)
_UPDATES = flags.DEFINE_integer(
  'updates', 5, 'Timed, of each level.', lower_bound=1
)
_STEPS = flags.DEFINE_integer(
  'steps', 256, 'Timed, of the environment.', lower_bound=1
)
_CORES = flags.DEFINE_integer(
  'cores',
  None,
  'Of the CPU, that are compared with one; default: all there are, as far as '
  'they divide the batch.',
  lower_bound=1,
)
_ONLY_CORES = flags.DEFINE_bool(
  'only_cores', False, 'Compare cores, and measure nothing else.'
)
_ONLY_GPUS = flags.DEFINE_bool(
  'only_gpus', False, 'Count what a GPU would do, and measure nothing.'
)
_TRACE = flags.DEFINE_string(
  'trace', None, 'Directory for profiles, for TensorBoard or Perfetto.'
)
_BY_CORE = flags.DEFINE_bool(
  'by_core', False, 'Measure all with each core in turn, and not one alone.'
)
_JSON = flags.DEFINE_bool('json', False, 'End with one line of JSON.')
_PART = flags.DEFINE_string('part', None, 'Measure only this, in this process.')

_SIDE = 4096
_MATRIX_PRODUCTS = 5
_ONE_CORE = 'one CPU core'


def main(argv):
  command_line.refuse_arguments(argv)
  if _PART.value:
    print(json.dumps(measure(_PART.value)))
    return
  config = read_config()
  if _ONLY_GPUS.value:
    result = accelerator.report(config, full_size.make_agent(config).levels)
    print(json.dumps(result))
    return
  cores = shares.fitting_cores(
    config.batch_size, _CORES.value or process.count_cores()
  )
  if _ONLY_CORES.value:
    print(json.dumps(compare_cores(cores)))
    return
  # By core, if several are measured, and part.
  figures = {('yardstick',): measure_apart('yardstick')}
  levels = [f'level_{i}' for i in range(config.depth)]
  for core in cores_lib.names() if _BY_CORE.value else [None]:
    for part in [*levels, 'policy']:
      key = (core, part) if core else (part,)
      print(f'measuring {" ".join(key)} ...', file=sys.stderr, flush=True)
      further = [f'--override=world_model.core={core}'] if core else []
      figures[key] = measure_apart(part, further)
  yardstick = figures[('yardstick',)]['seconds']
  kind = figures[('yardstick',)]['device']
  print(f'{config_lib.describe(config)}, on {kind}')
  width = max(len(' '.join(key)) for key in figures)
  print(f'{"":{width}}{"seconds":>10}{"yardsticks":>12}{"peak GiB":>10}')
  for key, figure in figures.items():
    print(
      f'{" ".join(key):{width}}{figure["seconds"]:10.4f}'
      f'{figure["seconds"] / yardstick:12.2f}{figure["peak_gib"]:10.2f}'
    )
  if _JSON.value:
    result = {
      'configuration': config_lib.describe(config),
      'device': kind,
      'yardstick_seconds': yardstick,
      'peak_rss_gib': max(f['peak_gib'] for f in figures.values()),
    }
    for (*core, part), figure in figures.items():
      prefix = ''.join(f'{c}_' for c in core)
      if part == 'policy':
        result[f'{prefix}policy_ms'] = 1000 * figure['seconds']
      elif part != 'yardstick':
        level = part.replace('_', '')
        result[f'{prefix}{level}_yardsticks'] = figure['seconds'] / yardstick
    if not _BY_CORE.value:
      result.update(compare_starts(levels))
    if kind == _ONE_CORE:
      small = figures.get(('level_0',)) if _PRESET.value == 'small' else None
      # The latter of two flags counts.
      small = small or measure_apart('level_0', ['--preset=small'])
      result['small_level0_yardsticks'] = small['seconds'] / yardstick
      if cores > 1:
        result.update(compare_cores(cores))
    print(json.dumps(result))


def read_config() -> config_lib.HierosConfig:
  """The configuration that the flags ask for."""
  try:
    values = command_line.read_pairs(_OVERRIDE)
    return config_lib.override(
      config_lib.preset(_PRESET.value, _SYSTEM.value), values
    )
  except ValueError as error:
    sys.exit(str(error))


def compare_cores(cores: int) -> dict[str, float]:
  """How much sooner an update of level 0 is done by several cores.

  Returns:
    'cores': their number. 'cores_speedup': seconds of waiting with one, by
    those with all. 'parallel_share': of the work of one core, what several
    share, if Amdahl's law holds. 'speedup_of_8': what it would have 8 reach.
  """
  one, several = (
    measure_apart('level_0', cores=number)['waited'] for number in (1, cores)
  )
  speedup = one / several
  serial = (cores / speedup - 1) / (cores - 1) if cores > 1 else 1.0
  return {
    'cores': cores,
    'cores_speedup': speedup,
    'parallel_share': 1 - serial,
    'speedup_of_8': 1 / (serial + (1 - serial) / 8),
  }


def compare_starts(levels: Sequence[str]) -> dict[str, float]:
  """How long the first updates of all levels are waited for, one by one.

  Returns:
    'compile_seconds': where nothing is compiled yet. 'second_start_seconds':
    where it is, by processes before.
  """
  with tempfile.TemporaryDirectory() as directory:
    first, second = (
      sum(
        measure_apart(level, ['--updates=1'], cache=directory)['first']
        for level in levels
      )
      for _ in range(2)
    )
  return {'compile_seconds': first, 'second_start_seconds': second}


def measure_apart(
  part: str,
  further: Sequence[str] = (),
  cores: int = 1,
  cache: str | None = None,
) -> dict:
  """`measure` in a process of its own.

  Args:
    part: see `measure`.
    further: flags, which count for more than those of this process.
    cores: of the CPU.
    cache: directory of what was compiled; None: nothing was.
  """
  command = [sys.executable, '-m', 'benchmarks.learner', f'--part={part}']
  command.append(f'--cores={cores}')
  command += [
    f'--{flag.name}={flag.value}'
    for flag in (_PRESET, _SYSTEM, _UPDATES, _STEPS, _TRACE)
    if flag.value is not None
  ]
  command += [f'--override={pair}' for pair in _OVERRIDE.value]
  environment = dict(os.environ)
  if cache:
    environment |= {
      'JAX_COMPILATION_CACHE_DIR': cache,
      'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0.1',
    }
  done = subprocess.run(
    [*command, *further], stdout=subprocess.PIPE, text=True, env=environment
  )
  if done.returncode:
    sys.exit(f'Measuring {part} failed.')
  return json.loads(done.stdout.splitlines()[-1])


def measure(part: str) -> dict[str, object]:
  """Times one thing, on --cores of the CPU and what accelerator there is.

  Args:
    part: 'yardstick', 'policy' or 'level_<i>'.

  Returns:
    The median of its 'seconds', and of those that it was 'waited' for; how long
    the 'first' was waited for, which traces and compiles; the 'peak_gib' of
    memory and the 'device'.
  """
  cores = _CORES.value or 1
  # Threads are started with the first look at devices, and inherit these.
  os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
  process.tune_process(learns=part != 'policy', cores=cores)
  device = jax.devices()[0]
  on_cpu = device.platform == 'cpu'
  begin = time.perf_counter()
  run, times = prepare(part)
  run()  # Compiles.
  first = time.perf_counter() - begin
  seconds, waited = [], []
  for _ in range(times):
    start, begin = timing.now(), time.perf_counter()
    run()
    seconds.append(timing.now() - start)
    waited.append(time.perf_counter() - begin)
  if _TRACE.value:
    with jax.profiler.trace(os.path.join(_TRACE.value, part)):
      run()
  if on_cpu:
    # KiB on Linux.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
  else:
    peak = device.memory_stats()['peak_bytes_in_use']
  count = _period(read_config())
  return {
    'seconds': statistics.median(seconds) / (count if part == 'policy' else 1),
    'waited': statistics.median(waited),
    'first': first,
    'peak_gib': peak / 2**30,
    'device': _ONE_CORE if on_cpu else device.device_kind,
  }


def prepare(part: str) -> tuple[Callable[[], None], int]:
  """What to time, and how often."""
  if part == 'yardstick':
    return prepare_yardstick(), _MATRIX_PRODUCTS
  config = read_config()
  agent = full_size.make_agent(config)
  if part == 'policy':
    period = _period(config)
    return prepare_policy(agent, period), max(1, _STEPS.value // period)
  level = agent.levels[int(part.removeprefix('level_'))]
  return prepare_update(config, level), _UPDATES.value


def _period(config: config_lib.HierosConfig) -> int:
  """Environment steps among which each kind of step is once."""
  return config.tick_period(config.depth - 1 + config.has_manager)


def prepare_yardstick() -> Callable[[], None]:
  """One matrix product."""
  x, y = jax.random.normal(jax.random.PRNGKey(0), (2, _SIDE, _SIDE))
  product = jax.jit(
    lambda x, y: jnp.matmul(x, y, precision=jax.lax.Precision.HIGHEST)
  )
  return lambda: product(x, y).block_until_ready()


def prepare_update(config, level: level_lib.Level) -> Callable[[], None]:
  """One update of a level."""
  placement, share = shares.place(shares.share_devices(config.batch_size))
  state = jax.device_put(
    level_lib.draw(level.init, jax.random.PRNGKey(0)), placement
  )
  batch = batches.draw(config, level)
  update = share(level.update)

  def run():
    nonlocal state
    state, metrics = update(state, batch, np.float32(1.0))
    jax.block_until_ready((state, metrics))

  return run


def prepare_policy(
  agent: hierarchy.Hierarchy, period: int
) -> Callable[[], None]:
  """As many steps as the top level waits, among which are all kinds."""
  states = level_lib.draw(agent.init, jax.random.PRNGKey(0))
  params = [level_lib.policy_params(state.params) for state in states]
  rng = np.random.default_rng(0)
  images = {
    name: rng.integers(0, 256, (1, *space.shape), np.uint8)
    for name, space in agent.observation_spaces.items()
  }
  step = jax.jit(agent.step)
  state = agent.initial_state(jax.random.PRNGKey(0), 1)

  def run():
    nonlocal state
    for _ in range(period):
      action, state = step(params, images, state)
      np.asarray(action)

  return run


if __name__ == '__main__':
  app.run(main)
