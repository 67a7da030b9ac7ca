"""The page of a report: one HTML file that needs no other."""

import base64
from collections.abc import Mapping, Sequence
import datetime
import io
import json
import os
import pathlib
from typing import Any, NamedTuple

import jinja2
import numpy as np
from PIL import Image

from acme_hieros.command_line import counted
from acme_hieros.reports import curves, plots, published
from acme_hieros.reports.aggregates import Estimate
from acme_hieros.storage import files
from acme_hieros.storage import reading as reading_lib

# Pictures are embedded up to so many bytes in all.
_PICTURE_BYTES = 24_000_000
# Of more pairs of systems there is only a table.
_MOST_PAIRS = 6
# A number with more digits is not written out.
_LONG = 1e12
# What levels log is drawn for so many environments.
_MOST_DIAGNOSED = 4

_STATISTICS = {
  'mean': 'mean',
  'median': 'median',
  'iqm': 'IQM',
  'optimality_gap': 'optimality gap',
}

_NORMALISED = 'human-normalised score (0: random play, 1: human)'


class _Meaning(NamedTuple):
  """What a quantity is: label of its axis, and how to read it."""

  label: str
  reading: str


# As models/diagnostics.py defines them. Others are drawn without explanation.
_MEANINGS = {
  'subgoal_reached': _Meaning(
    'share of subgoals',
    'How many subgoals were reached: at their end the state is more similar to '
    'them than at their start, and than to another subgoal. Chance '
    'gives 1/3 at most.',
  ),
  'subgoal_similarity': _Meaning(
    'similarity (1: the same)',
    'How similar the state is to the subgoal where it starts and where it '
    'ends, and to another subgoal of the same run at that end. Subgoals that '
    'steer have their end above both.',
  ),
  'errand_reached': _Meaning(
    'share of errands',
    'How many states of replay would be reached in imagination from others, if '
    'the level were told to: what it comes to is more similar to the one that '
    'it was told than where another errand from the same state leads. Chance '
    'gives 1/2.',
  ),
  'errand_similarity': _Meaning(
    'similarity (1: the same)',
    'How similar states are to a state of replay that the level is told to go '
    'to, after the imagined steps of a subgoal, and where another errand from '
    'the same state leads instead.',
  ),
  'code_entropy': _Meaning(
    'share of the largest entropy',
    'How evenly the classes of the subgoal codes are used: 1 if all are '
    'equally frequent, 0 if it is always the same one.',
  ),
  'distinct_codes': _Meaning(
    'codes in a batch',
    'How many different subgoals a batch of replay holds. 1 means that the '
    'level above always says the same.',
  ),
  'autoencoder_unexplained': _Meaning(
    'share of the variance',
    'What the subgoal autoencoder loses of the state: 0 is nothing, 1 is what '
    'a constant would lose.',
  ),
  'reconstruction_error': _Meaning(
    'share of the variance',
    'What the world model loses of observations that it has seen: 0 is '
    'nothing, 1 is what their mean would lose.',
  ),
  'open_loop_error': _Meaning(
    'share of the variance',
    'Error of observations that the world model foresees without looking: 0 is '
    'none, 1 is what their mean would have.',
  ),
  'open_loop_reward_error': _Meaning(
    'reward',
    'Mean absolute error of the rewards that the world model foresees.',
  ),
  'open_loop_continuation_error': _Meaning(
    'probability',
    'Mean absolute error of the foreseen probability that the episode goes on.',
  ),
  'advantage_share': _Meaning(
    'share of the advantage',
    'Which reward the actor learns from: the share of each stream in its '
    'advantage. All shares of a level sum to 1.',
  ),
}

_PICTURES = {
  'open_loop': 'What level 0 expects without looking, beside what came.',
  'episode': 'An episode: ticks, subgoals, rewards of each stream, values.',
  'eigenvalues': 'Eigenvalues of state space layers: how long they remember.',
  'subgoals': 'What was proposed: subgoals decoded, beside what was seen then.',
}


