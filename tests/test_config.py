"""What holds for the configuration: names, types, and sentences that help."""

import dataclasses
import json

import numpy as np
import pytest

from acme_hieros import config as config_lib
from acme_hieros.config import HierosConfig, override, presets

PRESETS = pytest.mark.parametrize('name', config_lib.PRESETS)

# Another valid value for each field that cannot simply be halved or doubled.
OTHERS = {
  'world_model.core': 'gru',
  'world_model.hybrid.pattern': 's5,attention',
  'world_model.posterior': 'history',
  'actor_critic.core': 's5',
  'actor_critic.s5.deter_from': 'output',
  'world_model.reward_head': 'normal',
  'world_model.dynamics_free_nats': 0.5,
  'actor_critic.value_head': 'normal',
  'actor_critic.slow_target': True,
  'reward_transform': 'tanh',
  'world_model.features': 'latent',
  'world_model.s5.deter_from': 'output',
  'world_model.cnn_depths': (3, 5),
  'world_model.reward_bins': 41,
  'world_model.cell_latents': True,
  'world_model.direct_prior': True,
  'world_model.overshooting': 3,
  'world_model.change_share': 0.3,
  'world_model.information_scale': 0.3,
  'actor_critic.value_bins': 41,
  'actor_critic.advantage_scale': 'deviation',
  'actor_critic.replay_scale': 0.3,
  'actor_critic.replay_actor_scale': 0.3,
  'actor_critic.novelty_weight': (0.2, 0.3),
  'actor_critic.entropy_target': 0.3,
  'subgoals.kl_target': 3.0,
  'subgoals.learns_from': 'replay',
  'subgoals.absorbing': True,
  'subgoals.practice': 0.3,
  'subgoals.information_scale': 0.3,
  'subgoals.balance': 0.3,
  'subgoals.manager': 'policy',
  'exploration.novelty': 'disagreement',
  'replay.sampler': 'uniform',
  'context_length': 32,
  'reward_aggregation': 'sum',
  'precision': 'bfloat16',
}


def get(config, name):
  for part in name.split('.'):
    config = getattr(config, part)
  return config


def needed(name):
  """What a field needs of others, to be of use at all."""
  if name.startswith('actor_critic.s5.'):
    return {'actor_critic.core': 's5'}
  part = name.split('.')[1] if name.startswith('world_model.') else ''
  if name == 'subgoals.manager':
    return {'depth': 1}
  if name == 'subgoals.balance':
    return {'subgoals.learns_from': 'replay'}
  cores = {'s3m', 'gru', 'block_gru', 'attention', 'hybrid'}
  return {'world_model.core': part} if part in cores else {}


def other(name):
  if name in OTHERS:
    return OTHERS[name]
  value = get(HierosConfig(), name)
  if isinstance(value, tuple):
    return tuple(2 * v for v in value)
  return 2 * value if isinstance(value, int) else value / 2


@PRESETS
def test_presets_survive_json(name):
  config = config_lib.PRESETS[name]
  text = json.dumps(config_lib.to_dict(config))
  assert config_lib.from_dict(json.loads(text)) == config


@PRESETS
def test_presets_can_learn_in_the_atari_100k_budget(name):
  config_lib.PRESETS[name].check_fillable(100_000)


def test_the_paper_s_sizes_are_the_defaults():
  config = HierosConfig()
  assert config_lib.PRESETS['atari100k'] == config
  assert (config.depth, config.subgoals.duration) == (3, (4,))
  assert (config.batch_size, config.sequence_length) == (16, 64)
  model, behaviour = config.world_model, config.actor_critic
  assert (model.categoricals, model.classes, model.deter_size) == (32, 32, 256)
  s5 = model.s5
  assert (s5.num_blocks, s5.width) == (4, 256)
  assert (s5.state_size, s5.hippo_blocks) == (128, 4)
  assert model.cnn_depths == (24, 48, 96, 192)
  assert (model.dynamics_scale, model.representation_scale) == (0.5, 0.1)
  assert behaviour.horizon == 16
  assert (behaviour.discount, behaviour.return_lambda) == (0.997, 0.95)
  # No novelty at level 0, no subgoals at the top.
  assert [config.streams(level) for level in range(3)] == [
    {'extrinsic': 1.0, 'subgoal': 0.3},
    {'extrinsic': 1.0, 'subgoal': 0.3, 'novelty': 0.1},
    {'extrinsic': 1.0, 'novelty': 0.1},
  ]
  assert (config.subgoals.categoricals, config.subgoals.classes) == (8, 8)
  optimizers = model, behaviour, config.subgoals
  assert [dataclasses.astuple(part.optimizer) for part in optimizers] == [
    (1e-4, 1e-8, 1000.0, 0.0),
    (3e-5, 1e-5, 100.0, 0.0),
    (1e-4, 1e-6, 100.0, 0.0),
  ]
  # One learner step for each agent step.
  assert config.updates_per_step == 1.0
  assert [config.tick_period(level) for level in range(3)] == [1, 4, 16]


