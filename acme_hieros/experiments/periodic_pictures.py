"""Pictures of a run's agent, drawn while it is learning."""

from collections.abc import Callable
import contextlib
import os
import shutil
import time

import jax

from acme_hieros.experiments import environment_loop, runs, tensorboard
from acme_hieros.models import hierarchy
from acme_hieros.storage import thinning, workdirs
from acme_hieros.visualization import drawing, recording

# Sets of pictures that a run keeps; one has some 6 MB, and as much again in
# TensorBoard's files.
MOST_SETS = 20

# Tells the random numbers of drawing from those of a run's other parts.
_SEED_NAME = 0x70_69_63


class PeriodicPictures:
  """Draws the agent of a run every so often, while it is learning.

  The pictures go to the work directory and to TensorBoard. What goes wrong is
  reported, and the run goes on.
  """

  def __init__(
    self,
    run: runs.Run,
    networks: hierarchy.Hierarchy,
    report: Callable[[str], None],
  ):
    """Creates it; nothing is drawn or compiled yet.

    Args:
      run: says how often.
      networks: of its agent.
      report: is told in a sentence why there are no pictures.
    """
    self._run = run
    self._workdir = workdirs.Workdir(run.workdir)
    # Of a process that was killed while it drew.
    for path in _inside(self._workdir.pictures):
      if os.path.basename(path).startswith(drawing.PARTIAL):
        shutil.rmtree(path, ignore_errors=True)
    self._visualizer = drawing.Visualizer(networks)
    self._report = report
    self._last = time.monotonic()

  @property
  def is_due(self) -> bool:
    """Whether it is time to draw."""
    minutes = self._run.picture_minutes
    return minutes > 0 and time.monotonic() - self._last > 60 * minutes

  def draw_if_due(self, read: Callable[[], tuple[recording.Params, int]]):
    """Draws if it is time.

    Args:
      read: gives all parameters of each level, and the steps they come after.
    """
    if self.is_due:
      self.draw(read)

  def draw(self, read: Callable[[], tuple[recording.Params, int]]):
    """Draws the agent; `read` as in `draw_if_due`."""
    try:
      self._draw(*read())
    except environment_loop.ERRORS as error:
      # Whatever it is, the run is worth more.
      reason = environment_loop.in_one_line(error)
      self._report(f'The agent could not be drawn ({reason}).')
    self._last = time.monotonic()

  def _draw(self, params: recording.Params, steps: int):
    path = self._workdir.pictures_of(steps)
    if os.path.exists(path):
      return  # There is nothing new.
    seeds = runs.seed_sequence(self._run, steps, _SEED_NAME).generate_state(2)
    environment = self._run.make_environment(int(seeds[0]))
    try:
      key = jax.random.PRNGKey(int(seeds[1]))
      self._visualizer.draw(params, environment, key, path)
    finally:
      environment_loop.close(environment, self._report)
    tensorboard.log_pictures(self._workdir, drawing.files(path), steps)
    self._thin()

  def _thin(self):
    """Gives up pictures of the past: a long run must not fill the disk."""
    ours = []
    for path in _inside(self._workdir.pictures):
      name = os.path.basename(path)
      if name.isdecimal() and path == self._workdir.pictures_of(int(name)):
        # What somebody has put something into, or elsewhere, is not given up.
        if drawing.is_replaceable(path) and not os.path.islink(path):
          ours.append(int(name))
    for steps in thinning.superfluous(ours, MOST_SETS):
      shutil.rmtree(self._workdir.pictures_of(steps), ignore_errors=True)
      for path in tensorboard.picture_event_files(self._workdir, steps):
        with contextlib.suppress(OSError):
          os.remove(path)


def _inside(directory: str) -> list[str]:
  """The paths of all that lies in a directory, if it can be read."""
  try:
    names = os.listdir(directory)
  except OSError:
    return []
  return [os.path.join(directory, name) for name in names]
