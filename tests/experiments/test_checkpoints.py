"""Checkpoints of learner, counters and replay: complete, or the one before."""

from acme_hieros import compat  # noqa: F401, I001  Comes before Acme.

import builtins
import errno
import json
import os
import pathlib
import shutil

import damage
import numpy as np
import pytest
import reverb

from acme_hieros.experiments import checkpoints
from acme_hieros.storage import arrays

TEMPLATE = {'weights': np.zeros(3, np.float32)}


def state(value):
  return {'weights': np.full(3, value, np.float32)}


class Run:
  """A replay of numbers, and the checkpoints that it belongs to."""

  def __init__(self, directory, keep=2, template=None, **others):
    self.store = checkpoints.Checkpoints(str(directory), keep, **others)
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

  def advance(self, value, **how):
    """Inserts a number and saves."""
    self.client.insert(np.int64(value), {'table': 1.0})
    self.save(value, **how)

  def save(self, value, **how):
    self.store.save(state(value), lambda: {'steps': value}, self.client, **how)

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


@pytest.mark.parametrize('keep', [1, 2])
def test_emergencies_leave_the_last_one_that_is_none(tmp_path, keep):
  with Run(tmp_path, keep) as run:
    run.advance(1)
    run.advance(2)
    for value in (3, 4, 5):
      run.advance(value, emergency=True)
  with Run(tmp_path, keep) as run:
    # The newest is what is resumed.
    assert run.restored.metadata == {'steps': 5}
    run.advance(6, emergency=True)
    kept = [n for n in names(tmp_path) if not n.startswith('.')]
    assert kept == ['000002', *('000005', '000006')[-keep:]]
    # One that is none makes room.
    run.advance(7)
    kept = [n for n in names(tmp_path) if not n.startswith('.')]
    assert kept == ['000006', '000007'][-keep:]


def test_a_damaged_one_is_not_kept_for_being_no_emergency(tmp_path):
  with Run(tmp_path) as run:
    for value in (1, 2, 3):
      run.advance(value)
  (tmp_path / '000003' / 'learner.npz').unlink()
  with Run(tmp_path) as run:
    for value in (4, 5):
      run.advance(value, emergency=True)
  kept = [n for n in names(tmp_path) if n.isdecimal()]
  assert kept == ['000002', '000004', '000005']


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
  assert [n for n in names(tmp_path) if n[0] != '.'] == [
    '000001',
    '000002.unusable',
    '000003',
  ]
  # It is no longer looked at, and stays.
  with Run(tmp_path) as run:
    assert run.restored.skipped == []
    run.advance(4)
  assert '000002.unusable' in names(tmp_path)


def snapshot(path):
  return {
    str(file): file.read_bytes() if file.is_file() else None
    for file in pathlib.Path(path).rglob('*')
  }


def read_badly(monkeypatch, directory, name, number):
  """Has the file of checkpoint 2 not be read."""
  real = builtins.open

  def fail(path, *arguments, **keywords):
    if str(path) == str(directory / '000002' / name):
      raise OSError(number, os.strerror(number))
    return real(path, *arguments, **keywords)

  monkeypatch.setattr(builtins, 'open', fail)


@pytest.mark.parametrize('number', [errno.ESTALE, errno.EIO, errno.EACCES])
@pytest.mark.parametrize('name', ['learner.npz', 'manifest.json'])
def test_an_error_of_reading_is_no_damage(tmp_path, monkeypatch, name, number):
  with Run(tmp_path) as run:
    run.advance(1)
    run.advance(2)
  before = snapshot(tmp_path)
  store = checkpoints.Checkpoints(str(tmp_path), 2)
  with monkeypatch.context() as patch:
    read_badly(patch, tmp_path, name, number)
    for read in (
      store.restore,
      lambda template: checkpoints.read_learner(str(tmp_path), template),
    ):
      with pytest.raises(checkpoints.CheckpointError) as caught:
        read(TEMPLATE)
      sentence = str(caught.value)
      assert os.strerror(number) in sentence and 'damaged' not in sentence
      assert str(tmp_path / '000002') in sentence and '\n' not in sentence
  assert snapshot(tmp_path) == before
  # It has passed.
  assert store.restore(TEMPLATE).metadata == {'steps': 2}
  with Run(tmp_path) as run:
    run.advance(3)
  assert [n for n in names(tmp_path) if n[0] != '.'] == ['000002', '000003']


