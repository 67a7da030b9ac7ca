"""What is made of docstrings before and after pdoc has them."""

import importlib.util
import pathlib

import pytest


@pytest.fixture(name='docs', scope='module')
def docs_fixture():
  path = pathlib.Path(__file__).parents[1] / 'scripts' / 'docs.py'
  spec = importlib.util.spec_from_file_location('docs', path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def test_examples_and_commands_are_code_and_sections_are_not(docs):
  text = """Plays.

  hieros show --workdir=runs/krull
  hieros show

It is only read.

Example:
  for step in range(3):
    act()

Args:
  path: of a run; one of

    its checkpoints will do.
  seed: of it.

Returns:
  What came.

At the end.

  1 + 1"""
  assert (
    docs.with_code(text)
    == """Plays.

```
hieros show --workdir=runs/krull
hieros show
```

It is only read.

Example:
  ```python
  for step in range(3):
    act()
  ```

Args:
  path: of a run; one of

    its checkpoints will do.
  seed: of it.

Returns:
  What came.

At the end.

```
1 + 1
```"""
  )


def test_links_lead_somewhere_or_are_words(docs):
  page = (
    '<dd id="Line.show"><a href="#_Line">_Line</a> <a href="#Line.show">show'
    '</a> <a href="other.html#Line">Line</a></dd>'
  )
  assert docs.without_dead_links(page) == (
    '<dd id="Line.show">_Line <a href="#Line.show">show</a> '
    '<a href="other.html#Line">Line</a></dd>'
  )
