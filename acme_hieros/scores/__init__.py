"""How good scores are, and how sure: others' scores, and statistics."""
