"""Episodes as animations (GIF, which TensorBoard plays) and films (MP4)."""

from collections.abc import Iterable, Iterator
import contextlib
import errno
import subprocess
import tempfile
from typing import Any

from matplotlib.backends import backend_agg
import numpy as np
from PIL import Image, ImageDraw

from acme_hieros.config import HierosConfig
from acme_hieros.visualization import figures, pictures
from acme_hieros.visualization import recording as recording_lib

# Of one picture in an animation, about.
_SIDE = 128

_GAP = 8
_HEADER = 16

FRAMES_PER_SECOND = 10

# Of a film: as Atari's games are played, with four of 60 frames a step.
FILM_FRAMES_PER_SECOND = 15
_BLOCK = 16

# Of the figure beside the frame.
_DPI = 65


def write(path: str, frames: Iterable[np.ndarray]):
  """Writes uint8 frames [H, W, 3] of one size as a GIF that starts again."""
  pictures = (
    # A palette for each frame, at a third of the memory of its colours.
    Image.fromarray(frame).quantize()
    for frame in frames
  )
  next(pictures).save(
    path,
    format='GIF',
    save_all=True,
    append_images=pictures,
    duration=1000 // FRAMES_PER_SECOND,
    loop=0,
  )


class Film:
  """An MP4 file (H.264, which browsers play) that frames are written to.

  Nothing is kept in memory.
  """

  def __init__(self, path: str):
    """Creates it; the file is begun with the first frame.

    Args:
      path: of the file; an older one is replaced.

    Raises:
      ModuleNotFoundError: the package imageio-ffmpeg is missing.
      ValueError: it brings no ffmpeg for this machine, and there is no other.
    """
    import imageio_ffmpeg

    try:
      self._program = imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError as error:
      raise ValueError(
        'Films need ffmpeg, which imageio-ffmpeg does not bring for this '
        'machine: install it, or name it in IMAGEIO_FFMPEG_EXE.'
      ) from error
    self._path = path
    self._process: subprocess.Popen | None = None
    self._said = tempfile.TemporaryFile()

  def write(self, frame: np.ndarray):
    """Appends a frame, uint8 [H, W, 3], all of one size.

    Raises:
      OSError: it cannot be written.
    """
    # H.264 is made of blocks.
    height, width = (-(-side // _BLOCK) * _BLOCK for side in frame.shape[:2])
    whole = np.full((height, width, 3), 255, np.uint8)
    whole[: frame.shape[0], : frame.shape[1]] = frame
    if self._process is None:
      self._process = self._begin(width, height)
    try:
      self._process.stdin.write(whole.tobytes())
    except BrokenPipeError:
      self.close()

  def close(self):
    """Makes the file whole; without a frame there is none.

    Raises:
      OSError: it could not be written.
    """
    process, self._process = self._process, None
    if process is None:
      return
    with contextlib.suppress(BrokenPipeError):
      process.stdin.close()
    if process.wait():
      self._said.seek(0)
      said = self._said.read().decode(errors='replace').strip()
      last = said.rpartition('\n')[2]
      raise OSError(errno.EIO, f'ffmpeg: {last or "it has ended"}')

  def _begin(self, width: int, height: int) -> subprocess.Popen:
    # imageio_ffmpeg has its child run Python before ffmpeg, which can hang
    # where there are threads, as JAX's.
    return subprocess.Popen(
      [
        *(self._program, '-y', '-loglevel', 'error'),
        *('-f', 'rawvideo', '-pix_fmt', 'rgb24', '-s', f'{width}x{height}'),
        *('-r', str(FILM_FRAMES_PER_SECOND), '-i', '-', '-an'),
        # Colours that all players have.
        *('-codec:v', 'libx264', '-pix_fmt', 'yuv420p'),
        # Whatever the file is called; and playable while it is loaded.
        *('-f', 'mp4', '-movflags', '+faststart', self._path),
      ],
      stdin=subprocess.PIPE,
      stdout=subprocess.DEVNULL,
      stderr=self._said,
      # Ctrl-C is for the evaluation, which ends the film.
      start_new_session=True,
    )


def compared(
  title: str, real: np.ndarray, expected: np.ndarray, ahead: int
) -> np.ndarray:
  """A frame of a film: what came beside what was imagined.

  Args:
    title: of the frame.
    real, expected: uint8 [H, W, 3].
    ahead: steps since the model has last looked; 0 where it has.
  """
  pictured = _side_by_side(
    {
      'real': real,
      f'imagined {ahead} ahead' if ahead else 'seen': expected,
      'error': pictures.error_image(real, expected),
    }
  )
  line = Image.new('RGB', (pictured.shape[1], _HEADER), 'white')
  ImageDraw.Draw(line).text((_GAP, 2), title, fill='black')
  return np.concatenate([np.asarray(line), pictured])


def ahead(images: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
  """Images [H, W, 3] of what is expected, the first one a step ahead."""
  for step, image in enumerate(images, 1):
    yield _side_by_side({f'{step} ahead': image})


def open_loop(
  observation_spaces: pictures.Spaces,
  recording: recording_lib.Recording,
  starts: np.ndarray,
  forecast: Any,
) -> Iterator[np.ndarray]:
  """Real, expected and their difference, side by side, for the first image.

  Args:
    observation_spaces: of the environment.
    recording: the episode.
    starts, forecast: from `Recorder.forecast`.

  Yields:
    A frame for each step that was predicted.
  """
  name = pictures.images(observation_spaces)[0]
  true = pictures.as_rgb(recording.observation[name])
  for start, decoded in zip(starts, forecast.observation[name]):
    ahead = min(len(decoded), len(recording.reward) - start)
    for h, expected in enumerate(pictures.decoded_image(decoded[:ahead])):
      real = true[start + 1 + h]
      yield _side_by_side(
        {
          f'step {start + 1 + h}': real,
          f'expected {h + 1} ahead': expected,
          'error': pictures.error_image(real, expected),
        }
      )


def episode(
  config: HierosConfig,
  observation_spaces: pictures.Spaces,
  recording: recording_lib.Recording,
) -> Iterator[np.ndarray]:
  """The first image, with a cursor on the figure of the episode beside it."""
  figure, timelines = pictures.episode(config, observation_spaces, recording)
  figures.take_literally(figure)
  figure.set_dpi(_DPI)
  canvas = backend_agg.FigureCanvasAgg(figure)
  canvas.draw()
  background = np.asarray(canvas.buffer_rgba())[..., :3]
  height = background.shape[0]
  # Where a step is, in pixels; row 0 is at the top.
  columns = [
    int(timelines[0].transData.transform((step, 0))[0])
    for step in range(len(recording.reward) + 1)
  ]
  boxes = [lines.get_window_extent() for lines in timelines]
  rows = [(int(height - box.y1), int(height - box.y0)) for box in boxes]
  name = pictures.images(observation_spaces)[0]
  for step, image in enumerate(pictures.as_rgb(recording.observation[name])):
    frame = background.copy()
    for top, bottom in rows:
      frame[top:bottom, columns[step] : columns[step] + 2] = (213, 94, 0)
    seen = _side_by_side({f'step {step}': image})
    space = np.full((height, seen.shape[1], 3), 255, np.uint8)
    seen = seen[:height]
    space[: len(seen)] = seen
    yield np.concatenate([space, frame], 1)


def _side_by_side(named: dict[str, np.ndarray]) -> np.ndarray:
  """Images of one size [H, W, 3], enlarged, with their names above."""
  parts = []
  for name, image in named.items():
    scale = max(1, round(_SIDE / max(image.shape[:2])))
    image = image.repeat(scale, 0).repeat(scale, 1)
    height, width = image.shape[:2]
    canvas = Image.new('RGB', (width + _GAP, height + _HEADER + _GAP), 'white')
    ImageDraw.Draw(canvas).text((_GAP, 2), name, fill='black')
    canvas.paste(Image.fromarray(image), (_GAP, _HEADER))
    parts.append(np.asarray(canvas))
  return np.concatenate(parts, 1)
