"""ETBS by its definition (arXiv 2310.05167, section 3.3), for comparison.

Bisects where the product has a Newton iteration.
"""

import functools

import numpy as np
from scipy import stats


def quantile(u, tau):
  """y(u) as the paper writes it."""
  x = u * (1 - np.log(u))
  return tau * x + (1 - tau) * u


def cdf(y, tau):
  """u(y), the inverse, of numbers in [0, 1]."""
  y = np.asarray(y, np.float64)
  low, high = np.zeros_like(y), np.ones_like(y)
  for _ in range(80):
    middle = (low + high) / 2
    below = quantile(middle, tau) < y
    low, high = np.where(below, middle, low), np.where(below, high, middle)
  # At the ends the quantile is flat or steep: there it is known.
  return np.where((y == 0) | (y == 1), y, high)


@functools.lru_cache
def probabilities(n, tau):
  """Of n items, oldest first."""
  return np.diff(cdf(np.arange(n + 1) / n, tau))


def _pooled(counts, expected, least=20):
  """Neighbours added up until every cell expects at least `least` draws."""
  observed_cells, expected_cells = [], []
  observed = wanted = 0.0
  for o, e in zip(counts, expected):
    observed += o
    wanted += e
    if wanted >= least:
      observed_cells.append(observed)
      expected_cells.append(wanted)
      observed = wanted = 0.0
  observed_cells[-1] += observed
  expected_cells[-1] += wanted
  return np.array(observed_cells), np.array(expected_cells)


def check_draws(ranks, drawn_probabilities, n, tau):
  """Chi-square and Kolmogorov-Smirnov; and the probabilities that are told."""
  shares = probabilities(n, tau)
  np.testing.assert_allclose(drawn_probabilities, shares[ranks], rtol=1e-6)
  if n == 1:
    return  # Nothing to choose from.
  counts = np.bincount(ranks, minlength=n)
  observed, wanted = _pooled(counts, len(ranks) * shares)
  assert stats.chisquare(observed, wanted).pvalue > 1e-4
  # Spread evenly over the probability of its rank, a draw is uniform on [0, 1].
  where = np.random.default_rng(0).random(len(ranks))
  spread = np.cumsum(shares)[ranks] - where * shares[ranks]
  assert stats.kstest(spread, 'uniform').pvalue > 1e-4
