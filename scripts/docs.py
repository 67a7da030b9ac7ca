"""Makes pages of all docstrings, in build/docs; called by `make docs`."""

import pathlib
import pkgutil
import re
import shutil
import sys
import textwrap

_OUT = pathlib.Path('build', 'docs')

# Of a docstring; what is indented below it is the section.
_SECTION = re.compile(r'[A-Z][A-Za-z ]+:\n')
_EXAMPLE = 'Example:\n'


def main():
  try:
    import pdoc
  except ImportError:
    sys.exit(
      "docs: pdoc is missing; .venv/bin/pip install -e '.[docs]' brings it."
    )
  import jinja2

  import acme_hieros

  # They are imported when they are asked for, which pdoc does not do.
  for name in acme_hieros.__all__:
    setattr(acme_hieros, name, getattr(acme_hieros, name))
  # Where a package says what is public pdoc goes to no other module.
  acme_hieros.__all__ += tuple(
    module.name
    for module in pkgutil.iter_modules(acme_hieros.__path__)
    if not module.name.startswith('_')
  )
  pdoc.render.configure(docformat='google')
  filters = pdoc.render.env.filters
  to_markdown = filters['to_markdown']
  filters['to_markdown'] = jinja2.pass_context(
    lambda context, text: to_markdown(context, with_code(text))
  )
  # Pages of modules that there are no more would stay.
  shutil.rmtree(_OUT, ignore_errors=True)
  pdoc.pdoc('acme_hieros', output_directory=_OUT)
  for page in _OUT.rglob('*.html'):
    page.write_text(without_dead_links(page.read_text()))
  print(f'Pages: {_OUT / "index.html"}')


def with_code(docstring: str) -> str:
  """Says to Markdown what is code: examples, and what is indented by itself.

  Args:
    docstring: without the indentation that all its lines have.
  """
  shown, in_section = [], False
  for part in re.split(r'\n{2,}', docstring):
    if part.startswith(_EXAMPLE):
      code = part.removeprefix(_EXAMPLE)
      shown.append(f'{_EXAMPLE}  ```python\n{code}\n  ```')
      in_section = False
    elif part.startswith('  '):
      code = not in_section
      shown.append(f'```\n{textwrap.dedent(part)}\n```' if code else part)
    else:
      in_section = bool(_SECTION.match(part))
      shown.append(part)
  return '\n\n'.join(shown)


def without_dead_links(page: str) -> str:
  """Leaves the words of links to what has no place of its own on the page.

  pdoc refers to private bases, and to what is inherited without a docstring.
  """
  places = set(re.findall(r'\bid="([^"]+)"', page))
  return re.sub(
    r'<a href="#([^"]+)">(.*?)</a>',
    lambda link: link[0] if link[1] in places else link[2],
    page,
  )


if __name__ == '__main__':
  main()
