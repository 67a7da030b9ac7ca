"""Plots of a report, as PNG files."""

from collections.abc import Mapping, Sequence
import io
import textwrap
from typing import NamedTuple

from matplotlib import lines as mlines
from matplotlib import ticker
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
import numpy as np

from acme_hieros.reports.aggregates import Estimate
from acme_hieros.reports.curves import Curve
from acme_hieros.visualization import figures

# Told apart whatever colours one sees (Okabe and Ito, 2008), dark ones first.
_COLOURS = (
  '#0072B2',
  '#D55E00',
  '#009E73',
  '#CC79A7',
  '#000000',
  '#E69F00',
  '#56B4E9',
)
# As many as `curves.group` puts into one plot.
_DASHES = ('-', (0, (4, 1.5)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))
_GREY = '#555555'

# Inches. A page of 400 pixels shows a plot in its own size.
_WIDTH = 3.9
_PLOT_HEIGHT = 2.5
_LINE_HEIGHT = 0.19
_BAR_HEIGHT = 0.24
# Pixels of an inch on the page, and how many of the file there are for each.
_PAGE_DPI = 96
_SHARPNESS = 2
# Characters of a legend's line.
_LEGEND_WIDTH = 44
# Lines of a name, of which more would leave no room for the plot.
_MOST_LINES = 4
# A number with more digits is not written out.
_LONG = 1e12


class Plot(NamedTuple):
  """A PNG file and its size on the page in pixels."""

  png: bytes
  width: int
  height: int


class Learning(NamedTuple):
  """One system in one environment.

  index: decides the colour.
  training: returns of the episodes that it learned from.
  evaluator: of those that were played beside them, if there were any.
  evaluations: of checkpoints: steps, mean, standard error, likeliest actions.
  """

  system: str
  index: int
  training: Curve
  evaluator: Curve | None
  evaluations: Sequence[tuple[int, float, float | None, bool]]


class Measured(NamedTuple):
  """Something that a system logged: a mean [N] and each run [runs, N]."""

  system: str
  index: int
  column: str
  x: np.ndarray
  mean: np.ndarray
  runs: np.ndarray


def draw_learning(
  title: str, systems: Sequence[Learning], references: Mapping[str, float]
) -> Plot:
  """Mean returns over environment steps; bands reach from run to run.

  Args:
    title: of the plot.
    systems: one line each.
    references: scores by name, lowest first, a grey line each; one that would
      flatten the others is left out.
  """
  entries = [(s.system, _colour(s.index), _dash(s.index)) for s in systems]
  figure, axes = _sheet(title, _legend_lines(entries))
  for system in systems:
    colour = _colour(system.index)
    steps, mean = system.training.steps, system.training.mean
    axes.plot(steps, mean, color=colour, ls=_dash(system.index), lw=1.8)
    axes.plot(steps[-1:], mean[-1:], 'o', color=colour, ms=3.5)
    if len(system.training.values) > 1:
      low = np.min(system.training.values, 0)
      high = np.max(system.training.values, 0)
      axes.fill_between(steps, low, high, color=colour, alpha=0.18, lw=0)
    if system.evaluator:
      axes.plot(
        system.evaluator.steps,
        system.evaluator.mean,
        color=colour,
        lw=1.0,
        ls=(0, (1, 1.2)),
        marker=_marker(system.evaluator.mean),
        ms=3,
      )
    for steps, mean, error, deterministic in system.evaluations:
      axes.errorbar(
        [steps],
        [mean],
        [error or 0.0],
        color=colour,
        marker='D',
        ms=5,
        mfc='white' if deterministic else colour,
        capsize=2.5,
        zorder=4,
      )
  axes.set_xlim(left=0)
  low, high = axes.get_ylim()
  # Curves begin low and end high: the lower name is on the right.
  for i, (name, value) in enumerate(references.items()):
    if low - 0.5 * (high - low) <= value <= high + 0.5 * (high - low):
      axes.axhline(value, color=_GREY, lw=0.9, ls=(0, (2, 2)), zorder=1)
      axes.annotate(
        name,
        (0.01 if i else 0.99, value),
        xycoords=('axes fraction', 'data'),
        ha='left' if i else 'right',
        va='bottom',
        fontsize=8.5,
        color=_GREY,
      )
  axes.set_xlabel('environment steps')
  axes.set_ylabel('return of an episode')
  _thousands(axes)
  _legend(figure, entries)
  return _png(figure)


