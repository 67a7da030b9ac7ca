"""Checkpoints of learner, counters and replay: complete, or the one before."""

from acme_hieros import compat  # noqa: F401, I001  Comes before Acme.

import errno
import os
import pathlib

import numpy as np
import pytest
import reverb

from acme_hieros.experiments import arrays
from acme_hieros.experiments import checkpoints

TEMPLATE = {'weights': np.zeros(3, np.float32)}


def state(value):
  return {'weights': np.full(3, value, np.float32)}


class Run:
  """A replay of numbers, and the checkpoints that it belongs to."""

  def __init__(self, directory, keep=2, template=None):
    self.store = checkpoints.Checkpoints(str(directory), keep)
    self.restored = self.store.restore(template or TEMPLATE)
    self._server = reverb.Server(
      [
        reverb.Table.queue('table', 100),
      ],
      port=None,
      checkpointer=self.store.replay_checkpointer(
        self.restored.replay if self.restored else None
      ),
    )
    self.client = reverb.Client(f'localhost:{self._server.port}')

  def __enter__(self):
    return self

  def __exit__(self, *unused_error):
    self._server.stop()

  def advance(self, value):
    """Inserts a number and saves."""
    self.client.insert(np.int64(value), {'table': 1.0})
    self.save(value)

  def save(self, value):
    self.store.save(state(value), lambda: {'steps': value}, self.client)

  def size(self):
    return self.client.server_info()['table'].current_size


def names(directory):
  return sorted(os.listdir(directory))


def test_without_a_checkpoint_there_is_nothing_to_restore(tmp_path):
  with Run(tmp_path / 'new') as run:
    assert run.restored is None
    assert run.size() == 0


def test_state_metadata_and_replay_come_back_together(tmp_path):
  with Run(tmp_path) as run:
    run.advance(1)
    run.advance(2)
    run.client.insert(np.int64(3), {'table': 1.0})  # Not saved.
  # More than once, and a restored one can be saved.
  for value in (2, 3, 4):
    with Run(tmp_path) as run:
      np.testing.assert_array_equal(
        run.restored.state['weights'], state(value)['weights']
      )
      assert run.restored.metadata == {'steps': value}
      assert run.restored.skipped == []
      assert run.size() == value
      run.advance(value + 1)


def test_the_newest_stay(tmp_path):
  with Run(tmp_path, keep=3) as run:
    for value in range(1, 13):
      run.advance(value)
  assert [n for n in names(tmp_path) if not n.startswith('.')] == [
    '000010',
    '000011',
    '000012',
  ]


@pytest.mark.parametrize('keep', [0, -1])
def test_at_least_one_is_kept(tmp_path, keep):
  with pytest.raises(ValueError, match=f'keep={keep}'):
    checkpoints.Checkpoints(str(tmp_path), keep)


FILES = [
  'learner.npz',
  'manifest.json',
  'replay/tables.tfrecord',
  'replay/chunks.tfrecord',
  'replay/DONE',
]


