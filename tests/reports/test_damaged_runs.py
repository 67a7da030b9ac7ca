"""One odd run never spoils a report: it is left out with a reason, or drawn."""

import json
import os
import pathlib
import shutil
import tempfile

import damage
import hypothesis
from hypothesis import strategies as st
import made_up
import numpy as np
import pytest

from acme_hieros.reports import contents, curves, pages, results
from acme_hieros.storage import reading

HEADER = b'actor_steps,episode_return\n'


@pytest.fixture
def runs(tmp_path):
  """A run that is as it should be, and another one to be damaged."""
  for name, seed in (('good', 0), ('odd', 1)):
    made_up.write_run(tmp_path / name, seed=seed, evaluation=1.0)
    made_up.write_evaluator(tmp_path / name, 1000, 1.0)
    for level in range(2):
      made_up.write_diagnostics(tmp_path / name, level, 1000, seed)
  return tmp_path


def report(path):
  """Of both runs: what it says, and why the odd one is left out."""
  return report_on([str(path / 'good'), str(path / 'odd')])


def report_on(paths):
  systems, left_out = contents.read(paths)
  content = contents.make(systems, left_out, 2)
  # As strict as JSON is.
  assert json.loads(json.dumps(content, allow_nan=False)) == content
  reported = [run['path'] for run in content['runs']]
  assert reported[0] == paths[0]
  assert len(reported) + len(left_out) == len(paths)
  for entry in left_out:
    reason = entry['reason']
    assert reason.isprintable() and reason.endswith(('.', '?', ' …'))
    assert 10 < len(reason) < 1000
  return content, left_out[0]['reason'] if left_out else None


def write_log(name, content):
  return lambda run: (run / name).write_bytes(content)


def set_field(name, **fields):
  def change(run):
    path = run / name
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))

  return change


DEEP = '[' * 5000
CONFIG, SUMMARY = 'config.json', 'summary.json'
EVALUATION = 'evaluation/000002.json'
EVALUATOR = 'evaluation/evaluator.jsonl'
EPISODES = 'logs/episodes.csv'