def test_every_field_can_be_overridden_by_value_and_by_text():
  for name in config_lib.field_names(HierosConfig()):
    value = other(name)
    text = ','.join(map(str, value)) if isinstance(value, tuple) else str(value)
    for given in (value, text):
      start = override(HierosConfig(), needed(name))
      config = override(start, {name: given})
      assert get(config, name) == value, name
      assert type(get(config, name)) is type(value), name
    # Nothing else changed.
    assert override(config, {name: get(HierosConfig(), name)}) == start


def test_all_fields_at_once_survive_json():
  names = [n for n in config_lib.field_names(HierosConfig()) if not needed(n)]
  values = {name: other(name) for name in names} | {'world_model.core': 's5'}
  config = override(HierosConfig(), values)
  assert all(get(config, name) == value for name, value in values.items())
  text = json.dumps(config_lib.to_dict(config))
  assert config_lib.from_dict(json.loads(text)) == config


@pytest.mark.parametrize(
  'core,field,users',
  [
    ('s5', 'gru.width', 'gru'),
    ('gru', 's5.width', 's5 or hybrid'),
    ('attention', 'hybrid.pattern', 'hybrid'),
    ('hybrid', 's5.num_blocks', 's5'),
    ('hybrid', 'attention.layers', 'attention'),
    ('hybrid', 'attention.width', 'attention'),
    ('hybrid', 'attention.units', 'attention'),
  ],
)
def test_a_field_of_a_core_that_is_not_chosen_is_refused(core, field, users):
  name = f'world_model.{field}'
  values = {'world_model.core': core, name: get(HierosConfig(), name)}
  sentence = f'^{name} is not of world_model.core={core}: set.*core={users},'
  with pytest.raises(ValueError, match=sentence):
    override(HierosConfig(), values)


def test_sizes_of_a_memory_that_the_actor_has_not_are_refused():
  with pytest.raises(ValueError, match='set actor_critic.core=s5, or leave'):
    override(HierosConfig(), {'actor_critic.s5.width': 64})


def test_a_core_that_is_made_of_others_takes_their_fields():
  """All but those that other tests have refused."""
  unread = {'s5.num_blocks'} | {
    f'attention.{field}' for field in ('layers', 'width', 'units')
  }
  start = override(HierosConfig(), {'world_model.core': 'hybrid'})
  for part in ('s5', 'attention', 'hybrid'):
    for field in config_lib.field_names(get(start.world_model, part)):
      if f'{part}.{field}' not in unread:
        name = f'world_model.{part}.{field}'
        assert get(override(start, {name: other(name)}), name) == other(name)


def test_the_width_of_attention_counts_where_it_is_used():
  """A hybrid's layers of attention are as wide as those of S5."""
  values = {'world_model.attention.heads': 5}
  with pytest.raises(ValueError) as error:
    override(HierosConfig(), {'world_model.core': 'attention', **values})
  assert str(error.value) == (
    'world_model.attention.width=256 must be a multiple of twice '
    'attention.heads=5.'
  )
  hybrid = {'world_model.core': 'hybrid', **values}
  with pytest.raises(ValueError, match='s5.width=256 must be a multiple'):
    override(HierosConfig(), hybrid)
  config = override(HierosConfig(), {**hybrid, 'world_model.s5.width': 80})
  assert config.world_model.attention.heads == 5


SYSTEMS = pytest.mark.parametrize('system', config_lib.SYSTEMS)


@PRESETS
@SYSTEMS
def test_every_size_holds_every_system(name, system):
  config = config_lib.preset(name, system)
  wanted = config_lib.SYSTEMS[system]
  assert {field: get(config, field) for field in wanted} == wanted
  # What is the size's stays.
  size = config_lib.preset(name)
  assert config.world_model.deter_size == size.world_model.deter_size
  assert config.world_model.optimizer == size.world_model.optimizer
  assert config.batch_size == size.batch_size


