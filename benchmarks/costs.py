"""What a program asks of a device, counted from the program and not timed."""

from collections.abc import Iterator, Mapping
import dataclasses
import math
import re
from typing import Any

import jax
import numpy as np


@dataclasses.dataclass(frozen=True)
class Product:
  """A matrix product or convolution.

  flops: floating-point operations, two for each product of numbers, once.
  dtype: of the operands.
  times: how often loops around it have it done.
  """

  flops: int
  dtype: str
  times: int


def products(jaxpr: Any, times: int = 1) -> Iterator[Product]:
  """All matrix products and convolutions of a program, inner ones included.

  Args:
    jaxpr: what `jax.make_jaxpr(f)(...).jaxpr` is. Of the branches of a
      condition the most expensive counts.
    times: how often the program runs.

  Raises:
    ValueError: there are products in a loop of unknown length.
  """
  for equation in jaxpr.eqns:
    name = equation.primitive.name
    inner = list(jax.core.jaxprs_in_params(equation.params))
    if name in _FLOPS:
      dtype = str(equation.invars[0].aval.dtype)
      yield Product(_FLOPS[name](equation), dtype, times)
    elif name == 'cond':
      branches = [list(products(branch, times)) for branch in inner]
      yield from max(branches, key=total_flops)
    elif name == 'while' and any(list(products(i)) for i in inner):
      raise ValueError('There are products in a loop of unknown length.')
    else:
      length = equation.params['length'] if name == 'scan' else 1
      for program in inner:
        yield from products(program, times * length)


def total_flops(found: Iterator[Product] | list[Product]) -> int:
  """Of all products, each as often as it is done."""
  return sum(product.flops * product.times for product in found)


def _dot_flops(equation) -> int:
  (contracted, _), _ = equation.params['dimension_numbers']
  left, out = equation.invars[0].aval, equation.outvars[0].aval
  return 2 * out.size * math.prod(left.shape[axis] for axis in contracted)


def _convolution_flops(equation) -> int:
  """Without products with padding and with what dilation puts in between."""
  params = equation.params
  numbers = params['dimension_numbers']
  image, kernel = (v.aval.shape for v in equation.invars)
  out = equation.outvars[0].aval.shape
  pairs = out[numbers.out_spec[0]] * out[numbers.out_spec[1]]
  pairs *= kernel[numbers.rhs_spec[1]]
  if params['batch_group_count'] > 1:
    raise NotImplementedError('Batches in groups are not counted.')
  for axis in range(len(numbers.lhs_spec) - 2):
    seen = image[numbers.lhs_spec[axis + 2]]
    dilation = params['lhs_dilation'][axis]
    # Where in the padded, dilated image each part of the kernel falls.
    places = np.add.outer(
      np.arange(out[numbers.out_spec[axis + 2]])
      * params['window_strides'][axis],
      np.arange(kernel[numbers.rhs_spec[axis + 2]])
      * params['rhs_dilation'][axis],
    )
    places -= params['padding'][axis][0]
    inside = (places >= 0) & (places <= (seen - 1) * dilation)
    pairs *= int((inside & (places % dilation == 0)).sum())
  return 2 * pairs


_FLOPS = {
  'dot_general': _dot_flops,
  'conv_general_dilated': _convolution_flops,
}


@dataclasses.dataclass(frozen=True)
class Traffic:
  """Kernels that a compiled program starts, and bytes they read and write."""

  kernels: int = 0
  nbytes: int = 0

  def __add__(self, other: 'Traffic') -> 'Traffic':
    return Traffic(self.kernels + other.kernels, self.nbytes + other.nbytes)

  def __mul__(self, times: int) -> 'Traffic':
    return Traffic(self.kernels * times, self.nbytes * times)


# Change no array, or only how one is looked at.
_FREE = {
  'after-all',
  'bitcast',
  'constant',
  'get-tuple-element',
  'opt-barrier',
  'parameter',
  'tuple',
}
# Bytes of what does not say its bits.
_SIZES = {'pred': 1, 'token': 0}
_ARRAY = re.compile(r'\b([a-z]+\d*)\[([\d,]*)\]')
_COMPUTATION = re.compile(r'^(ENTRY )?%?([\w.\-]+) \(.*\{$')
# No name that XLA gives.
_ENTRY = '<entry>'
_INSTRUCTION = re.compile(
  r'^  (ROOT )?%?(?P<name>[\w.\-]+) = (?P<kind>\(.*?\)|\S+) '
  r'(?P<opcode>[\w\-]+)\((?P<operands>[^)]*)\)(?P<rest>.*)$'
)


