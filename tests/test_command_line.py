"""What flags say."""

import types

import pytest

from acme_hieros import command_line


@pytest.mark.parametrize(
  'text,value',
  [
    ('true', True),
    ('True', True),
    ('false', False),
    ('3', 3),
    ('[1, 2.5]', [1, 2.5]),
    ("'true'", 'true'),
    ('truth', 'truth'),
    ('None', None),
    ('image', 'image'),
  ],
)
def test_options_are_read_as_python_would_or_are_words(text, value):
  flag = types.SimpleNamespace(name='env_option', value=[f'a={text}'])
  assert command_line.read_options(flag) == {'a': value}
