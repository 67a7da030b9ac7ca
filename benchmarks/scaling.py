"""How time and memory of learning grow with the sizes of the configuration.

  python -m benchmarks.scaling --out=scaling

One size is changed at a time, the others stay those of --preset. Each point is
measured as `benchmarks.learner` does, in a process of its own. Writes
<out>.json and <out>.png. Takes half an hour on one core.
"""

import json
import pathlib
import sys

from absl import app, flags
import matplotlib

from acme_hieros import command_line
from benchmarks import learner

matplotlib.use('Agg')
from matplotlib import pyplot as plt  # noqa: E402  After the choice of backend.

_OUT = flags.DEFINE_string('out', 'scaling', 'Path of the results, no suffix.')

# Of a level's update.
_SIZES = {
  'batch_size': (4, 8, 16, 32),
  'sequence_length': (16, 32, 64, 128),
  'actor_critic.horizon': (4, 8, 16, 32),
  'world_model.s5.state_size': (32, 64, 128, 256),
}
_DEPTHS = (1, 2, 3)


def main(argv):
  command_line.refuse_arguments(argv)
  learner.read_config()  # Refuses what cannot be, once.
  out = pathlib.Path(_OUT.value)
  out.parent.mkdir(parents=True, exist_ok=True)
  results = {}
  for field, sizes in _SIZES.items():
    for size in sizes:
      figures = measure('level_0', f'{field}={size}')
      save(results, field, {'size': size} | figures, out)
  for depth in _DEPTHS:
    save(results, 'depth', {'size': depth} | measure_step(depth), out)
  draw(results, out.with_suffix('.png'))


def save(results: dict, field: str, point: dict, out: pathlib.Path):
  """Adds a point, at once also to the file."""
  results.setdefault(field, []).append(point)
  out.with_suffix('.json').write_text(json.dumps(results, indent=1))


def measure(part: str, override: str) -> dict:
  """Seconds and peak GiB of one part with one field changed."""
  figure = learner.measure_apart(part, [override])
  print(
    f'{override}, {part}: {figure["seconds"]:.2f} s, '
    f'{figure["peak_gib"]:.2f} GiB',
    file=sys.stderr,
    flush=True,
  )
  return {key: figure[key] for key in ('seconds', 'peak_gib')}


def measure_step(depth: int) -> dict:
  """A learner step on average: level l has one in k^l."""
  config = learner.read_config()
  levels = [measure(f'level_{i}', f'depth={depth}') for i in range(depth)]
  return {
    'seconds': sum(
      figure['seconds'] / config.tick_period(i)
      for i, figure in enumerate(levels)
    ),
    'peak_gib': max(figure['peak_gib'] for figure in levels),
  }


def draw(results: dict, path: pathlib.Path):
  """Both figures over each size; a dotted line is what linear growth would be.

  It goes through the first point: what lies below grows less than linearly.
  """
  figure, axes = plt.subplots(
    2, len(results), figsize=(3 * len(results), 5.5), sharex='col'
  )
  for column, (field, points) in zip(axes.T, results.items()):
    sizes = [point['size'] for point in points]
    for axis, key in zip(column, ('seconds', 'peak_gib')):
      values = [point[key] for point in points]
      axis.plot(sizes, values, 'o-')
      linear = [values[0] * size / sizes[0] for size in sizes]
      axis.plot(sizes, linear, ':', color='gray')
      axis.set_ylim(0, 1.3 * max(values))
      axis.set_xticks(sizes)
    column[1].set_xlabel(field)
  axes[0, 0].set_ylabel('seconds')
  axes[1, 0].set_ylabel('peak memory, GiB')
  figure.tight_layout()
  figure.savefig(path, dpi=100)


if __name__ == '__main__':
  app.run(main)
