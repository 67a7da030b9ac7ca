"""How far a program is, as its coordinator tells its launcher in a file."""

from collections.abc import Mapping, Sequence
import dataclasses
import json
from typing import Any

from acme_hieros.storage import workdirs


@dataclasses.dataclass(frozen=True)
class Progress:
  """The content of progress.json.

  now: `counts`, `seconds` and those of `EpisodeLog.summary`.
  saved: the same, as the last checkpoint holds it; None before there is one.
  warnings: the last ones, to be shown.
  num_warnings: how many there have been.
  silent: for how many seconds nothing was heard of a node, by its name.
  """

  now: Mapping[str, Any]
  saved: Mapping[str, Any] | None = None
  warnings: Sequence[str] = ()
  num_warnings: int = 0
  silent: Mapping[str, float] = dataclasses.field(default_factory=dict)

  def write(self, path: str):
    """Writes the file; raises OSError where that cannot be done."""
    workdirs.write_json(path, dataclasses.asdict(self))


def read(path: str) -> Progress:
  """Reads what was written last; raises OSError where there is nothing."""
  with open(path) as file:
    return Progress(**json.load(file))
