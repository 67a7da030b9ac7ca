"""How MuJoCo draws where there is no screen: it has to be told first."""

import ctypes.util
import os
import types

from acme_hieros.environments import modules

_VARIABLE = 'MUJOCO_GL'

# Libraries that draw without a screen, with what MuJoCo calls them.
_LIBRARIES = {'EGL': 'egl', 'OSMesa': 'osmesa'}
_NONE = 'disable'

_ADVICE = (
  'install EGL or OSMesa (on Debian and Ubuntu libegl1, libegl-mesa0 and '
  f'libgl1-mesa-dri, or libosmesa6) and set {_VARIABLE} to egl or osmesa, or '
  'not at all.'
)


def import_drawing(
  name: str, module: str, package: str, extra: str, needed: bool
) -> types.ModuleType:
  """Imports what draws by MuJoCo, as `modules.import_extra`.

  What it draws by is what the user has chosen, or else what there is; nothing
  where that does not work and nothing is to be drawn.

  Args:
    name: the environment's full name, for the errors.
    module: what to import.
    package: what it belongs to.
    extra: of this package, which installs it.
    needed: whether anything is to be drawn.

  Raises:
    ValueError: the package is missing, or there is nothing to draw by.
  """
  chosen = _VARIABLE in os.environ
  if not chosen:
    found = (
      gl
      for library, gl in _LIBRARIES.items()
      if ctypes.util.find_library(library)
    )
    os.environ[_VARIABLE] = next(found, _NONE)
  if needed and os.environ[_VARIABLE] == _NONE:
    raise ValueError(
      f'Environment {name!r} draws, and {_VARIABLE}={_NONE}: {_ADVICE}'
    )
  try:
    return modules.import_extra(name, module, package, extra)
  except ValueError:
    raise
  except Exception as error:  # Each library has its own.
    if not (chosen or needed):
      os.environ[_VARIABLE] = _NONE
      return modules.import_extra(name, module, package, extra)
    raise ValueError(
      f'Environment {name!r} cannot draw with {_VARIABLE}='
      f'{os.environ[_VARIABLE]} ({modules.sentence(error)[:-1]}): {_ADVICE}'
    ) from error
