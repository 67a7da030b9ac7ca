"""What cannot be written costs lines of logs and nothing else."""

from acme_hieros import compat  # noqa: F401, I001  Comes before Acme.

import csv
import errno
import os
import shutil
import time

from acme.utils import loggers as acme_loggers
import psutil
import pytest
from tensorboard.backend.event_processing import event_accumulator
from tensorboard.plugins.hparams import plugin_data_pb2
import tensorflow as tf

from acme_hieros import config as config_lib
from acme_hieros.experiments import loggers, runs

RUN = runs.Run(
  environment='debug/catch',
  environment_options={'rows': 5},
  config=config_lib.preset('tiny'),
  num_steps=9,
  workdir='',
)


class Disk(acme_loggers.Logger):
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
  logger = loggers.BestEffortLogger(lambda: disk, str(tmp_path), told.append)
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
  logger = loggers.BestEffortLogger(lambda: disk, str(tmp_path), print)
  with pytest.raises(ZeroDivisionError):
    logger.write({})


def read(path):
  with open(path, newline='') as file:
    return [row['actor_steps'] for row in csv.DictReader(file)]


@pytest.fixture
def told():
  """What the user is told."""
  return []


@pytest.fixture
def run_loggers(workdir, told):
  run_loggers = loggers.RunLoggers(RUN, workdir, told.append)
  yield run_loggers
  run_loggers.close()


def read_lines(workdir):
  with open(os.path.join(workdir.logs, 'episodes.csv')) as file:
    return file.read().split()


def test_logs_go_on_in_a_directory_that_was_removed(workdir, run_loggers):
  logger = run_loggers.make_logger('episodes')
  path = os.path.join(workdir.logs, 'episodes.csv')
  logger.write({'actor_steps': 1})
  assert read(path) == ['1']
  shutil.rmtree(workdir.path)
  logger.write({'actor_steps': 2})
  logger.write({'actor_steps': 3})
  assert read(path) == ['2', '3']
  assert os.listdir(workdir.tensorboard)


def test_a_log_that_cannot_be_opened_is_told(workdir, run_loggers, told):
  os.mkdir(os.path.join(workdir.logs, 'episodes.csv'))
  run_loggers.make_logger('episodes').write({'actor_steps': 1})
  (sentence,) = told
  assert 'episodes.csv cannot be written' in sentence


@pytest.mark.parametrize('hours', [-1, 1])
def test_a_clock_that_is_set_loses_no_row(
  workdir, run_loggers, monkeypatch, hours
):
  logger = run_loggers.make_logger('episodes')
  logger.write({'actor_steps': 0})
  now = time.time
  monkeypatch.setattr(time, 'time', lambda: now() + 3600 * hours)
  logger.write({'actor_steps': 1})
  run_loggers.close()
  assert read_lines(workdir) == ['actor_steps', '0', '1']


def test_loggers_append_and_keep_one_header(workdir):
  for step in range(2):
    logger = loggers.RunLoggers(RUN, workdir, print).make_logger('episodes')
    logger.write({'actor_steps': step, 'value': 0.5})
    logger.close()
  assert read_lines(workdir) == ['actor_steps,value', '0,0.5', '1,0.5']


def test_logging_for_days_takes_no_memory(run_loggers):
  logger = run_loggers.make_logger('episodes')
  process = psutil.Process()

  def write(first, count):
    for i in range(first, first + count):
      logger.write({'actor_steps': i, 'episode_return': i / 7, 'walltime': 0.1})

  write(0, 500)
  before = process.memory_info().rss
  write(500, 4000)
  # It was 270 bytes a value.
  assert process.memory_info().rss - before < 4000 * 2 * 100


# --- TensorBoard -------------------------------------------------------------


def read_events(workdir):
  events = event_accumulator.EventAccumulator(workdir.tensorboard)
  events.Reload()
  return events


def test_curves_are_named_as_in_the_files_and_counters_are_none(
  workdir, run_loggers
):
  for label in ('episodes', 'level_0_diagnostics'):
    logger = run_loggers.make_logger(label)
    for steps in (3, 7):
      logger.write(
        {
          'actor_steps': steps,
          'actor_episodes': 1,
          'learner_steps': 2,
          'walltime': 0.5,
          'open_loop_error_1': steps / 2,
        }
      )
  run_loggers.close()
  events = read_events(workdir)
  assert events.Tags()['tensors'] == [
    'episodes/open_loop_error_1',
    'level_0_diagnostics/open_loop_error_1',
  ]
  points = events.Tensors('episodes/open_loop_error_1')
  assert [point.step for point in points] == [3, 7]
  assert [tf.make_ndarray(p.tensor_proto) for p in points] == [1.5, 3.5]


def test_hyperparameters_stand_beside_results(workdir, run_loggers):
  run_loggers.log_hyperparameters(RUN)
  run_loggers.log_results(
    {'mean_return': 0.5, 'best_return': None, 'last_return': 1.0}, steps=9
  )
  run_loggers.close()
  events = read_events(workdir)
  content = plugin_data_pb2.HParamsPluginData.FromString(
    events.PluginTagToContent('hparams')['_hparams_/session_start_info']
  )
  found = content.session_start_info.hparams
  assert found['environment'].string_value == 'debug/catch'
  assert found['environment.rows'].number_value == 5
  assert found['world_model.deter_size'].number_value == (
    RUN.config.world_model.deter_size
  )
  assert found['replay.sampler'].string_value == RUN.config.replay.sampler
  (point,) = events.Tensors('results/mean_return')
  assert point.step == 9 and tf.make_ndarray(point.tensor_proto) == 0.5
  assert 'results/best_return' not in events.Tags()['tensors']


def test_hyperparameters_that_cannot_be_written_are_told(workdir, told):
  with open(workdir.tensorboard, 'w'):
    pass  # Where the directory is to be.
  run_loggers = loggers.RunLoggers(RUN, workdir, told.append)
  run_loggers.log_hyperparameters(RUN)
  (sentence,) = told
  assert 'tensorboard cannot be written' in sentence and '\n' not in sentence


# --- loggers of the user's own -----------------------------------------------


def test_loggers_of_ones_own_are_told_what_the_files_are(workdir):
  made = {}

  def make(label):
    return made.setdefault(label, Disk())

  run_loggers = loggers.RunLoggers(
    RUN.replace(logger_factory=make), workdir, print
  )
  run_loggers.make_logger('episodes').write({'actor_steps': 1})
  run_loggers.make_evaluator_logger().write({'actor_steps': 2})
  learner = run_loggers.make_learner_logger('level_0')
  for steps in range(10):
    learner.write({'actor_steps': steps})
  run_loggers.close()
  assert read(os.path.join(workdir.logs, 'level_0.csv')) == ['0']
  assert {label: logger.records for label, logger in made.items()} == {
    'episodes': [{'actor_steps': 1}],
    'evaluation': [{'actor_steps': 2}],
    'level_0': [{'actor_steps': 0}],
  }


def test_what_is_no_logger_is_told(workdir):
  run = RUN.replace(logger_factory=lambda label: 3)
  run_loggers = loggers.RunLoggers(run, workdir, print)
  with pytest.raises(ValueError, match=r"'episodes'\) returned 3.*write"):
    run_loggers.make_logger('episodes')
