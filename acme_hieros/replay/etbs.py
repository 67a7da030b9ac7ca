"""Efficient time-balanced sampling (ETBS) for any Reverb table.

Uniform sampling from a growing table draws an old item many more times than a
young one. ETBS favours young items by just so much, in O(1) (Hieros, arXiv
2310.05167, section 3.3). Of n items, oldest first, it draws the one at

  floor(n (tau x + (1 - tau) u)),  x = u (1 - ln u),  u uniform on (0, 1],

where tau is the temperature: at 0 the draws are uniform.

  table = etbs.make_table(
    'replay', etbs.Etbs(temperature=0.3), max_size=100_000,
    remover=reverb.selectors.Fifo(),
    rate_limiter=reverb.rate_limiters.MinSize(1))

Two backends do it. `native`, a C++ selector in Reverb's server, is exact for
every client, writer and remover. Where it could not be built, `python`, the
stand-in, draws from a uniform table and rejects, which asks for more:
`make_dataset` to read, `InsertionOrder` to write, one writer, a Fifo remover.
docs/etbs.md tells the whole story.
"""

import builtins
from collections.abc import Sequence
import importlib
import importlib.metadata
import logging
import operator
import os
import secrets
import subprocess
import sys
from typing import Any

import numpy as np
import reverb
import tensorflow as tf

from acme_hieros.replay import rejection

# Which backend to use: 'native', 'python', or unset for the best there is.
BACKEND_VARIABLE = 'ACME_HIEROS_ETBS'

# Releases of dm-reverb that the native backend was tested with. It relies on
# their binary interface, which no compiler checks.
_TESTED_REVERB = ('0.7.3',)

# Where those releases' pybind11 registers C++ types, among Python's builtins.
_REGISTRY = '__pybind11_internals_v3_gcc_libstdcpp_cxxabi1011__'


class Etbs:
  """The sampler of one table: `reverb.Table(sampler=Etbs())`.

  With the native backend it goes wherever Reverb takes a sampler. `make_table`
  is needed for the stand-in, and for tables that are restored from checkpoints.
  """

  def __init__(self, temperature: float = 0.3, seed: int | None = None):
    """Creates the sampler.

    Args:
      temperature: tau, in [0, 1]; 0 is uniform. The paper's is 0.3.
      seed: decides the draws, in 0..2**64-1. None: a random one.

    Raises:
      ValueError: a value is out of its range.
    """
    rejection.check_temperature(temperature)
    if seed is None:
      seed = secrets.randbits(64)
    if not 0 <= operator.index(seed) < 2**64:
      raise ValueError(f'seed={seed} must lie in 0..2**64-1.')
    self._temperature = float(temperature)
    self._seed = int(seed)
    self._selector = None

  def __reduce__(self):
    # A copy, in this process or another, is for a table of its own.
    return type(self), (self._temperature, self._seed)

  @property
  def temperature(self) -> float:
    return self._temperature

  def __repr__(self) -> str:
    hint = '' if _native else '; without its native backend for make_table only'
    return f'Etbs(temperature={self._temperature}{hint})'

  def build_selector(self) -> Any:
    """What Reverb gets for it; the native backend calls this.

    Raises:
      ValueError: a table has it already, or there is no native backend.
    """
    if not _native:
      raise ValueError(
        'Without its native backend ETBS is no selector: use make_table.'
      )
    if self._selector is not None and self._selector.in_table:
      raise ValueError(
        f'{self} belongs to a table already; a sampler knows the items of one '
        'table: make another.'
      )
    self._selector = _native.EtbsSelector(self._temperature, self._seed)
    return self._selector


