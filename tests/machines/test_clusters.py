"""What is said where there is no cluster that will do."""

import sys

import pytest

from acme_hieros.machines import clusters, hosts, ports


def test_without_ray_it_is_asked_for(monkeypatch, tmp_path):
  monkeypatch.setitem(sys.modules, 'ray', None)
  with pytest.raises(
    ValueError, match="ray is missing; pip install '.\\[ray]'"
  ):
    clusters.Connection('auto', str(tmp_path / 'run'))
  assert not (tmp_path / 'run').exists()


def test_no_cluster_is_one_sentence(tmp_path, monkeypatch):
  pytest.importorskip('ray')
  monkeypatch.delenv('RAY_ADDRESS', raising=False)
  with ports.hold() as held:  # Nobody listens there.
    address = f'127.0.0.1:{held.getsockname()[1]}'
    with pytest.raises(ValueError, match=f'no Ray cluster at --ray={address}'):
      clusters.Connection(address, str(tmp_path / 'run'))
  assert not (tmp_path / 'run').exists()


def test_a_machine_needs_the_directory_and_this_version(tmp_path, monkeypatch):
  mark = tmp_path / 'mark'
  assert f'{tmp_path} is not there on the machine' in clusters.refusal(
    str(mark)
  )
  mark.touch()
  assert clusters.refusal(str(mark)) is None
  version = hosts.version.VERSION
  assert hosts.refusal(str(mark), version) is None
  said = hosts.refusal(str(mark), '99.0')
  assert f'has version {version} of acme_hieros, and this one 99.0' in said
  mark.unlink()
  assert 'is not there' in hosts.refusal(str(mark), version)
