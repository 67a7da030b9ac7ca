"""What listens where, and whose a port is."""

import contextlib
import os
import socket

import courier
import pytest
import reverb

from acme_hieros.experiments import loopback
from acme_hieros.machines import ports

pytestmark = pytest.mark.timeout(60)

_LISTENING = '0A'

# As the kernel writes the older kind of 127.0.0.1 in /proc/net/tcp6.
_LOOPBACK = '0000000000000000FFFF00000100007F'
_ALL = '0' * 32


def listening(port):
  """Addresses at which somebody listens on a port."""
  found = []
  for name in ('tcp', 'tcp6'):
    with open(f'/proc/net/{name}') as file:
      for line in file.readlines()[1:]:
        _, local, _, state = line.split()[:4]
        address, own = local.split(':')
        if state == _LISTENING and int(own, 16) == port:
          found.append(address)
  return found


@contextlib.contextmanager
def reverb_server(port=None):
  server = reverb.Server([reverb.Table.queue('queue', 1)], port=port)
  yield server.port
  server.stop()


@contextlib.contextmanager
def courier_server(port=None):
  server = courier.Server(port=port)
  server.Bind('add', lambda x: x + 1)
  server.Start()
  yield server.port
  server.Stop()


SERVERS = pytest.mark.parametrize('server', [reverb_server, courier_server])


@SERVERS
def test_servers_are_for_this_machine_alone(server):
  with loopback.only(), server() as port:
    assert listening(port) == [_LOOPBACK]
    with pytest.raises(OSError):
      socket.create_connection(('::1', port), 1.0)


@SERVERS
def test_they_are_for_all_again_afterwards(server):
  with loopback.only():
    pass
  with server() as port:
    assert listening(port) == [_ALL]


def test_other_sockets_of_the_process_stay_as_they_are():
  with loopback.only(), socket.socket() as own:
    own.bind(('', 0))
    assert own.getsockname()[0] == '0.0.0.0'


def test_clients_reach_them_also_where_a_proxy_is_named(monkeypatch):
  monkeypatch.setenv('http_proxy', 'http://127.0.0.1:9')
  monkeypatch.setenv('no_proxy', 'example.org')
  monkeypatch.delenv('no_grpc_proxy', raising=False)
  with loopback.only():
    assert os.environ['no_grpc_proxy'].split(',')[0] == 'example.org'
    with courier_server() as port:
      assert courier.Client(f'localhost:{port}').add(2) == 3
    with reverb_server() as port:
      client = reverb.Client(f'localhost:{port}')
      assert list(client.server_info(timeout=10)) == ['queue']


@SERVERS
def test_a_held_port_is_for_servers_of_its_own_alone(server):
  with ports.hold() as held:
    port = held.getsockname()[1]
    assert listening(port) == []
    for family in (socket.AF_INET, socket.AF_INET6):
      with socket.socket(family) as other:
        with pytest.raises(OSError):
          other.bind(('', port))
    with loopback.only(), server(port):
      assert listening(port) == [_LOOPBACK]


@SERVERS
def test_they_may_be_for_an_address_of_the_machine(server):
  with loopback.only('127.0.0.5'):
    with loopback.only('::1'), server() as port:
      assert listening(port) == ['0' * 24 + '01000000']
    with server() as port:
      assert listening(port) == [_LOOPBACK.replace('01', '05')]
      with pytest.raises(OSError):
        socket.create_connection(('127.0.0.1', port), 1.0)
      socket.create_connection(('127.0.0.5', port), 1.0).close()
    assert '127.0.0.5' in os.environ['no_grpc_proxy'].split(',')


def test_they_are_found_where_the_current_directory_was_removed(
  tmp_path, monkeypatch
):
  monkeypatch.setattr(loopback, '_replaced', False)
  directory = tmp_path / 'removed'
  directory.mkdir()
  monkeypatch.chdir(directory)
  directory.rmdir()
  with loopback.only(), reverb_server() as port:
    assert listening(port) == [_LOOPBACK]
