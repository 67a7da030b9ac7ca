"""What is kept of many things is spread over all of them."""

import numpy as np

from acme_hieros.storage import thinning


def test_what_is_kept_is_spread_over_all_steps():
  kept = []
  for steps in range(0, 5000, 10):
    kept.append(steps)
    gone = thinning.superfluous(kept, 20)
    kept = [s for s in kept if s not in gone]
    assert len(kept) == min(20, steps // 10 + 1)
    assert (kept[0], kept[-1]) == (0, steps)
    # Were they even, a gap would be a 19th.
    assert max(np.diff([0, *kept])) <= max(10, 4 * steps / 19)
  assert thinning.superfluous([1, 2, 3], 3) == []
  # 2 is nearest to its neighbours.
  assert thinning.superfluous([0, 9, 1, 2, 5], 4) == [1]
