"""Learning curves, from a table to a picture."""

import pathlib

from PIL import Image
import pytest

FIELDS = 'game,seed,steps,updates,seconds,episode_return\n'


@pytest.fixture(scope='module')
def draw(load_launcher):
  folder = pathlib.Path(__file__).parents[2] / 'benchmarks'
  return load_launcher('curves', folder)


def test_a_panel_for_each_game(draw, tmp_path):
  widths = []
  for games in (['atari/Krull'], ['atari/Krull', 'debug/catch']):
    rows = [
      f'{game},{seed},{100 * i},{i},1.0,{i + seed}\n'
      for game in games
      for seed in range(2)
      for i in range(1, 15)
    ]
    (tmp_path / 'some-episodes.csv').write_text(FIELDS + ''.join(rows))
    out = tmp_path / 'curves.png'
    assert draw('--name=some', f'--results={tmp_path}', f'--out={out}') is None
    with Image.open(out) as picture:
      widths.append(picture.width)
      assert len(picture.convert('L').getcolors()) > 10
  assert widths[1] == 2 * widths[0]


@pytest.mark.parametrize(
  'text,sentence',
  [
    (None, 'No such file'),
    (FIELDS, 'has no episodes'),
    ('game,seed\natari/Krull,0\n', 'cannot be drawn'),
    (FIELDS + 'atari/Krull,0,10,1,1.0,high\n', 'cannot be drawn'),
  ],
)
def test_what_cannot_be_drawn_is_said_in_a_sentence(
  draw, tmp_path, text, sentence
):
  if text is not None:
    (tmp_path / 'some-episodes.csv').write_text(text)
  said = draw('--name=some', f'--results={tmp_path}')
  assert sentence in said and '\n' not in said
