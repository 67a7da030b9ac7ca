"""The agent's pure functions; JAX, Haiku, Optax and NumPy only."""
