"""Simplified state space layers (S5, arXiv 2208.04933) with resets.

One layer is x_t = Abar x_{t-1} + Bbar u_t, y_t = Re(C x_t) + D u_t with a
diagonal complex Abar. It runs over a whole sequence (`scan`) or one step at a
time (`step`) on the same parameters and with the same result. States are kept
as their real parts and then their imaginary ones: inputs and outputs are real,
so what is multiplied are real matrices.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from acme_hieros.config import S5Config, WorldModelConfig
from acme_hieros.models import distributions
from acme_hieros.models.cores import base
from acme_hieros.models.ops import backend, linear, normalization, placement

Array = jax.Array
# Of a stack: of each layer float32 [..., 2P].
State = tuple[Array, ...]


def hippo_normal(size: int) -> tuple[np.ndarray, np.ndarray]:
  """Eigenvalues [size] and -vectors [size, size] of HiPPO-LegS, normal part.

  HiPPO-LegS is A = N - p p^T with p_n = sqrt(n + 1/2) and N normal: its
  symmetric part is -1/2 I, so its eigenvalues are -1/2 + i w (S5, appendix B).
  """
  n = np.arange(size)
  outer = np.sqrt(2 * n[:, None] + 1) * np.sqrt(2 * n[None, :] + 1)
  legs = -np.tril(outer, -1) - np.diag(n + 1.0)
  p = np.sqrt(n + 0.5)
  skew = legs + p[:, None] * p[None, :] + 0.5 * np.eye(size)
  # -i times a skew-symmetric matrix is Hermitian: eigh is exact and stable.
  frequency, vectors = np.linalg.eigh(-1j * skew)
  return -0.5 + 1j * frequency, vectors


def initial_eigenvalues(config: S5Config) -> np.ndarray:
  """Lambda at the start, complex [P]: the blocks' eigenvalues, repeated."""
  eigenvalues, _ = hippo_normal(config.state_size // config.hippo_blocks)
  return np.tile(eigenvalues, config.hippo_blocks)


def discrete_eigenvalues(params: hk.Params) -> dict[str, Array]:
  """Abar of all S5 layers among some parameters, complex [P] by module name."""
  return {
    module: jnp.exp(_rate(layer) * jnp.exp(layer['log_step']))
    for module, layer in params.items()
    if 'log_decay' in layer
  }


def _rate(layer: Mapping[str, Array]) -> Array:
  """Lambda. Its real part is minus an exponential: it stays negative."""
  return jax.lax.complex(-jnp.exp(layer['log_decay']), layer['frequency'])


def real_parts(state: State) -> Array:
  """Of all layers, one after the other: [..., L P]."""
  return jnp.concatenate([jnp.split(x, 2, -1)[0] for x in state], -1)


def to_halves(x: Array) -> Array:
  """complex64 [..., P] to float32 [..., 2P]: real parts, then imaginary."""
  return jnp.concatenate([x.real, x.imag], -1)


def from_halves(x: Array) -> Array:
  """float32 [..., 2P] to complex64 [..., P]."""
  return jax.lax.complex(*jnp.split(x, 2, -1))


class Coefficients(NamedTuple):
  """One layer, discretised.

  a: Abar, complex [P].
  gain: Bbar / B, complex [P].
  b: B, real [H, 2P].
  c: real [2P, H]; the imaginary half is minus that of C, as in Re(C x).
  d: D, real [H].
  """

  a: Array
  gain: Array
  b: Array
  c: Array
  d: Array

  def drive(self, u: Array) -> Array:
    """Bbar u: real [..., H] to complex64 [..., P]."""
    return self.gain * from_halves(_matmul(u, self.b))

  def step(self, x: Array, u: Array) -> Array:
    """Abar x + Bbar u: real [..., 2P] and [..., H] to [..., 2P]."""
    # In real numbers, for which XLA needs fewer passes.
    a, gain = self.a, self.gain
    real, imag = jnp.split(x, 2, -1)
    u_real, u_imag = jnp.split(_matmul(u, self.b), 2, -1)
    return jnp.concatenate(
      [
        a.real * real - a.imag * imag + gain.real * u_real - gain.imag * u_imag,
        a.real * imag + a.imag * real + gain.real * u_imag + gain.imag * u_real,
      ],
      -1,
    )

  def read(self, x: Array, u: Array) -> Array:
    """Re(C x) + D u: real [..., 2P] and [..., H] to [..., H]."""
    return placement.out_of_place(_matmul(x, self.c)) + self.d * u


def _matmul(x: Array, y: Array) -> Array:
  # In full precision everywhere: errors of the state last as long as it does.
  rows = x.reshape(-1, x.shape[-1]).astype(jnp.float32)
  product = jnp.matmul(rows, y, precision=jax.lax.Precision.HIGHEST)
  return product.reshape(x.shape[:-1] + y.shape[-1:])


def sequential_scan(a: Array, drive: Array, reset: Array, x: Array) -> Array:
  """Runs x_t = a x_{t-1} + drive_t, step by step.

  Args:
    a: complex [P].
    drive: complex [B, T, P].
    reset: bool [B, T]; x_{t-1} counts as 0 where it is set.
    x: complex [B, P], the state before the first step.

  Returns:
    The states, complex [B, T, P].
  """
  keep = jnp.where(reset[..., None], 0.0, a)

  def step(x, inputs):
    keep, drive = inputs
    x = keep * x + drive
    return x, x

  _, states = jax.lax.scan(step, x, (keep.swapaxes(0, 1), drive.swapaxes(0, 1)))
  return states.swapaxes(0, 1)


def associative_scan(a: Array, drive: Array, reset: Array, x: Array) -> Array:
  """The same as `sequential_scan`, in log(T) parallel steps."""
  keep = jnp.broadcast_to(jnp.where(reset[..., None], 0.0, a), drive.shape)
  drive = drive.at[:, 0].add(keep[:, 0] * x)

  def compose(first, second):
    return first[0] * second[0], second[0] * first[1] + second[1]

  return jax.lax.associative_scan(compose, (keep, drive), axis=1)[1]


def default_scan() -> Callable[..., Array]:
  """The faster form on this backend.

  Measured at (16, 64, 128): on two CPU cores the sequential form takes 1.2 ms
  with its gradient and the associative one 5.4 ms; an accelerator would wait
  for T dependent kernels.
  """
  return sequential_scan if backend.on_cpu() else associative_scan


class S5Layer(hk.Module):
  """One S5 layer."""

  def __init__(self, config: S5Config, name: str | None = None):
    super().__init__(name)
    self._config = config

  def coefficients(self) -> Coefficients:
    """The zero-order-hold discretisation of this layer's parameters."""
    width, size = self._config.width, self._config.state_size
    blocks = self._config.hippo_blocks
    eigenvalues = initial_eigenvalues(self._config)
    _, vectors = hippo_normal(size // blocks)
    # The inverse of a unitary matrix is its conjugate transpose.
    inverse = np.kron(np.eye(blocks), vectors.conj().T)
    vectors = np.kron(np.eye(blocks), vectors)

    def constant(value):
      return lambda shape, dtype: jnp.asarray(value, dtype)

    def log_uniform(shape, dtype):
      low, high = np.log(self._config.dt_min), np.log(self._config.dt_max)
      return jax.random.uniform(hk.next_rng_key(), shape, dtype, low, high)

    # Real Gaussian B0 and C0, turned into the eigenbasis.
    def rotated_b(shape, dtype):
      b = hk.initializers.VarianceScaling()((width, size), dtype) @ inverse.T
      return jnp.concatenate([b.real, b.imag], 1).astype(dtype)

    def rotated_c(shape, dtype):
      c = vectors.T @ hk.initializers.VarianceScaling()((size, width), dtype)
      return jnp.concatenate([c.real, -c.imag]).astype(dtype)

    log_decay = hk.get_parameter(
      'log_decay', [size], init=constant(np.log(-eigenvalues.real))
    )
    frequency = hk.get_parameter(
      'frequency', [size], init=constant(eigenvalues.imag)
    )
    log_step = hk.get_parameter('log_step', [size], init=log_uniform)
    b = hk.get_parameter('complex_b', [width, 2 * size], init=rotated_b)
    c = hk.get_parameter('complex_c', [2 * size, width], init=rotated_c)
    d = hk.get_parameter('d', [width], init=hk.initializers.RandomNormal())

    rate = _rate({'log_decay': log_decay, 'frequency': frequency})
    scaled = rate * jnp.exp(log_step)
    # expm1 keeps the digits that exp(z) - 1 loses for a small time step.
    return Coefficients(
      a=jnp.exp(scaled), gain=jnp.expm1(scaled) / rate, b=b, c=c, d=d
    )


class S5(base.Core):
  """A stack of S5 layers, of which h is read (docs/algorithm.md, 3.2)."""

  def __init__(self, config: WorldModelConfig, dtype: jnp.dtype):
    self.width = config.s5.width
    self._config = config
    self._dtype = dtype

  def initial_state(self, batch_size: int) -> State:
    config = self._config.s5
    shape = (batch_size, 2 * config.state_size)
    return tuple(jnp.zeros(shape) for _ in range(2 * config.num_blocks))

  def make_module(self, name: str) -> base.CoreModule:
    return S5Stack(self._config, self._dtype, name)


class S5Stack(base.CoreModule):
  """Double blocks of S5 layers: x += GELU(W S5(LN x)) twice, x += LN x."""

  def __init__(self, config: WorldModelConfig, dtype: jnp.dtype, name: str):
    super().__init__(name)
    self._config = config.s5
    self._deter_from = config.s5.deter_from
    self._dtype = dtype
    self._deter = linear.Linear(
      config.deter_size, w_init=self._deter_init, name='deter'
    )

  def scan(self, u: Array, reset: Array, memory: State) -> tuple[Array, State]:
    run = default_scan()
    return self._apply(
      u,
      memory,
      lambda layer, x, u: to_halves(
        run(layer.a, layer.drive(u), reset, from_halves(x))
      ),
    )

  def step(
    self, u: Array, reset: Array | None, memory: State
  ) -> tuple[Array, State]:
    if reset is not None:
      memory = [jnp.where(reset[:, None], 0.0, x) for x in memory]
    return self._apply(u, memory, Coefficients.step)

  def deter(self, output: Array, memory: State) -> Array:
    if self._deter_from == 'state':
      output = real_parts(memory)
    deter = self._deter(output.astype(self._dtype)).astype(jnp.float32)
    return distributions.symlog(placement.out_of_place(deter))

  def _deter_init(self, shape, dtype) -> Array:
    """Reads each S5 state in units of its response to a constant input.

    Slow states add up whatever is the same at every step, until what differs is
    a tenth of it; heads then take many thousand updates to find a cue given
    some steps ago. The response of x_t = Abar x_{t-1} + Bbar u to a constant u
    is |B / Lambda| u, and the rows of B have about unit length.
    """
    weights = hk.initializers.Orthogonal()(shape, dtype)
    if self._deter_from == 'output':
      return weights
    magnitude = np.abs(initial_eigenvalues(self._config))
    layers = shape[0] // len(magnitude)
    return weights * np.tile(magnitude, layers)[:, None]

  def _apply(self, x: Array, before: State, advance) -> tuple[Array, State]:
    states = []
    for block in range(self._config.num_blocks):
      for _ in range(2):
        u = normalization.LayerNorm()(x)
        layer = S5Layer(self._config).coefficients()
        states.append(advance(layer, before[len(states)], u))
        y = layer.read(states[-1], u).astype(x.dtype)
        y = linear.Linear(self._config.width)(y)
        x = placement.out_of_place(x)
        x += jax.nn.gelu(placement.out_of_place(y))
      x += normalization.LayerNorm(name=f'norm_{block}')(x)
    return x, tuple(states)
