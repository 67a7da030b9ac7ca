"""Weights & Biases is told what is logged, and can do no harm."""

from acme_hieros import compat  # noqa: F401, I001  Comes before Acme.

import collections
import os
import sys
import types

import pytest

from acme_hieros.experiments import tracking

RECORD = {
  'actor_steps': 40,
  'actor_episodes': 2,
  'learner_steps': 5,
  'walltime': 1.25,
  'kl': 0.5,
}


class CommError(Exception):
  pass


class Service:
  """Stands for the package, and keeps what it is told."""

  errors = types.SimpleNamespace(CommError=CommError)
  api = types.SimpleNamespace(api_key='secret')
  Settings = dict

  def __init__(self):
    self.begun, self.logged, self.summary = [], [], {}
    self.metrics, self.finished = [], 0
    self.unreachable, self.broken = False, None

  def init(self, **settings):
    if self.unreachable and settings.get('mode') != 'offline':
      raise CommError('no route to host\nat length')
    self.begun.append(settings)
    return self

  def define_metric(self, name, **about):
    self.metrics.append((name, about))

  def log(self, values):
    if self.broken:
      raise self.broken
    self.logged.append(values)

  def finish(self):
    self.finished += 1


@pytest.fixture
def service(monkeypatch):
  service = Service()
  monkeypatch.setitem(sys.modules, 'wandb', service)
  monkeypatch.delenv('WANDB_MODE', raising=False)
  monkeypatch.delenv('WANDB_PROJECT', raising=False)
  return service


def test_curves_have_the_names_of_the_files(service, workdir):
  tracker = tracking.begin('wandb', {'seed': 1}, workdir, print)
  tracker.make_logger('level_0').write(RECORD)
  tracker.log_results({'mean_return': 2.0})
  tracker.close()
  assert service.logged == [{'actor_steps': 40, 'level_0/kl': 0.5}]
  assert ('*', {'step_metric': 'actor_steps'}) in service.metrics
  assert service.summary == {'mean_return': 2.0} and service.finished == 1
  (begun,) = service.begun
  assert begun['config'] == {'seed': 1} and begun['dir'] == workdir.path
  assert begun['name'] == 'run' and begun['project'] == 'acme_hieros'


def test_a_resumed_run_goes_on_and_parts_stand_together(service, workdir):
  for part in ('', '', 'learner', 'coordinator'):
    tracking.begin('wandb', {}, workdir, print, part)
  first, again, learner, coordinator = service.begun
  assert first['id'] == again['id'] and again['resume'] == 'allow'
  assert learner['id'] == f'{first["id"]}-learner'
  assert learner['group'] == coordinator['group'] == first['id']


def test_without_a_network_it_is_kept_for_later(service, workdir):
  told = []
  service.unreachable = True
  tracking.begin('wandb', {}, workdir, told.append)
  assert service.begun[0]['mode'] == 'offline'
  (sentence,) = told
  assert 'no route to host' in sentence and 'wandb sync' in sentence
  assert '\n' not in sentence


def test_what_breaks_is_told_once(service, workdir):
  told = []
  tracker = tracking.begin('wandb', {}, workdir, told.append)
  service.broken = BrokenPipeError('its process is gone')
  for _ in range(3):
    tracker.make_logger('level_0').write(RECORD)
  (sentence,) = told
  assert 'its process is gone' in sentence
  service.init = None  # What is called at the beginning.
  tracking.begin('wandb', {}, workdir, told.append).make_logger('x').write({})
  assert len(told) == 2


@pytest.mark.parametrize(
  'track,key,mode,parts',
  [
    ('', None, None, None),
    ('wandb', 'secret', None, None),
    ('wandb', None, 'offline', None),
    ('wandb', None, None, ['wandb login', 'WANDB_MODE=offline']),
    ('mlflow', 'secret', None, ["'mlflow'", 'wandb']),
  ],
)
def test_what_cannot_be_tracked_is_told_in_advance(
  service, monkeypatch, track, key, mode, parts
):
  service.api = types.SimpleNamespace(api_key=key)
  if mode:
    monkeypatch.setenv('WANDB_MODE', mode)
  if parts is None:
    return tracking.check(track)
  with pytest.raises(ValueError) as error:
    tracking.check(track)
  assert all(part in str(error.value) for part in parts)


def test_a_missing_package_is_told(monkeypatch):
  monkeypatch.setitem(sys.modules, 'wandb', None)
  with pytest.raises(ValueError, match=r"wandb is missing.*'\.\[wandb\]'"):
    tracking.check('wandb')


def test_the_real_one_keeps_it_offline(workdir, monkeypatch):
  wandb = pytest.importorskip('wandb')
  from wandb.proto import wandb_internal_pb2 as records
  from wandb.sdk.internal import datastore

  monkeypatch.setenv('WANDB_MODE', 'offline')
  tracking.check('wandb')
  told = []
  tracker = tracking.begin('wandb', {'seed': 1}, workdir, told.append)
  tracker.make_logger('level_0').write(RECORD)
  tracker.log_results({'mean_return': 2.0})
  tracker.close()
  wandb.teardown()  # Another process writes the file, and ends with this.
  assert not told
  (path,) = (
    os.path.join(directory, name)
    for directory, _, names in os.walk(os.path.join(workdir.path, 'wandb'))
    for name in names
    if name.endswith('.wandb')
  )
  store = datastore.DataStore()
  store.open_for_scan(path)
  values = collections.defaultdict(set)
  while (data := store.scan_data()) is not None:
    record = records.Record.FromString(data)
    for item in (*record.history.item, *record.summary.update):
      name = '/'.join(item.nested_key) or item.key
      values[name].add(float(item.value_json))
  assert values['level_0/kl'] == {0.5} and values['actor_steps'] == {40}
  assert values['mean_return'] == {2.0} and 'level_0/walltime' not in values