@dataclasses.dataclass(frozen=True)
class _Instruction:
  """A line of a program in XLA's text."""

  name: str
  opcode: str
  nbytes: int
  operands: list[str]
  rest: str
  is_root: bool

  def called(self, role: str) -> str:
    return re.search(rf'\b{role}=%?([\w.\-]+)', self.rest)[1]


def traffic(text: str) -> Traffic:
  """What a compiled program does, loops as often as they run.

  A fusion is a kernel, and so is each instruction outside of one. Each reads
  its operands and writes its result once; of arrays from which it takes a
  slice, or into which it writes one, the slice alone.

  Args:
    text: `jax.jit(f).lower(...).compile().as_text()`.

  Raises:
    ValueError: a loop's length is unknown.
  """
  return _traffic(dict(_parse(text)), _ENTRY)


def _parse(text: str) -> Iterator[tuple[str, dict[str, _Instruction]]]:
  """Instructions by computation; the one that runs first is `_ENTRY`."""
  current = None
  for line in text.splitlines():
    if found := _COMPUTATION.match(line):
      current = (_ENTRY if found[1] else found[2], {})
    elif line == '}' and current:
      yield current
      current = None
    elif current and (found := _INSTRUCTION.match(line)):
      current[1][found['name']] = _Instruction(
        found['name'],
        found['opcode'],
        sum(map(_nbytes, _ARRAY.finditer(found['kind']))),
        re.findall(r'%([\w.\-]+)', found['operands']),
        found['rest'],
        bool(found[1]),
      )


def _nbytes(array: re.Match) -> int:
  kind, shape = array[1], array[2]
  size = _SIZES[kind] if kind in _SIZES else int(kind.lstrip('bcfsu')) // 8
  return size * math.prod(map(int, filter(None, shape.split(','))))


def _traffic(computations: Mapping[str, dict], name: str) -> Traffic:
  total = Traffic()
  instructions = computations[name]
  for instruction in instructions.values():
    opcode = instruction.opcode
    if opcode in _FREE:
      continue
    if opcode == 'while':
      found = re.search(r'"known_trip_count":\{"n":"(\d+)"', instruction.rest)
      if not found:
        raise ValueError(f'The length of loop {instruction.name} is unknown.')
      body = _traffic(computations, instruction.called('body'))
      total += body * int(found[1])
    elif opcode == 'call':
      total += _traffic(computations, instruction.called('to_apply'))
    elif opcode == 'conditional':
      names = re.search(r'branch_computations=\{([^}]*)\}', instruction.rest)
      branches = (
        re.findall(r'[\w.\-]+', names[1])
        if names
        else [instruction.called(f'{b}_computation') for b in ('true', 'false')]
      )
      total += max(
        (_traffic(computations, branch) for branch in branches),
        key=lambda branch: branch.nbytes,
      )
    else:
      total += Traffic(1, _moved(computations, instructions, instruction))
  return total


def _moved(computations, instructions, instruction: _Instruction) -> int:
  """Bytes that one kernel reads and writes."""
  if instruction.opcode != 'fusion':
    part = _part(instruction, instructions)
    if part is not None:
      return 2 * part
    read = (instructions[name].nbytes for name in instruction.operands)
    return instruction.nbytes + sum(read)
  inner = computations[instruction.called('calls')]
  operands = [i for i in inner.values() if i.opcode == 'parameter']
  (root,) = (i for i in inner.values() if i.is_root)
  is_tuple = root.opcode == 'tuple'
  results = [inner[name] for name in root.operands] if is_tuple else [root]
  return sum(_read(operand, inner) for operand in operands) + sum(
    _written(result, inner) for result in results
  )


def _read(parameter: _Instruction, instructions) -> int:
  """Bytes that a fusion reads of one operand."""
  parts = []
  for user in instructions.values():
    if parameter.name in user.operands:
      part = _part(user, instructions)
      if part is None or parameter.name in user.operands[1:]:
        return parameter.nbytes
      # What is written into is not read.
      parts.append(0 if user.opcode == 'dynamic-update-slice' else part)
  return sum(parts)


def _written(output: _Instruction, instructions) -> int:
  """Bytes that a fusion writes of one result."""
  while output.opcode == 'bitcast':
    output = instructions[output.operands[0]]
  if output.opcode == 'dynamic-update-slice':
    return _part(output, instructions)
  return output.nbytes


def _part(instruction: _Instruction, instructions) -> int | None:
  """Bytes of the part of its first operand that it needs, if not all of it."""
  if instruction.opcode in ('dynamic-slice', 'slice', 'gather'):
    return instruction.nbytes
  if instruction.opcode == 'dynamic-update-slice':
    return instructions[instruction.operands[1]].nbytes
  return None