def make_table(
  name: str,
  sampler: Etbs,
  remover: Any,
  max_size: int,
  rate_limiter: reverb.rate_limiters.RateLimiter,
  max_times_sampled: int = 0,
  extensions: Sequence[Any] = (),
  signature: Any = None,
) -> reverb.Table:
  """Creates a table that samples by ETBS, also after a checkpoint is restored.

  Reverb restores a sampler that it does not know as a uniform one. A table made
  here gets its ETBS back, with the old order, as often as it is restored. As
  with any table of Reverb, a server that restores it needs a table made anew.

  Args:
    name: as of `reverb.Table`, which says more of all but the sampler.
    sampler: of this table alone.
    remover: decides which item leaves a full table.
    max_size: the number of items the table holds.
    rate_limiter: decides when items may be inserted or drawn.
    max_times_sampled: after so many draws an item leaves; 0: never.
    extensions: further ones.
    signature: of the items.

  Raises:
    ValueError: the sampler is another's or none, or the stand-in cannot serve
      such a table.
  """
  if not isinstance(sampler, Etbs):
    raise ValueError(
      f'make_table takes an Etbs as the sampler, not {sampler!r}; any other '
      'goes to reverb.Table.'
    )
  if _native:
    selector = sampler.build_selector()
    keep = _KeepSampler(selector)
    extensions = (*extensions, keep)
  else:
    rejection.check_table(sampler.temperature, remover, max_times_sampled)
    selector = reverb.selectors.Uniform()
  table = reverb.Table(
    name=name,
    sampler=selector,
    remover=remover,
    max_size=max_size,
    rate_limiter=rate_limiter,
    max_times_sampled=max_times_sampled,
    extensions=extensions,
    signature=signature,
  )
  if _native and not keep.works:
    raise RuntimeError(
      f'Tables of this Reverb ({_reverb_version()}) are laid out in another '
      f'way than those of {" or ".join(_TESTED_REVERB)}, so a restored table '
      f'would lose ETBS: set {BACKEND_VARIABLE}=python, or give the Etbs to '
      'reverb.Table if you need no checkpoints.'
    )
  return table


def make_dataset(
  server_address: str,
  table: str,
  sampler: Etbs,
  max_in_flight_samples_per_worker: int,
  **kwargs: Any,
) -> tf.data.Dataset:
  """Trajectories of a table of `make_table`, drawn by ETBS.

  Args:
    server_address: of the Reverb server.
    table: the table's name.
    sampler: like the table's: the stand-in reads its temperature here.
    max_in_flight_samples_per_worker: as of `reverb.TrajectoryDataset`.
    **kwargs: others of `reverb.TrajectoryDataset.from_table_signature`.

  Returns:
    A dataset of `reverb.ReplaySample`. `info.probability` is that of ETBS. It
    raises, when iterated, if the table does not fit this process's backend.

  Raises:
    ValueError: the sampler is no Etbs, or there is no such table.
  """
  if not isinstance(sampler, Etbs):
    raise ValueError(f'make_dataset takes an Etbs, not {sampler!r}.')
  settings = dict(
    server_address=server_address,
    table=table,
    max_in_flight_samples_per_worker=max_in_flight_samples_per_worker,
    **kwargs,
  )
  dataset = reverb.TrajectoryDataset.from_table_signature(**settings)
  if _native:
    if sampler.temperature == 0:
      return dataset
    # One sample tells, and is given up; later ones are not slowed down.
    first = reverb.TrajectoryDataset.from_table_signature(
      **settings | {'max_samples': 1}
    )
    return first.filter(_refuse_uniform).concatenate(dataset)
  return rejection.time_balanced(
    dataset,
    server_address,
    table,
    sampler.temperature,
    # Of all workers, whose number is Reverb's choice, with room to spare.
    in_flight=64 * max_in_flight_samples_per_worker,
  )


def _refuse_uniform(sample: reverb.ReplaySample) -> tf.Tensor:
  """False, or an error if the sample is from a uniform table."""
  size = tf.cast(sample.info.table_size, tf.float64)
  drawn_uniformly = (sample.info.probability == 1 / size) & (size > 1)
  with tf.control_dependencies(
    [
      tf.debugging.Assert(
        ~drawn_uniformly,
        [
          'The table samples uniformly: it was not made by etbs.make_table, or '
          'by a process without the native ETBS sampler. Let all processes use '
          f'the same backend ({BACKEND_VARIABLE}).'
        ],
      )
    ]
  ):
    return tf.constant(False)


class InsertionOrder:
  """The priorities of a writer's items, of which the stand-in is in need.

    order = InsertionOrder(client, 'replay')
    writer.create_item('replay', priority=order(), trajectory=...)

  An Acme adder takes it as the `priority_fns` of the table. The native backend
  keeps the order by itself; the priority is 1 then.
  """

  def __init__(self, client: reverb.Client, table: str):
    """Creates the counter of the table's only writer.

    Args:
      client: of the server that holds the table.
      table: its name.
    """
    self._client = client
    self._table = table
    self._next = None

  def __call__(self, *unused: Any) -> float:
    """The priority of the item that is inserted next."""
    if _native:
      return 1.0
    if self._next is None:
      # A restored table goes on where it was.
      self._next = rejection.count_inserts(self._client, self._table)[0]
    self._next += 1
    return float(self._next - 1)


