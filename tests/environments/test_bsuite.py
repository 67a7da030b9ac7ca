"""bsuite's experiments are played, recorded and scored as the package does."""

import sys

import numpy as np
import pandas
import pytest

from acme_hieros.environments import bsuite, make_environment
from acme_hieros.scores import bsuite as scores

sweep = pytest.importorskip('bsuite.sweep')


def play(environment, episodes, action=0):
  returns = []
  for _ in range(episodes):
    step, total = environment.reset(), 0.0
    while not step.last():
      step = environment.step(action)
      total += step.reward
    returns.append(total)
  return returns


def test_all_settings_of_the_package_have_their_names():
  assert set(bsuite.names()) == {f'bsuite/{i}' for i in sweep.SWEEP}


@pytest.mark.parametrize(
  'experiment',
  [e for e in bsuite._SETTINGS if not e.startswith('mnist')],
)
def test_the_seed_decides_all_but_the_setting(experiment):

  def steps(seed):
    environment = make_environment(f'bsuite/{experiment}/2', seed=seed)
    played = []
    for _ in range(40):
      step = environment.reset()
      for i in range(12):
        played.append((step.observation.tolist(), step.reward))
        step = environment.step(i % environment.action_spec().num_values)
    return played

  first = steps(1)
  assert first == steps(1)
  # These have nothing that is random but in the setting.
  fixed = ('bandit', 'bandit_scale', 'deep_sea', 'discounting_chain')
  assert (first == steps(2)) == (experiment in fixed)


def test_settings_are_the_package_s():
  # The cue and the question lie so many steps apart.
  for i, length in ((0, 1), (9, 10), (22, 100)):
    environment = make_environment(f'bsuite/memory_len/{i}')
    step, steps = environment.reset(), 0
    while not step.last():
      step, steps = environment.step(0), steps + 1
    assert steps == length + 1
    assert step.reward in (-1, 1) and step.discount == 0


def test_what_the_first_environment_plays_is_scored(tmp_path):
  record = str(tmp_path / 'record')

  def make(**options):
    return make_environment('bsuite/bandit/3', record=record, **options)

  make().reset()  # One that plays nothing has no place.
  assert not (tmp_path / 'record').exists()
  rewards = {
    action: play(make_environment('bsuite/bandit/3'), 1, action)[0]
    for action in range(11)
  }
  assert sorted(rewards.values()) == pytest.approx(np.arange(11) / 10)
  best = max(rewards, key=rewards.get)
  worst = min(rewards, key=rewards.get)
  play(make(), 30, best)
  play(make(), 30, worst)
  assert [p.name for p in sorted((tmp_path / 'record').iterdir())] == ['0', '1']
  # Always the best arm is 1, and the worst of all is 0 at most.
  (score,) = scores.score(record).items()
  assert score == ('bandit', scores.Score(1.0, finished=False))
  (score,) = scores.score(record, 1).items()
  assert score[1].score <= 0


def test_settings_of_an_experiment_are_scored_together(tmp_path):
  for i in (0, 1):
    play(make_environment(f'bsuite/catch/{i}', record=str(tmp_path)), 5)
  play(make_environment('bsuite/umbrella_length/0', record=str(tmp_path)), 5)
  found = scores.score(str(tmp_path))
  assert set(found) == {'catch', 'umbrella_length'}
  assert all(0 <= s.score <= 1 and not s.finished for s in found.values())


def test_a_sea_that_was_crossed_is_scored(tmp_path):
  # Which action goes to the right differs from cell to cell.
  environment = make_environment('bsuite/deep_sea/0')
  right = []
  while len(right) < 10:
    step = environment.reset()
    for action in [*right, 0]:
      step = environment.step(action)
    # Where the next row begins, one column further, unless it is the last.
    moved = np.argwhere(step.observation)
    gone_right = (
      moved[0, 1] == len(right) + 1 if len(moved) else step.reward > 0
    )
    right.append(0 if gone_right else 1)

  def make(i):
    return make_environment(f'bsuite/deep_sea/{i}', record=str(tmp_path))

  crossed = make(0)
  for _ in range(12):
    crossed.reset()
    rewards = [crossed.step(action).reward for action in right]
    assert rewards[-1] == pytest.approx(1 - 0.01 / 10)
  play(make(1), 12)
  # Of the two seas, one was crossed from the first episode on.
  assert scores.score(str(tmp_path))['deep_sea'].score == 0.5
  # pandas is as it was.
  assert not hasattr(pandas.Series, 'append') or pandas.__version__ < '2'


def test_where_nothing_can_be_recorded_is_said_at_once(tmp_path):
  (tmp_path / 'file').touch()
  record = str(tmp_path / 'file' / 'record')
  with pytest.raises(ValueError, match='^record=.*nothing can be written to'):
    make_environment('bsuite/catch/0', record=record)


def test_where_nothing_was_recorded_is_said(tmp_path):
  with pytest.raises(ValueError, match='nothing .*record'):
    scores.score(str(tmp_path))


def test_what_will_not_do_is_said(monkeypatch, tmp_path):
  for record in (3, ''):
    with pytest.raises(ValueError, match=f'record={record!r} will not do'):
      make_environment('bsuite/catch/0', record=record)
  for name in ('bsuite/catch/20', 'bsuite/catch'):
    with pytest.raises(ValueError, match='did you mean bsuite/catch/'):
      make_environment(name)

  def load_mnist(**unused):
    raise OSError('no network')

  environments = pytest.importorskip('bsuite.environments.mnist')
  monkeypatch.setattr(environments.datasets, 'load_mnist', load_mnist)
  with pytest.raises(ValueError, match='mnist/0.* cannot get its data.*no net'):
    make_environment('bsuite/mnist/0')
  monkeypatch.setitem(sys.modules, 'bsuite.bsuite', None)
  with pytest.raises(ValueError, match=r"bsuite is missing; .*'.\[bsuite\]'"):
    make_environment('bsuite/catch/0')
