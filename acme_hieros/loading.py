"""What was learned, from wherever it lies."""

from collections.abc import Callable
import os
from typing import TYPE_CHECKING, Any, Union
import warnings

from acme_hieros.policies import exports, policy

if TYPE_CHECKING:
  from acme_hieros.experiments import trained


def load(
  path: str,
  checkpoint: int | None = None,
  *,
  deterministic: bool = False,
  seed: int = 0,
  environment: str | Callable[..., Any] | None = None,
) -> Union['trained.Agent', policy.Policy]:
  """Loads a trained agent.

  Example:
    agent = acme_hieros.load('runs/catch')
    action = agent.act(observation)

  Args:
    path: of a work directory; of one of its checkpoints, as in
      'runs/catch/checkpoints/000012'; or of a file that `export` has written.
      The last needs neither Acme nor Python 3.10, and acts only.
    checkpoint: number of the checkpoint; None for the newest that can be used.
    deterministic: take the likeliest actions and subgoals instead of sampling.
    seed: of its actions.
    environment: the environment's name, where it is of a module of somebody
      else, whose code would be run; or the function that makes it, where no
      name leads to that, as to a lambda.

  Raises:
    ValueError: one sentence about what cannot be used.
  """
  path = os.fspath(path)
  if path.endswith(exports.SUFFIX):
    if checkpoint is not None:
      raise ValueError(f'{path} is a single policy and has no checkpoints.')
    return policy.Policy(*exports.load(path), deterministic, seed)
  from acme_hieros.experiments import runs, trained

  directory, name = os.path.split(os.path.abspath(path))
  if os.path.basename(directory) == 'checkpoints' and name.isdecimal():
    if checkpoint not in (None, int(name)):
      raise ValueError(f'{path} is not the checkpoint {checkpoint}.')
    path, checkpoint = os.path.dirname(directory), int(name)
  learned = runs.read_learned(path, checkpoint, environment)
  for skipped in learned.skipped:
    warnings.warn(f'{skipped} The one before is used.', stacklevel=2)
  return trained.Agent(learned, deterministic, seed)
