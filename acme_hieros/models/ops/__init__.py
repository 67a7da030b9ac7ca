"""Arithmetic that is fast on a CPU, apart from what it is used for.

How to read it: where a function asks `backend.on_cpu()`, the branch that is not
for the CPU is the definition, as plain as it can be written; the other computes
the same in the form that XLA's CPU compiler makes fast, and says why. Nothing
here knows of agents or world models.

  linear: products with matrices, of numbers and of one-hot choices.
  convolution, tiling: of stride 2, and the transpose; their blocks.
  normalization: LayerNorm.
  reductions: sums and maxima.
  placement: keeps elementwise functions from working in place.
  packing: trees of arrays in few arrays.
"""