def test_hieros_is_what_a_size_is_by_itself():
  assert config_lib.preset('small', 'hieros') == config_lib.PRESETS['small']


def test_an_unknown_system_is_refused_with_the_known_ones():
  with pytest.raises(ValueError, match="'dreamerv4'; known systems: hieros,"):
    config_lib.preset('small', 'dreamerv4')


def test_a_size_that_cannot_hold_a_system_says_so(monkeypatch):
  odd = override(HierosConfig(), {'world_model.deter_size': 12})
  monkeypatch.setattr(presets, 'PRESETS', {'odd': odd})
  with pytest.raises(
    ValueError,
    match='preset odd cannot hold the system dreamerv3: world_model.deter_size='
    '12 must be a multiple of block_gru.blocks=8',
  ):
    config_lib.preset('odd', 'dreamerv3')


def test_override_changes_neither_configuration_nor_values():
  config = HierosConfig()
  part = {'classes': 8}
  override(config, {'world_model': part, 'world_model.deter_size': 64})
  assert config == HierosConfig()
  assert part == {'classes': 8}


@pytest.mark.parametrize(
  'text,value', [('True', True), ('false', False), ('FALSE', False)]
)
def test_truth_is_read_in_any_case(text, value):
  config = override(HierosConfig(), {'actor_critic.slow_target': text})
  assert config.actor_critic.slow_target is value


def test_a_whole_number_does_for_a_number_and_one_number_for_a_list():
  config = override(
    HierosConfig(),
    {
      'replay.ratio': '256',
      'world_model.cnn_depths': '24',
      'actor_critic.subgoal_weight': '1',
    },
  )
  assert config.actor_critic.subgoal_weight == (1.0,)
  assert type(config.actor_critic.subgoal_weight[0]) is float
  assert config.replay.ratio == 256.0 and type(config.replay.ratio) is float
  assert config.world_model.cnn_depths == (24,)