class Figure(NamedTuple):
  """A picture on the page; sizes in pixels.

  reading: how to read it.
  """

  uri: str
  alt: str
  width: int
  height: int
  reading: str


def write(content: Mapping[str, Any], path: str) -> str:
  """Writes the page, and beside it a JSON file with all its numbers.

  Args:
    content: from `contents.make`.
    path: of the page; its directory is made if need be.

  Returns:
    The path of the JSON file.

  Raises:
    OSError: a file cannot be written. Older ones are as they were.
  """
  page = render(content)
  numbers = os.path.splitext(path)[0] + '.json'
  os.makedirs(os.path.dirname(path) or '.', exist_ok=True)
  with files.replacing(path, 'w', encoding='utf-8') as file:
    file.write(page)
  with files.replacing(numbers, 'w', encoding='utf-8') as file:
    json.dump(content, file, indent=1, allow_nan=False)
    file.write('\n')
  return numbers


def render(content: Mapping[str, Any]) -> str:
  """The page as HTML."""
  index = _colours(content['systems'])
  pictures, not_shown = _pictures(content['pictures'])
  diagnosed = list(
    dict.fromkeys(entry['environment'] for entry in content['diagnostics'])
  )
  atari = content['atari'] or {'aggregates': []}
  played = {tuple(entry['games']) for entry in atari['aggregates']}
  environment = jinja2.Environment(
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
  )
  environment.filters.update(
    number=_number,
    as_published=_as_published,
    estimate=_estimate,
    duration=_duration,
  )
  template = pathlib.Path(__file__).with_name('report.html')
  return environment.from_string(template.read_text('utf-8')).render(
    content,
    study=content.get('study'),
    statistics=_STATISTICS,
    published_steps=published.STEPS,
    atari_figures=_atari_figures(content, index),
    environment_figures=_environment_figures(content, index),
    learning_figures=[_learning(entry, index) for entry in content['curves']],
    diagnosed=[
      (name, _by_level(content['diagnostics'], name, index))
      for name in diagnosed[:_MOST_DIAGNOSED]
    ],
    not_diagnosed=diagnosed[_MOST_DIAGNOSED:],
    pictured=pictures,
    not_pictured=not_shown,
    same_games=len(played) < 2,
    window=curves.WINDOW,
    edge=curves.EDGE,
  )


# --- plots -------------------------------------------------------------------


def _colours(systems: Sequence[Mapping[str, Any]]) -> Mapping[str, int]:
  """A number for each system that no other in its environments has."""
  colours = {}
  for system in systems:
    near = {
      colours[other['name']]
      for other in systems
      if other['name'] in colours
      and not set(other['environments']).isdisjoint(system['environments'])
    }
    colours[system['name']] = min(set(range(len(near) + 1)) - near)
  return colours


def _figure(plot: plots.Plot, alt: str, reading: str = '') -> Figure:
  uri = _uri(plot.png, 'png')
  return Figure(uri, alt, plot.width, plot.height, reading)


def _uri(data: bytes, kind: str) -> str:
  return f'data:image/{kind};base64,{base64.b64encode(data).decode()}'


def _atari_figures(
  content: Mapping[str, Any], index: Mapping[str, int]
) -> Sequence[Figure]:
  atari = content['atari']
  if not atari:
    return []
  figures = []
  for key, name in _STATISTICS.items():
    rows = [
      (entry['system'], index[entry['system']], Estimate(**entry[key]))
      for entry in atari['aggregates']
    ]
    if not _worth_drawing(rows):
      continue
    gap = key == 'optimality_gap'
    label = 'below the human, on average (less is better)'
    title = name[0].upper() + name[1:]
    figures.append(
      _figure(
        plots.draw_intervals(title, rows, label if gap else _NORMALISED),
        _say(f'{title} of human-normalised scores', rows),
      )
    )
  return figures + _improvement_figures(atari['improvement'], index)


