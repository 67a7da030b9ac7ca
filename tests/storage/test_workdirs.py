"""A work directory is refused, or made ready, before anything is changed."""

import errno
import fcntl
import json
import multiprocessing
import os
import pathlib
import shutil

import damage
import pytest

from acme_hieros import config as config_lib
from acme_hieros.experiments import runs
from acme_hieros.storage import workdirs

# Of the configuration, while this process writes it.
PARTIAL = f'config.json.{os.getpid()}.partial'

IDENTITY = {'environment': 'debug/catch', 'agent': {'depth': 2, 'a': (1, 2)}}


def snapshot(path):
  """Every file below, with its content."""
  return {
    str(file): file.read_bytes() if file.is_file() else None
    for file in pathlib.Path(path).rglob('*')
  }


def assert_refused(path, identity=IDENTITY, num_steps=10, resume=False):
  """Opening gives one sentence that names the place, and changes nothing."""
  parent = pathlib.Path(path).parent
  before = snapshot(parent) if parent.name != 'proc' else None
  with pytest.raises(workdirs.WorkdirError) as caught:
    workdirs.Workdir(str(path)).open(identity, {'num_steps': num_steps}, resume)
  sentence = str(caught.value)
  assert str(path) in sentence and '\n' not in sentence
  assert sentence.endswith('.')
  assert before is None or snapshot(parent) == before
  return sentence


@pytest.fixture
def path(tmp_path):
  """A run that was begun."""
  path = tmp_path / 'run'
  begin(path, {'num_steps': 10})
  return path


def begin(path, extent, resume=False):
  """Opens a work directory, and leaves it."""
  workdir = workdirs.Workdir(str(path))
  workdir.open(IDENTITY, extent, resume)
  workdir.close()


def test_a_new_run_writes_its_configuration_and_no_litter(path):
  config = json.loads((path / 'config.json').read_text())
  assert config == {**json.loads(json.dumps(IDENTITY)), 'num_steps': 10}
  assert sorted(os.listdir(path)) == ['.lock', 'config.json', 'logs']


def test_directories_that_hold_other_things_may_be_used(tmp_path):
  (tmp_path / 'notes.txt').write_text('mine')
  begin(tmp_path, {'num_steps': 10})
  assert (tmp_path / 'notes.txt').read_text() == 'mine'


def test_an_existing_run_is_not_started_anew(path):
  assert '--resume' in assert_refused(path)


def test_an_existing_run_can_be_resumed_and_be_made_longer(path):
  begin(path, {'num_steps': 20}, resume=True)
  config = workdirs.Workdir(str(path)).read_config()
  assert config['num_steps'] == 20


@pytest.mark.parametrize('num_steps', [10, 20])
def test_another_configuration_is_named_field_by_field(path, num_steps):
  other = {'environment': 'debug/point', 'agent': {'depth': 3, 'a': [1, 2]}}
  sentence = assert_refused(path, other, num_steps, resume=True)
  assert 'agent.depth, environment;' in sentence


def test_what_is_not_there_cannot_be_resumed(tmp_path):
  assert 'no run' in assert_refused(tmp_path / 'none', resume=True)


def test_one_process_at_a_time(path):
  first, second = workdirs.Workdir(str(path)), workdirs.Workdir(str(path))
  first.lock()
  with pytest.raises(workdirs.WorkdirError, match='in use'):
    second.lock()
  first.close()
  second.lock()
  second.close()


def test_who_opens_holds_the_lock_and_nobody_else_writes_there(tmp_path):
  first = workdirs.Workdir(str(tmp_path / 'run'))
  first.open(IDENTITY, {'num_steps': 10}, resume=False)
  first.lock()  # It has it.
  before = snapshot(tmp_path)
  for resume in (False, True):
    second = workdirs.Workdir(str(tmp_path / 'run'))
    with pytest.raises(workdirs.WorkdirError):
      second.open(IDENTITY, {'num_steps': 20}, resume)
    second.close()
  assert snapshot(tmp_path) == before
  first.close()


def start_at_once(path, seed, barrier, results):
  workdir = workdirs.Workdir(path)
  barrier.wait()
  try:
    workdir.open({'seed': seed}, {'num_steps': 1}, False)
    results.put(seed)
  except workdirs.WorkdirError:
    results.put(None)
  barrier.wait()


