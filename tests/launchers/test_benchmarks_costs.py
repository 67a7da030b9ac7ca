"""What a program asks of a device, beside XLA's count and closed forms."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from acme_hieros import config as config_lib
from acme_hieros.models.ops import backend, convolution
from benchmarks import accelerator, batches, costs, full_size


def flops(function, *args):
  found = list(costs.products(jax.make_jaxpr(function)(*args).jaxpr))
  return costs.total_flops(found)


def numbers(*shape):
  return jax.ShapeDtypeStruct(shape, jnp.float32)


def compiled(function, *args):
  return jax.jit(function).lower(*args).compile()


def test_products_are_counted():
  args = numbers(5, 7, 11), numbers(5, 11, 13)
  jaxpr = jax.make_jaxpr(jnp.matmul)(*args).jaxpr
  (found,) = costs.products(jaxpr)
  assert found.flops == 2 * 5 * 7 * 11 * 13 and found.times == 1
  assert found.dtype == 'float32'


def test_a_gradient_has_two_products_more():
  args = numbers(11, 13), numbers(7, 11)

  def loss(w, x):
    return jnp.sum(jnp.square(jnp.tanh(x @ w) @ w.T))

  once = 2 * 7 * 11 * 13
  assert flops(loss, *args) == 2 * once
  # Of the first product x needs no gradient.
  assert flops(jax.grad(loss), *args) == (2 + 1 + 2) * once


@pytest.mark.parametrize('stride', [1, 2, 3])
@pytest.mark.parametrize('dilation', [(1, 1), (2, 1), (1, 2)])
@pytest.mark.parametrize('padding', [((0, 0), (0, 0)), ((1, 2), (0, 3))])
def test_convolutions_are_those_that_xla_counts(stride, dilation, padding):
  def convolve(x, kernel):
    return jax.lax.conv_general_dilated(
      x,
      kernel,
      (stride, stride),
      padding,
      lhs_dilation=dilation,
      rhs_dilation=dilation[::-1],
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    )

  args = numbers(3, 12, 10, 5), numbers(4, 3, 5, 6)
  analysis = jax.jit(convolve).lower(*args).cost_analysis()
  assert flops(convolve, *args) == analysis['flops']


def test_gradients_of_convolutions_too():
  def convolve(x, kernel):
    return jax.lax.conv(x, kernel, (2, 2), 'SAME')

  args = numbers(3, 5, 12, 10), numbers(6, 5, 4, 3)
  once = flops(convolve, *args)
  for argument in (0, 1):
    both = jax.value_and_grad(lambda *a: convolve(*a).sum(), argument)
    # Each number of the output meets each that it is made of, once more.
    assert flops(both, *args) == 2 * once


def test_loops_count_as_often_as_they_run():
  def scan(x, w):
    def step(x, _):
      return jax.lax.fori_loop(0, 3, lambda i, x: x @ w, x), None

    return jax.lax.scan(step, x, None, length=5)[0]

  args = numbers(7, 11), numbers(11, 11)
  assert flops(scan, *args) == 5 * 3 * 2 * 7 * 11 * 11


def test_of_a_condition_the_most_expensive_branch_counts():
  def choose(i, x):
    return jax.lax.switch(i, [lambda x: x, lambda x: x @ x, jnp.tanh], x)

  assert flops(choose, 0, numbers(8, 8)) == 2 * 8**3


def test_products_in_a_loop_of_unknown_length_are_refused():
  def double(x):
    return jax.lax.while_loop(lambda x: x[0, 0] < 9, lambda x: x @ x, x)

  with pytest.raises(ValueError, match='unknown length'):
    flops(double, numbers(8, 8))


def test_functions_of_numbers_are_one_kernel():
  text = compiled(lambda x: jnp.exp(x) * 2 + x, numbers(300, 7)).as_text()
  moved = costs.traffic(text)
  assert moved == costs.Traffic(1, 2 * 4 * 300 * 7)


def test_of_a_loop_only_the_slices_move():
  steps, size = 100, 4096

  def add(x):
    return jax.lax.scan(lambda c, x: (c + x, c), jnp.zeros(size), x)

  moved = costs.traffic(compiled(add, numbers(steps, size)).as_text())
  assert steps < moved.kernels < 10 * steps
  # A step reads c and x and writes c, twice, and may copy some of them. If all
  # of x or of the output counted, it would be a hundred times as much.
  row = 4 * size
  assert 4 * row * steps <= moved.nbytes < 10 * row * steps


def test_a_product_reads_both_sides_and_writes_one():
  args = numbers(64, 128), numbers(128, 256)
  moved = costs.traffic(compiled(jnp.matmul, *args).as_text())
  assert moved.nbytes == 4 * (64 * 128 + 128 * 256 + 64 * 256)


def test_of_branches_the_one_that_moves_most_counts():
  def choose(i, x):
    return jax.lax.switch(i, [jnp.tanh, lambda x: x @ x, lambda x: x], x)

  args = jax.ShapeDtypeStruct((), jnp.int32), numbers(64, 64)
  moved = costs.traffic(compiled(choose, *args).as_text())
  # Both sides and the result of the product. Two more each for tanh and a copy
  # would be seven.
  array = 4 * 64 * 64
  assert 3 * array <= moved.nbytes < 6 * array


def test_a_device_is_as_fast_as_its_data_sheet_says():
  found = [costs.Product(495 * 10**9, 'float32', 2)]
  moved = costs.Traffic(1000, 3_350_000_000)
  device = accelerator.DEVICES['H100 SXM']
  parts = accelerator.times(found, moved, device)
  np.testing.assert_allclose(parts, [2e-3, 1e-3, 3.4e-3])


def trace(preset, index, form):
  """One update of a preset's level, traced as for one kind of device."""
  config = config_lib.preset(preset)
  level = full_size.make_agent(config).levels[index]
  state = jax.eval_shape(level.init, jax.random.PRNGKey(0))
  batch = batches.draw(config, level)
  return jax.make_jaxpr(form(level.update))(state, batch, 1.0).jaxpr


# GFLOP of products; lower them when an update becomes cheaper. Of `small` 0.2
# are products with z of 24 rows, which looking up (`linear.select`) would slow.
@pytest.mark.parametrize(
  'preset,index,form,most',
  [
    ('tiny', 0, backend.for_cpu, 9.5),
    ('small', 0, backend.for_cpu, 18.4),
    ('small', 0, backend.for_accelerator, 25.7),
    ('atari100k', 0, backend.for_cpu, 408),
    ('atari100k', 1, backend.for_cpu, 410),
    ('atari100k', 2, backend.for_cpu, 350),
  ],
)
def test_an_update_asks_for_no_more_than_it_did(preset, index, form, most):
  gflop = costs.total_flops(costs.products(trace(preset, index, form))) / 1e9
  # A count that misses half of it would pass as well.
  assert 0.95 * most < gflop <= most


def test_forms_for_an_accelerator_convolve():
  def downsample(x):
    return convolution.downsample(x, jnp.ones((4, 4, 3, 5)))

  def names(form):
    program = str(jax.make_jaxpr(form(downsample))(numbers(2, 8, 8, 3)))
    return set(re.findall(r'conv_general_dilated|dot_general', program))

  assert names(backend.for_cpu) == {'dot_general'}
  assert names(backend.for_accelerator) == {'conv_general_dilated'}
