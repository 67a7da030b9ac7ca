"""What benchmarks of replay have in common: an agent, and tables elsewhere."""

from collections.abc import Mapping
import multiprocessing
from multiprocessing.process import BaseProcess
import sys
from typing import Any

import acme
from acme import specs
from acme.utils import loggers
import dm_env
import reverb

from acme_hieros import config as config_lib
from acme_hieros.agent import builder as builder_lib
from acme_hieros.agent import networks as networks_lib
from acme_hieros.environments import make_environment
from acme_hieros.models import hierarchy


def prepare(
  name: str, preset: str, steps: int, changes: Mapping[str, Any]
) -> tuple[
  config_lib.HierosConfig,
  dm_env.Environment,
  specs.EnvironmentSpec,
  hierarchy.Hierarchy,
]:
  """An agent for an environment; what cannot be done ends the program.

  Args:
    name: of the environment.
    preset: of the configuration.
    steps: of the environment that have to fill replay.
    changes: of the configuration, by field.
  """
  try:
    config = config_lib.override(config_lib.preset(preset), changes)
    config.check_fillable(steps)
    environment = make_environment(name)
  except (ImportError, ValueError) as error:
    sys.exit(str(error))
  spec = acme.make_environment_spec(environment)
  return config, environment, spec, networks_lib.make_networks(config, spec)


def no_logger(_) -> loggers.Logger:
  return loggers.NoOpLogger()


def serve_apart(
  builder: builder_lib.HierosBuilder,
  spec: specs.EnvironmentSpec,
  directory: str | None = None,
) -> tuple[BaseProcess, reverb.Client]:
  """Starts a process with tables; returns it, and a client of theirs.

  Args:
    builder: of the tables.
    spec: of the environment.
    directory: of checkpoints, of which the newest is restored; None for those
      of nobody.
  """
  context = multiprocessing.get_context('spawn')
  ours, theirs = context.Pipe()
  replay = context.Process(
    target=_serve, args=(builder, spec, directory, theirs), daemon=True
  )
  replay.start()
  theirs.close()
  try:
    port = ours.recv()
  except EOFError:
    sys.exit('The process of the tables has ended; what it said is above.')
  return replay, reverb.Client(f'localhost:{port}')


def _serve(builder, spec, directory, pipe):
  """Holds the tables until this process is ended."""
  checkpointer = None
  if directory:
    checkpointer = reverb.platform.checkpointers_lib.DefaultCheckpointer(
      directory
    )
  tables = builder.make_replay_tables(spec)
  server = reverb.Server(tables, checkpointer=checkpointer)
  pipe.send(server.port)
  server.wait()
