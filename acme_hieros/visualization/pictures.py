"""Figures of what an agent saw, did and believed in a recorded episode."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib import axes as axes_lib
from matplotlib import colors
from matplotlib.figure import Figure
import numpy as np

from acme_hieros.command_line import counted
from acme_hieros.config import HierosConfig
from acme_hieros.models import distributions, spaces
from acme_hieros.models import level as level_lib
from acme_hieros.visualization import recording as recording_lib

Spaces = Mapping[str, spaces.ObservationSpace]

# Distinct for the colour-blind, too (Okabe and Ito, 2008).
REAL, EXPECTED = '#000000', '#d55e00'
STREAM_COLORS = {
  level_lib.EXTRINSIC: '#0072b2',
  level_lib.SUBGOAL: '#e69f00',
  level_lib.NOVELTY: '#009e73',
}

# Steps ahead that are shown of the first prediction.
_AHEAD = (0, 1, 2, 5, 10, 20, 30, 50)

_PROBABILITY = 'probability to go on'

# Streams whose largest values differ by more have scales of their own.
_APART = 5.0

_MOST_COMPONENTS = 4
_MOST_FRAMES = 12


def images(observation_spaces: Spaces) -> list[str]:
  """Names of the observations that are images."""
  return [
    name
    for name, space in observation_spaces.items()
    if isinstance(space, spaces.Image)
  ]


def as_rgb(image: np.ndarray) -> np.ndarray:
  """uint8 [..., H, W, C] to [..., H, W, 3].

  One channel is grey, and three are RGB. Any other number are each shown in a
  hue of its own, evenly spaced from red on; where several are bright the hues
  mix.
  """
  channels = image.shape[-1]
  if channels == 3:
    return image
  if channels == 1:
    return np.repeat(image, 3, -1)
  rgb = np.zeros((*image.shape[:-1], 3), np.uint8)
  for channel in range(channels):
    hue = colors.hsv_to_rgb((channel / channels, 1.0, 1.0))
    shown = np.round(hue * image[..., channel, None]).astype(np.uint8)
    np.maximum(rgb, shown, out=rgb)
  return rgb


def decoded_image(decoded: np.ndarray) -> np.ndarray:
  """The decoder's [..., H, W, C], from -0.5 to 0.5, as uint8 [..., H, W, 3]."""
  pixels = np.round(255.0 * np.clip(decoded + 0.5, 0.0, 1.0))
  return as_rgb(pixels.astype(np.uint8))


def error_image(one: np.ndarray, other: np.ndarray) -> np.ndarray:
  """Absolute difference of two uint8 images; black is none."""
  difference = one.astype(np.int16) - other.astype(np.int16)
  return np.abs(difference).astype(np.uint8)


