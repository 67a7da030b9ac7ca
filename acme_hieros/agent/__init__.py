"""Hieros as Acme components: builder, networks, learner, actor and adder."""

from acme_hieros import compat  # noqa: F401  Comes before Acme.
