"""What all figures need before they are drawn."""

from matplotlib.figure import Figure
from matplotlib.text import Text


def take_literally(figure: Figure):
  """Has every text of a figure drawn as it stands: a $ in a name is a $."""
  for text in figure.findobj(Text):
    text.set_parse_math(False)