def open_loop(
  observation_spaces: Spaces,
  recording: recording_lib.Recording,
  starts: np.ndarray,
  forecast: Any,
) -> Figure:
  """What level 0 expects without looking, beside what came.

  Args:
    observation_spaces: of the environment.
    recording: the episode.
    starts, forecast: from `Recorder.forecast`.
  """
  steps = len(recording.reward)
  horizon = forecast.reward.shape[1]
  names = images(observation_spaces)
  components = _components(observation_spaces)
  rows = len(names) + len(components) + 2
  # Three pictures below each other, and what is above them.
  ratios = [3.3] * len(names) + [1.2] * (len(components) + 2)
  figure = Figure(figsize=(10, 1.15 * sum(ratios) + 0.6), layout='constrained')
  grid = figure.add_gridspec(rows, 1, height_ratios=ratios)
  row = 0
  furthest = min(horizon, steps)
  ahead = [h for h in _AHEAD if h <= furthest]
  if furthest < len(_AHEAD):
    ahead = list(range(furthest + 1))
  for name in names:
    true = as_rgb(recording.observation[name])[ahead]
    start = recording.levels[0].beliefs.observation[name][:1]
    expected = np.concatenate([start, forecast.observation[name][0]])[ahead]
    expected = decoded_image(expected)
    # One grid: what belongs together has one size and stands below each other.
    cells = grid[row].subgridspec(3, len(ahead))
    for j, (label, strip) in enumerate(
      (
        (f'{name}\nreal', true),
        ('expected', expected),
        ('error', error_image(true, expected)),
      )
    ):
      for i, (h, picture) in enumerate(zip(ahead, strip)):
        cell = figure.add_subplot(cells[j, i])
        _show(cell, picture)
        if not j:
          cell.set_title(f'{h} ahead' if h else 'seen', fontsize=9)
        if not i:
          cell.set_ylabel(label, fontsize=9)
    row += 1
  x = starts[:, None] + 1 + np.arange(horizon)
  first = None
  for label, real, expected, seen in (
    *_component_lines(observation_spaces, components, recording, forecast),
    (
      'reward',
      recording.levels[0].reward[level_lib.EXTRINSIC],
      forecast.reward,
      recording.levels[0].beliefs.reward,
    ),
    (
      _PROBABILITY,
      np.concatenate([[np.nan], recording.discount > 0]),
      forecast.continuation,
      recording.levels[0].beliefs.continuation,
    ),
  ):
    lines = figure.add_subplot(grid[row], sharex=first)
    first = first or lines
    lines.plot(
      np.arange(steps + 1),
      real,
      color=REAL,
      lw=2,
      marker='.',
      ms=4,
      label='real',
    )
    lines.plot(np.arange(steps + 1), seen, color='#0072b2', lw=1, label='seen')
    for i, (own_x, y) in enumerate(zip(x, expected)):
      lines.plot(
        own_x,
        y,
        color=EXPECTED,
        lw=1,
        marker='.',
        ms=3,
        label='' if i else 'expected',
      )
    for start in starts:
      lines.axvline(start, color='#bbbbbb', lw=0.8, zorder=0)
    lines.set_ylabel(label, fontsize=9)
    _tidy(lines, steps)
    if label == _PROBABILITY:
      lines.set_ylim(-0.05, 1.05)
    row += 1
  _name_lines(first)
  lines.set_xlabel('environment step; grey: where a prediction starts')
  figure.suptitle(
    f'Open loop: up to {furthest} steps ahead of what was seen; '
    f'{_extent(recording)}',
    fontsize=11,
  )
  return figure


def subgoals(
  observation_spaces: Spaces,
  recording: recording_lib.Recording,
  pictured: Sequence[tuple[Mapping[str, np.ndarray], np.ndarray, np.ndarray]],
) -> Figure:
  """What each level proposes, decoded to pixels, where it was proposed.

  Args:
    observation_spaces: of the environment, with an image.
    recording: the episode.
    pictured: of each level that has a subgoal, as `Recorder.picture_subgoals`
      gives it.
  """
  name = images(observation_spaces)[0]
  frames = as_rgb(recording.observation[name])
  given = [record for record in recording.levels if record.code is not None]
  figure = Figure(
    figsize=(
      max(5, 1.5 + max(len(_shown(x.proposed)) for x in given)),
      4.6 * len(pictured),
    ),
    layout='constrained',
  )
  parts = figure.subfigures(len(pictured), 1, squeeze=False)[:, 0]
  for i, (record, part, (decoded, nearest, similarity)) in enumerate(
    zip(given, parts, pictured)
  ):
    proposed = decoded_image(decoded[name])
    shown = _shown(record.proposed[:-1])
    cells = part.subplots(4, len(shown), squeeze=False)
    for column, m in enumerate(shown):
      # Until it was replaced, or the recording ended.
      step, end = record.proposed[m], record.proposed[m + 1]
      for row, picture in enumerate(
        (
          frames[step],
          proposed[m],
          frames[record.step[nearest[m]]],
          frames[end],
        )
      ):
        _show(cells[row, column], picture)
      cells[0, column].set_title(f'step {step}', fontsize=8)
      cells[2, column].set_xlabel(f'{similarity[m]:.2f}', fontsize=8)
      cells[3, column].set_xlabel(f'step {end}', fontsize=8)
    for row, label in enumerate(
      (
        'seen when\nproposed',
        'subgoal,\ndecoded',
        'most similar\nreal',
        'at its end',
      )
    ):
      cells[row, 0].set_ylabel(label, fontsize=8)
    part.suptitle(
      f'Subgoals of level {i}, by '
      + (f'level {i + 1}' if i + 1 < len(recording.levels) else 'its manager')
      + '\n(numbers: similarity to the most similar state)',
      fontsize=10,
    )
  return figure