def _environment_figures(
  content: Mapping[str, Any], index: Mapping[str, int]
) -> Sequence[Figure]:
  figures = []
  by_name = {}
  for entry in content['environments']:
    by_name.setdefault(entry['environment'], []).append(entry)
  for name, entries in by_name.items():
    rows = [
      (entry['system'], index[entry['system']], Estimate(**entry['mean']))
      for entry in entries
    ]
    if _worth_drawing(rows):
      plot = plots.draw_intervals(
        f'{name}: mean over runs', rows, 'return of an episode'
      )
      figures.append(_figure(plot, _say(f'Mean return in {name}', rows)))
  return figures + _improvement_figures(content['improvement'], index)


def _worth_drawing(rows: Sequence[tuple[str, int, Estimate]]) -> bool:
  """A single value without an interval is no picture."""
  return len(rows) > 1 or rows[0][2].low is not None


def _improvement_figures(
  entries: Sequence[Mapping[str, Any]], index: Mapping[str, int]
) -> Sequence[Figure]:
  if not 0 < len(entries) <= _MOST_PAIRS:
    return []
  rows = [
    (
      f'{entry["system"]} over {entry["over"]}',
      index[entry['system']],
      Estimate(entry['value'], entry['low'], entry['high']),
    )
    for entry in entries
  ]
  title = 'Probability of improvement'
  plot = plots.draw_intervals(
    title, rows, 'probability (0.5: no difference)', True
  )
  return [_figure(plot, _say(title, rows))]


def _say(what: str, rows: Sequence[tuple[str, int, Estimate]]) -> str:
  """The numbers of an interval plot in words."""
  said = [
    f'{name} {_estimate(estimate._asdict())}' for name, _, estimate in rows
  ]
  return f'{what}: {"; ".join(said)}.'


def _learning(entry: Mapping[str, Any], index: Mapping[str, int]) -> Figure:
  plot = plots.draw_learning(
    entry['environment'],
    [
      plots.Learning(
        system['system'],
        index[system['system']],
        _curve(system['training']),
        _curve(system['evaluator']) if system['evaluator'] else None,
        [
          (e['steps'], e['mean'], e['standard_error'], e['deterministic'])
          for e in system['evaluations']
        ],
      )
      for system in entry['systems']
    ],
    entry['references'],
  )
  said = [
    f'{system["system"]} {_number(system["training"]["mean"][-1])}'
    for system in entry['systems']
  ]
  return _figure(
    plot,
    f'Learning curves in {entry["environment"]}: return of an episode over '
    f'environment steps. Last values: {"; ".join(said)}.',
  )


def _curve(values: Mapping[str, Any]) -> curves.Curve:
  return curves.Curve(_array(values['steps']), _array(values['runs']))


def _array(values: Sequence) -> np.ndarray:
  """None becomes NaN."""
  return np.array(values, np.float64)


def _by_level(
  entries: Sequence[Mapping[str, Any]],
  environment: str,
  index: Mapping[str, int],
) -> Mapping[int, Sequence[Figure]]:
  figures = {}
  for entry in entries:
    if entry['environment'] == environment:
      of_level = figures.setdefault(entry['level'], [])
      of_level.append(_diagnosis(entry, index))
  return figures


def _diagnosis(entry: Mapping[str, Any], index: Mapping[str, int]) -> Figure:
  name = entry['name'].replace('_', ' ')
  # The share of a single stream is a share, too.
  meaning = next(
    (m for key, m in _MEANINGS.items() if entry['name'].endswith(key)),
    _Meaning(name, 'Logged under this name; nothing else is known of it here.'),
  )
  lines = [
    plots.Measured(
      line['system'],
      index[line['system']],
      line['column'].replace('_', ' '),
      _array(line['steps']),
      _array(line['mean']),
      _array(line['runs']),
    )
    for line in entry['lines']
  ]
  title = f'Level {entry["level"]}: {name}'
  plot = plots.draw_measured(
    title,
    lines,
    'steps ahead, of the level' if entry['numbered'] else 'environment steps',
    meaning.label,
    entry['numbered'],
  )
  said = [
    f'{line.system}, {line.column}: {_number(line.mean[-1])}' for line in lines
  ]
  return _figure(
    plot, f'{title}. Last values: {"; ".join(said)}.', meaning.reading
  )


