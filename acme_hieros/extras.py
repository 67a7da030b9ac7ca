"""What is not installed with everything else, and how to get it."""


def missing(package: str | None, extra: str) -> str:
  """A sentence about a package that comes with an extra of setup.py."""
  return (
    f"{package} is missing; pip install '.[{extra}]' in a checkout brings it."
  )
