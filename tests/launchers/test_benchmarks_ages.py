"""benchmarks.ages tells old sequences from new ones, and counts their draws."""

from acme_hieros import compat  # noqa: F401, I001  Comes before Acme.

import collections
import pathlib
import sys
import types

import acme
import jax
import numpy as np
import pytest
import reverb
import tree

from acme_hieros.agent import networks as networks_lib
from acme_hieros.environments import make_environment
from acme_hieros.models import level as level_lib
from acme_hieros.replay import tables
from benchmarks import smallest

BENCHMARKS = pathlib.Path(__file__).parents[2] / 'benchmarks'
# Of the sequences that were kept, and of those before, which were dropped.
KEPT, DROPPED = 43, 10


@pytest.fixture(scope='module')
def program(load_launcher):
  return load_launcher('ages', BENCHMARKS)


@pytest.fixture(scope='module')
def ages(program):
  return sys.modules['ages']


@pytest.fixture(scope='module')
def kept(tmp_path_factory):
  """What a run has learned, by whose rewards its sequences can be told.

  Returns it as `ages` takes it, and how often each sequence was drawn.
  """
  spec = acme.make_environment_spec(make_environment('debug/catch', 0))
  config = smallest.make_config(depth=1, replay__capacity=KEPT)
  networks = networks_lib.make_networks(config, spec)
  directory = str(tmp_path_factory.mktemp('replay'))
  server = reverb.Server(
    tables.make_tables(config, networks, spec, seed=0),
    checkpointer=reverb.platform.checkpointers_lib.DefaultCheckpointer(
      directory
    ),
  )
  client = reverb.Client(f'localhost:{server.port}')
  step = tree.map_structure(
    lambda x: np.ones(x.shape, x.dtype), tables.step_spec(networks, spec, 0)
  )
  step = step._replace(start_of_episode=np.bool_(False))
  length = config.sequence_length
  with client.trajectory_writer(num_keep_alive_refs=length) as writer:
    for number in range(DROPPED + KEPT):
      for _ in range(length):
        # They vary within a tenth, of which errors are a share.
        writer.append(step._replace(reward=np.float32(number)))
      writer.create_item(
        tables.table_name(0),
        1.0,
        tree.map_structure(lambda x: x[-length:], writer.history),
      )
      writer.flush()
  drawn = collections.Counter(
    int(sample.data.reward[0])
    for sample in client.sample(
      tables.table_name(0),
      200,
      emit_timesteps=False,
      unpack_as_table_signature=True,
    )
  )
  path = client.checkpoint()
  server.stop()
  learned = types.SimpleNamespace(
    run=types.SimpleNamespace(
      config=config, environment_name='debug/catch', seed=3
    ),
    networks=networks,
    environment_spec=spec,
    replay=path,
    state=[
      types.SimpleNamespace(
        params=level_lib.draw(
          networks.levels[0].init, jax.random.PRNGKey(0)
        ).params
      )
    ],
    steps=530,
    updates=20,
  )
  return learned, drawn


def test_the_oldest_come_first_with_the_draws_that_were_made(ages, kept):
  learned, drawn = kept
  assert min(drawn) >= DROPPED
  found = ages.read_ages(learned.replay)
  # Tenths of 43: 5 sequences in the first, 4 or 5 in others.
  assert len(found.tenth) == KEPT
  sequences = ages.draw(learned, found)
  age = [sorted({int(x.reward[0]) for x in tenth}) for tenth in sequences]
  assert sum(age, []) == list(range(DROPPED, DROPPED + KEPT))
  assert {len(tenth) for tenth in age} == {4, 5}
  np.testing.assert_allclose(
    found.draws,
    [np.mean([drawn[number] for number in tenth]) for tenth in age],
  )


def test_a_row_is_a_tenth_and_a_horizon(ages, kept):
  rows = ages.measure('one', kept[0])
  assert [(row['tenth'], row['horizon']) for row in rows] == [
    (tenth, horizon)
    for tenth in range(10)
    for horizon in ages._HORIZONS
    if horizon <= kept[0].run.config.sequence_length / 2
  ]
  assert sum(row['sequences'] for row in rows if row['horizon'] == 1) == KEPT
  assert np.mean([float(row['draws']) for row in rows]) == pytest.approx(
    1.0, abs=1e-3
  )
  # Rewards of a tenth are all about the same, and differ from tenth to tenth;
  # nobody has learned them. So they are as far off as they are large.
  errors = [row['reward'] for row in rows if row['horizon'] == 1]
  assert all(float(x) < float(y) for x, y in zip(errors, errors[1:]))
  # All observations are the same.
  assert {row['observation'] for row in rows} == {None}


def test_means_over_runs_are_summarised_and_drawn(ages, tmp_path):
  rows = [
    {
      'run': f'{sampler}-{seed}',
      'environment': 'made/up',
      'sampler': sampler,
      'tenth': str(tenth),
      'draws': str(2.0 - tenth / 10),
      'horizon': str(horizon),
      'observation': str(tenth + 2 * seed),
      'reward': '',
    }
    for sampler in ('etbs', 'uniform')
    for seed in (0, 1)
    for tenth in range(10)
    for horizon in (1, 10)
  ]
  found = ages.by_sampler(rows, 'made/up', 'observation')
  np.testing.assert_array_equal(found['uniform'], 1.0 + np.arange(10))
  said = ages.summarise(rows).splitlines()
  assert len(said) == 2
  assert 'drawn 2.00 times the mean when oldest and 1.10 when newest' in said[0]
  assert 'error one step ahead 1.000 and 10.000, 5.500 over all' in said[0]
  ages.plot(rows, str(tmp_path / 'ages.png'))
  assert (tmp_path / 'ages.png').read_bytes().startswith(b'\x89PNG')


def test_what_cannot_be_read_is_said(program, ages, tmp_path):
  assert 'name' in program()
  assert 'is no path' in program('--name=a/b')
  assert 'work directories' in program('--name=nothing')
  said = program('--name=nothing', str(tmp_path / 'away'))
  assert 'does not exist' in said
  with pytest.raises(ValueError, match='cannot be read'):
    ages.read_ages(str(tmp_path))
