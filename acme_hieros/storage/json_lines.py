"""Files of one JSON object a line."""

from collections.abc import Mapping
import io
import json
from typing import Any

from acme_hieros.storage import reading


def to_line(record: Mapping[str, Any]) -> str:
  """A record of plain values, line end included."""
  return json.dumps(record) + '\n'


def read(path: str) -> list[Mapping[str, Any]]:
  """The objects of a file's whole lines, and none where there is no file.

  What else a process that was killed may have left is passed over.

  Raises:
    OSError: it cannot be read.
  """
  try:
    data = reading.read_bytes(path)
  except FileNotFoundError:
    return []
  records = []
  for line in io.BytesIO(data):
    try:
      record = reading.parse_json(line) if line.endswith(b'\n') else None
    except ValueError:
      continue
    if isinstance(record, dict):
      records.append(record)
  return records
