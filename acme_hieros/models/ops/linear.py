"""Linear maps of numbers and of choices, in the forms that are fast.

Most of what the networks take in is z, which is one-hot: its product with a
matrix is a sum of rows of that matrix.
"""

import math
from typing import NamedTuple, TypeVar

import haiku as hk
import jax
import jax.numpy as jnp

from acme_hieros.models.ops import backend, reductions

Array = jax.Array

# A CPU looks up up to so many choices in one pass over memory. Of more rows it
# does where there is much that is not multiplied.
_FEW_ROWS, _CHOICES_OF_FEW = 16, 256
_LEAST_CLASSES, _LEAST_NUMBERS, _CHOICES_OF_MANY = 8, 512, 128
# Of the weights, at a time, so that they stay in the cache.
_COLUMNS = 128


class OneHots(NamedTuple):
  """Choices among K classes, such as z.

  chosen: int32 [..., C]; K stands for no choice, which is all zeros.
  value: the same as one-hot numbers [..., C, K], with what gradient they have.
  """

  chosen: Array
  value: Array


# What a network takes in: numbers [..., any], choices, or a tuple of both.
Inputs = Array | OneHots | tuple[OneHots | Array, ...]
# Inputs of one form, which stays the same.
AnyInputs = TypeVar('AnyInputs', bound=Inputs)


def one_hots(index: Array, classes: int) -> OneHots:
  """Choices [..., C] that have no gradient."""
  index = index.astype(jnp.int32)
  return OneHots(index, jax.nn.one_hot(index, classes))


def parts(inputs: Inputs) -> tuple[OneHots | Array, ...]:
  """The inputs one by one; if they are several, these themselves."""
  if isinstance(inputs, OneHots) or not isinstance(inputs, tuple):
    return (inputs,)
  return inputs


def cast(inputs: AnyInputs, dtype: jnp.dtype) -> AnyInputs:
  """Numbers and values of choices in another type."""
  return jax.tree.map(
    lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x,
    inputs,
  )


def stop_gradient(inputs: AnyInputs) -> AnyInputs:
  """The inputs as given numbers and choices, which have no gradient."""
  return jax.tree.map(
    lambda x: (
      one_hots(x.chosen, x.value.shape[-1])
      if isinstance(x, OneHots)
      else jax.lax.stop_gradient(x)
    ),
    inputs,
    is_leaf=lambda x: isinstance(x, OneHots),
  )


def matmul(x: Array, weights: Array) -> Array:
  """[..., K] times [K, M], in the type of x; has no forward derivatives."""
  # Over several axes XLA would first transpose all of x for the gradient.
  y = _matmul(x.reshape(-1, x.shape[-1]), weights)
  return y.reshape(x.shape[:-1] + y.shape[-1:])


@jax.custom_vjp
def _matmul(x: Array, weights: Array) -> Array:
  return x @ weights.astype(x.dtype)


def _forward(x, weights):
  return _matmul(x, weights), (x, weights)


def _backward(saved, gradient):
  x, weights = saved
  d_x = gradient @ weights.astype(x.dtype).T
  if not backend.on_cpu():
    d_weights = x.T @ gradient
  # The wider factor on the right is up to three times as fast on a CPU; without
  # the barriers XLA would exchange them.
  elif x.shape[1] > gradient.shape[1]:
    d_weights = jax.lax.optimization_barrier(gradient.T @ x).T
  else:
    d_weights = jax.lax.optimization_barrier(x.T @ gradient)
  return d_x, d_weights.astype(weights.dtype)


_matmul.defvjp(_forward, _backward)


def select(choices: OneHots, weights: Array) -> Array:
  """The products of choices with weights [C * K, M]: [..., M]."""
  *batch, count, classes = choices.value.shape
  y = _select(
    choices.chosen.reshape(-1, count),
    choices.value.reshape(-1, count * classes),
    weights,
  )
  return y.reshape((*batch, -1))


@jax.custom_vjp
def _select(index: Array, value: Array, weights: Array) -> Array:
  number, count = index.shape
  classes = len(weights) // count
  if backend.on_cpu():
    if number <= _FEW_ROWS and count <= _CHOICES_OF_FEW:
      return _sum_of_few_rows(index, weights).astype(value.dtype)
    if (
      classes >= _LEAST_CLASSES
      and number * classes >= _LEAST_NUMBERS
      and count <= _CHOICES_OF_MANY
    ):
      return _sum_of_rows(index, weights).astype(value.dtype)
  return _matmul(value, weights)