@pytest.mark.parametrize(
  ['name', 'damage'],
  [(name, 'gone') for name in FILES]
  # Reverb's mark of completion is an empty file.
  + [(name, how) for name in FILES[:-1] for how in ('cut', 'flipped')],
)
def test_the_one_before_stands_in_for_a_damaged_one(tmp_path, name, damage):
  with Run(tmp_path) as run:
    run.advance(1)
    run.advance(2)
  path = tmp_path / '000002' / name
  content = path.read_bytes()
  if damage == 'gone':
    path.unlink()
  elif damage == 'cut':
    path.write_bytes(content[: len(content) // 2])
  else:
    middle = len(content) // 2
    flipped = bytes([content[middle] ^ 0x80])
    path.write_bytes(content[:middle] + flipped + content[middle + 1 :])
  with Run(tmp_path) as run:
    assert run.restored.metadata == {'steps': 1}
    assert run.size() == 1
    (sentence,) = run.restored.skipped
    assert str(tmp_path / '000002') in sentence
    assert sentence.endswith('.') and '\n' not in sentence
    # It is not in the way of the next, nor kept in place of one that is whole.
    run.advance(3)
  with Run(tmp_path) as run:
    assert run.restored.metadata == {'steps': 3}
  assert [n for n in names(tmp_path) if n[0] != '.'] == ['000001', '000003']


def test_without_any_whole_one_the_run_is_refused(tmp_path):
  with Run(tmp_path) as run:
    run.advance(1)
    run.advance(2)
  for number in ('000001', '000002'):
    os.remove(tmp_path / number / 'learner.npz')
  before = sorted(pathlib.Path(tmp_path).rglob('*'))
  with pytest.raises(checkpoints.CheckpointError) as caught:
    checkpoints.Checkpoints(str(tmp_path), 2).restore(TEMPLATE)
  assert '000002' in str(caught.value) and '\n' not in str(caught.value)
  assert sorted(pathlib.Path(tmp_path).rglob('*')) == before


def test_the_checkpoint_of_another_agent_is_not_used(tmp_path):
  with Run(tmp_path) as run:
    run.advance(1)
  with pytest.raises(checkpoints.CheckpointError, match='another agent'):
    checkpoints.Checkpoints(str(tmp_path), 2).restore(
      {'weights': np.zeros(4, np.float32)}
    )


def fail_in_arrays(monkeypatch):
  def save(*unused_arguments):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

  monkeypatch.setattr(arrays, 'save', save)


def fail_in_reverb(monkeypatch):
  def checkpoint(*unused_arguments):
    raise RuntimeError('No space left on device\nand more')

  monkeypatch.setattr(reverb.Client, 'checkpoint', checkpoint)


@pytest.mark.parametrize('fail', [fail_in_arrays, fail_in_reverb])
def test_a_full_disk_leaves_the_one_before(tmp_path, monkeypatch, fail):
  with Run(tmp_path) as run:
    run.advance(1)
    with monkeypatch.context() as patch:
      fail(patch)
      with pytest.raises(checkpoints.CheckpointError) as caught:
        run.advance(2)
    sentence = str(caught.value)
    assert 'No space left' in sentence and '\n' not in sentence
    assert set(names(tmp_path)) <= {'000001', '.partial-replay'}
    run.advance(3)
  with Run(tmp_path) as run:
    assert run.restored.metadata == {'steps': 3}
    assert run.size() == 3


@pytest.mark.parametrize('done', range(5))
def test_what_a_killed_process_left_is_no_checkpoint(
  tmp_path, monkeypatch, done
):
  """Killed before or after the replay, the state, the manifest, a move."""

  class Killed(BaseException):
    pass

  def killed(*unused_arguments, **unused_keywords):
    raise Killed

  with Run(tmp_path) as run:
    run.advance(1)
    with monkeypatch.context() as patch:
      if done == 0:
        patch.setattr(reverb.Client, 'checkpoint', killed)
      elif done == 1:
        patch.setattr(arrays, 'save', killed)
      elif done == 2:
        patch.setattr(checkpoints, '_sum', killed)
      elif done == 3:
        patch.setattr(os, 'rename', killed)
      else:
        patch.setattr(os, 'rename', killed_the_second_time(os.rename, killed))
      with pytest.raises(Killed):
        run.advance(2)
    assert '.partial' in names(tmp_path)
  with Run(tmp_path) as run:
    assert run.restored.metadata == {'steps': 1}
    assert run.restored.skipped == []
    assert run.size() == 1
    run.advance(3)
  with Run(tmp_path) as run:
    assert run.restored.metadata == {'steps': 3}
  assert '.partial' not in names(tmp_path)


def killed_the_second_time(rename, killed):
  calls = []

  def patched(*arguments):
    calls.append(arguments)
    return rename(*arguments) if len(calls) == 1 else killed()

  return patched
