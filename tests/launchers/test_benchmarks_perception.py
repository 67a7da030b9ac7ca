"""The benchmark of what a world model learns to see."""

import json
import pathlib
import sys

import numpy as np
import pytest

from benchmarks import smallest


@pytest.fixture(scope='module')
def perceive(load_launcher):
  folder = pathlib.Path(__file__).parents[2] / 'benchmarks'
  return load_launcher('perception', folder)


def test_a_world_model_is_judged_on_what_it_was_not_trained_on(
  perceive, capsys, monkeypatch
):
  # Few sequences tell that it judges.
  monkeypatch.setattr(sys.modules['perception'], '_BATCHES', 2)
  perceive(
    '--env=debug/catch',
    '--preset=tiny',
    '--steps=1000',
    '--updates=4',
    '--every=2',
    *smallest.make_flags(sequence_length=24),
  )
  rows = [
    json.loads(line)
    for line in capsys.readouterr().out.splitlines()
    if line.startswith('{')
  ]
  assert [row['updates'] for row in rows] == [2, 4]
  for row in rows:
    assert row['changed'] > 0 and row['ahead_4'] > 0
    assert -1 <= row['reward'] <= 1 and -1 <= row['actions'] <= 1
    assert np.isfinite(row['action_nats'])


@pytest.mark.parametrize(
  'arguments,sentence',
  [
    (['--env=debug/recall'], 'debug/recall will not do'),
    (['--override=depht=2'], 'Unknown configuration field'),
    (['--override=sequence_length=23'], 'sequence_length=23 is too short'),
  ],
)
def test_what_cannot_be_perceived_is_said_in_a_sentence(
  perceive, arguments, sentence
):
  said = perceive('--steps=1000', *arguments)
  assert sentence in said and '\n' not in said
