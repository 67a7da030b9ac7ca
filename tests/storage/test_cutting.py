"""Cutting logs loses nothing and leaves what can be read, whatever is there."""

import io
import json
import os
import pathlib
import tempfile

import damage
import hypothesis
from hypothesis import strategies as st
import pytest

from acme_hieros.reports import results
from acme_hieros.storage import cutting, json_lines, workdirs

quickly = damage.quickly(100)

STEPS = st.integers(0, 12)

# What may stand in a field, mostly as it should be.
FIELDS = STEPS.map(str) | st.sampled_from(
  ['', 'x', 'nan', '-inf', '1e30', '1e308', '-1', '1_0', '٣', '"', '"1"', '\0']
  + ['\ud800', '\r', '0.5', ' 7 ', '1' + '0' * 400, '\ufeff1', '1\x0b2']
)
ENDS = st.sampled_from(['\n', '\n', '\n', '\r\n', '', '\r', '\n\n'])
ROWS = st.tuples(st.lists(FIELDS, min_size=1, max_size=3), ENDS)
HEADERS = st.sampled_from(
  ['actor_steps,episode_return', 'actor_steps,loss', 'loss,actor_steps']
) | st.lists(st.sampled_from(['actor_steps', 'a', '', '"']), max_size=2).map(
  ','.join
)


@st.composite
def csv_logs(draw):
  header, end = draw(HEADERS), draw(ENDS)
  rows = draw(st.lists(ROWS, max_size=8))
  text = header + end + ''.join(','.join(row) + end for row, end in rows)
  return text.encode(errors='surrogatepass')


VALUES = (
  STEPS
  | st.floats()
  | st.sampled_from([None, True, '1', [], 10**400, -1, '\ud800'])
)
RECORDS = st.dictionaries(
  st.sampled_from(['actor_steps', 'episode_return', 'x']), VALUES
)


@st.composite
def json_logs(draw):
  lines = draw(
    st.lists(
      RECORDS.map(lambda record: json.dumps(record).encode())
      | st.binary(max_size=8)
      | st.sampled_from([b'[' * 3000, b'1' * 5000, b'\xef\xbb\xbf{}', b'{']),
      max_size=6,
    )
  )
  return b''.join(line + draw(ENDS).encode() for line in lines)


CUTS = {
  'csv': (cutting.cut_csv, csv_logs()),
  'json': (cutting.cut_json_lines, json_logs()),
  'csv-of-anything': (cutting.cut_csv, st.binary()),
  'json-of-anything': (cutting.cut_json_lines, st.binary()),
}


@pytest.mark.parametrize('kind', CUTS)
@quickly
@hypothesis.given(data=st.data(), steps=STEPS)
def test_every_line_stays_is_set_aside_or_comes_again(kind, data, steps):
  cut, logs = CUTS[kind]
  log = data.draw(logs)
  found = cut(log, steps)
  whole = [line for line in io.BytesIO(log) if line.endswith(b'\n')]
  kept = list(io.BytesIO(found.kept))
  # What would stay if the run went on from its end: nothing of it is damaged.
  everything = cut(log, 2**53)
  assert list(found.damaged) == list(everything.damaged)
  accounted = sorted([*io.BytesIO(everything.kept), *found.damaged])
  missing = [line for line in whole if line.strip() and line not in accounted]
  # A header without lines comes again with them.
  assert not missing or (not everything.kept and missing == whole[:1])
  # In the order in which they were.
  rest = iter(whole)
  assert all(line in rest for line in kept)
  # Once cut, it stays so.
  assert cut(found.kept, steps) == (found.kept, [])


@quickly
@hypothesis.given(
  log=csv_logs(), steps=STEPS, name=st.sampled_from(['episodes', 'level_0'])
)
def test_what_stays_of_a_log_is_read_by_reports(log, steps, name):
  with tempfile.TemporaryDirectory() as directory:
    workdir = workdirs.Workdir(directory)
    os.mkdir(workdir.logs)
    path = pathlib.Path(workdir.logs) / f'{name}.csv'
    path.write_bytes(log)
    workdir.cut_logs(steps)
    table = results._read_table(workdir, str(path))
    if table:
      assert max(table['actor_steps']) <= steps
    if 'episode_return' in table:
      assert len(results._episodes(table, name)['episode_return'])


@quickly
@hypothesis.given(log=json_logs(), steps=STEPS)
def test_what_stays_of_evaluators_is_read_by_reports(log, steps):
  with tempfile.TemporaryDirectory() as directory:
    workdir = workdirs.Workdir(directory)
    os.mkdir(workdir.evaluation)
    path = workdir.evaluation_file('evaluator', 'jsonl')
    pathlib.Path(path).write_bytes(log)
    workdir.cut_logs(steps)
    table = results._read_evaluator(workdir)
    assert len(table['actor_steps']) == len(json_lines.read(path))
    assert max(table['actor_steps'], default=0) <= steps


# Of a whole work directory: what may be in place of a log.
PLACES = {
  'log': lambda path, content: path.write_bytes(content),
  'directory': lambda path, _: path.mkdir(),
  'pipe': lambda path, _: os.mkfifo(path),
  'loop': lambda path, _: path.symlink_to(path),
}
NAMES = [
  'logs/episodes.csv',
  'logs/level_0.csv',
  'logs/level_1_diagnostics.csv',
  'logs/mine.csv',
  'evaluation/evaluator.jsonl',
  'evaluation/000001.jsonl',
]


def snapshot(directory):
  return {
    str(path): path.read_bytes() if path.is_file() else path.lstat().st_mode
    for path in sorted(pathlib.Path(directory).rglob('*'))
  }


@quickly
@hypothesis.given(
  found=st.dictionaries(
    st.sampled_from(NAMES),
    st.tuples(
      st.sampled_from(['log'] * 5 + list(PLACES)), csv_logs() | json_logs()
    ),
  ),
  steps=STEPS,
)
def test_a_directory_is_cut_as_a_whole_or_left_alone(found, steps):
  with tempfile.TemporaryDirectory(suffix='[a]') as directory:
    root = pathlib.Path(directory)
    for name in ('logs', 'evaluation'):
      (root / name).mkdir()
    (root / 'summary.json').write_text('{}')
    for name, (kind, content) in found.items():
      PLACES[kind](root / name, content)
    before = snapshot(root)
    workdir = workdirs.Workdir(directory)
    try:
      said = workdir.cut_logs(steps)
    except workdirs.WorkdirError as error:
      assert any(str(root / name) in str(error) for name in found)
      assert snapshot(root) == before
      return
    after = snapshot(root)
    assert not (root / 'summary.json').exists()
    aside = [path for path in after if path.endswith('.damaged')]
    assert len(aside) == len(said)
    for path in aside:
      assert any(path in sentence for sentence in said)
    # Other files are not touched.
    for name in ('logs/mine.csv', 'evaluation/000001.jsonl'):
      assert after.get(str(root / name)) == before.get(str(root / name))
    # A second time there is nothing to do.
    assert workdir.cut_logs(steps) == []
    assert snapshot(root) == after
