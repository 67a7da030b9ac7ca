"""What tests of damaged work directories share."""

import os
import socket

import hypothesis

# What may lie where a file is expected, and how it gets there.
NO_FILES = {
  'directory': lambda path: path.mkdir(),
  'pipe': os.mkfifo,
  'socket': lambda path: socket.socket(socket.AF_UNIX).bind(str(path)),
  'loop': lambda path: path.symlink_to(path),
  'device': lambda path: path.symlink_to('/dev/zero'),
}


def quickly(max_examples: int) -> hypothesis.settings:
  """Always the same examples, and nothing that depends on the machine."""
  return hypothesis.settings(
    max_examples=max_examples,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
  )
