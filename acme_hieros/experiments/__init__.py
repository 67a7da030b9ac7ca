"""Runs: training, work directories, checkpoints, evaluation, pictures."""

from acme_hieros import compat  # noqa: F401  Comes before Acme.