DAMAGES = {
  'seconds-nan': (set_field(SUMMARY, seconds=float('nan')), 'seconds'),
  'seconds-1e30': (set_field(SUMMARY, seconds=1e30), 'seconds'),
  'seconds-negative': (set_field(SUMMARY, seconds=-1.0), 'seconds'),
  'seconds-huge': (set_field(SUMMARY, seconds=10**400), 'seconds'),
  'seconds-true': (set_field(SUMMARY, seconds=True), 'seconds'),
  'seconds-text': (set_field(SUMMARY, seconds='1'), 'seconds'),
  'steps-huge': (set_field(SUMMARY, steps=10**400), 'steps'),
  'steps-negative': (set_field(SUMMARY, steps=-1), 'steps'),
  'updates-negative': (set_field(SUMMARY, updates=-1), 'updates'),
  'num-steps-huge': (set_field(CONFIG, num_steps=10**400), 'num_steps'),
  'num-steps-none': (set_field(CONFIG, num_steps=0), 'num_steps'),
  'seed-negative': (set_field(CONFIG, seed=-1), 'seed'),
  'seed-huge': (set_field(CONFIG, seed=10**400), 'seed'),
  'actors-none': (set_field(CONFIG, num_actors=0), 'num_actors'),
  'actors-huge': (set_field(CONFIG, envs_per_actor=10**400), 'envs_per_actor'),
  'cpu-minutes-nan': (
    set_field(CONFIG, num_steps=2000, cpu_minutes=float('nan')),
    'cpu_minutes',
  ),
  'environment-list': (set_field(CONFIG, environment=['a']), 'environment'),
  'options-list': (set_field(CONFIG, environment_options=[1]), 'options'),
  'agent-deep': (
    lambda run: (run / CONFIG).write_text(f'{{"agent": {DEEP}'),
    'too deep',
  ),
  'summary-deep': (write_log(SUMMARY, DEEP.encode()), 'too deep'),
  'too-many-digits': (
    write_log(SUMMARY, b'{"steps": 1' + b'0' * 5000 + b'}'),
    'summary.json cannot be read',
  ),
  'summary-binary': (write_log(SUMMARY, b'\xff\0'), 'summary.json cannot'),
  'summary-gigantic': (
    lambda run: os.truncate(run / SUMMARY, 10**10),
    'File too large',
  ),
  'mean-huge': (set_field(EVALUATION, mean=10**400), 'mean'),
  'mean-infinite': (set_field(EVALUATION, mean=float('inf')), 'mean'),
  'mean-large': (set_field(EVALUATION, mean=1e308), 'mean'),
  'error-negative': (
    set_field(EVALUATION, standard_error=-1.0),
    'standard_error',
  ),
  'error-text': (set_field(EVALUATION, standard_error='1'), 'standard_error'),
  'evaluated-steps-huge': (set_field(EVALUATION, steps=10**400), 'steps'),
  'evaluated-nothing': (set_field(EVALUATION, episodes=0), 'episodes'),
  'checkpoint-number': (set_field(EVALUATION, checkpoint=2), 'checkpoint'),
  'evaluation-list': (write_log(EVALUATION, b'[]'), 'no fields'),
  'evaluator-huge': (
    write_log(
      EVALUATOR,
      b'{"actor_steps": 1' + b'0' * 400 + b', "episode_return": 1}\n',
    ),
    'actor_steps',
  ),
  'evaluator-nan': (
    write_log(EVALUATOR, b'{"actor_steps": 1, "episode_return": NaN}\n'),
    'episode_return',
  ),
  'evaluator-text': (
    write_log(EVALUATOR, b'{"actor_steps": 1, "episode_return": "a"}\n'),
    'episode_return',
  ),
  'return-infinite': (write_log(EPISODES, HEADER + b'1,-inf\n'), 'return'),
  'return-large': (write_log(EPISODES, HEADER + b'1,1e308\n'), 'return'),
  'steps-nan': (write_log(EPISODES, HEADER + b'nan,1\n'), 'actor_steps'),
  'steps-go-below': (write_log(EPISODES, HEADER + b'-3,1\n'), 'actor_steps'),
  'steps-go-above': (write_log(EPISODES, HEADER + b'1e30,1\n'), 'actor_steps'),
  'column-twice': (write_log(EPISODES, b'a,a\n1,2\n'), 'twice'),
  'no-columns': (write_log(EPISODES, b'a\n1\n'), 'no actor_steps'),
  'log-zeros': (write_log(EPISODES, b'\0' * 5000), 'NUL'),
  'line-gigantic': (
    write_log(EPISODES, HEADER + b'1' * 10**6 + b',1\n'),
    'field larger',
  ),
  'columns-many': (
    write_log(
      'logs/level_0.csv',
      b','.join(b'a%d' % i for i in range(5000))
      + b'\n'
      + b'1,' * 4999
      + b'1\n',
    ),
    '5,000 columns',
  ),
  'level-steps-nan': (
    write_log('logs/level_0_diagnostics.csv', b'actor_steps,a\nnan,1\n'),
    'actor_steps',
  ),
  'level-utf-16': (
    write_log('logs/level_0.csv', 'actor_steps,a\n1,2\n'.encode('utf-16')),
    'level_0.csv cannot be read',
  ),
}


@pytest.mark.parametrize('case', DAMAGES)
def test_damage_is_named(case, runs):
  spoil, part = DAMAGES[case]
  spoil(runs / 'odd')
  _, reason = report(runs)
  assert reason and part in reason


PLACES = damage.NO_FILES


@pytest.mark.timeout(30)
@pytest.mark.parametrize('kind', PLACES)
@pytest.mark.parametrize(
  'name',
  [CONFIG, SUMMARY, EVALUATION, EVALUATOR, EPISODES, 'logs/level_0.csv'],
)
def test_what_is_no_file_is_not_waited_for(runs, name, kind):
  (runs / 'odd' / name).unlink()
  PLACES[kind](runs / 'odd' / name)
  _, reason = report(runs)
  assert f'its {name} cannot be read' in reason


