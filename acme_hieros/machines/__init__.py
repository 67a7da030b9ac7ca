"""Programs that are started on this machine or on those of a cluster."""
