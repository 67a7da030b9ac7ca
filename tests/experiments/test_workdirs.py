"""A work directory is refused, or made ready, before anything is changed."""

from acme_hieros import compat  # noqa: F401, I001  Comes before Acme.

import json
import os
import pathlib

import psutil
import pytest

from acme_hieros.experiments import workdirs

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
  workdir = workdirs.Workdir(str(path))
  workdir.open(IDENTITY, {'num_steps': 10}, resume=False)
  return path


def test_a_new_run_writes_its_configuration_and_no_litter(path):
  config = json.loads((path / 'config.json').read_text())
  assert config == {**json.loads(json.dumps(IDENTITY)), 'num_steps': 10}
  assert sorted(os.listdir(path)) == ['config.json', 'logs']


def test_directories_that_hold_other_things_may_be_used(tmp_path):
  (tmp_path / 'notes.txt').write_text('mine')
  workdirs.Workdir(str(tmp_path)).open(
    IDENTITY, {'num_steps': 10}, resume=False
  )
  assert (tmp_path / 'notes.txt').read_text() == 'mine'


def test_an_existing_run_is_not_started_anew(path):
  assert '--resume' in assert_refused(path)


def test_an_existing_run_can_be_resumed_and_be_made_longer(path):
  workdirs.Workdir(str(path)).open(IDENTITY, {'num_steps': 20}, resume=True)
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


@pytest.mark.parametrize('content', ['', '{', '[]', '3', '\0'])
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


def test_loggers_append_and_keep_one_header(path):
  for step in range(2):
    logger = workdirs.Workdir(str(path)).make_logger('episodes')
    logger.write({'actor_steps': step, 'value': 0.5})
    logger.close()
  lines = (path / 'logs' / 'episodes.csv').read_text().split()
  assert lines == ['actor_steps,value', '0,0.5', '1,0.5']


def test_logging_for_days_takes_no_memory(path):
  workdir = workdirs.Workdir(str(path))
  logger = workdir.make_logger('episodes')
  process = psutil.Process()

  def write(first, count):
    for i in range(first, first + count):
      logger.write({'actor_steps': i, 'episode_return': i / 7, 'walltime': 0.1})

  write(0, 500)
  before = process.memory_info().rss
  write(500, 4000)
  # It was 270 bytes a value.
  assert process.memory_info().rss - before < 4000 * 2 * 100
  workdir.close()