@pytest.mark.parametrize('name', ['logs', 'evaluation', 'pictures'])
def test_what_is_no_directory_is_named(runs, name):
  shutil.rmtree(runs / 'odd' / name, ignore_errors=True)
  (runs / 'odd' / name).write_text('')
  assert f'its {name}' in report(runs)[1]


def test_files_of_somebody_else_harm_nothing(runs):
  before, _ = report(runs)
  for name in ('evaluation/notes.json', 'logs/mine.csv', 'evaluation/1.txt'):
    (runs / 'odd' / name).write_bytes(b'\xff{')
  os.mkfifo(runs / 'odd' / 'evaluation' / 'pipe.json')
  (runs / 'odd' / 'pictures').mkdir()
  (runs / 'odd' / 'pictures' / '000000009').write_text('no directory')
  assert report(runs) == (before, None)


@pytest.mark.parametrize(
  'change',
  [
    lambda text: b'\xef\xbb\xbf' + text,
    lambda text: text.replace(b'\r\n', b'\n'),
    lambda text: text.replace(b'\n', b'\n\n'),
    lambda text: text.replace(b'a column', b'another one'),
  ],
  ids=['mark', 'line-ends', 'empty-lines', 'other-columns'],
)
def test_what_a_spreadsheet_does_to_a_log_changes_nothing(runs, change):
  log = runs / 'odd' / EPISODES
  log.write_bytes(b'actor_steps,episode_return,a column\r\n10,1.0,3\r\n')
  before, _ = report(runs)
  changed = change(log.read_bytes())
  assert changed != log.read_bytes()
  log.write_bytes(changed)
  assert report(runs) == (before, None)


def test_numbers_of_a_level_that_are_none_are_gaps(runs):
  (runs / 'odd' / 'logs' / 'level_0_diagnostics.csv').write_text(
    'actor_steps,code_entropy,open_loop_error_1,open_loop_error_9\n'
    '500,inf,1e308,nan\n500,0.5,-1e308,nan\n600,1e300,0.25,nan\n'
  )
  content, reason = report(runs)
  assert reason is None
  (entropy,) = (
    e
    for e in content['diagnostics']
    if e['name'] == 'code_entropy' and e['level'] == 0
  )
  # At the one step where both runs have a value.
  assert entropy['lines'][0]['steps'] == [500.0]
  assert entropy['lines'][0]['runs'][1] == [0.5]


def test_an_unknown_fault_leaves_out_its_run(runs, monkeypatch):
  read, make = results._read_levels, contents._run

  def raise_at_odd(function, get_path):
    def changed(*args):
      if get_path(*args).endswith('odd'):
        raise AssertionError('never\nseen')
      return function(*args)

    return changed

  monkeypatch.setattr(
    results,
    '_read_levels',
    raise_at_odd(read, lambda workdir, *_: workdir.path),
  )
  assert r'never\nseen' in report(runs)[1]
  monkeypatch.setattr(results, '_read_levels', read)
  monkeypatch.setattr(
    contents, '_run', raise_at_odd(make, lambda _, run: run.path)
  )
  assert r'never\nseen' in report(runs)[1]


def test_one_large_return_does_not_swallow_those_after_it():
  runs = [(np.array([10.0, 500.0, 990.0]), np.array([1e30, 2.0, 3.0]))]
  (values,) = curves.learning_curve(runs, 1000).values
  assert values[49:51].tolist() == [2.0, 2.0] and values[-1] == 3.0


# --- names -------------------------------------------------------------------

NAMES = {
  'mathematics': r'$\frac{1}{$',
  'one-dollar': 'a$',
  'script': '</script><script>alert(1)</script><b>',
  'template': '{{ 7 * 7 }}{% for %}',
  'half-a-letter': '\ud800 and \udcff',
  'terminal': '\x1b[31mred\x07\0',
  'lines': 'a\nb\rc\u2028d',
  'backwards': '\u202eabc',
  'long': 'x' * 20_000,
  'other-letters': 'héros 機 🚀',
  'empty': '',
}


