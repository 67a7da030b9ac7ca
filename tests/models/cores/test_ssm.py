"""What holds for state space layers and the S5 stack (arXiv 2208.04933)."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from acme_hieros.config import S5Config, WorldModelConfig
from acme_hieros.models.cores import s5, ssm

CONFIG = S5Config(num_blocks=2, width=6, state_size=8, hippo_blocks=2)
CORE = s5.S5Core(WorldModelConfig(s5=CONFIG), jnp.float32)
BATCH, LENGTH = 3, 7
LAYER = 'ssm_layer'

SCANS = pytest.mark.parametrize(
  'scan', [ssm.sequential_scan, ssm.associative_scan]
)


@pytest.fixture(scope='module')
def layer():
  return hk.without_apply_rng(
    hk.transform(lambda: ssm.SSMLayer(CONFIG).coefficients())
  )


@pytest.fixture(scope='module')
def stack():
  def modules():
    module = CORE.make_module('core')
    return module.scan, (module.scan, module.step)

  transformed = hk.without_apply_rng(hk.multi_transform(modules))
  scan, step = (jax.jit(f) for f in transformed.apply)
  u = jax.random.normal(jax.random.PRNGKey(1), (BATCH, LENGTH, CONFIG.width))
  state = CORE.initial_state(BATCH)
  reset = jnp.zeros((BATCH, LENGTH), bool)
  params = transformed.init(jax.random.PRNGKey(0), u, reset, state)
  return params, scan, step, u


def assert_all_near(one, other, atol):
  assert len(one) == len(other) == 4
  for x, y in zip(one, other):
    np.testing.assert_allclose(x, y, atol=atol)


def complex_normal(rng, *shape):
  return rng.normal(size=shape) + 1j * rng.normal(size=shape)


@pytest.mark.parametrize('size', [1, 4, 33])
def test_hippo_normal_diagonalises_legs_plus_its_low_rank_part(size):
  n = np.arange(size)
  product = np.sqrt((2 * n[:, None] + 1) * (2 * n[None, :] + 1))
  legs = np.where(
    n[:, None] > n, -product, np.where(n[:, None] == n, -(n + 1.0), 0.0)
  )
  p = np.sqrt(n + 0.5)

  eigenvalues, vectors = ssm.hippo_normal(size)

  inverse = np.linalg.inv(vectors)
  np.testing.assert_allclose(
    vectors @ np.diag(eigenvalues) @ inverse,
    legs + np.outer(p, p),
    atol=1e-10 * size**2,
  )
  np.testing.assert_allclose(inverse, vectors.conj().T, atol=1e-10)
  np.testing.assert_allclose(eigenvalues.real, -0.5)


def complex_projections(params):
  """B [P, H] and C [H, P] from their halves side by side."""
  b_real, b_imag = np.split(np.asarray(params['complex_b']), 2, 1)
  c_real, c_minus_imag = np.split(np.asarray(params['complex_c']), 2, 0)
  return (b_real + 1j * b_imag).T, (c_real - 1j * c_minus_imag).T


def test_layer_starts_from_hippo_blocks_real_projections_and_given_steps(layer):
  params = layer.init(jax.random.PRNGKey(0))[LAYER]
  eigenvalues, vectors = ssm.hippo_normal(
    CONFIG.state_size // CONFIG.hippo_blocks
  )

  rate = -np.exp(params['log_decay']) + 1j * params['frequency']
  np.testing.assert_allclose(rate, np.tile(eigenvalues, 2), rtol=1e-5)
  step = np.exp(params['log_step'])
  assert np.all((step >= CONFIG.dt_min) & (step <= CONFIG.dt_max))
  assert np.unique(step).size == CONFIG.state_size
  # B = V^-1 B0 and C = C0 V with real B0 and C0.
  v = scipy.linalg.block_diag(vectors, vectors)
  b, c = complex_projections(params)
  assert np.abs(b.imag).max() > 0.01 and np.abs(c.imag).max() > 0.01
  np.testing.assert_allclose((v @ b).imag, 0.0, atol=1e-5)
  np.testing.assert_allclose((c @ np.linalg.inv(v)).imag, 0.0, atol=1e-5)


def test_discretisation_is_the_zero_order_hold(layer, perturb):
  params = perturb(layer.init(jax.random.PRNGKey(0)))
  coefficients = layer.apply(params)
  p = jax.tree.map(lambda x: np.asarray(x, np.float64), params[LAYER])
  rate = -np.exp(p['log_decay']) + 1j * p['frequency']
  b, c = complex_projections(p)
  width, size = CONFIG.width, CONFIG.state_size

  # The exponential of [[Lambda, B], [0, 0]] Delta is [[Abar, Bbar], [0, 1]].
  a_bar, b_bar = [], []
  for n in range(size):
    system = np.zeros((1 + width, 1 + width), complex)
    system[0, 0], system[0, 1:] = rate[n], b[n]
    held = scipy.linalg.expm(system * np.exp(p['log_step'][n]))
    a_bar.append(held[0, 0])
    b_bar.append(held[0, 1:])
  np.testing.assert_allclose(coefficients.a, a_bar, rtol=1e-5)

  rng = np.random.default_rng(0)
  u, x = rng.normal(size=(5, width)), complex_normal(rng, 5, size)
  np.testing.assert_allclose(
    coefficients.drive(jnp.asarray(u, jnp.float32)),
    u @ np.array(b_bar).T,
    rtol=1e-4,
    atol=1e-5,
  )
  halves = ssm.to_halves(jnp.asarray(x, jnp.complex64))
  np.testing.assert_allclose(
    ssm.from_halves(coefficients.step(halves, jnp.asarray(u, jnp.float32))),
    x * a_bar + u @ np.array(b_bar).T,
    rtol=1e-4,
    atol=1e-5,
  )
  np.testing.assert_allclose(
    coefficients.read(halves, jnp.asarray(u, jnp.float32)),
    (x @ c.T).real + p['d'] * u,
    rtol=1e-4,
    atol=1e-5,
  )


def test_states_cannot_grow_whatever_is_learned(layer, perturb):
  params = layer.init(jax.random.PRNGKey(0))
  for seed in range(20):
    a = layer.apply(perturb(params, 5.0, seed)).a
    assert np.all(np.isfinite(a)) and np.all(np.abs(a) <= 1.0)


def recurrence(a, drive, reset, x):
  """x_t = a x_{t-1} + drive_t in complex128, with x_{t-1} = 0 at a reset."""
  states = []
  for t in range(drive.shape[1]):
    x = a * np.where(reset[:, t, None], 0.0, x) + drive[:, t]
    states.append(x)
  return np.stack(states, 1)


@SCANS
@pytest.mark.parametrize('length', [1, 2, 13])
def test_scan_equals_the_recurrence_with_resets(scan, length):
  rng = np.random.default_rng(0)
  a = np.exp(-rng.uniform(0.01, 1, 4) + 1j * rng.normal(size=4))
  drive, x = complex_normal(rng, 3, length, 4), complex_normal(rng, 3, 4)
  reset = rng.uniform(size=(3, length)) < 0.3
  reset[0, 0] = True

  states = scan(
    jnp.asarray(a, jnp.complex64),
    jnp.asarray(drive, jnp.complex64),
    jnp.asarray(reset),
    jnp.asarray(x, jnp.complex64),
  )

  assert states.dtype == jnp.complex64
  np.testing.assert_allclose(
    states, recurrence(a, drive, reset, x), rtol=1e-5, atol=1e-5
  )


@SCANS
def test_gradient_of_the_scan_equals_finite_differences(scan):
  rng = np.random.default_rng(0)
  a = 0.9 * np.exp(1j * rng.normal(size=2))
  arguments = (a, complex_normal(rng, 1, 6, 2), complex_normal(rng, 1, 2))
  direction = [complex_normal(rng, *x.shape) for x in arguments]
  reset = np.array([[False, False, False, True, False, False]])
  weights = complex_normal(rng, 1, 6, 2)

  def reference(scale):
    a, drive, x = (v + scale * d for v, d in zip(arguments, direction))
    return np.sum((weights * recurrence(a, drive, reset, x)).real)

  def loss(scale):
    a, drive, x = (v + scale * d for v, d in zip(arguments, direction))
    return jnp.sum((weights * scan(a, drive, reset, x)).real)

  with jax.experimental.enable_x64():
    gradient = jax.grad(loss)(jnp.zeros(()))
  expected = (reference(1e-5) - reference(-1e-5)) / 2e-5
  np.testing.assert_allclose(gradient, expected, rtol=1e-6)


def test_scan_of_the_stack_equals_repeated_steps(stack):
  params, scan, step, u = stack
  reset = jnp.zeros((BATCH, LENGTH), bool).at[1, 3].set(True).at[2, 0].set(True)
  rng = np.random.default_rng(0)
  state = tuple(
    jnp.asarray(rng.normal(size=x.shape), jnp.float32)
    for x in CORE.initial_state(BATCH)
  )

  outputs, states = scan(params, u, reset, state)

  for t in range(LENGTH):
    output, state = step(params, u[:, t], reset[:, t], state)
    np.testing.assert_allclose(output, outputs[:, t], atol=1e-4)
    assert_all_near(state, [x[:, t] for x in states], atol=1e-4)


def test_outputs_after_a_reset_are_those_of_a_fresh_sequence(stack):
  params, scan, step, u = stack
  cut = 3
  state = CORE.initial_state(BATCH)
  reset = jnp.zeros((BATCH, LENGTH), bool)

  other = tuple(x + 5.0 for x in state)
  outputs, states = scan(params, u, reset.at[:, cut].set(True), other)
  # The same length, so that nothing is compiled anew; the tail is ignored.
  fresh_outputs, fresh_states = scan(params, jnp.roll(u, -cut, 1), reset, state)

  tail = LENGTH - cut
  np.testing.assert_allclose(
    outputs[:, cut:], fresh_outputs[:, :tail], atol=1e-5
  )
  assert_all_near(
    [x[:, cut:] for x in states], [x[:, :tail] for x in fresh_states], atol=1e-5
  )
  # Without the reset they differ, or the test would hold for no memory at all.
  carried, _ = scan(params, u, reset, other)
  assert np.abs(carried[:, cut:] - outputs[:, cut:]).max() > 1e-2


def test_no_gradient_crosses_a_reset(stack):
  params, scan, _, u = stack
  state = CORE.initial_state(BATCH)
  cut = 3

  @jax.jit
  def gradient(reset):
    def loss(u, state):
      outputs, _ = scan(params, u, reset, state)
      return jnp.sum(jnp.square(outputs[:, cut:]))

    return jax.grad(loss, (0, 1))(u, state)

  reset = jnp.zeros((BATCH, LENGTH), bool)
  of_input, of_state = gradient(reset.at[:, cut].set(True))
  assert np.all(of_input[:, :cut] == 0.0)
  assert all(np.all(x == 0.0) for x in of_state)
  assert np.all(np.abs(of_input[:, cut:]).max((0, 2)) > 0.0)
  of_input, of_state = gradient(reset)
  assert np.abs(of_input[:, :cut]).max() > 0.0
  assert all(np.abs(x).max() > 0.0 for x in of_state)


def test_double_block_is_two_residual_layers_and_a_norm(stack, layer):
  params, scan, _, u = stack
  p = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
  prefix = next(iter(p)).rsplit('/', 1)[0] + '/'

  def norm(name, x):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(
      x.var(-1, keepdims=True) + 1e-5
    )
    return x * p[prefix + name]['scale'] + p[prefix + name]['offset']

  def gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))

  x = np.asarray(u, np.float64)
  for i in range(4):
    suffix = f'_{i}' if i else ''
    c = layer.apply({LAYER: params[prefix + LAYER + suffix]})
    a, gain, b, c, d = (np.asarray(value) for value in c)
    normed = norm('layer_norm' + suffix, x)
    drive = normed @ b
    drive = drive[..., : CONFIG.state_size] + 1j * drive[..., -8:]
    drive = gain * drive
    start = np.zeros((BATCH, CONFIG.state_size))
    states = recurrence(a, drive, np.zeros((BATCH, LENGTH), bool), start)
    y = np.concatenate([states.real, states.imag], -1) @ c + d * normed
    linear = p[prefix + 'linear' + suffix]
    x = x + gelu(y @ linear['w'] + linear['b'])
    if i % 2:
      x = x + norm(f'norm_{i // 2}', x)

  reset = jnp.zeros((BATCH, LENGTH), bool)
  state = CORE.initial_state(BATCH)
  outputs, _ = scan(params, u, reset, state)
  np.testing.assert_allclose(outputs, x, rtol=1e-3, atol=1e-4)


def test_the_bilinear_form_is_the_trapezoidal_rule():
  """x' = rate x + u, of which both ends of a time step count half."""
  rng = np.random.default_rng(0)
  rate = -rng.uniform(0.1, 2.0, 5) + 1j * rng.normal(size=5)
  step = rng.uniform(0.01, 1.0, 5)
  a, gain = ssm.bilinear(jnp.asarray(rate), jnp.asarray(step))
  before, u = complex_normal(rng, 5), rng.normal(size=5)
  after = np.asarray(a) * before + np.asarray(gain) * u
  slope = 0.5 * (rate * before + rate * after) + u
  np.testing.assert_allclose(after, before + step * slope, rtol=1e-5)
  # As the held input's form for a short step, and never growing.
  held, _ = ssm.zero_order_hold(jnp.asarray(rate), jnp.asarray(1e-3 * step))
  short, _ = ssm.bilinear(jnp.asarray(rate), jnp.asarray(1e-3 * step))
  np.testing.assert_allclose(short, held, atol=1e-6)
  assert np.all(np.abs(ssm.bilinear(jnp.asarray(rate), 1e6)[0]) < 1.0 + 1e-6)
