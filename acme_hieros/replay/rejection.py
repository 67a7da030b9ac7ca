"""ETBS by rejection from a uniform Reverb table: the stand-in of `etbs`.

Items carry their number in the order of insertion as their priority, which a
uniform sampler ignores and reports with every sample. From it and the number of
insertions the consumer knows an item's rank by age, and accepts it with the
probability P(rank) / P(newest), which is 1 - tau of the time. Between two looks
at the server a rank may lag by the few items inserted meanwhile.
"""

import collections
import math
import numbers
import time
from typing import Any

import numpy as np
import reverb
import tensorflow as tf

# Seconds between two looks at the number of insertions.
_LOOK_SECONDS = 0.1

# How many of the last items' numbers are compared with their keys.
_REMEMBERED = 10_000


def check_temperature(temperature: float):
  """Raises ValueError unless it is a number in [0, 1]."""
  if not isinstance(temperature, numbers.Real) or not 0 <= temperature <= 1:
    raise ValueError(f'temperature={temperature!r} must lie in [0, 1].')


def check_table(temperature: float, remover: Any, max_times_sampled: int):
  """Raises ValueError if a uniform table cannot stand in for an ETBS one."""
  need = 'which the native ETBS sampler allows but its stand-in does not: '
  if temperature == 1:
    raise ValueError(
      f'temperature=1, {need}it would reject nearly all; use 0.9 or less, or '
      'build the native sampler.'
    )
  if not isinstance(remover, reverb.selectors.Fifo) or max_times_sampled > 0:
    raise ValueError(
      f'Another remover than Fifo, or max_times_sampled, {need}it takes it '
      'that the oldest items leave first.'
    )


def cdf(y: float, temperature: float) -> float:
  """The distribution function of the age y in [0, 1], oldest at 0.

  Solves y = u (1 - tau ln u) for u, by Newton's method from below: the right
  side is increasing and concave, so that u rises and never overshoots.
  """
  if not 0 < y < 1:
    return min(max(y, 0.0), 1.0)
  # u (1 - ln u) <= 2 sqrt(u), so that the solution is at least this.
  u = (y / 2) ** 2
  step = u
  while step > 1e-9 * u:  # The error is of the order of the last step's square.
    log_u = math.log(u)
    slope = 1 - temperature - temperature * log_u
    step = (y - u * (1 - temperature * log_u)) / slope
    u += step
  return min(u, 1.0)


def count_inserts(client: reverb.Client, table: str) -> tuple[int, int]:
  """The insertions of a table's life so far, and its present size."""
  info = client.server_info()[table]
  return info.rate_limiter_info.insert_stats.completed, info.current_size


class _Acceptor:
  """Accepts or rejects the samples of one iterator over a table."""

  def __init__(
    self, server_address: str, table: str, temperature: float, in_flight: int
  ):
    self._client = reverb.Client(server_address)
    self._table = table
    self._temperature = temperature
    self._in_flight = in_flight
    self._rng = np.random.default_rng()
    self._keys = collections.OrderedDict()  # Number to key, of late.
    self._looked = -np.inf
    self._inserts = self._size = 0
    # Looks that samples on their way may still be older than: (samples seen
    # by then, number of the oldest item).
    self._looks = collections.deque()
    self._oldest_for_sure = 0
    self._seen = 0

  def __call__(
    self,
    key: np.uint64,
    number: np.float64,
    probability: np.float64,
    table_size: np.int64,
  ) -> tuple[np.bool_, np.float64]:
    """Whether to accept an item, and its probability under ETBS."""
    if probability != 1.0 / table_size:
      raise RuntimeError(
        f'The table {self._table!r} does not sample uniformly, so the '
        'stand-in for the native ETBS sampler must not choose among its '
        'samples: let all processes use the same backend '
        '(ACME_HIEROS_ETBS).'
      )
    self._seen += 1
    number = int(number)
    if (
      number >= self._inserts or time.monotonic() - self._looked > _LOOK_SECONDS
    ):
      self._look()
    self._check(int(key), number)
    n = self._size
    rank = min(max(number - (self._inserts - n), 0), n - 1)
    tau = self._temperature
    probability = cdf((rank + 1) / n, tau) - cdf(rank / n, tau)
    newest = 1.0 - cdf((n - 1) / n, tau)
    accepted = self._rng.random() * newest < probability
    return np.bool_(accepted), np.float64(probability)

  def _look(self):
    self._inserts, self._size = count_inserts(self._client, self._table)
    self._looked = time.monotonic()
    self._looks.append((self._seen, self._inserts - self._size))
    while self._seen - self._looks[0][0] > self._in_flight:
      self._oldest_for_sure = self._looks.popleft()[1]

  def _check(self, key: int, number: int):
    """Raises RuntimeError if the numbers are not those of a single writer."""
    known = self._keys.setdefault(number, key)
    self._keys.move_to_end(number)
    if len(self._keys) > _REMEMBERED:
      self._keys.popitem(last=False)
    if known != key or not self._oldest_for_sure <= number < self._inserts:
      raise RuntimeError(
        f'The items of the table {self._table!r} are not numbered in the order '
        'of insertion, or some were deleted, so the stand-in for the native '
        'ETBS sampler cannot tell their age: let one writer take all '
        'priorities from one etbs.InsertionOrder (a new one if the table is '
        'reset) and delete nothing, or build the native sampler, or sample '
        'uniformly.'
      )


def time_balanced(
  dataset: tf.data.Dataset,
  server_address: str,
  table: str,
  temperature: float,
  in_flight: int,
) -> tf.data.Dataset:
  """Makes uniform samples of numbered items time-balanced ones.

  Args:
    dataset: of `reverb.ReplaySample`, from a uniform sampler.
    server_address: of the Reverb server.
    table: the table's name.
    temperature: tau, in [0, 1).
    in_flight: at least as many samples as may be on their way: what the server
      says is older than any sample that comes so many samples later.

  Returns:
    The accepted ones, with their ETBS probability. It raises, when iterated, if
    the items are not numbered as by `etbs.InsertionOrder`.
  """
  acceptor = _Acceptor(server_address, table, temperature, in_flight)

  def judge(sample: reverb.ReplaySample):
    accepted, probability = tf.numpy_function(
      acceptor,
      [
        sample.info.key,
        sample.info.priority,
        sample.info.probability,
        sample.info.table_size,
      ],
      [tf.bool, tf.float64],
    )
    accepted.set_shape(())
    probability.set_shape(())
    info = sample.info._replace(probability=probability)
    return accepted, sample._replace(info=info)

  return (
    dataset.map(judge)
    .filter(lambda accepted, _: accepted)
    .map(lambda _, sample: sample)
  )
