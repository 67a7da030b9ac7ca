"""Tells whether the Python that runs this will do, and where its library is.

Launchpad's and Reverb's wheels are linked against libpython3.10.so.1.0. It is
already in the process when the interpreter itself is linked against it; some
interpreters are not and only ship the file, out of the loader's sight; and some
do not have it at all.

Exits with 0 (will do), 3 (no Python 3.10) or 4 (no libpython). Prints the
library's path if the loader has to be helped. With `--link`, puts links to it
where the wheels look for it. It runs under any Python, so it keeps to what all
of them understand.
"""

import ctypes
import os
import sys
import sysconfig

LIBRARY = 'libpython3.10.so.1.0'
# The directories that the wheels' RUNPATHs name as $ORIGIN and its parents.
PACKAGES = ('courier', 'reverb')


def loaded():
  """Whether the interpreter itself is linked against the library."""
  with open('/proc/self/maps') as maps:
    return any(line.rstrip().endswith('/' + LIBRARY) for line in maps)


def path():
  """The library's path beside this Python, or None."""
  variable = sysconfig.get_config_var
  # A relocated Python's own record of its directories may be wrong.
  places = [os.path.join(getattr(sys, 'base_prefix', sys.prefix), 'lib')]
  for name in ('LIBDIR', 'LIBPL'):
    if variable(name):
      places.append(variable(name))
      places.append(os.path.join(variable(name), variable('MULTIARCH') or ''))
  for place in places:
    candidate = os.path.join(place, LIBRARY)
    if os.path.exists(candidate):
      return candidate
  return None


def known_to_loader():
  try:
    ctypes.CDLL(LIBRARY)
  except OSError:
    return False
  return True


def link(library):
  """Links the library into the installed packages that need it."""
  site_packages = sysconfig.get_path('platlib')
  for package in PACKAGES:
    directory = os.path.join(site_packages, package)
    target = os.path.join(directory, LIBRARY)
    if os.path.lexists(target):
      os.remove(target)
    os.symlink(library, target)


def main():
  if sys.version_info[:2] != (3, 10) or sys.maxsize < 2**32:
    return 3
  if loaded():
    return 0
  library = path()
  if library is None:
    return 0 if known_to_loader() else 4
  if '--link' in sys.argv[1:]:
    link(library)
  print(library)
  return 0


if __name__ == '__main__':
  sys.exit(main())
