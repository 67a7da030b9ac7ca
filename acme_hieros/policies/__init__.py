"""What was learned, to act by; needs JAX, Haiku, Optax and NumPy alone."""