def test_a_directory_that_cannot_be_listed_is_told(tmp_path, monkeypatch):
  def fail(path):
    raise OSError(errno.EIO, os.strerror(errno.EIO))

  monkeypatch.setattr(os, 'listdir', fail)
  with pytest.raises(checkpoints.CheckpointError, match='Input/output error'):
    checkpoints.Checkpoints(str(tmp_path), 2).restore(TEMPLATE)


def test_reading_syncs_nothing(three, monkeypatch):
  def fail(descriptor):
    raise OSError(errno.EROFS, os.strerror(errno.EROFS))

  monkeypatch.setattr(os, 'fsync', fail)
  store = checkpoints.Checkpoints(str(three), 3)
  assert store.restore(TEMPLATE).metadata == {'steps': 3}
  assert checkpoints.read_learner(str(three), TEMPLATE).name == '000003'


def watch(monkeypatch):
  """The order in which things are synced, renamed and removed."""
  done = []

  def note(function, name):
    real = getattr(function, name)

    def noting(what, *arguments, **keywords):
      result = real(what, *arguments, **keywords)
      path = what
      if isinstance(what, int):
        path = os.readlink(f'/proc/self/fd/{what}')
      done.append((name, str(path)))
      return result

    monkeypatch.setattr(function, name, noting)

  note(os, 'fsync')
  note(os, 'rename')
  note(shutil, 'rmtree')
  return done


def test_all_is_on_the_disk_before_a_name_is_given_or_an_older_one_goes(
  tmp_path, monkeypatch
):
  logs = tmp_path / 'logs[1]'
  (logs / 'more').mkdir(parents=True)
  (logs / 'episodes.csv').write_text('row')
  store = tmp_path / 'checkpoints'
  # One that is not there is no reason not to save.
  others = {'logs': [str(logs), str(tmp_path / 'none')]}
  with Run(store, keep=1, **others) as run:
    run.advance(1)
    done = watch(monkeypatch)
    run.advance(2)
  named = done.index(('rename', str(store / '.partial')))
  synced = [path for what, path in done[:named] if what == 'fsync']
  partial = store / '.partial'
  for name in FILES:
    # The manifest is synced under its first name.
    assert any(path.startswith(str(partial / name)) for path in synced), name
  assert str(partial) in synced and str(partial / 'replay') in synced
  assert str(logs / 'episodes.csv') in synced
  kept = done.index(('fsync', str(store)), named)
  removed = done.index(('rmtree', str(store / '000001')))
  assert named < kept < removed


def test_if_the_new_name_is_not_on_the_disk_the_older_one_stays(
  tmp_path, monkeypatch
):
  real = os.fsync

  def fail(descriptor):
    if os.readlink(f'/proc/self/fd/{descriptor}') == str(tmp_path):
      raise OSError(errno.EIO, os.strerror(errno.EIO))
    return real(descriptor)

  with Run(tmp_path, keep=1) as run:
    run.advance(1)
    monkeypatch.setattr(os, 'fsync', fail)
    with pytest.raises(checkpoints.CheckpointError, match='Input/output'):
      run.advance(2)
  assert '000001' in names(tmp_path)


@pytest.mark.parametrize('missing', FILES[:1] + FILES[2:] + ['all'])
def test_a_manifest_lists_what_a_checkpoint_must_have(spoilt, missing):
  path = spoilt / '000003' / 'manifest.json'
  manifest = json.loads(path.read_text())
  if missing == 'all':
    manifest = {}
  else:
    del manifest[missing]
    os.remove(spoilt / '000003' / missing)
  path.write_text(json.dumps(manifest))
  restored = checkpoints.Checkpoints(str(spoilt), 3).restore(TEMPLATE)
  assert restored.name == '000002'
  assert '000003' in restored.skipped[0]