# --- pictures that runs have drawn -------------------------------------------


def _pictures(
  entries: Sequence[Mapping[str, Any]],
) -> tuple[Sequence[tuple[str, Sequence[Figure]]], Sequence[str]]:
  """Headed sets of pictures, and sentences about what is not shown."""
  shown, not_shown, size, others = {}, [], 0, 0
  for entry in entries:
    key = (entry['system'], entry['environment'])
    if key in shown:
      others += 1
      continue
    figures = []
    moving = _moving(entry['files'])
    for path in entry['files']:
      if path in moving.values():
        continue
      name = reading_lib.printable('/'.join(path.split(os.sep)[-3:]))
      try:
        figure, length = _picture(entry, path)
      except Exception as error:  # What anybody has put there.
        reason = getattr(error, 'strerror', None) or error
        not_shown.append(
          reading_lib.printable(
            f'{name} of {entry["path"]} cannot be shown ({reason}).'
          )
        )
        continue
      if size + length > _PICTURE_BYTES:
        not_shown.append(
          f'{name} of {entry["path"]} would make the page too large.'
        )
        continue
      size += length
      if path in moving:
        other = reading_lib.printable('/'.join(moving[path].split(os.sep)[-3:]))
        figure = figure._replace(
          reading=f'{figure.reading} It moves in {other} of the run.'
        )
      figures.append(figure)
    heading = (
      f'{entry["system"]} in {entry["environment"]}, seed {entry["seed"]}, '
      f'after {entry["steps"]:,} steps'
    )
    shown[key] = (heading, figures)
  if others:
    not_shown.append(
      f'{counted(others, "further run")} of the same systems and environments; '
      'their pictures are in their directories.'
    )
  return [entry for entry in shown.values() if entry[1]], not_shown


def _moving(paths: Sequence[str]) -> Mapping[str, str]:
  """PNG files, to the animations (GIF) of what they show."""
  stems = {os.path.splitext(path): path for path in paths}
  return {
    path: stems[stem, '.gif']
    for (stem, kind), path in stems.items()
    if kind == '.png' and (stem, '.gif') in stems
  }


def _picture(entry: Mapping[str, Any], path: str) -> tuple[Figure, int]:
  """An embedded file, and its size in bytes."""
  data = reading_lib.read_bytes(path, _PICTURE_BYTES)
  with Image.open(io.BytesIO(data), formats=('PNG', 'GIF')) as image:
    image.load()
    width, height, kind = *image.size, image.format.lower()
  stem = reading_lib.printable(os.path.splitext(os.path.basename(path))[0])
  reading = _PICTURES.get(stem, stem.replace('_', ' '))
  animated = ' (animated)' if kind == 'gif' else ''
  alt = (
    f'{stem.replace("_", " ")}{animated}: {entry["system"]} in '
    f'{entry["environment"]} after {entry["steps"]:,} steps'
  )
  return Figure(_uri(data, kind), alt, width, height, reading), len(data)


# --- numbers in words --------------------------------------------------------


def _number(value: float | None) -> str:
  """Some three digits, whatever the size; a dash for none."""
  if value is None or not np.isfinite(value):
    return '–'
  size = abs(value)
  if 0 < size < 0.01:
    text = f'{value:.1g}'
  else:
    digits = sum(size < limit for limit in (1, 10, 1000))
    text = f'{value:,.{digits}f}' if size < _LONG else f'{value:.2e}'
  # A minus of the same width as a plus.
  return text.replace('-', '−')


def _as_published(value: float | None) -> str:
  """With the digits that it has, two at least."""
  if value is None:
    return '–'
  return max(f'{value:.2f}', f'{value:.10g}', key=len)


def _estimate(estimate: Mapping[str, float | None]) -> str:
  value = _number(estimate['value'])
  if estimate['low'] is None:
    return value
  return f'{value} [{_number(estimate["low"])}, {_number(estimate["high"])}]'


def _duration(seconds: float) -> str:
  return str(datetime.timedelta(seconds=round(seconds)))
