"""Hieros, hierarchical imagination on S5 world models, as an Acme agent.

The public names are imported when they are asked for: configuration and models
work without Acme, Reverb and TensorFlow.
"""

import importlib
from typing import Any

_MODULES = {
  'HierosConfig': 'config',
  'override': 'config',
  'preset': 'config',
  'make_environment': 'environments',
  'HierosBuilder': 'agent.builder',
  'make_networks': 'agent.networks',
  'make_policy': 'agent.networks',
}

__all__ = tuple(_MODULES)


def __getattr__(name: str) -> Any:
  if name not in _MODULES:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  module = importlib.import_module(f'{__name__}.{_MODULES[name]}')
  return getattr(module, name)
