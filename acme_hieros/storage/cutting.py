"""What stays of a log when a run goes on from an earlier step.

The logs are those of `Workdir`: CSV files, and what evaluators have played.
"""

from collections.abc import Callable, Mapping, Sequence
import csv
import io
from typing import Any, NamedTuple

from acme_hieros.storage import reading

_STEPS = 'actor_steps'

# A line without it, or with one that is no number, is of no use to anybody.
_RETURN = 'episode_return'


class Cut(NamedTuple):
  """A log that was cut.

  kept: what stays, byte by byte as it was.
  damaged: lines that cannot be read, and were not under way when the run was
    killed.
  """

  kept: bytes
  damaged: Sequence[bytes]


def cut_csv(data: bytes, steps: int) -> Cut:
  """Cuts a CSV file of numbers back to a step.

  Args:
    data: its content, as Acme's logger writes it.
    steps: the last that stay. Without any there is no header either: it comes
      again with the next line.
  """
  lines = list(io.BytesIO(data))
  header = _split(lines[0]) if lines else None
  if not header or _STEPS not in header or len(set(header)) < len(header):
    # None of the lines can be understood. The only one may be half a header.
    return Cut(b'', [] if len(_whole(lines)) == 0 else lines)

  def parse(line):
    fields = _split(line) or ()
    if len(fields) != len(header):
      raise ValueError('Another number of fields')
    return dict(zip(header, map(float, fields)))

  needed = (_STEPS, _RETURN) if _RETURN in header else (_STEPS,)
  cut = _cut(lines[1:], steps, needed, parse)
  return cut._replace(kept=lines[0] + cut.kept) if cut.kept else cut


def cut_json_lines(data: bytes, steps: int) -> Cut:
  """Cuts a file of one object a line, an episode each, back to a step."""
  return _cut(
    list(io.BytesIO(data)), steps, (_STEPS, _RETURN), reading.parse_json
  )


def _cut(
  lines: Sequence[bytes],
  steps: int,
  needed: Sequence[str],
  parse: Callable[[bytes], Mapping[str, Any]],
) -> Cut:
  kept, damaged = [], []
  for line in _whole(lines):
    try:
      record = parse(line)
      if not all(reading.is_number(record[name]) for name in needed):
        raise ValueError('No number')
      if not 0 <= record[_STEPS] <= reading.MOST_STEPS:
        raise ValueError('No number of steps')
    except (ValueError, KeyError, TypeError):
      damaged.append(line)
      continue
    if record[_STEPS] <= steps:
      kept.append(line)
  return Cut(b''.join(kept), damaged)


def _whole(lines: Sequence[bytes]) -> Sequence[bytes]:
  """Without empty lines, and the half one that a killed process has left."""
  return [line for line in lines if line.endswith(b'\n') and line.strip()]


def _split(line: bytes) -> list[str] | None:
  """The fields of a line of a CSV file; None if it is no such line."""
  try:
    # A spreadsheet may have put a mark before the header.
    (fields,) = csv.reader([line.decode('utf-8-sig').rstrip('\r\n')])
  except (ValueError, csv.Error):
    return None
  return fields