def episode(
  config: HierosConfig,
  observation_spaces: Spaces,
  recording: recording_lib.Recording,
) -> tuple[Figure, Sequence[axes_lib.Axes]]:
  """An episode with every level's ticks, codes, rewards and values.

  Args:
    config: of the agent.
    observation_spaces: of the environment.
    recording: the episode.

  Returns:
    The figure, and its axes over time.
  """
  steps = len(recording.reward)
  names = images(observation_spaces)
  ratios = [1.0] * bool(names)
  for record in recording.levels:
    ratios += [0.8] * (record.code is not None) + [1.1, 1.1]
  figure = Figure(figsize=(11, 1.35 * sum(ratios) + 0.7), layout='constrained')
  grid = figure.add_gridspec(len(ratios), 1, height_ratios=ratios)
  row = 0
  if names:
    frames = as_rgb(recording.observation[names[0]])
    shown = _shown(frames)
    cells = grid[0].subgridspec(1, len(shown))
    for i, step in enumerate(shown):
      cell = figure.add_subplot(cells[i])
      _show(cell, frames[step])
      cell.set_title(f'step {step}', fontsize=8)
    row = 1
  timelines = []

  def timeline(label):
    nonlocal row
    lines = figure.add_subplot(
      grid[row], sharex=timelines[0] if timelines else None
    )
    lines.set_ylabel(label, fontsize=9)
    timelines.append(lines)
    row += 1
    return lines

  for i, record in enumerate(recording.levels):
    if record.code is not None:
      _codes(timeline(f'level {i}\nsubgoal code'), config, record)
    lines = timeline(f'level {i}\nreward')
    # It came with the state, over the steps before.
    _streams(lines, record.step, record.reward, drawstyle='steps-pre')
    _tidy(lines, steps)
    _name_lines(lines)
    lines = timeline(f'level {i}\nvalue')
    _streams(lines, record.step, record.beliefs.value)
    # The level's ticks.
    lines.plot(
      record.step,
      np.zeros(len(record.step)),
      '|',
      transform=lines.get_xaxis_transform(),
      color='#555555',
      ms=7,
      clip_on=False,
    )
    _tidy(lines, steps)
    _name_lines(lines)
  lines.set_xlabel('environment step; marks on an axis: ticks of the level')
  total = recording.reward.sum()
  extent = _extent(recording)
  figure.suptitle(
    f'{extent[0].upper()}{extent[1:]}; sum of rewards {total:.4g}', fontsize=11
  )
  return figure, timelines


def _extent(recording: recording_lib.Recording) -> str:
  """What was recorded, in words."""
  steps = counted(len(recording.reward), 'step')
  if recording.ended:
    return f'a whole episode of {steps}'
  return f'the first {steps} of an episode that goes on'


def _streams(
  lines: axes_lib.Axes,
  step: np.ndarray,
  streams: Mapping[str, np.ndarray],
  **style: Any,
):
  """Lines of several streams, of which none makes another one flat.

  Where one is much smaller than another each is drawn as shares of its own
  largest value, which stands beside its name.
  """
  largest = {
    stream: float(np.nanmax(np.abs(values), initial=0.0))
    for stream, values in streams.items()
  }
  some = [size for size in largest.values() if size > 0]
  apart = bool(some) and max(some) > _APART * min(some)
  for stream, values in streams.items():
    size = largest[stream] or 1.0
    lines.plot(
      step,
      values / size if apart else values,
      color=STREAM_COLORS[stream],
      lw=1.2,
      marker='.',
      ms=3,
      label=f'{stream}\n(1 is {size:.3g})' if apart else stream,
      **style,
    )
  if apart:
    lines.set_ylabel(f'{lines.get_ylabel()},\nshares', fontsize=9)


