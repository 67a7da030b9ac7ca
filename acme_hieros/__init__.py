"""Hieros, hierarchical imagination on S5 world models, as an Acme agent.

  acme_hieros.train('debug/catch', preset='tiny', workdir='runs/catch')
  agent = acme_hieros.load('runs/catch')
  action = agent.act(observation)

The public names are imported when they are asked for: configuration and models
work without Acme, Reverb and TensorFlow.
"""

import importlib
from typing import Any

from acme_hieros.version import VERSION as __version__

_MODULES = {
  'train': 'experiments.sessions',
  'sweep': 'studies.sweep',
  'load': 'loading',
  'read_runs': 'reports.frames',
  'HierosConfig': 'config',
  'override': 'config',
  'preset': 'config',
  'make_environment': 'environments',
  'HierosBuilder': 'agent.builder',
  'HierosExperimentBuilder': 'agent.builder',
  'make_networks': 'agent.networks',
  'make_policy': 'agent.networks',
}

__all__ = (*_MODULES, '__version__')


def __getattr__(name: str) -> Any:
  if name not in _MODULES:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  module = importlib.import_module(f'{__name__}.{_MODULES[name]}')
  return getattr(module, name)


def __dir__() -> list[str]:
  return sorted(__all__)
