"""precision='bfloat16' beside TensorFlow, which has a type of that name."""

from acme_hieros import compat  # noqa: F401, I001  Comes before Acme.

import jax
import tensorflow as tf

from acme_hieros.models import hierarchy, spaces
from benchmarks import smallest


def test_bfloat16_is_that_of_jax_whatever_tensorflow_has_registered():
  assert tf.bfloat16.as_numpy_dtype.__name__ == 'bfloat16'
  config = smallest.make_config(precision='bfloat16', depth=1)
  agent = hierarchy.Hierarchy(
    config, {'body': spaces.Vector((3,))}, spaces.Discrete((), 3)
  )
  jax.eval_shape(agent.init, jax.random.PRNGKey(0))
