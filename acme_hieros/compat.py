"""Makes Acme 0.4.0 run on today's JAX; import it before `acme`.

Acme's last release is from February 2022 and refers to names that JAX, NumPy
and gym have dropped since. Importing this module puts back those that are
missing, and only those. Each is an annotation, an alias or the class of an
`isinstance`, so nothing that Acme computes changes. Where JAX_PLATFORMS names
an accelerator alone, the CPU is added, for actors.

It has to come before `acme` in every process. In the child processes that
Launchpad starts nobody can see to that, because they unpickle Acme's objects
before they import anything of ours; so what this process pickles for them is
wrapped to import this module first.

Raises:
  ImportError: with what to do about it, if this is no Python 3.10, if Acme or
    something that it needs is not installed, or if Launchpad or Reverb find no
    libpython.

Warns once, in the first process, if Acme, JAX, Launchpad, Reverb or TensorFlow
have other versions than those that were tested together.
"""

from collections.abc import Callable, Mapping
import importlib.metadata
import importlib.util
import inspect
import os
import sys
import types
from typing import Any
import warnings

# The set that setup.py installs, by distribution.
TESTED_VERSIONS: Mapping[str, str] = types.MappingProxyType(
  {
    'dm-acme': '0.4.0',
    'jax': '0.6.2',
    'jaxlib': '0.6.2',
    'dm-launchpad': '0.5.0',
    'dm-reverb': '0.7.3',
    'tensorflow': '2.8.4',
  }
)

# TensorFlow is installed under several names. Nightlies likewise.
_OTHER_NAMES: Mapping[str, tuple[str, ...]] = {
  'dm-acme': ('dm-acme-nightly',),
  'dm-launchpad': ('dm-launchpad-nightly',),
  'dm-reverb': ('dm-reverb-nightly',),
  'tensorflow': ('tensorflow-cpu', 'tensorflow-gpu', 'tf-nightly'),
}

_MODULES: Mapping[str, str] = {
  'dm-acme': 'acme',
  'jax': 'jax',
  'dm-launchpad': 'launchpad',
  'dm-reverb': 'reverb',
  'tensorflow': 'tensorflow',
}

# Tells child processes which versions have been warned about.
_WARNED = 'ACME_HIEROS_WARNED_VERSIONS'

_INSTALL = (
  "'make setup' in a checkout or 'pip install .' installs what it needs"
)


def installed_versions() -> dict[str, str]:
  """Returns the version found of each distribution in `TESTED_VERSIONS`.

  One whose package has no metadata (a source checkout on the path) is said to
  be 'unknown'.
  """
  versions = {}
  for name in TESTED_VERSIONS:
    versions[name] = 'unknown'
    for candidate in (name, *_OTHER_NAMES.get(name, ())):
      try:
        versions[name] = importlib.metadata.version(candidate)
        break
      except importlib.metadata.PackageNotFoundError:
        continue
  return versions


def _check_python() -> None:
  if sys.version_info[:2] != (3, 10):
    raise ImportError(
      'Acme needs Python 3.10, because Launchpad has no wheels for a later one,'
      f' and this is Python {sys.version_info[0]}.{sys.version_info[1]};'
      ' acme_hieros.models, acme_hieros.config and policies that were exported'
      ' do without Acme and run on any newer Python.'
    )


def _check_installed() -> None:
  missing = [
    name
    for name, module in _MODULES.items()
    if module not in sys.modules and importlib.util.find_spec(module) is None
  ]
  if missing:
    raise ImportError(
      f'{", ".join(missing)} cannot be found by {sys.executable}: {_INSTALL}.'
    )


def _check_versions() -> dict[str, str]:
  """Returns the installed versions, after a warning if they are untested."""
  versions = installed_versions()
  others = [
    f'{name} {versions[name]} (tested: {tested})'
    for name, tested in TESTED_VERSIONS.items()
    if versions[name] != tested
  ]
  text = ', '.join(others)
  if others and os.environ.get(_WARNED) != text:
    warnings.warn(
      f'acme_hieros was not tested with {text}; {_INSTALL}.', stacklevel=4
    )
    # A Launchpad program has many processes; one warning is enough.
    os.environ[_WARNED] = text
  return versions


def _has(module: Any, name: str) -> bool:
  with warnings.catch_warnings():
    # Names about to go still answer, with a warning meant for their users.
    warnings.simplefilter('ignore')
    return hasattr(module, name)