def test_of_two_starts_at_one_moment_the_winner_s_configuration_stays(tmp_path):
  context = multiprocessing.get_context('fork')
  for trial in range(20):
    path = str(tmp_path / str(trial))
    barrier, results = context.Barrier(2), context.Queue()
    both = [
      context.Process(target=start_at_once, args=(path, seed, barrier, results))
      for seed in range(2)
    ]
    for process in both:
      process.start()
    (winner,) = {results.get(timeout=60) for _ in both} - {None}
    for process in both:
      process.join()
    assert workdirs.Workdir(path).read_config()['seed'] == winner


def test_a_run_that_began_and_ended_meanwhile_is_not_overwritten(
  tmp_path, monkeypatch
):
  """Between the first look and the lock."""
  path = tmp_path / 'run'
  workdir = workdirs.Workdir(str(path))
  lock = workdir.lock

  def late_lock():
    monkeypatch.setattr(workdir, 'lock', lock)
    begin(path, {'num_steps': 10})
    lock()

  monkeypatch.setattr(workdir, 'lock', late_lock)
  with pytest.raises(workdirs.WorkdirError, match='already holds a run'):
    workdir.open({'seed': 7}, {'num_steps': 20}, resume=False)
  assert workdirs.Workdir(str(path)).read_config()['num_steps'] == 10
  workdir.close()


@pytest.mark.parametrize(
  'number', [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EIO]
)
def test_a_file_system_without_locks_is_told_as_what_it_is(
  path, monkeypatch, number
):
  def flock(*unused_arguments):
    raise OSError(number, os.strerror(number))

  monkeypatch.setattr(fcntl, 'flock', flock)
  with pytest.raises(workdirs.WorkdirError) as caught:
    workdirs.Workdir(str(path)).lock()
  sentence = str(caught.value)
  assert 'in use' not in sentence and os.strerror(number) in sentence
  assert str(path) in sentence and '\n' not in sentence


def test_directories_made_in_one_second_have_names_of_their_own(tmp_path):
  made = [
    workdirs.make_new(str(tmp_path / 'runs'), 'debug_catch-1') for _ in range(3)
  ]
  assert len(set(made)) == 3
  assert all(
    os.path.isdir(path)
    and os.path.basename(path).startswith('debug_catch-1')
    and os.path.dirname(path) == str(tmp_path / 'runs')
    for path in made
  )


def test_a_directory_that_cannot_be_made_is_told(tmp_path):
  (tmp_path / 'runs').write_text('a file')
  with pytest.raises(workdirs.WorkdirError, match='cannot be written'):
    workdirs.make_new(str(tmp_path / 'runs'), 'debug_catch')


def test_checkpoints_without_a_configuration_are_left_alone(path):
  (path / 'checkpoints').mkdir()
  (path / 'config.json').unlink()
  assert 'config.json' in assert_refused(path)


@pytest.mark.parametrize(
  ['steps', 'left'],
  [(0, ''), (9, ''), (10, '10'), (29, '10 20'), (40, '10 20')],
)
def test_logs_are_cut_where_a_run_goes_on(path, steps, left):
  log = path / 'logs' / 'level_0.csv'
  # The process was killed while it wrote the last line.
  log.write_bytes(b'actor_steps,loss\r\n10,1.5\r\n20,nan\r\n30,0.')
  whole = path / 'logs' / 'empty.csv'
  whole.touch()
  workdirs.Workdir(str(path)).cut_logs(steps)
  lines = log.read_bytes().decode().split('\r\n')
  assert ' '.join(line.split(',')[0] for line in lines[1:-1]) == left
  assert lines[0] == ('actor_steps,loss' if left else '')
  assert sorted(os.listdir(path / 'logs')) == ['empty.csv', 'level_0.csv']


