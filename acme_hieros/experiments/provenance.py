"""What code is at work, for those who find what it has written."""

from collections.abc import Mapping
import functools
import os
import platform
import subprocess
from typing import Any

from acme_hieros import compat, version

_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))


@functools.cache
def of_code() -> Mapping[str, Any]:
  """`version` and `commit` of this package, Python's and main packages' too.

  The commit ends in '-dirty' if files were changed since; it is None where the
  package is no checkout.
  """
  return {
    'version': version.VERSION,
    'commit': _commit(_ROOT),
    'python': platform.python_version(),
    'packages': compat.installed_versions(),
  }


def _commit(root: str) -> str | None:
  # A repository further up is somebody else's.
  if not os.path.exists(os.path.join(root, '.git')):
    return None
  command = ('describe', '--always', '--dirty', '--abbrev=12', '--exclude=*')
  try:
    return subprocess.run(
      ['git', '-C', root, *command],
      capture_output=True,
      text=True,
      timeout=10,
      check=True,
    ).stdout.strip()
  except (OSError, subprocess.SubprocessError):
    return None
