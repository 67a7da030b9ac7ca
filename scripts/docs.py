"""Makes pages of all docstrings, in build/docs; called by `make docs`."""

import pathlib
import pkgutil
import sys

import acme_hieros

try:
  import pdoc
except ImportError:
  sys.exit(
    "docs: pdoc is missing; .venv/bin/pip install -e '.[docs]' brings it."
  )

_OUT = pathlib.Path('build', 'docs')


def main():
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
  pdoc.pdoc('acme_hieros', output_directory=_OUT)
  print(f'Pages: {_OUT / "index.html"}')


if __name__ == '__main__':
  main()
