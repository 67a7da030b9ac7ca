"""Many runs as one thing: what a study asks, its runs, and its answer."""
