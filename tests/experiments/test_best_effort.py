"""What cannot be written costs lines of logs and nothing else."""

from acme_hieros import compat  # noqa: F401, I001  Comes before Acme.

import csv
import errno
import json
import os
import shutil

from acme.utils import loggers
import pytest
import tensorflow as tf

from acme_hieros.experiments import best_effort, workdirs


class Disk(loggers.Logger):
  """Keeps records while there is room."""

  error = None

  def __init__(self):
    self.records = []

  def write(self, data):
    if self.error:
      raise self.error
    self.records.append(data)

  def close(self):
    if self.error:
      raise self.error


@pytest.mark.parametrize(
  'error',
  [
    OSError(errno.ENOSPC, 'No space left on device'),
    tf.errors.ResourceExhaustedError(None, None, 'No space left on device'),
  ],
)
def test_a_full_disk_is_told_once_and_tried_again(tmp_path, error):
  disk, told = Disk(), []
  logger = best_effort.BestEffortLogger(
    lambda: disk, str(tmp_path), told.append
  )
  logger.write({'a': 1})
  disk.error = error
  for _ in range(3):
    logger.write({'a': 2})
  assert len(told) == 1 and 'No space left on device' in told[0]
  assert str(tmp_path) in told[0] and '\n' not in told[0]
  disk.error = None
  logger.write({'a': 3})
  assert disk.records == [{'a': 1}, {'a': 3}]
  disk.error = error
  logger.write({'a': 4})
  assert len(told) == 2
  logger.close()


def test_other_errors_are_not_hidden(tmp_path):
  disk = Disk()
  disk.error = ZeroDivisionError()
  logger = best_effort.BestEffortLogger(lambda: disk, str(tmp_path), print)
  with pytest.raises(ZeroDivisionError):
    logger.write({})


def read(path):
  with open(path, newline='') as file:
    return [row['actor_steps'] for row in csv.DictReader(file)]


@pytest.fixture
def workdir(tmp_path):
  workdir = workdirs.Workdir(str(tmp_path / 'run'))
  workdir.told = []
  workdir.warn = workdir.told.append
  workdir.open({'seed': 1}, {'num_steps': 2}, False)
  yield workdir
  workdir.close()


def test_logs_go_on_in_a_directory_that_was_removed(workdir):
  logger = workdir.make_logger('episodes')
  path = os.path.join(workdir.logs, 'episodes.csv')
  logger.write({'actor_steps': 1})
  assert read(path) == ['1']
  shutil.rmtree(workdir.path)
  logger.write({'actor_steps': 2})
  logger.write({'actor_steps': 3})
  assert read(path) == ['2', '3']
  assert os.listdir(workdir.tensorboard)


def test_a_log_that_cannot_be_opened_is_told(workdir):
  os.mkdir(os.path.join(workdir.logs, 'episodes.csv'))
  workdir.make_logger('episodes').write({'actor_steps': 1})
  (told,) = workdir.told
  assert 'episodes.csv cannot be written' in told


def test_a_removed_directory_is_made_again_and_locked(workdir):
  workdir.make_again()
  assert workdir.told == []
  shutil.rmtree(workdir.path)
  workdir.make_again()
  with open(workdir.config) as file:
    assert json.load(file) == {'seed': 1, 'num_steps': 2}
  assert len(workdir.told) == 1 and 'was removed while' in workdir.told[0]
  with pytest.raises(workdirs.WorkdirError, match='in use'):
    workdirs.Workdir(workdir.path).lock()


def test_only_a_directory_that_was_opened_is_made_again(tmp_path):
  workdirs.Workdir(str(tmp_path / 'none')).make_again()
  assert not (tmp_path / 'none').exists()
