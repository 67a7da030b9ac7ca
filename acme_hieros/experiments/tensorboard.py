"""What TensorBoard shows of a run: curves, pictures, hyper-parameters."""

from collections.abc import Mapping, Sequence
import contextlib
import os

from acme.utils import loggers
import numpy as np
from PIL import Image
from tensorboard.plugins.hparams import summary_v2 as hparams
import tensorflow as tf

from acme_hieros.experiments import tracking
from acme_hieros.storage import workdirs

# Curves that stand beside the hyper-parameters of runs, where a run has them.
_RESULTS = (
  'results/mean_return',
  'results/best_return',
  'episodes/episode_return',
  'evaluation/episode_return',
)


class Logger(loggers.Logger):
  """Curves over environment steps, named <label>/<name> as in the CSV files."""

  def __init__(self, directory: str, label: str):
    """Opens a file of its own in the directory."""
    self._label = label
    self._writer = tf.summary.create_file_writer(directory)

  def write(self, data: loggers.LoggingData):
    """Writes all but counters; they are what curves are drawn over."""
    # TensorFlow keeps each Python number it is given, and no array.
    steps = np.asarray(data['actor_steps'])
    with self._writer.as_default():
      for name, value in tracking.measured(data).items():
        tf.summary.scalar(f'{self._label}/{name}', np.asarray(value), steps)

  def close(self):
    self._writer.close()


def log_hyperparameters(
  directory: str, values: Mapping[str, str | bool | int | float]
):
  """Shows by what a run was made, under HPARAMS.

  Args:
    directory: of the run's files.
    values: plain, by name.
  """
  with _writing(directory):
    # One of several runs says for all of them what is shown.
    hparams.hparams_config(
      hparams=[hparams.HParam(name) for name in values],
      metrics=[hparams.Metric(name) for name in _RESULTS],
    )
    hparams.hparams(dict(values), trial_id=os.path.abspath(directory))


def log_results(directory: str, values: Mapping[str, float], steps: int):
  """Shows beside them what came of it, after so many steps."""
  with _writing(directory):
    for name, value in values.items():
      tf.summary.scalar(f'results/{name}', np.asarray(value), steps)


@contextlib.contextmanager
def _writing(directory: str, suffix: str | None = None):
  writer = tf.summary.create_file_writer(directory, filename_suffix=suffix)
  with contextlib.closing(writer), writer.as_default():
    yield


def log_pictures(workdir: workdirs.Workdir, paths: Sequence[str], steps: int):
  """Shows PNG and GIF files, under their names."""
  with _writing(_picture_events(workdir), _event_suffix(steps)):
    for path in paths:
      with open(path, 'rb') as file:
        encoded = file.read()
      with Image.open(path) as picture:
        width, height = picture.size
      # The only way in for an animation: a picture that is encoded already.
      image = tf.compat.v1.Summary.Image(
        encoded_image_string=encoded, width=width, height=height
      )
      name = f'pictures/{os.path.basename(path)}'
      summary = tf.compat.v1.Summary(
        value=[tf.compat.v1.Summary.Value(tag=name, image=image)]
      )
      tf.summary.experimental.write_raw_pb(summary.SerializeToString(), steps)


def picture_event_files(workdir: workdirs.Workdir, steps: int) -> list[str]:
  """The files of the pictures after so many steps."""
  directory = _picture_events(workdir)
  if not os.path.isdir(directory):
    return []
  return [
    os.path.join(directory, name)
    for name in os.listdir(directory)
    if name.endswith(_event_suffix(steps))
  ]


def _picture_events(workdir: workdirs.Workdir) -> str:
  return os.path.join(workdir.tensorboard, 'pictures')


def _event_suffix(steps: int) -> str:
  """Ends the names of these files, as '.v2' does those of others."""
  return f'.{steps:09d}.v2'