def eigenvalues(
  levels: Sequence[level_lib.Level], params: Sequence[level_lib.Params]
) -> Figure | None:
  """The discrete eigenvalues of all levels and layers, in the unit disc.

  Of state space layers; None where there is none.
  """
  spectra = [
    {
      name: np.asarray(values)
      for name, values in level.world_model.eigenvalues(p.world_model).items()
    }
    for level, p in zip(levels, params)
  ]
  if not any(spectra):
    return None
  figure = Figure(figsize=(4.2 * len(spectra), 5.0), layout='constrained')
  circle = np.exp(1j * np.linspace(0, 2 * np.pi, 200))
  for i, spectrum in enumerate(spectra):
    plane = figure.add_subplot(1, len(spectra), i + 1)
    plane.plot(circle.real, circle.imag, color='#999999', lw=0.8)
    shades = np.linspace(0.05, 0.9, len(spectrum))
    for layer, (values, shade) in enumerate(zip(spectrum.values(), shades)):
      plane.scatter(
        values.real,
        values.imag,
        s=8,
        color=matplotlib.colormaps['viridis'](shade),
        label=f'layer {layer}',
        alpha=0.8,
      )
    slowest = max(np.abs(values).max() for values in spectrum.values())
    plane.set_title(
      f'level {i}: slowest state forgets in\n'
      f'{-1 / np.log(min(slowest, 1 - 1e-12)):,.0f} of its steps',
      fontsize=10,
    )
    plane.set_aspect('equal')
    plane.set_xlabel('real part')
    plane.set_ylabel('imaginary part')
    plane.legend(
      fontsize=7,
      loc='upper center',
      bbox_to_anchor=(0.5, -0.16),
      ncols=4,
      frameon=False,
    )
  figure.suptitle('Eigenvalues of state space layers, one step', fontsize=11)
  return figure


def _show(cell: axes_lib.Axes, picture: np.ndarray):
  cell.imshow(picture, interpolation='nearest')
  cell.set_xticks([])
  cell.set_yticks([])


def _tidy(lines: axes_lib.Axes, steps: int):
  lines.set_xlim(-0.01 * steps, 1.01 * steps)
  lines.margins(y=0.15)
  lines.grid(axis='y', color='#eeeeee')
  lines.spines[['top', 'right']].set_visible(False)
  lines.tick_params(labelsize=8)


def _name_lines(lines: axes_lib.Axes):
  """A legend that hides nothing."""
  lines.legend(
    loc='center left', bbox_to_anchor=(1.0, 0.5), fontsize=8, frameon=False
  )


def _shown(rows: np.ndarray) -> np.ndarray:
  """Indices of rows, evenly spread, as many as there is room for."""
  count = min(len(rows), _MOST_FRAMES)
  return np.linspace(0, len(rows) - 1, count).astype(int)


def _components(observation_spaces: Spaces) -> list[tuple[str, int]]:
  """The first numbers of the observations that are not images."""
  found = [
    (name, i)
    for name, space in observation_spaces.items()
    if not isinstance(space, spaces.Image)
    for i in range(space.size)
  ]
  return found[:_MOST_COMPONENTS]


def _component_lines(
  observation_spaces: Spaces,
  components: Sequence[tuple[str, int]],
  recording: recording_lib.Recording,
  forecast: Any,
):
  """(label, real, expected, seen) of each, as the environment has it.

  Of choices it is whether one of them is made, from 0 to 1.
  """
  for name, i in components:
    space = observation_spaces[name]
    lines = (
      recording.encoded[name][:, i],
      forecast.observation[name][..., i],
      recording.levels[0].beliefs.observation[name][:, i],
    )
    if isinstance(space, spaces.OneHot):
      yield f'{name}[{i // space.classes}]\nis {i % space.classes}', *lines
    else:
      yield (
        f'{name}[{i}]',
        *(np.asarray(distributions.symexp(x)) for x in lines),
      )


def _codes(
  lines: axes_lib.Axes,
  config: HierosConfig,
  record: recording_lib.LevelRecord,
):
  """The classes of a code's categoricals over time, as colours."""
  count, classes = config.subgoals.categoricals, config.subgoals.classes
  code = record.code.reshape((-1, count, classes)).argmax(-1)
  # From each tick to the next; the last observation has no subgoal of its own.
  lines.pcolormesh(
    record.step,
    np.arange(count + 1),
    code[:-1].T,
    cmap='turbo',
    vmin=0,
    vmax=classes,
  )
  lines.set_yticks([0, count], ['0', str(count)])
  lines.tick_params(labelsize=8)
