"""Diagonal state space layers (S5, arXiv 2208.04933) with resets.

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

from acme_hieros.config import SSMConfig
from acme_hieros.models.ops import backend, placement

Array = jax.Array
# Of one layer, float32 [..., 2P].
State = Array


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


def initial_eigenvalues(config: SSMConfig) -> np.ndarray:
  """Lambda at the start, complex [P]: the blocks' eigenvalues, repeated."""
  eigenvalues, _ = hippo_normal(config.state_size // config.hippo_blocks)
  return np.tile(eigenvalues, config.hippo_blocks)


def _rate(layer: Mapping[str, Array]) -> Array:
  """Lambda. Its real part is minus an exponential: it stays negative."""
  return jax.lax.complex(-jnp.exp(layer['log_decay']), layer['frequency'])


def initial_state(config: SSMConfig, batch_size: int) -> State:
  """Zeros, [B, 2P]."""
  return jnp.zeros((batch_size, 2 * config.state_size))


def real_parts(state: State) -> Array:
  """[..., 2P] to [..., P]."""
  return jnp.split(state, 2, -1)[0]


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


def zero_order_hold(rate: Array, step: Array) -> tuple[Array, Array]:
  """Abar and Bbar / B of an input that is held for a time step, [P].

  Args:
    rate: Lambda, complex [P].
    step: Delta, [P].
  """
  scaled = rate * step
  # expm1 keeps the digits that exp(z) - 1 loses for a small time step.
  return jnp.exp(scaled), jnp.expm1(scaled) / rate


def bilinear(rate: Array, step: Array) -> tuple[Array, Array]:
  """The same by the trapezoidal rule (S4, 2111.00396, eq. 3)."""
  inverse = 1.0 / (1.0 - 0.5 * step * rate)
  return inverse * (1.0 + 0.5 * step * rate), inverse * step


def discrete_eigenvalues(
  params: hk.Params,
  discretise: Callable[..., tuple[Array, Array]] = zero_order_hold,
) -> dict[str, Array]:
  """Abar of all layers among some parameters, complex [P] by module name.

  Args:
    params: of any modules.
    discretise: as the layers do.
  """
  return {
    module: discretise(_rate(layer), jnp.exp(layer['log_step']))[0]
    for module, layer in params.items()
    if 'log_decay' in layer
  }


class SSMLayer(hk.Module):
  """One layer: real [..., width] in and out."""

  def __init__(
    self,
    config: SSMConfig,
    discretise: Callable[..., tuple[Array, Array]] = zero_order_hold,
    name: str | None = None,
  ):
    super().__init__(name)
    self._config = config
    self._discretise = discretise

  def scan(self, u: Array, reset: Array, x: State) -> tuple[Array, State]:
    """[B, T, H], bool [B, T], [B, 2P] to outputs [B, T, H], states."""
    own = self.coefficients()
    run = default_scan()
    x = to_halves(run(own.a, own.drive(u), reset, from_halves(x)))
    return own.read(x, u).astype(u.dtype), x

  def step(
    self, u: Array, reset: Array | None, x: State
  ) -> tuple[Array, State]:
    """[B, H], bool [B] or None, [B, 2P] to [B, H], [B, 2P]."""
    own = self.coefficients()
    if reset is not None:
      x = jnp.where(reset[:, None], 0.0, x)
    x = own.step(x, u)
    return own.read(x, u).astype(u.dtype), x

  def coefficients(self) -> Coefficients:
    """This layer's parameters, discretised."""
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
    a, gain = self._discretise(rate, jnp.exp(log_step))
    return Coefficients(a=a, gain=gain, b=b, c=c, d=d)
