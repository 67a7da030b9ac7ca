"""What holds for every core: a new one adds a line to CORES."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from acme_hieros.config import (
  AttentionConfig,
  BlockGRUConfig,
  GRUConfig,
  HybridConfig,
  S3MConfig,
  S5Config,
  WorldModelConfig,
)
from acme_hieros.models import cores
from acme_hieros.models.cores import ssm
from acme_hieros.models.ops import packing

BATCH, LENGTH, CONTEXT = 3, 7, 9
SSM = {'width': 8, 'state_size': 4, 'hippo_blocks': 2, 'dt_max': 1.0}
SIZES = {
  'deter_size': 6,
  's5': S5Config(num_blocks=1, **SSM),
  's3m': S3MConfig(layers=2, **SSM),
  'gru': GRUConfig(width=8),
  'block_gru': BlockGRUConfig(width=8, blocks=2),
  'attention': AttentionConfig(layers=2, width=8, heads=2, units=8),
}
# Looks back on less than the sequences that are tried.
SHORT = AttentionConfig(layers=2, width=8, heads=2, units=8, window=4)
CORES = {
  's5': {},
  'gru': {},
  'block_gru': {},
  's3m': {},
  'attention': {},
  'attention, short window': {'attention': SHORT},
  'hybrid': {'hybrid': HybridConfig('s5,attention,s5')},
  'hybrid, short window': {
    'hybrid': HybridConfig('attention,s5'),
    'attention': SHORT,
  },
}


class Core:
  """A core with parameters, and its functions compiled."""

  def __init__(self, name, settings, dtype=jnp.float32):
    config = WorldModelConfig(
      **{**SIZES, **settings, 'core': name.partition(',')[0]}
    )
    self.core = cores.make(config, CONTEXT, dtype)

    def modules():
      module = self.core.make_module('core')

      def init(u, reset, memory):
        output, trace = module.scan(u, reset, memory)
        return module.deter(output, trace)

      return init, (module.scan, module.step, module.deter)

    transformed = hk.without_apply_rng(hk.multi_transform(modules))
    self.scan, self.step, self.deter = map(jax.jit, transformed.apply)
    self.u = jax.random.normal(
      jax.random.PRNGKey(1), (BATCH, LENGTH, self.core.width)
    ).astype(dtype)
    self.params = jax.jit(transformed.init)(
      jax.random.PRNGKey(0), self.u, never(), self.empty()
    )

  def empty(self):
    return self.core.initial_state(BATCH)

  def some(self, steps=5):
    """A memory that holds something."""
    u = jax.random.normal(
      jax.random.PRNGKey(2), (steps, BATCH, self.core.width)
    )
    memory = self.empty()
    for each in u:
      _, memory = self.step(self.params, each, never()[:, 0], memory)
    return memory


def never():
  return jnp.zeros((BATCH, LENGTH), bool)


def somewhere():
  return never().at[1, 3].set(True).at[2, 0].set(True)


@pytest.fixture(scope='module', params=CORES)
def core(request):
  return Core(request.param, CORES[request.param])


def assert_near(one, other, atol=1e-5):
  np.testing.assert_allclose(one, other, rtol=1e-4, atol=atol)


@pytest.mark.parametrize('begun', [False, True], ids=['empty', 'begun'])
def test_scan_equals_repeated_steps(core, begun):
  memory = core.some() if begun else core.empty()
  reset = somewhere()
  outputs, trace = core.scan(core.params, core.u, reset, memory)
  deters = core.deter(core.params, outputs, trace)
  for t in range(LENGTH):
    output, memory = core.step(core.params, core.u[:, t], reset[:, t], memory)
    assert_near(output, outputs[:, t])
    assert_near(core.deter(core.params, output, memory), deters[:, t])


@pytest.mark.parametrize(
  'times', [slice(None), slice(2, -1, 2), slice(3, 4)], ids=str
)
def test_what_starts_from_a_sequence_goes_on_as_if_step_by_step(core, times):
  reset, ahead = somewhere(), 5
  _, trace = core.scan(core.params, core.u, reset, core.some())
  starts = core.core.starts(trace, times, ahead)
  steps = range(LENGTH)[times]
  after = jax.random.normal(
    jax.random.PRNGKey(3), (ahead, BATCH, len(steps), core.core.width)
  )
  found = []
  for u in after:
    output, starts = core.step(
      core.params, u.reshape((-1, core.core.width)), None, starts
    )
    deter = core.deter(core.params, output, starts)
    found.append([x.reshape((BATCH, len(steps), -1)) for x in (output, deter)])
  for i, start in enumerate(steps):
    memory = core.some()
    for t in range(start + 1):
      _, memory = core.step(core.params, core.u[:, t], reset[:, t], memory)
    for u, (outputs, deters) in zip(after, found):
      output, memory = core.step(core.params, u[:, i], None, memory)
      assert_near(output, outputs[:, i])
      assert_near(core.deter(core.params, output, memory), deters[:, i])


def test_rings_or_states_of_all_steps_can_be_started_from(core):
  # As where a sequence is followed step by step.
  memory, memories = core.some(), []
  for t in range(LENGTH):
    _, memory = core.step(core.params, core.u[:, t], never()[:, t], memory)
    memories.append(memory)
  stacked = jax.tree.map(lambda *x: jnp.stack(x, 1), *memories)
  starts = core.core.starts(stacked, slice(1, 4, 2), 3)
  u = core.u[:, 0]
  output, _ = core.step(core.params, jnp.repeat(u, 2, 0), None, starts)
  for i, t in enumerate((1, 3)):
    expected, _ = core.step(core.params, u, None, memories[t])
    assert_near(output.reshape((BATCH, 2, -1))[:, i], expected)


def test_after_a_reset_all_is_as_in_a_fresh_sequence(core):
  cut, tail = 3, LENGTH - 3
  reset = never().at[:, cut].set(True)
  outputs, _ = core.scan(core.params, core.u, reset, core.some())
  fresh, _ = core.scan(
    core.params, jnp.roll(core.u, -cut, 1), never(), core.empty()
  )
  assert_near(outputs[:, cut:], fresh[:, :tail])
  # Without the reset they differ, or this would hold for no memory at all.
  carried, _ = core.scan(core.params, core.u, never(), core.some())
  assert np.abs(carried[:, cut:] - outputs[:, cut:]).max() > 1e-3


def test_no_gradient_crosses_a_reset(core):
  cut = 3

  def loss(u, reset):
    outputs, trace = core.scan(core.params, u, reset, core.some())
    deters = core.deter(core.params, outputs, trace)
    # Not squares, whose sum a norm makes the same whatever comes in.
    weights = jnp.cos(jnp.arange(outputs.shape[-1]))
    return jnp.sum(weights * outputs[:, cut:]) + jnp.sum(deters[:, cut:])

  gradient = jax.grad(loss)
  crossed = gradient(core.u, never().at[:, cut].set(True))
  assert np.all(crossed[:, :cut] == 0.0)
  assert np.all(np.abs(crossed[:, cut:]).max((0, 2)) > 0.0)
  assert np.abs(gradient(core.u, never())[:, :cut]).max() > 0.0


def test_memories_are_real_and_keep_their_shapes(core):
  memory = core.empty()
  _, after = core.step(core.params, core.u[:, 0], never()[:, 0], memory)
  assert jax.tree.structure(memory) == jax.tree.structure(after)
  for one, other in zip(jax.tree.leaves(memory), jax.tree.leaves(after)):
    assert (one.shape, one.dtype) == (other.shape, other.dtype)
    assert one.shape[0] == BATCH
  # As an actor keeps them.
  rows = packing.Rows(after)
  for one, other in zip(
    jax.tree.leaves(rows.unpack(rows.pack(after))), jax.tree.leaves(after)
  ):
    np.testing.assert_array_equal(one, other)


def test_every_number_of_u_and_every_parameter_counts(core):
  def loss(params, u):
    outputs, trace = core.scan(params, u, never(), core.empty())
    deters = core.deter(params, outputs, trace)
    weights = jnp.cos(jnp.arange(outputs.size)).reshape(outputs.shape)
    return jnp.sum(weights * outputs) + jnp.sum(jnp.sin(3.0 * deters))

  of_params, of_u = jax.grad(loss, (0, 1))(core.params, core.u)
  assert np.all(np.abs(of_u).max((0, 1)) > 0.0)
  for module, parameters in of_params.items():
    for name, gradient in parameters.items():
      assert np.abs(gradient).max() > 0.0, f'{module}/{name}'


@pytest.mark.parametrize('name', CORES)
def test_bfloat16_is_near_float32_and_leaves_h_float32(name):
  wide = Core(name, CORES[name])
  narrow = Core(name, CORES[name], jnp.bfloat16)
  outputs, trace = narrow.scan(
    wide.params, narrow.u, somewhere(), narrow.empty()
  )
  deters = narrow.deter(wide.params, outputs, trace)
  assert (outputs.dtype, deters.dtype) == (jnp.bfloat16, jnp.float32)
  expected, trace = wide.scan(wide.params, wide.u, somewhere(), wide.empty())
  np.testing.assert_allclose(
    outputs.astype(jnp.float32), expected, atol=0.15 * np.abs(expected).max()
  )
  assert {x.dtype for x in jax.tree.leaves(narrow.empty())} <= {
    jnp.dtype(jnp.float32),
    jnp.dtype(jnp.int32),
  }


def test_a_step_without_input_multiplies_states_by_their_eigenvalues(core):
  """Of each state space layer alone, the others being empty."""
  # Of steps as long as 1: all rules agree on short ones.
  params = {
    module: {n: x * (n != 'log_step') for n, x in own.items()}
    for module, own in core.params.items()
  }
  eigenvalues = list(core.core.eigenvalues(params).values())
  empty = core.empty()
  layers = []
  if eigenvalues:
    layers = [i for i, own in enumerate(empty) if isinstance(own, jax.Array)]
  assert len(eigenvalues) == len(layers)
  u = jnp.zeros((BATCH, core.core.width))
  state = jax.random.normal(jax.random.PRNGKey(0), (BATCH, 2 * 4))
  for layer, values in zip(layers, eigenvalues):
    before = [*empty[:layer], state, *empty[layer + 1 :]]
    _, after = core.step(params, u, None, tuple(before))
    assert_near(ssm.from_halves(after[layer]), values * ssm.from_halves(state))


def test_an_unknown_core_is_refused_with_the_known_ones():
  with pytest.raises(ValueError) as error:
    cores.make(WorldModelConfig(core='lstm'), CONTEXT, jnp.float32)
  sentence = str(error.value)
  assert "core='lstm'; known cores: s5, gru, block_gru" in sentence
  assert sentence.endswith('first, by acme_hieros.models.cores.register.')


def test_attention_beyond_what_a_memory_holds_is_refused():
  config = WorldModelConfig(
    core='attention', attention=AttentionConfig(window=CONTEXT + 1)
  )
  with pytest.raises(ValueError, match='window=10 must not exceed the 9 steps'):
    cores.make(config, CONTEXT, jnp.float32)


def test_a_name_can_be_registered_once():
  with pytest.raises(ValueError, match="'s5' already"):
    cores.register('s5', None)
