"""ETBS by its definition (arXiv 2310.05167, section 3.3), for comparison.

Uses scipy's root finder where the product has a Newton iteration of its own.
"""

import numpy as np
from scipy import optimize


def quantile(u, tau):
  """y(u) as the paper writes it."""
  x = u * (1 - np.log(u))
  return tau * x + (1 - tau) * u


def cdf(y, tau):
  """u(y), the inverse, of a number in [0, 1]."""
  if y in (0, 1):
    return float(y)
  return optimize.brentq(
    lambda u: quantile(u, tau) - y, 1e-300, 1.0, xtol=1e-16, rtol=1e-14
  )


def probabilities(n, tau):
  """Of n items, oldest first."""
  return np.diff([cdf(i / n, tau) for i in range(n + 1)])


def pooled(counts, expected, least=20):
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