@pytest.mark.parametrize('name', NAMES.values(), ids=NAMES)
@pytest.mark.filterwarnings('ignore:Glyph')
def test_any_name_is_shown_as_it_is(runs, name):
  set_field(CONFIG, environment=name, environment_options={name: name})(
    runs / 'odd'
  )
  set_field(EVALUATION, checkpoint=name)(runs / 'odd')
  content, reason = report(runs)
  assert reason is None
  task = content['runs'][1]['environment']
  assert task.isprintable() and task.startswith(reading.printable(name))
  # One figure of this environment is enough: drawing takes time.
  content['curves'], content['diagnostics'] = content['curves'][1:], []
  assert content['curves'][0]['environment'] == task
  path = runs / 'page.html'
  pages.write(content, str(path))
  page = path.read_text('utf-8')
  assert '<script' not in page and '<b>' not in page
  assert '49' not in page.partition('<h2>Runs')[2] or name != NAMES['template']


@pytest.mark.parametrize(
  'name', [b'\xff', b'a$b_{$', b'\x1b[31m', b'[seed=1]', b'a\nb', b'%s{0}']
)
def test_a_directory_may_have_any_name(runs, name):
  path = runs / os.fsdecode(name)
  (runs / 'odd').rename(path)
  made_up.write_pictures(path, 500)
  (path / 'pictures' / '000000500' / os.fsdecode(b'\xff$.png')).write_bytes(b'')
  content, reason = report_on([str(runs / 'good'), str(path)])
  assert reason is None
  content['curves'], content['diagnostics'] = [], []
  out = runs / 'page.html'
  pages.write(content, str(out))
  page = out.read_text('utf-8')
  assert page.count('data:image/gif') == 1
  assert r'\udcff$.png of' in page
  assert content['runs'][1]['path'].isprintable()


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
  'spoil',
  [
    os.mkfifo,
    lambda path: path.write_bytes(b'%!PS-Adobe-3.0 EPSF-3.0\n'),
    lambda path: path.write_bytes(b'\x89PNG\r\n\x1a\n' + b'\0' * 50),
    lambda path: (path.touch(), os.truncate(path, 10**10)),
    lambda path: path.symlink_to('/dev/zero'),
    lambda path: path.mkdir(),
  ],
  ids=['pipe', 'program', 'damaged', 'gigantic', 'device', 'directory'],
)
def test_pictures_that_cannot_be_shown_are_named(runs, spoil):
  made_up.write_pictures(runs / 'odd', 500)
  spoil(runs / 'odd' / 'pictures' / '000000500' / 'subgoals.png')
  content, reason = report(runs)
  assert reason is None
  shown, not_shown = pages._pictures(content['pictures'])
  assert len(shown[0][1]) == 2
  (sentence,) = not_shown
  assert 'subgoals.png of' in sentence and 'cannot be shown (' in sentence


# --- numbers -----------------------------------------------------------------


def test_the_largest_numbers_can_be_added_up_and_drawn(runs):
  for name in ('good', 'odd'):
    run = runs / name
    edge = f'{reading.LARGEST:.17g}'
    log = ''.join(f'{s},{edge}\n{s},-{edge}\n' for s in range(1, 1000, 7))
    (run / EPISODES).write_text(
      'actor_steps,episode_return\n' + log + f'1000,{edge}\n'
    )
    set_field(EVALUATION, mean=reading.LARGEST, standard_error=reading.LARGEST)(
      run
    )
    set_field(SUMMARY, seconds=results._MOST_SECONDS)(run)
  content, reason = report(runs)
  assert reason is None
  content['diagnostics'] = []
  page = pages.render(content)
  assert '3.40e+38' in page


# --- whatever may happen to a run --------------------------------------------