def _supply(module: Any, name: str, value: Any) -> None:
  if not _has(module, name):
    setattr(module, name, value)


def _supply_jax() -> None:
  import jax
  import jax.numpy as jnp

  _supply(jax, 'xla', types.SimpleNamespace())
  _supply(jax.xla, 'Device', jax.Device)
  _supply(jax.xla, 'DeviceArray', jax.Array)
  _supply(jax, 'pxla', types.SimpleNamespace())
  _supply(jax.pxla, 'ShardedDeviceArray', jax.Array)
  _supply(jnp, 'DeviceArray', jax.Array)
  _supply(jax, 'tree_map', jax.tree_util.tree_map)
  _supply(jax, 'tree_multimap', jax.tree_util.tree_map)
  _supply(jax, 'tree_flatten', jax.tree_util.tree_flatten)


def _supply_cpu() -> None:
  # Actors work on the CPU, which JAX does not look for where JAX_PLATFORMS
  # names an accelerator alone. That stays the first.
  import jax

  platforms = jax.config.jax_platforms
  if platforms and 'cpu' not in platforms.split(','):
    jax.config.update('jax_platforms', f'{platforms},cpu')


def _supply_numpy() -> None:
  import numpy as np

  # acme.wrappers.atari_wrapper.
  _supply(np, 'float', float)


def _supply_gym() -> None:
  # acme.wrappers imports the unmaintained gym whether or not it is used. For
  # the import gymnasium will do; its GymWrapper still needs the real one.
  if 'gym' in sys.modules or importlib.util.find_spec('gym') is not None:
    return
  if importlib.util.find_spec('gymnasium') is None:
    return
  import gymnasium

  sys.modules['gym'] = gymnasium
  sys.modules['gym.spaces'] = gymnasium.spaces


def _supply_reverb(version: str) -> None:
  # Importing Reverb imports TensorFlow, which takes seconds; the tested one
  # lacks nothing.
  if version == TESTED_VERSIONS['dm-reverb']:
    return
  import reverb

  original = reverb.Client.trajectory_writer
  parameters = inspect.signature(original).parameters
  if 'get_signature_timeout_ms' in parameters:
    return
  if 'validate_items' not in parameters:
    return

  def trajectory_writer(
    self: Any,
    num_keep_alive_refs: int,
    *,
    get_signature_timeout_ms: int | None = 3000,
    **kwargs: Any,
  ) -> Any:
    kwargs.setdefault('validate_items', get_signature_timeout_ms is not None)
    return original(self, num_keep_alive_refs, **kwargs)

  trajectory_writer.__doc__ = original.__doc__
  reverb.Client.trajectory_writer = trajectory_writer


class _AfterCompat:
  """Pickles as an object that is unpickled only after this module's import."""

  def __init__(self, value: Any):
    self._value = value

  def __reduce__(self) -> tuple[Callable[[bytes], Any], tuple[bytes]]:
    import cloudpickle

    # The function is pickled by reference, so to find it the child has to
    # import this module; what Acme is in stays bytes until then.
    return _unpickle, (cloudpickle.dumps(self._value),)


def _unpickle(pickled: bytes) -> Any:
  import cloudpickle

  from acme_hieros import process

  with process.importing():
    return cloudpickle.loads(pickled)


def _reach_launchpad_children() -> None:
  try:
    from launchpad.launch import serialization
  except ImportError as error:
    if 'libpython' not in str(error):
      raise
    raise ImportError(
      'Launchpad and Reverb need libpython3.10.so.1.0, which the loader cannot'
      " find: run 'make setup', or put the directory that has it (of a Python"
      ' 3.10 built with --enable-shared) into LD_LIBRARY_PATH.'
    ) from error

  original = serialization.serialize_functions
  if getattr(original, 'imports_compat', False):
    return

  def serialize_functions(
    data_file_path: str, description: str, functions: Any
  ) -> None:
    # A child loads all functions of its group, then calls one of them.
    original(data_file_path, description, _AfterCompat(list(functions)))

  serialize_functions.__doc__ = original.__doc__
  serialize_functions.imports_compat = True
  serialization.serialize_functions = serialize_functions


def _apply() -> None:
  _check_python()
  _check_installed()
  # Drops what TensorFlow tells about the processor at its start. Warnings and
  # errors stay.
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '1')
  versions = _check_versions()
  _supply_jax()
  _supply_cpu()
  _supply_numpy()
  _supply_gym()
  _supply_reverb(versions['dm-reverb'])
  _reach_launchpad_children()


_apply()
