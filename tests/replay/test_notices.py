"""What is hidden of stderr, and that nothing else is."""

import contextlib
import itertools
import os

import reverb

from acme_hieros.replay import notices

_SAID = (
  b'[reverb/cc/client.cc:165] Sampler and server are owned by the same process '
  b'(1) so Table level_0 is accessed directly without gRPC.\n'
)


def test_only_what_is_said_of_samplers_is_hidden(capfd, monkeypatch):
  monkeypatch.setattr(notices, '_samplers', itertools.count(1))
  with notices.sampler_made():
    os.write(2, b'before\n' + _SAID + b'after\n')
  os.write(2, b'later\n')
  assert capfd.readouterr().err == 'before\nafter\nlater\n'


def test_stderr_is_left_alone_where_nothing_is_said(capfd, monkeypatch):
  monkeypatch.setattr(notices, '_samplers', itertools.count(3))
  with notices.sampler_made():
    os.write(2, _SAID)
    assert 'Sampler' in capfd.readouterr().err


def test_what_was_said_before_an_error_is_there_after_it(capfd, monkeypatch):
  monkeypatch.setattr(notices, '_samplers', itertools.count(4))
  try:
    with notices.sampler_made():
      os.write(2, b'why\n')
      raise OSError
  except OSError:
    pass
  assert capfd.readouterr().err == 'why\n'


def test_of_a_server_nothing_is_said_but_what_went_wrong(tmp_path, capfd):
  """Whatever the version of Reverb calls it."""
  table = reverb.Table.queue('queue', 1)
  checkpointer = reverb.checkpointers.DefaultCheckpointer(str(tmp_path))
  for hidden in (notices.hidden, contextlib.nullcontext):
    with hidden():
      server = reverb.Server([table], checkpointer=checkpointer)
    client = reverb.Client(f'localhost:{server.port}')
    with hidden():
      client.checkpoint()
    with hidden():
      server.stop()
    said = capfd.readouterr().err
    assert ('[reverb/' in said) == (hidden is not notices.hidden)
  with notices.hidden():
    os.write(2, b'[reverb/cc/table.cc:1] It broke.\n')
  assert 'It broke.' in capfd.readouterr().err
