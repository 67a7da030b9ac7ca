"""Runs: training, work directories, checkpoints."""

from acme_hieros import compat  # noqa: F401  Comes before Acme.
