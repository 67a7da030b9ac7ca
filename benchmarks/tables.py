"""Tables of results, which are kept."""

from collections.abc import Mapping, Sequence
import csv
import os
from typing import Any

from acme_hieros.storage import files

Row = Mapping[str, str]


def table_path(directory: str, name: str | None) -> str:
  """Where the table of --name is, without its suffix.

  Raises:
    ValueError: it is no name.
  """
  if not name or os.path.basename(name) != name:
    raise ValueError('--name has to name the table, and is no path.')
  return os.path.join(directory, name)


class Table:
  """A CSV file, written anew with every change: it is whole at any moment."""

  def __init__(self, path: str, columns: Sequence[str]):
    """Reads what is there.

    Raises:
      ValueError: the file is something else.
    """
    self.path = path
    self._columns = columns
    self.rows: list[Row] = []
    if not os.path.exists(path):
      return
    with open(path, newline='') as file:
      reader = csv.DictReader(file)
      self.rows = list(reader)
    if tuple(reader.fieldnames or ()) != tuple(columns):
      raise ValueError(f'{path} has other columns; choose another --name.')

  def of(self, **values: Any) -> list[Row]:
    """The rows that have these values."""
    return [
      row
      for row in self.rows
      if all(row[name] == str(value) for name, value in values.items())
    ]

  def put(self, rows: Sequence[Mapping[str, Any]], without: Sequence[Row] = ()):
    """Adds rows, in which None is left empty, and drops others."""
    dropped = set(map(id, without))
    self.rows = [row for row in self.rows if id(row) not in dropped] + [
      {name: '' if value is None else str(value) for name, value in row.items()}
      for row in rows
    ]
    os.makedirs(os.path.dirname(self.path), exist_ok=True)
    with files.replacing(self.path, 'w', newline='') as file:
      writer = csv.DictWriter(file, self._columns, lineterminator='\n')
      writer.writeheader()
      writer.writerows(self.rows)
