"""Reverb tables and the batches that are read from them."""

from acme_hieros import compat  # noqa: F401  Comes before Acme.