@pytest.mark.parametrize(
  'name',
  ['run[seed=1]', 'lr=1e-3,units=[64,64]', 'what?', 'star*', '[!a]', '{}'],
)
def test_the_name_of_a_directory_is_no_pattern(tmp_path, name):
  """Where logs are cut, and where a neighbour fits the pattern."""
  for other in ('run1', 'runs', 'whatx', 'starx', 'b', name):
    (tmp_path / other / 'logs').mkdir(parents=True)
    (tmp_path / other / 'logs' / 'episodes.csv').write_text(
      'actor_steps,episode_return\n10,1.0\n20,1.0\n'
    )
  before = snapshot(tmp_path)
  workdirs.Workdir(str(tmp_path / name)).cut_logs(10)
  after = snapshot(tmp_path)
  changed = {path for path in before if before[path] != after[path]}
  assert changed == {str(tmp_path / name / 'logs' / 'episodes.csv')}
  (log,) = (after[path] for path in changed)
  assert log == b'actor_steps,episode_return\n10,1.0\n'


# What may stand in a log besides what was written.
BAD_LINES = {
  'word': b'10,two,1\n',
  'nan-steps': b'nan,1,1\n',
  'nan-return': b'10,1,nan\n',
  'infinite-return': b'10,1,-inf\n',
  'huge-return': b'10,1,1e300\n',
  'negative-steps': b'-5,1,1\n',
  'huge-steps': b'1e30,1,1\n',
  'short': b'10,1\n',
  'long': b'10,1,1,1\n',
  'two-at-once': b'10,110,1,1\n',
  'header-again': b'actor_steps,a,episode_return\n',
  'binary': b'\xff\xfe\x00\n',
  'zeros': b'\0' * 50 + b'\n',
  'quote': b'"10,1,1\n',
  'carriage': b'10,\r1,1\n',
  'long-line': b'1' * 200_000 + b'\n',
}


@pytest.mark.parametrize('bad', BAD_LINES.values(), ids=BAD_LINES)
def test_lines_that_cannot_be_read_are_set_aside(path, bad):
  log = path / 'logs' / 'episodes.csv'
  header, first, second = (
    b'actor_steps,a,episode_return\r\n',
    b'5,nan,1\r\n',
    b'9,2,3\r\n',
  )
  log.write_bytes(header + first + bad + b'\n' + second + b'11,2,3\r\n12,')
  (said,) = workdirs.Workdir(str(path)).cut_logs(10)
  assert log.read_bytes() == header + first + second
  aside = path / 'logs' / 'episodes.csv.damaged'
  assert aside.read_bytes() == bad
  assert str(aside) in said and said.startswith('1 of') and '\n' not in said
  # What was set aside before stays.
  log.write_bytes(header + bad)
  workdirs.Workdir(str(path)).cut_logs(10)
  assert aside.read_bytes() == bad + bad


@pytest.mark.parametrize(
  'bad',
  [
    b'[3]\n',
    b'3\n',
    b'{"episode_return": 1.0}\n',
    b'{"actor_steps": "3", "episode_return": 1.0}\n',
    b'{"actor_steps": true, "episode_return": 1.0}\n',
    b'{"actor_steps": null, "episode_return": 1.0}\n',
    b'{"actor_steps": NaN, "episode_return": 1.0}\n',
    b'{"actor_steps": 3, "episode_return": -Infinity}\n',
    b'{"actor_steps": 1' + b'0' * 400 + b', "episode_return": 1.0}\n',
    b'{"actor_steps": 1' + b'0' * 5000 + b', "episode_return": 1.0}\n',
    b'[' * 100_000 + b'\n',
    b'\xff\n',
  ],
  ids=lambda bad: bad[:30],
)
def test_lines_of_evaluators_that_cannot_be_read_are_set_aside(path, bad):
  (path / 'evaluation').mkdir()
  log = path / 'evaluation' / 'evaluator.jsonl'
  kept = b'{"actor_steps": 3, "episode_return": 1.0}\n'
  log.write_bytes(bad + kept + b'{"actor_steps": 4, "episode_return": 1.0}\n')
  (said,) = workdirs.Workdir(str(path)).cut_logs(3)
  assert log.read_bytes() == kept
  aside = path / 'evaluation' / 'evaluator.jsonl.damaged'
  assert aside.read_bytes() == bad and str(aside) in said


@pytest.mark.parametrize(
  'content', [b'\xff\xfe\n\0\n', b'steps;return\n1;2\n', b'a,a\n1,2\n3']
)
def test_a_log_whose_header_cannot_be_read_is_set_aside(path, content):
  (path / 'logs' / 'level_0.csv').write_bytes(content)
  assert workdirs.Workdir(str(path)).cut_logs(5)
  assert (path / 'logs' / 'level_0.csv').read_bytes() == b''
  assert (path / 'logs' / 'level_0.csv.damaged').read_bytes() == content