@pytest.mark.parametrize(
  'name,value',
  [
    ('depth', '3.0'),
    ('depth', 3.0),
    ('depth', 'three'),
    ('depth', True),
    ('depth', None),
    ('depth', ''),
    ('replay.ratio', 'nan'),
    ('replay.ratio', '1e999'),
    ('replay.ratio', float('nan')),
    ('replay.ratio', True),
    ('replay.ratio', '__import__("os")'),
    ('world_model.cnn_depths', '24,48.5'),
    ('world_model.cnn_depths', '()'),
    ('world_model.cnn_depths', [True]),
    ('actor_critic.slow_target', '1'),
    ('actor_critic.slow_target', 1),
    ('reward_aggregation', 3),
    # A value within the type but not within its bounds.
    ('depth', '0'),
    ('depth', '9'),
    ('batch_size', 0),
    ('sequence_length', 1),
    ('context_length', -1),
    ('context_length', 1),
    ('reward_aggregation', 'median'),
    ('precision', 'float16'),
    ('variable_update_period', 0),
    ('world_model.s5.state_size', '130'),
    ('world_model.s5.num_blocks', 0),
    ('world_model.s5.dt_min', '0.5'),
    ('world_model.s5.dt_max', -1.0),
    ('world_model.classes', '256'),
    ('world_model.cnn_depths', '24,0'),
    ('world_model.s5.deter_from', 'memory'),
    ('world_model.posterior', 'both'),
    ('actor_critic.core', 'gru'),
    ('world_model.reward_head', 'laplace'),
    ('world_model.continuation_scale', -1),
    ('world_model.observation_scale', -1),
    ('world_model.dynamics_free_nats', -1),
    ('actor_critic.value_head', 'laplace'),
    ('actor_critic.slow_period', 0),
    ('actor_critic.advantage_scale', 'mean'),
    ('reward_transform', 'clip'),
    ('world_model.features', 'h'),
    ('world_model.unimix', 1.5),
    ('world_model.reward_bins', '254'),
    ('world_model.reward_bins', '1'),
    ('world_model.patch_size', 0),
    ('world_model.cell_latents', 1),
    ('world_model.direct_prior', 1),
    ('world_model.overshooting', -1),
    ('world_model.change_share', -0.1),
    ('world_model.information_scale', -0.1),
    ('world_model.free_nats', -1),
    ('world_model.dynamics_scale', -0.1),
    ('world_model.representation_scale', -0.1),
    ('world_model.optimizer.learning_rate', 0),
    ('world_model.optimizer.weight_decay', -1),
    ('actor_critic.horizon', 0),
    ('actor_critic.discount', 1.1),
    ('actor_critic.return_lambda', -0.1),
    ('actor_critic.min_std', 2.0),
    ('actor_critic.value_bins', 2),
    ('actor_critic.advantage_scale', 'percentiles'),
    ('actor_critic.scale_decay', 1.1),
    ('actor_critic.scale_decay', -0.1),
    ('actor_critic.scale_floor', 0),
    ('actor_critic.scale_floor', -1.0),
    ('actor_critic.replay_scale', -0.1),
    ('actor_critic.replay_actor_scale', -0.1),
    ('actor_critic.extrinsic_weight', -1),
    ('actor_critic.extrinsic_weight', '1,x'),
    ('actor_critic.extrinsic_weight', (1.0, float('nan'))),
    ('actor_critic.extrinsic_weight', ()),
    ('actor_critic.entropy_target', 1.1),
    ('actor_critic.subgoal_weight', -1),
    ('actor_critic.novelty_weight', -1),
    ('actor_critic.optimizer.clip_norm', 0),
    ('subgoals.duration', 1),
    ('subgoals.duration', (4, 1)),
    ('subgoals.manager', 'nobody'),
    ('subgoals.learns_from', 'memory'),
    ('subgoals.kl_target', -1),
    ('subgoals.kl_target', 8 * np.log(8)),
    ('subgoals.classes', 256),
    ('exploration.novelty', 'counts'),
    ('exploration.members', 1),
    ('exploration.units', 0),
    ('exploration.scale_floor', 0),
    ('exploration.optimizer.learning_rate', 0),
    ('subgoals.practice', 1.5),
    ('subgoals.balance', 1.5),
    ('subgoals.information_scale', -1),
    ('subgoals.warmup', -1),
    ('subgoals.warmup', 1.5),
    ('subgoals.kl_scale', -1),
    ('subgoals.optimizer.epsilon', 0),
    ('replay.sampler', 'prioritised'),
    ('replay.min_size', 2_000_000),
    ('replay.chunk_length', 0),
    ('replay.upper_ratio', 0),
  ],
)
def test_a_wrong_value_gives_one_sentence_with_the_field_s_full_name(
  name, value
):
  with pytest.raises(ValueError) as error:
    override(HierosConfig(), {name: value})
  sentence = str(error.value)
  # Where two fields are at odds, the sentence starts with either.
  part = name.rpartition('.')[0]
  siblings = [n for n in _names() if n.rpartition('.')[0] == part]
  starts = [n for n in siblings if sentence.startswith(f'{n}=')]
  assert len(starts) == 1
  assert name.split('.')[-1] in sentence
  assert sentence.endswith('.') and '\n' not in sentence


def _names():
  return config_lib.field_names(HierosConfig())


@pytest.mark.parametrize(
  'name,hint',
  [
    ('deter_size', 'world_model.deter_size'),
    ('world_model.deter_sise', 'world_model.deter_size'),
    ('world_model.state_size', 'world_model.s5.state_size'),
    ('learning_rate', 'actor_critic.optimizer.learning_rate'),
    ('dept', 'depth'),
    ('xyzzy', 'the parts are depth'),
    ('xyzzy.abc', 'the parts are depth'),
    ('depth.x', 'depth'),
    ('', 'parts'),
  ],
)
def test_an_unknown_field_is_named_with_the_ones_that_were_meant(name, hint):
  with pytest.raises(ValueError) as error:
    override(HierosConfig(), {name: 1})
  assert hint in str(error.value)
  assert '\n' not in str(error.value)


def test_a_part_is_not_a_field():
  with pytest.raises(ValueError, match='world_model.s5 is a group'):
    override(HierosConfig(), {'world_model.s5': 3})
  for order in (['replay', 'replay.ratio'], ['replay.ratio', 'replay']):
    with pytest.raises(ValueError, match='replay'):
      override(HierosConfig(), dict.fromkeys(order, 1.0))


def test_an_unknown_preset_is_named_with_those_there_are():
  assert config_lib.preset('tiny') == config_lib.PRESETS['tiny']
  with pytest.raises(ValueError, match="'huge'.*atari100k, small, tiny"):
    config_lib.preset('huge')