def draw_intervals(
  title: str,
  rows: Sequence[tuple[str, int, Estimate]],
  label: str,
  probabilities: bool = False,
) -> Plot:
  """Estimates below each other: a line for the value, a bar for the interval.

  Args:
    title: of the plot.
    rows: name, index that decides the colour, estimate.
    label: of the axis, with its unit.
    probabilities: they are such, of which 0.5 decides nothing.
  """
  names = [_wrapped(name, 48) for name, _, _ in rows]
  # Rows of text and bar, in inches from the top.
  heights = [
    _LINE_HEIGHT * (name.count('\n') + 1) + _BAR_HEIGHT for name in names
  ]
  figure, axes = _sheet(title, 0, 0.85 + sum(heights))
  bottom = 0.0
  for name, height, (_, index, estimate) in zip(names, heights, rows):
    colour = _colour(index)
    bottom += height
    axes.annotate(
      name,
      (0.01, bottom - height + 0.06),
      xycoords=('axes fraction', 'data'),
      va='top',
      fontsize=9,
      bbox={'facecolor': 'white', 'lw': 0, 'pad': 0.5},
    )
    y = bottom - _BAR_HEIGHT / 2
    if estimate.low is not None:
      axes.barh(
        y,
        estimate.high - estimate.low,
        left=estimate.low,
        height=0.65 * _BAR_HEIGHT,
        color=colour,
        alpha=0.4,
        lw=0,
      )
    axes.plot(
      [estimate.value] * 2,
      [y - 0.4 * _BAR_HEIGHT, y + 0.4 * _BAR_HEIGHT],
      color=colour,
      lw=2.4,
    )
  axes.use_sticky_edges = False
  axes.margins(x=0.06)
  if probabilities:
    axes.axvline(0.5, color=_GREY, lw=0.9, ls=(0, (2, 2)), zorder=0)
    axes.set_xlim(-0.02, 1.02)
  axes.set_ylim(bottom + 0.05, 0.0)
  axes.yaxis.set_visible(False)
  axes.spines['left'].set_visible(False)
  axes.xaxis.set_major_locator(ticker.MaxNLocator(5))
  axes.set_xlabel(label)
  return _png(figure)


def draw_measured(
  title: str,
  lines: Sequence[Measured],
  x_label: str,
  y_label: str,
  points: bool,
) -> Plot:
  """What was logged: a colour for each system, a dash for each column.

  Args:
    title: of the plot.
    lines: at least one.
    x_label: of the axis, with its unit.
    y_label: likewise.
    points: mark where there are values.
  """
  columns = list(dict.fromkeys(line.column for line in lines))
  entries = list(
    dict.fromkeys((line.system, _colour(line.index), '-') for line in lines)
  )
  if columns[1:]:
    entries += [(c, _GREY, _dash(i, 1)) for i, c in enumerate(columns)]
  figure, axes = _sheet(title, _legend_lines(entries))
  for line in lines:
    colour = _colour(line.index)
    dash = _dash(columns.index(line.column), 1)
    marker = 'o' if points else _marker(line.mean)
    axes.plot(
      line.x, line.mean, color=colour, ls=dash, lw=1.8, marker=marker, ms=4
    )
    if len(line.runs) > 1:
      for run in line.runs:
        axes.plot(line.x, run, color=colour, ls=dash, lw=0.6, alpha=0.35)
  axes.set_xlabel(x_label)
  axes.set_ylabel(_wrapped(y_label, 34))
  _thousands(axes)
  _legend(figure, entries)
  return _png(figure)


def _marker(values: np.ndarray) -> str | None:
  """A line of a single point cannot be seen."""
  return 'o' if np.isfinite(values).sum() == 1 else None


def _colour(index: int) -> str:
  return _COLOURS[index % len(_COLOURS)]


def _dash(index: int, before_the_next: int = len(_COLOURS)):
  """Systems have dashes where colours come again."""
  return _DASHES[index // before_the_next % len(_DASHES)]


def _sheet(title: str, legend_lines: int, height: float = _PLOT_HEIGHT):
  """An empty plot of a height in inches, with room for a legend below it."""
  figure = Figure(
    figsize=(_WIDTH, height + _LINE_HEIGHT * legend_lines),
    layout='constrained',
    facecolor='white',
  )
  FigureCanvasAgg(figure)
  axes = figure.add_subplot()
  axes.set_title(_wrapped(title, 46), fontsize=10, loc='left')
  axes.spines[['top', 'right']].set_visible(False)
  axes.grid(True, color='#dddddd', lw=0.6)
  axes.set_axisbelow(True)
  axes.tick_params(labelsize=9)
  axes.xaxis.label.set_size(9)
  axes.yaxis.label.set_size(9)
  return figure, axes


def _thousands(axes):
  for axis in (axes.xaxis, axes.yaxis):
    # Steps are whole.
    whole = axis is axes.xaxis
    axis.set_major_locator(ticker.MaxNLocator(5, integer=whole))
    low, high = axis.get_view_interval()
    if 1000 <= max(abs(low), abs(high)) < _LONG:
      axis.set_major_formatter(ticker.StrMethodFormatter('{x:,.0f}'))


def _wrapped(text: str, width: int) -> str:
  return '\n'.join(
    textwrap.wrap(text, width, max_lines=_MOST_LINES, placeholder=' …')
  )


def _legend_lines(entries: Sequence[tuple]) -> int:
  """Lines of text, with some space above."""
  return 1 + sum(
    _wrapped(name, _LEGEND_WIDTH).count('\n') + 1 for name, *_ in entries
  )


def _legend(figure: Figure, entries: Sequence[tuple]):
  figure.legend(
    handles=[
      mlines.Line2D(
        [],
        [],
        color=colour,
        ls=dash,
        lw=1.8,
        label=_wrapped(name, _LEGEND_WIDTH),
      )
      for name, colour, dash in entries
    ],
    loc='outside lower left',
    fontsize=8.5,
    frameon=False,
    handlelength=2.4,
    borderaxespad=0.2,
    labelspacing=0.25,
  )


def _png(figure: Figure) -> Plot:
  figures.take_literally(figure)
  file = io.BytesIO()
  figure.savefig(file, format='png', dpi=_PAGE_DPI * _SHARPNESS)
  width, height = figure.get_size_inches() * _PAGE_DPI
  return Plot(file.getvalue(), round(width), round(height))