def probabilities(n: int, temperature: float) -> np.ndarray:
  """The probability of each of n items, oldest first: float64 [n]."""
  rejection.check_temperature(temperature)
  return np.diff([rejection.cdf(i / n, temperature) for i in range(n + 1)])


def _reverb_version() -> str:
  for name in ('dm-reverb', 'dm-reverb-nightly'):
    try:
      return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      pass
  return 'unknown'


_NATIVE_MODULE = 'acme_hieros.replay._native'

# Run on its own: with an interface that does not match, it may crash.
_TRIAL = f"""
import importlib, reverb
native = importlib.import_module({_NATIVE_MODULE!r})
uniform = reverb.selectors.Uniform()
raise SystemExit(native.check_interface(uniform, repr(uniform)) or None)
"""


def _load_native(required: bool) -> Any:
  """Returns the native module.

  Args:
    required: whether a Reverb that was never tested is to be tried out.

  Raises:
    ImportError: a sentence that says why there is none.
  """
  version = _reverb_version()
  if not hasattr(builtins, _REGISTRY):
    raise ImportError(
      f'dm-reverb {version} has no pybind11 registry {_REGISTRY}, by which '
      'Reverb would know it'
    )
  if version not in _TESTED_REVERB:
    if not required:
      raise ImportError(
        f'it was tested with dm-reverb {" and ".join(_TESTED_REVERB)}, and '
        f'this is {version}; {BACKEND_VARIABLE}=native tries it nevertheless'
      )
    trial = subprocess.run(
      [sys.executable, '-c', _TRIAL], capture_output=True, text=True
    )
    if trial.returncode != 0:
      reason = (trial.stderr.strip().splitlines() or ['it crashed'])[-1]
      raise ImportError(f'dm-reverb {version} does not match it: {reason}')
  try:
    native = importlib.import_module(_NATIVE_MODULE)
  except ModuleNotFoundError:
    raise ImportError(
      'it was not built: install a C++17 compiler (g++), the headers of Python '
      "and pybind11==2.4.3, then acme_hieros again ('make clean setup' in a "
      'checkout sees to the last two)'
    ) from None
  uniform = reverb.selectors.Uniform()
  wrong = native.check_interface(uniform, repr(uniform))
  if wrong:
    raise ImportError(f'dm-reverb {version} does not match it: {wrong}')
  native.initialise(reverb.selectors.Uniform(), Etbs)
  return native


def _choose_backend() -> Any:
  """Returns the native module, or None for the stand-in; says so once."""
  wanted = os.environ.get(BACKEND_VARIABLE, '')
  if wanted not in ('', 'native', 'python'):
    raise ImportError(
      f'{BACKEND_VARIABLE}={wanted!r} must be "native" or "python".'
    )
  if wanted == 'python':
    _logger.info('ETBS: the stand-in samples, as %s says.', BACKEND_VARIABLE)
    return None
  try:
    native = _load_native(required=wanted == 'native')
  except ImportError as error:
    if wanted == 'native':
      raise ImportError(
        f'{BACKEND_VARIABLE}=native, but the native sampler cannot be used: '
        f'{error}.'
      ) from error
    _logger.warning(
      'ETBS: the stand-in samples, since the native sampler cannot be used: '
      '%s.',
      error,
    )
    return None
  _logger.info('ETBS: the native sampler samples.')
  return native


_logger = logging.getLogger(__name__)
_native = _choose_backend()
BACKEND = 'native' if _native else 'python'

if _native:
  # (selector, n, draws) -> nanoseconds of an insertion, of a draw, and of an
  # insertion with a removal, with n keys in the selector; for benchmarks.
  time_selector = _native.time_selector

  class _KeepSampler(reverb.server.TableExtensionBase):
    """Gives a restored table its sampler back."""

    def __init__(self, selector: Any):
      self._extension = _native.KeepSampler(selector)

    @property
    def works(self) -> bool:
      return self._extension.works

    def build_internal_extensions(self, table_name: str) -> Sequence[Any]:
      del table_name
      return [self._extension]