@pytest.mark.parametrize('name', config_lib.PRESETS)
@pytest.mark.parametrize(
  'changes,said',
  [
    ({}, ''),
    ({'depth': 5}, ', depth=5'),
    ({'world_model.cnn_depths': (8, 16, 32)}, None),
    ({'actor_critic.entropy_scale': 2e-5, 'replay.sampler': 'uniform'}, None),
  ],
)
def test_a_description_says_all_there_is_to_say(name, changes, said):
  config = override(config_lib.preset(name), changes)
  description = config_lib.describe(config)
  assert description.startswith(name)
  assert said is None or description == name + said
  fields = [part.split('=') for part in description.split(', ')[1:]]
  assert set(dict(fields)) == set(changes)
  assert override(config_lib.preset(name), dict(fields)) == config


@pytest.mark.parametrize(
  'changes,least,chunks',
  [
    # Level 0 needs all, the levels above as many fewer as their steps are
    # longer, but a batch.
    ({}, [1024, 256, 64], [8, 2, 1]),
    ({'replay.min_size': 100}, [100, 25, 16], [8, 2, 1]),
    ({'replay.min_size': 20, 'subgoals.duration': 2}, [20, 16, 16], [8, 4, 2]),
    # Nobody waits for a batch where less is wanted.
    ({'replay.min_size': 4}, [4, 4, 4], [8, 2, 1]),
    ({'batch_size': 300}, [1024, 300, 300], [8, 2, 1]),
    ({'replay.chunk_length': 100}, [1024, 256, 64], [64, 25, 6]),
    ({'replay.chunk_length': 1}, [1024, 256, 64], [1, 1, 1]),
  ],
)
def test_upper_levels_count_in_steps_of_the_environment(changes, least, chunks):
  config = override(HierosConfig(), changes)
  levels = range(3)
  assert [config.least_sequences(level) for level in levels] == least
  assert [config.chunk_length(level) for level in levels] == chunks


@pytest.mark.parametrize(
  'aggregation,divisors', [('mean', [1, 3, 9, 27]), ('sum', [1, 1, 1, 1])]
)
def test_a_mean_divides_by_the_steps_of_a_window(aggregation, divisors):
  config = override(
    HierosConfig(),
    {'subgoals.duration': 3, 'reward_aggregation': aggregation},
  )
  assert [config.reward_divisor(level) for level in range(4)] == divisors


@pytest.mark.parametrize(
  'depth,environments,least',
  # Of 100 sequences level 1 needs a quarter, and level 2 a batch of 16.
  [(1, 1, 100), (2, 1, 25), (3, 1, 16), (1, 3, 100), (3, 3, 16)],
)
def test_check_fillable_counts_the_ticks_of_the_slowest_level(
  depth, environments, least
):
  config = override(HierosConfig(), {'depth': depth, 'replay.min_size': 100})
  # A level's first sequence in each environment takes 64 steps. All but one
  # environment may stop right before a tick.
  ticks = least + 63 * environments + environments - 1
  enough = ticks * 4 ** (depth - 1)
  config.check_fillable(enough, environments)
  with pytest.raises(ValueError, match=f'at least {enough} steps') as error:
    config.check_fillable(enough - 1, environments)
  sentence = str(error.value)
  assert f'Level {depth - 1} ' in sentence
  assert f'replay.min_size=100 (here {least})' in sentence
  assert f'{least + 63 * environments} that' in sentence
  assert sentence.endswith('.') and '\n' not in sentence


def test_check_fillable_looks_at_every_level():
  config = override(
    HierosConfig(),
    {
      'depth': 2,
      'batch_size': 1,
      'sequence_length': 2,
      'replay.min_size': 1000,
    },
  )
  # 1000 + 1 steps at level 0; (250 + 1) * 4 = 1004 at level 1.
  for steps, level in ((1000, 0), (1003, 1)):
    with pytest.raises(ValueError, match=f'^Level {level} '):
      config.check_fillable(steps)
  config.check_fillable(1004)


