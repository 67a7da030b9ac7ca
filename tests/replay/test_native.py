"""The core of the native sampler: its order and its distribution."""

import etbs_formula
import numpy as np
import pytest

native = pytest.importorskip(
  'acme_hieros.replay._native', reason='the native sampler was not built'
)

TEMPERATURES = [0.0, 0.3, 0.7, 1.0]


def filled(n, temperature=0.3, seed=0):
  sampler = native.Sampler(temperature, seed)
  for key in range(n):
    assert sampler.append(key)
  return sampler


def check_distribution(sampler, keys, temperature, draws):
  """Compares draws with the definition, for keys given oldest first."""
  n = len(keys)
  drawn, probabilities = sampler.draw(draws)
  rank_of = np.full(max(keys) + 1, -1)
  rank_of[keys] = np.arange(n)
  ranks = rank_of[drawn]
  assert ranks.min() >= 0
  etbs_formula.check_draws(ranks, probabilities, n, temperature)


@pytest.mark.parametrize('n', [1, 2, 10, 1_000, 100_000])
@pytest.mark.parametrize('temperature', TEMPERATURES)
def test_draws_follow_the_formula(temperature, n):
  sampler = filled(n, temperature, seed=n)
  check_distribution(sampler, np.arange(n), temperature, draws=200_000)


@pytest.mark.parametrize('n', [2, 10, 1_000, 100_000])
@pytest.mark.parametrize('temperature', TEMPERATURES)
def test_draws_follow_the_formula_after_eviction(temperature, n):
  sampler = filled(n, temperature, seed=n + 1)
  for key in range(n, n + n // 2):
    assert sampler.append(key)
    assert sampler.remove(key - n)
  check_distribution(
    sampler, np.arange(n // 2, n + n // 2), temperature, draws=200_000
  )


@pytest.mark.parametrize('n', [10, 1_000, 100_000])
@pytest.mark.parametrize('temperature', TEMPERATURES)
def test_draws_follow_the_formula_after_deletions_in_the_middle(temperature, n):
  sampler = filled(n, temperature, seed=n + 2)
  rng = np.random.default_rng(n)
  left = set(range(n))
  for key in rng.choice(n, 3 * n // 10, replace=False):
    assert sampler.remove(int(key))
    left.remove(key)
  for key in range(n, n + 5):
    assert sampler.append(key)
    left.add(key)
  check_distribution(
    sampler, np.array(sorted(left)), temperature, draws=200_000
  )


@pytest.mark.parametrize('kind', ['fifo', 'lifo', 'random', 'mixed'])
def test_order_is_that_of_insertion(kind):
  """Against a plain list, through many sweeps of what was deleted."""
  rng = np.random.default_rng(7)
  sampler = native.Sampler(0.3, 0)
  keys = []
  for step in range(30_000):
    # The size swings, and is now and then much less than it was.
    grow = (step // 3_000) % 2 == 0
    if rng.random() < (0.8 if grow else 0.2) or not keys:
      key = int(rng.integers(2**63))
      if keys and rng.random() < 0.05:
        key = keys[rng.integers(len(keys))]
      assert sampler.append(key) == (key not in keys)
      if key not in keys:
        keys.append(key)
    else:
      index = {
        'fifo': 0,
        'lifo': len(keys) - 1,
        'random': int(rng.integers(len(keys))),
      }.get(kind)
      if index is None:
        index = int(rng.choice([0, len(keys) - 1, rng.integers(len(keys))]))
      key = keys.pop(index)
      assert sampler.remove(key)
      assert not sampler.remove(key)
      assert key not in sampler
      if rng.random() < 0.2:  # A key may come back, as the newest.
        assert sampler.append(key)
        keys.append(key)
    if step % 500 == 0:
      assert len(sampler) == len(keys)
      assert [sampler[i] for i in range(len(keys))] == keys
  sampler.clear()
  assert len(sampler) == 0
  assert sampler.append(3) and sampler[0] == 3
  with pytest.raises(IndexError):
    sampler[1]


def test_a_seed_decides_the_draws():
  first, again = filled(100, seed=5).draw(50), filled(100, seed=5).draw(50)
  np.testing.assert_array_equal(first, again)
  assert (first[0] != filled(100, seed=6).draw(50)[0]).any()


@pytest.mark.parametrize(
  'temperature, expected', [(0.0, 1.03), (0.3, 0.82), (1.0, 0.51)]
)
def test_draws_are_balanced_over_time(temperature, expected):
  """The coefficients of variation of docs/etbs.md."""
  n = 100_000
  sampler = native.Sampler(temperature, 11)
  totals = np.zeros(n)
  for key in range(n):
    sampler.append(key)
    np.add.at(totals, sampler.draw(16)[0], 1)
  assert totals.std() / totals.mean() == pytest.approx(expected, abs=0.02)


def test_draws_without_keys_are_refused():
  with pytest.raises(ValueError, match='no keys'):
    native.Sampler(0.3, 0).draw(1)
