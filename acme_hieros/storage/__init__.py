"""What a run leaves on the disk: files of every kind, and their directory."""
