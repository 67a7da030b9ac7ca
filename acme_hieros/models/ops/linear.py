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

# Of more choices a CPU multiplies all: each that is looked up is compiled.
_MOST_CHOICES = 256
_CHOICES_AT_A_TIME = 16
_FEW_ROWS = 16


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
  if not backend.on_cpu() or index.shape[1] > _MOST_CHOICES:
    return _matmul(value, weights)
  return _sum_of_rows(index, weights).astype(value.dtype)


# Traced once for each form: its loop over choices is long.
@jax.jit
def _sum_of_rows(index: Array, weights: Array) -> Array:
  """Choices [N, C] times weights [C * K, M]: float32 [N, M]."""
  number, count = index.shape
  classes = len(weights) // count
  # Of many rows some choices at a time, in one loop over memory for each group.
  # Of two groups at least: what XLA need not run in steps it would merge into
  # every loop that uses the sum, and store each of its terms for them.
  groups = 1
  if number > _FEW_ROWS:
    groups = max(2, -(-count // _CHOICES_AT_A_TIME))
  size = -(-count // groups)
  index = jnp.pad(
    index, ((0, 0), (0, groups * size - count)), constant_values=classes
  )
  first = classes * jnp.arange(groups * size)

  def add(y, group):
    index, first = group
    rows = first + jnp.clip(index, 0, classes - 1)
    is_choice = (index >= 0) & (index < classes)
    for i in range(size):
      y += jnp.where(
        is_choice[:, i, None],
        weights.at[rows[:, i]].get(mode='clip'),
        0.0,
      )
    return y, None

  y, _ = jax.lax.scan(
    add,
    jnp.zeros((number, weights.shape[1])),
    (
      index.reshape(number, groups, size).swapaxes(0, 1),
      first.reshape(groups, size),
    ),
  )
  return y


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
