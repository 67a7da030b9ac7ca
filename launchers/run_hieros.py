"""Trains Hieros on one environment.

  python launchers/run_hieros.py --env=atari/Krull
"""

import datetime
import os
import sys

from absl import app
from absl import flags
import jax

from acme_hieros import compat  # Before Acme.
from acme_hieros import config as config_lib
from acme_hieros.agent import learning
from acme_hieros.experiments import running
from acme_hieros.experiments import workdirs

_ENV = flags.DEFINE_string(
    'env', 'atari/Krull', 'Environment: atari/<Game>, gym/<Id> or debug/<name>.')
_ENV_OPTION = flags.DEFINE_multi_string(
    'env_option', [], 'An option of the environment, as name=value; repeatable.')
_PRESET = flags.DEFINE_enum(
    'preset', None, list(config_lib.PRESETS),
    'Configuration to start from. Default: atari100k on an accelerator, small '
    'elsewhere.')
_DEPTH = flags.DEFINE_integer(
    'depth', None, 'Levels of the hierarchy; default: as in the preset.')
_NUM_STEPS = flags.DEFINE_integer(
    'num_steps', None, 'Environment steps in all. Default: 100,000 with the '
    'preset atari100k, 5,000 elsewhere.')
_SEED = flags.DEFINE_integer('seed', 0, 'Random seed.')
_WORKDIR = flags.DEFINE_string(
    'workdir', None, 'Where everything is written. Default: a new directory '
    'under runs/.')
_OVERRIDE = flags.DEFINE_multi_string(
    'override', [], 'A field of the configuration, as name=value, such as '
    'world_model.deter_size=128; repeatable.')
_RESUME = flags.DEFINE_bool(
    'resume', False, 'Continue the run in --workdir.')