@pytest.mark.parametrize('content', ['[]', '3', '[' * 100_000, '\xff', ''])
def test_a_manifest_of_another_kind_is_damage(spoilt, content):
  (spoilt / '000003' / 'manifest.json').write_text(content, encoding='latin-1')
  restored = checkpoints.Checkpoints(str(spoilt), 3).restore(TEMPLATE)
  assert restored.name == '000002' and len(restored.skipped) == 1


@pytest.mark.timeout(30)
@pytest.mark.parametrize('kind', ['pipe', 'device'])
@pytest.mark.parametrize('name', ['manifest.json', 'learner.npz'])
def test_what_is_no_file_is_not_waited_for(spoilt, name, kind):
  path = spoilt / '000003' / name
  path.unlink()
  damage.NO_FILES[kind](path)
  with pytest.raises(checkpoints.CheckpointError, match='It is no file'):
    checkpoints.Checkpoints(str(spoilt), 3).restore(TEMPLATE)
  with pytest.raises(checkpoints.CheckpointError, match='It is no file'):
    checkpoints.read_learner(str(spoilt), TEMPLATE)


def test_a_replay_that_did_not_come_back_is_told(three):
  restored = checkpoints.Checkpoints(str(three), 3).restore(TEMPLATE)
  assert restored.origin['tables'] == {'table': 3}
  with Run(three) as run:
    restored.check_replay(run.client)
    run.client.insert(np.int64(4), {'table': 1.0})  # Of an actor.
    restored.check_replay(run.client)
  for tables in ([reverb.Table.queue('table', 100)], []):
    tables = tables or [reverb.Table.queue('other', 100)]
    server = reverb.Server(tables, port=None)
    with pytest.raises(checkpoints.CheckpointError) as caught:
      restored.check_replay(reverb.Client(f'localhost:{server.port}'))
    server.stop()
    sentence = str(caught.value)
    assert '0 items, and 3 were saved' in sentence and str(three) in sentence
    assert '\n' not in sentence


def test_a_checkpoint_says_what_wrote_it(tmp_path):
  origin = {'version': '9.8', 'commit': 'abc', 'config': {'seed': 3}}
  with Run(tmp_path, origin=origin) as run:
    run.advance(1)
  restored = checkpoints.read_learner(str(tmp_path), TEMPLATE)
  assert restored.origin.items() >= origin.items()
  said = f'version 9.8 of acme_hieros (commit abc) at {restored.origin["date"]}'
  assert restored.written_by == said
  # And where its arrays are of no use.
  with pytest.raises(checkpoints.CheckpointError) as caught:
    checkpoints.read_learner(str(tmp_path), {'weights': np.zeros(4)})
  assert said in str(caught.value)


def test_one_from_before_they_said_what_wrote_them_can_be_used(three, tmp_path):
  """As version 0.3.0 wrote them: the caller's metadata alone."""
  path = shutil.copytree(three, tmp_path / 'old')
  file = str(path / '000003' / 'learner.npz')
  arrays.save(file, state(3), {'steps': 3})
  manifest = json.loads((path / '000003' / 'manifest.json').read_text())
  manifest['learner.npz'] = checkpoints._sum(file)
  (path / '000003' / 'manifest.json').write_text(json.dumps(manifest))
  with Run(path, keep=3) as run:
    assert run.restored.skipped == [] and run.restored.metadata == {'steps': 3}
    assert run.size() == 3
    run.restored.check_replay(run.client)
    assert '0.3.0' in run.restored.written_by
  sentence = refused(path, 3, template={'weights': np.zeros(4)})
  assert 'version 0.3.0 of acme_hieros or an older one' in sentence


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


@pytest.fixture(scope='module')
def three(tmp_path_factory):
  """The directory of three checkpoints."""
  path = tmp_path_factory.mktemp('three') / 'checkpoints'
  with Run(path, keep=3) as run:
    for value in (1, 2, 3):
      run.advance(value)
  return path


@pytest.fixture
def spoilt(three, tmp_path):
  """A copy of it."""
  return shutil.copytree(three, tmp_path / 'copy')