# Numbers and words that somebody has tripped over.
ODD_NUMBERS = st.sampled_from(
  [
    *(0, -1, 1, 10**400, -(10**400), 2**53 + 1, 2**63, 1e30, 1e308, -1e308),
    *(float('nan'), float('inf'), -float('inf'), 5e-324, -0.0, 0.5),
  ]
)
ODD_JSON = st.recursive(
  st.none()
  | st.booleans()
  | ODD_NUMBERS
  | st.sampled_from(list(NAMES.values())),
  lambda inner: (
    st.lists(inner, max_size=2)
    | st.dictionaries(
      st.sampled_from(['a', 'depth', '\ud800']), inner, max_size=2
    )
  ),
  max_leaves=4,
)
ODD_FIELDS = st.sampled_from(
  ['1', '20', '-1', '0.5', 'nan', 'inf', '-inf', '1e30', '1e308', '1_0', '٣']
  + ['', 'x', '"', '"1"', '\0', '\ud800', '1' + '0' * 400, ' 7 ', '\r', '$x$']
)
FILES = (CONFIG, SUMMARY, EVALUATION, EVALUATOR, EPISODES, 'logs/level_0.csv')
JSON_FILES = FILES[:3]

quickly = damage.quickly(50)


@pytest.fixture(scope='module')
def templates(tmp_path_factory):
  path = tmp_path_factory.mktemp('templates')
  for name, seed in (('good', 0), ('odd', 1)):
    made_up.write_run(path / name, seed=seed, episodes=5, evaluation=1.0)
    made_up.write_evaluator(path / name, 1000, 1.0)
    (path / name / 'logs' / 'level_0.csv').write_text(
      'actor_steps,extrinsic_advantage_share,error_2\n10,0.5,1\n20,0.7,nan\n'
    )
  return path


def report_with(templates, change):
  """A report in which a change was made to the second run."""
  with tempfile.TemporaryDirectory() as directory:
    odd = pathlib.Path(directory) / 'odd'
    shutil.copytree(templates / 'odd', odd)
    change(odd)
    return report_on([str(templates / 'good'), str(odd)])


@quickly
@hypothesis.given(data=st.data())
def test_any_value_of_any_field(templates, data):
  name = data.draw(st.sampled_from(JSON_FILES))
  values = json.loads((templates / 'odd' / name).read_text())
  field = data.draw(st.sampled_from(sorted(values)))
  values[field] = data.draw(ODD_JSON)
  report_with(
    templates, lambda run: (run / name).write_text(json.dumps(values))
  )


@quickly
@hypothesis.given(
  name=st.sampled_from(['episodes', 'level_0', 'level_1_diagnostics']),
  header=st.lists(
    st.sampled_from(
      ['actor_steps', 'episode_return', 'a_2', 'a_10', '_', '', '$x_', '\ud800']
    )
    | ODD_FIELDS,
    max_size=4,
  ),
  rows=st.lists(st.lists(ODD_FIELDS, min_size=1, max_size=4), max_size=6),
  end=st.sampled_from(['\n', '\r\n', '', '\r']),
)
@hypothesis.example(
  'episodes', ['actor_steps', 'episode_return'], [['7', '1']], '\n'
)
def test_any_fields_of_a_log(templates, name, header, rows, end):
  text = ''.join(','.join(row) + end for row in [header, *rows])
  report_with(
    templates,
    lambda run: (run / 'logs' / f'{name}.csv').write_bytes(
      text.encode(errors='surrogatepass')
    ),
  )


@quickly
@hypothesis.given(
  name=st.sampled_from(FILES),
  start=st.floats(0, 1),
  length=st.integers(0, 40),
  new=st.binary(max_size=12)
  | st.sampled_from([b'\xef\xbb\xbf', DEEP.encode()]),
)
def test_any_damage_to_any_file(templates, name, start, length, new):
  content = (templates / 'odd' / name).read_bytes()
  first = int(start * len(content))
  report_with(
    templates,
    lambda run: (run / name).write_bytes(
      content[:first] + new + content[first + length :]
    ),
  )
