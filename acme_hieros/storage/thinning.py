"""Which of many things that came one after the other are kept."""

from collections.abc import Iterable


def superfluous(steps: Iterable[int], most: int) -> list[int]:
  """The steps to give up, so that `most` are left, which is at least three.

  The first and the last stay. Of the others the one goes that leaves the
  smallest gap, again and again, so that what stays is spread over all steps.
  """
  kept, gone = sorted(steps), []
  while len(kept) > most:
    i = min(range(1, len(kept) - 1), key=lambda i: kept[i + 1] - kept[i - 1])
    gone.append(kept.pop(i))
  return gone