def test_a_header_with_a_mark_of_a_spreadsheet_is_a_header(path):
  log = path / 'logs' / 'episodes.csv'
  log.write_bytes(b'\xef\xbb\xbfactor_steps,episode_return\n1,2\n3,4\n')
  assert not workdirs.Workdir(str(path)).cut_logs(2)
  assert log.read_bytes().endswith(b'return\n1,2\n')


@pytest.mark.parametrize(
  'name', ['mine.csv', 'merged level_0.csv', 'episodes.csv~', 'level_.csv']
)
def test_files_of_somebody_else_are_left_alone(path, name):
  for content in (b'', b'a,b\n1,x\n', b'actor_steps,game\n9,Krull\n', b'\xff'):
    (path / 'logs' / name).write_bytes(content)
    assert not workdirs.Workdir(str(path)).cut_logs(1)
    assert (path / 'logs' / name).read_bytes() == content
  assert os.listdir(path / 'logs') == [name]


UNREADABLE = damage.NO_FILES | {
  'nowhere': lambda log: log.symlink_to('nothing'),
}


@pytest.mark.timeout(30)
@pytest.mark.parametrize('kind', UNREADABLE)
@pytest.mark.parametrize(
  'name',
  ['logs/level_1.csv', 'evaluation/evaluator.jsonl', 'logs', 'evaluation'],
)
def test_nothing_is_changed_where_a_log_cannot_be_read(path, name, kind):
  (path / 'summary.json').write_text('{}')
  (path / 'evaluation').mkdir()
  (path / 'evaluation' / 'evaluator.json').write_text('{}')
  (path / 'logs' / 'episodes.csv').write_text('actor_steps\n1\nx\n3\n')
  if '/' not in name:
    if kind in ('directory', 'nowhere'):
      return  # It may be made.
    shutil.rmtree(path / name)
  UNREADABLE[kind](path / name)
  before = {p: b for p, b in snapshot(path).items() if not p.endswith(name)}
  with pytest.raises(workdirs.WorkdirError) as caught:
    workdirs.Workdir(str(path)).cut_logs(2)
  sentence = str(caught.value)
  assert str(path / name) in sentence and 'cannot be read' in sentence
  assert {
    p: b for p, b in snapshot(path).items() if not p.endswith(name)
  } == before


def test_nothing_is_changed_where_there_is_no_room(path, monkeypatch):
  (path / 'summary.json').write_text('{}')
  for name in ('episodes', 'level_0', 'level_1'):
    (path / 'logs' / f'{name}.csv').write_text('actor_steps\n1\nx\n3\n')
  before = snapshot(path)
  written = []

  def fsync(number):
    written.append(number)
    if len(written) == 3:
      raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

  monkeypatch.setattr(os, 'fsync', fsync)
  with pytest.raises(workdirs.WorkdirError, match='No space left'):
    workdirs.Workdir(str(path)).cut_logs(2)
  assert snapshot(path) == before
  monkeypatch.undo()
  assert len(workdirs.Workdir(str(path)).cut_logs(2)) == 3
  assert not (path / 'summary.json').exists()


def test_a_log_that_stays_as_it_is_is_not_written(path):
  log = path / 'logs' / 'episodes.csv'
  log.write_text('actor_steps\n1\n2\n')
  before = os.stat(log)
  workdirs.Workdir(str(path)).cut_logs(2)
  assert os.stat(log) == before


def test_a_summary_outlives_a_resume_that_is_refused(path):
  (path / 'summary.json').write_text('{}')
  (path / 'logs' / 'level_0.csv').mkdir()
  run = runs.Run(
    environment='debug/catch',
    config=config_lib.preset('tiny'),
    num_steps=3000,
    workdir=str(path),
  )
  (path / 'config.json').unlink()
  first = workdirs.Workdir(str(path))
  first.open(run.identity(), run.extent(), False)
  first.close()
  before = snapshot(path)
  with pytest.raises(workdirs.WorkdirError, match='level_0.csv'):
    runs.prepare(run.replace(num_steps=4000, resume=True))
  assert snapshot(path) == before


