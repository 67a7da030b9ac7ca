"""Reports: what finished runs have in common, and on one page."""