NUMPY = [
  ('batch_size', np.int64(8), 8),
  ('batch_size', np.uint8(8), 8),
  ('batch_size', np.array(8), 8),
  ('world_model.optimizer.learning_rate', np.float64(0.25), 0.25),
  ('world_model.optimizer.learning_rate', np.float32(0.25), 0.25),
  ('world_model.optimizer.learning_rate', np.int32(1), 1.0),
  ('world_model.cnn_depths', np.array([8, 16]), (8, 16)),
  ('world_model.cnn_depths', list(np.array([8, 16])), (8, 16)),
  ('world_model.cnn_depths', tuple(np.array([8, 16])), (8, 16)),
  ('world_model.cnn_depths', np.int64(8), (8,)),
  ('actor_critic.slow_target', np.bool_(True), True),
  ('precision', np.str_('bfloat16'), 'bfloat16'),
]


@pytest.mark.parametrize('name,value,same', NUMPY)
def test_numbers_of_numpy_become_plain(name, value, same):
  config = override(HierosConfig(), {name: value})
  assert get(config, name) == same and type(get(config, name)) is type(same)
  assert config_lib.from_dict(
    json.loads(json.dumps(config_lib.to_dict(config)))
  )
  # Also where a part is given whole, or a field is replaced.
  *parents, leaf = name.split('.')
  nested = value
  for part in (leaf, *reversed(parents)):
    nested = {part: nested}
  assert override(HierosConfig(), nested) == config
  if value is same or np.ndim(value) == np.ndim(same):
    *parents, leaf = name.split('.')
    part = HierosConfig()
    for parent in parents:
      part = getattr(part, parent)
    found = getattr(dataclasses.replace(part, **{leaf: value}), leaf)
    assert found == same and type(found) in (type(same), int)
    json.dumps(found)
    hash(found)


@pytest.mark.parametrize(
  'name,value',
  [
    ('batch_size', np.float64(8)),
    ('batch_size', np.bool_(True)),
    ('batch_size', np.array([8])),
    ('world_model.cnn_depths', np.array([8.0, 16.0])),
    ('world_model.cnn_depths', np.array([[8, 16]])),
    ('world_model.optimizer.learning_rate', np.float64('nan')),
    ('actor_critic.slow_target', np.int64(1)),
  ],
)
def test_numbers_of_numpy_are_refused_like_plain_ones(name, value):
  with pytest.raises(ValueError, match=f'{name} takes'):
    override(HierosConfig(), {name: value})


def test_values_by_level_and_the_last_for_all_above():
  config = override(
    HierosConfig(),
    {
      'depth': 4,
      'subgoals.duration': '8,2',
      'actor_critic.extrinsic_weight': '0,0.5,1',
      'actor_critic.subgoal_weight': '1,0',
      'actor_critic.novelty_weight': 0,
    },
  )
  assert [config.duration(level) for level in range(4)] == [8, 2, 2, 2]
  assert [config.tick_period(level) for level in range(4)] == [1, 8, 16, 32]
  assert [config.streams(level) for level in range(4)] == [
    {'subgoal': 1.0},
    {'extrinsic': 0.5},
    {'extrinsic': 1.0},
    {'extrinsic': 1.0},
  ]


@pytest.mark.parametrize(
  ('values', 'sentence'),
  [
    ({'depth': 1, 'actor_critic.extrinsic_weight': 0}, 'level 0 of depth=1'),
    (
      {'actor_critic.extrinsic_weight': 0, 'actor_critic.novelty_weight': '0'},
      'level 2 of depth=3 would have no reward',
    ),
    ({'subgoals.manager': 'policy'}, 'Set depth=1'),
    (
      {'depth': 1, 'subgoals.manager': 'policy', 'subgoals.practice': 0.5},
      "0, or manager to 'level'",
    ),
    ({'subgoals.balance': 0.5}, "0, or learns_from to 'replay'"),
    (
      {'subgoals.absorbing': True, 'actor_critic.discount': 1},
      'needs a discount below it',
    ),
    (
      {'depth': 1, 'subgoals.manager': 'policy', 'subgoals.duration': 5},
      'horizon=16 must be a multiple of subgoals.duration=5',
    ),
    (
      {
        'depth': 1,
        'subgoals.manager': 'policy',
        'actor_critic.core': 's5',
      },
      'set it to none',
    ),
    (
      # The manager stands for level 1.
      {
        'depth': 1,
        'subgoals.manager': 'policy',
        'actor_critic.extrinsic_weight': '1,0',
        'actor_critic.novelty_weight': '0',
      },
      'level 1 of depth=1 would have no reward',
    ),
  ],
)
def test_levels_that_cannot_be(values, sentence):
  with pytest.raises(ValueError, match=sentence):
    override(HierosConfig(), values)