def test_a_name_that_is_no_utf_8_is_refused(tmp_path):
  path = os.path.join(str(tmp_path), os.fsdecode(b'\xff'))
  with pytest.raises(workdirs.WorkdirError, match=r'\\udcff is no UTF-8'):
    workdirs.Workdir(path).open(IDENTITY, {}, resume=False)
  assert not os.listdir(tmp_path)


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
  """Has the process stand in a directory that somebody has removed."""
  directory = tmp_path / 'removed'
  directory.mkdir()
  monkeypatch.chdir(directory)
  directory.rmdir()


def test_where_the_current_directory_was_removed_a_path_is_asked_for(
  tmp_path, nowhere
):
  with pytest.raises(workdirs.WorkdirError, match='cd to another'):
    workdirs.Workdir('run')
  begin(tmp_path / 'run', {'num_steps': 10})
  assert (tmp_path / 'run' / 'config.json').exists()


@pytest.mark.parametrize('name', ['.lock', PARTIAL], ids=['lock', 'partial'])
def test_a_link_in_a_run_of_somebody_else_spoils_no_other_file(
  path, tmp_path, name
):
  mine = tmp_path / 'mine'
  mine.write_text('all that I have')
  (path / name).unlink(missing_ok=True)
  (path / name).symlink_to(mine)
  begin(path, {'num_steps': 20}, resume=True)
  assert mine.read_text() == 'all that I have'
  assert json.loads((path / 'config.json').read_text())['num_steps'] == 20


@pytest.mark.timeout(30)
def test_pipes_in_a_run_of_somebody_else_are_not_waited_for(path):
  os.mkfifo(path / PARTIAL)
  begin(path, {'num_steps': 20}, resume=True)
  (path / '.lock').unlink()
  os.mkfifo(path / '.lock')
  with pytest.raises(workdirs.WorkdirError, match='cannot be written'):
    begin(path, {'num_steps': 30}, resume=True)
  assert json.loads((path / 'config.json').read_text())['num_steps'] == 20


@pytest.mark.timeout(30)
@pytest.mark.parametrize('kind', UNREADABLE)
def test_a_configuration_that_is_no_file_is_refused(path, kind):
  (path / 'config.json').unlink()
  UNREADABLE[kind](path / 'config.json')
  if kind != 'nowhere':
    assert_refused(path, resume=True)


@pytest.mark.parametrize('content', ['', '{', '[]', '3', '\0', '[' * 100_000])
@pytest.mark.parametrize('resume', [False, True])
def test_a_damaged_configuration_is_refused(path, content, resume):
  (path / 'config.json').write_text(content)
  assert 'config.json' in assert_refused(path, resume=resume)


def test_a_file_in_place_of_the_directory_is_refused(tmp_path):
  (tmp_path / 'file').write_text('mine')
  assert_refused(tmp_path / 'file')
  assert_refused(tmp_path / 'file' / 'run')


def test_a_directory_that_cannot_be_written_is_refused():
  assert 'cannot be written' in assert_refused('/proc/run')


def test_a_failed_write_leaves_the_old_json(tmp_path, monkeypatch):
  path = str(tmp_path / 'summary.json')
  workdirs.write_json(path, {'steps': 1})
  with pytest.raises(TypeError):
    workdirs.write_json(path, {'steps': object()})
  assert json.loads((tmp_path / 'summary.json').read_text()) == {'steps': 1}


def test_a_removed_directory_is_made_again_and_locked(tmp_path):
  workdir = workdirs.Workdir(str(tmp_path / 'run'))
  workdir.open({'seed': 1}, {'num_steps': 2}, False)
  assert workdir.make_again() is None
  shutil.rmtree(workdir.path)
  assert 'was removed while' in workdir.make_again()
  with open(workdir.config) as file:
    assert json.load(file) == {'seed': 1, 'num_steps': 2}
  with pytest.raises(workdirs.WorkdirError, match='in use'):
    workdirs.Workdir(workdir.path).lock()
  workdir.close()


def test_only_a_directory_that_was_opened_is_made_again(tmp_path):
  assert workdirs.Workdir(str(tmp_path / 'none')).make_again() is None
  assert not (tmp_path / 'none').exists()
