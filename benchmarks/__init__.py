"""What README.md and docs/ quote, rerunnable."""

import os

# The script of a run.
LAUNCHER = os.path.join(
  os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
  'launchers',
  'run_hieros.py',
)
