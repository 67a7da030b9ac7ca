"""What a GPU would be asked to do by an update, and how long it would need.

Counted from the program, so that no GPU is needed: floating-point operations of
matrix products and convolutions, and kernels with the bytes that they read and
write after XLA has fused what it can. The forms are those that are traced for
an accelerator, compiled for a CPU, where less is fused than on a GPU: kernels
and bytes are upper bounds, and so is the time, which is the sum of three: all
products at the GPU's peak, all bytes at the speed of its memory, and the start
of all kernels.

The peaks are those of NVIDIA's data sheets, without sparsity; float32 stands
for TF32, in which XLA multiplies float32 by default there. A kernel takes
3.4 us to start in a CUDA graph (A. Gray, "Getting Started with CUDA Graphs",
2019).
"""

from collections.abc import Sequence
import dataclasses

import jax
import numpy as np

from acme_hieros import config as config_lib
from acme_hieros.models import level as level_lib
from acme_hieros.models.ops import backend
from benchmarks import batches, costs

_START_OF_KERNEL = 3.4e-6


@dataclasses.dataclass(frozen=True)
class Device:
  """flops: peaks a second, by type. bandwidth: bytes a second of its memory."""

  flops: dict[str, float]
  bandwidth: float


DEVICES = {
  'H100 SXM': Device({'float32': 495e12, 'bfloat16': 989e12}, 3.35e12),
  'H200 SXM': Device({'float32': 495e12, 'bfloat16': 989e12}, 4.8e12),
  'A100 80GB SXM': Device({'float32': 156e12, 'bfloat16': 312e12}, 2.04e12),
}


def report(
  config: config_lib.HierosConfig, levels: Sequence[level_lib.Level]
) -> dict[str, object]:
  """Prints what one update of each level asks for; returns it, by name."""
  print(f'{config_lib.describe(config)}, one update')
  print(f'{"":10}{"GFLOP":>8}{"kernels":>9}{"GB":>7}', end='')
  print(''.join(f'{f"{name}, ms":>26}' for name in DEVICES), flush=True)
  result: dict[str, object] = {'configuration': config_lib.describe(config)}
  for i, level in enumerate(levels):
    found, moved = count(config, level)
    gflop, gb = costs.total_flops(found) / 1e9, moved.nbytes / 1e9
    row = f'level {i:<4}{gflop:8.1f}{moved.kernels:9}{gb:7.1f}'
    result[f'level{i}_gflop'], result[f'level{i}_gb'] = gflop, gb
    result[f'level{i}_kernels'] = moved.kernels
    for name, device in DEVICES.items():
      parts = [1000 * seconds for seconds in times(found, moved, device)]
      written = ' + '.join(f'{part:.1f}' for part in parts)
      row += f'{f"{written} = {sum(parts):.0f}":>26}'
      key = f'level{i}_{name.split()[0].lower()}'
      for part, ms in zip(('products', 'memory', 'starts'), parts, strict=True):
        result[f'{key}_{part}_ms'] = ms
    print(row, flush=True)
  return result


def count(
  config: config_lib.HierosConfig, level: level_lib.Level
) -> tuple[list[costs.Product], costs.Traffic]:
  """All products of an update in the form for accelerators, and its kernels."""
  update = backend.for_accelerator(level.update)
  # JAX's own random numbers are one kernel on a GPU, but a loop on a CPU; those
  # of this kind are one kernel everywhere.
  with jax.default_prng_impl('unsafe_rbg'):
    state = jax.eval_shape(level.init, jax.random.PRNGKey(0))
    traced = jax.jit(update, donate_argnums=0).trace(
      state, batches.draw(config, level), np.float32(1.0)
    )
    found = list(costs.products(traced.jaxpr.jaxpr))
    return found, costs.traffic(traced.lower().compile().as_text())


def times(
  found: list[costs.Product], moved: costs.Traffic, device: Device
) -> tuple[float, float, float]:
  """Seconds that products, memory and starts of kernels take by themselves."""
  return (
    sum(p.flops * p.times / device.flops[p.dtype] for p in found),
    moved.nbytes / device.bandwidth,
    moved.kernels * _START_OF_KERNEL,
  )