def _rows(index: Array, classes: int) -> tuple[Array, Array]:
  """Where the choices [N, C] stand in the weights, and which there are."""
  first = classes * jnp.arange(index.shape[1])
  is_choice = (index >= 0) & (index < classes)
  return first + jnp.clip(index, 0, classes - 1), is_choice


# Both are traced once for each form: their sums over choices are long.
@jax.jit
def _sum_of_few_rows(index: Array, weights: Array) -> Array:
  """Choices [N, C] times weights [C * K, M]: float32 [N, M].

  Reads of the weights no more than is chosen, which is what takes time.
  """
  rows, is_choice = _rows(index, len(weights) // index.shape[1])
  y = jnp.zeros((len(index), weights.shape[1]))
  for i in range(rows.shape[1]):
    row = weights.at[rows[:, i]].get(mode='promise_in_bounds')
    y += jnp.where(is_choice[:, i, None], row, 0.0)
  return y


@jax.jit
def _sum_of_rows(index: Array, weights: Array) -> Array:
  """The same for many N; no choice is a row of zeros, which needs no test."""
  columns = weights.shape[1]
  rows, is_choice = _rows(index, len(weights) // index.shape[1])
  rows = jnp.where(is_choice, rows, len(weights))
  # Of two blocks at least: what XLA need not run in steps it would merge into
  # every loop that uses the sum, and store each of its terms for them.
  width = min(_COLUMNS, -(-columns // 2))
  blocks = -(-columns // width)
  weights = jnp.pad(weights, ((0, 1), (0, blocks * width - columns)))

  def fill(y, start):
    block = jax.lax.dynamic_slice_in_dim(weights, start, width, 1)
    total = jnp.zeros((len(rows), width))
    for i in range(rows.shape[1]):
      total += block.at[rows[:, i]].get(mode='promise_in_bounds')
    return jax.lax.dynamic_update_slice_in_dim(y, total, start, 1), None

  y, _ = jax.lax.scan(
    fill,
    jnp.zeros((len(rows), blocks * width)),
    width * jnp.arange(blocks),
  )
  return y[:, :columns]


_select.defvjp(
  lambda index, *args: (_select(index, *args), args),
  lambda args, gradient: (None, *_backward(args, gradient)),
)


@jax.custom_vjp
def add_bias(x: Array, bias: Array) -> Array:
  """[..., C] plus float32 [C], in the type of x."""
  return (x + bias).astype(x.dtype)


def _backward_of_add(_, gradient):
  # A sum over all rows is too long for bfloat16.
  return gradient, reductions.column_sums(gradient.astype(jnp.float32))


add_bias.defvjp(lambda x, bias: (add_bias(x, bias), None), _backward_of_add)


class Linear(hk.Module):
  """Linear map of all inputs, [..., any] to [..., size].

  Of several inputs each has weights of its own, which by default start as if
  the inputs were concatenated; `w_init` sees one input at a time.

  Args:
    size: numbers that come out.
    with_bias: whether a bias is added, which starts at 0.
    w_init: of the weights; by default of variance 1 / inputs.
  """

  def __init__(
    self,
    size: int,
    with_bias: bool = True,
    w_init: hk.initializers.Initializer | None = None,
    name: str | None = None,
  ):
    super().__init__(name)
    self._size = size
    self._with_bias = with_bias
    self._w_init = w_init

  def __call__(self, inputs: Inputs) -> Array:
    several = parts(inputs) is inputs
    sizes = [
      math.prod(x.value.shape[-2:]) if isinstance(x, OneHots) else x.shape[-1]
      for x in parts(inputs)
    ]
    init = self._w_init or hk.initializers.TruncatedNormal(sum(sizes) ** -0.5)
    products = []
    for i, (x, size) in enumerate(zip(parts(inputs), sizes)):
      name = f'w_{i}' if several else 'w'
      weights = hk.get_parameter(name, (size, self._size), init=init)
      products.append(
        select(x, weights) if isinstance(x, OneHots) else matmul(x, weights)
      )
    y = sum(products[1:], products[0])
    if self._with_bias:
      bias = hk.get_parameter('b', (self._size,), init=jnp.zeros)
      y = add_bias(y, bias)
    return y