@pytest.mark.parametrize(
  'number,value', [(None, 3), (1, 1), (2, 2), (np.int64(3), 3)]
)
def test_what_was_learned_can_be_read_alone(three, number, value):
  read = checkpoints.read_learner(str(three), TEMPLATE, number)
  np.testing.assert_array_equal(read.state['weights'], state(value)['weights'])
  assert read.metadata == {'steps': value}
  assert read.name == f'00000{value}' and read.skipped == []


def test_reading_changes_nothing_and_needs_no_replay(spoilt):
  for name in FILES:
    if name.startswith('replay'):
      os.remove(spoilt / '000003' / name)
  for file in spoilt.rglob('*'):
    file.chmod(0o500 if file.is_dir() else 0o400)
  before = {
    str(file): file.read_bytes() if file.is_file() else None
    for file in spoilt.rglob('*')
  }
  assert checkpoints.read_learner(str(spoilt), TEMPLATE).name == '000003'
  assert before == {
    str(file): file.read_bytes() if file.is_file() else None
    for file in spoilt.rglob('*')
  }


@pytest.mark.parametrize('name', ['learner.npz', 'manifest.json'])
def test_a_damaged_one_is_told_and_the_one_before_is_read(spoilt, name):
  content = bytearray((spoilt / '000003' / name).read_bytes())
  content[len(content) // 2] ^= 0x80
  (spoilt / '000003' / name).write_bytes(content)
  read = checkpoints.read_learner(str(spoilt), TEMPLATE)
  assert read.name == '000002'
  (sentence,) = read.skipped
  assert str(spoilt / '000003') in sentence and 'damaged' in sentence
  with pytest.raises(checkpoints.CheckpointError) as caught:
    checkpoints.read_learner(str(spoilt), TEMPLATE, 3)
  assert str(caught.value) == sentence


def test_a_manifest_that_does_not_know_the_state_is_none(spoilt):
  (spoilt / '000003' / 'manifest.json').write_text('{}')
  with pytest.raises(checkpoints.CheckpointError, match='000003 is damaged'):
    checkpoints.read_learner(str(spoilt), TEMPLATE, 3)


def refused(directory, *arguments, template=TEMPLATE):
  with pytest.raises(checkpoints.CheckpointError) as caught:
    checkpoints.read_learner(str(directory), template, *arguments)
  sentence = str(caught.value)
  assert sentence.endswith('.') and '\n' not in sentence
  assert str(directory) in sentence
  return sentence


def test_a_number_that_is_not_there_is_told_with_those_that_are(three):
  sentence = refused(three, 4)
  assert 'no checkpoint 4;' in sentence
  assert '000001, 000002, 000003' in sentence


def test_a_run_without_a_checkpoint_yet_is_told(tmp_path):
  assert 'no complete checkpoint yet' in refused(tmp_path / 'none')
  (tmp_path / '.partial').mkdir()
  assert 'no complete checkpoint yet' in refused(tmp_path)


def test_another_agent_can_read_none(three):
  template = {'weights': np.zeros(4, np.float32)}
  sentence = refused(three, template=template)
  assert 'No checkpoint' in sentence and '000003' in sentence
  assert 'another agent or version' in sentence
  sentence = refused(three, 2, template=template)
  assert 'No checkpoint' not in sentence and '000002' in sentence


def test_a_run_at_work_may_replace_what_is_being_read(spoilt, monkeypatch):
  """It writes two more checkpoints and removes all those before them."""
  load, loaded = arrays.load, []

  def slow_load(path, template):
    loaded.append(path)
    if len(loaded) == 1:
      for new, old in (('000004', '000001'), ('000005', '000002')):
        os.rename(spoilt / old, spoilt / new)
      shutil.rmtree(spoilt / '000003')
    return load(path, template)

  monkeypatch.setattr(arrays, 'load', slow_load)
  read = checkpoints.read_learner(str(spoilt), TEMPLATE)
  assert read.name == '000005' and read.metadata == {'steps': 2}
  assert read.skipped == []


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
