"""Runs: training, nodes and their launcher, checkpoints, evaluation."""

from acme_hieros import compat  # noqa: F401  Comes before Acme.
