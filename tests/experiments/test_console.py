"""How a run is asked to stop, and output that nobody reads any more."""

import contextlib
import fcntl
import io
import os
import signal
import struct
import subprocess
import sys
import termios

import pytest

from acme_hieros import command_line
from acme_hieros.experiments import console


def send(*numbers):
  for number in numbers:
    os.kill(os.getpid(), number)


@pytest.fixture(autouse=True)
def without_handlers():
  """Whatever a test leaves, the next one begins as a program does."""
  numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
  # The tests themselves may have been started by nohup.
  nohup = signal.signal(signal.SIGHUP, signal.SIG_DFL)
  before = [signal.getsignal(number) for number in numbers]
  yield
  assert [signal.getsignal(number) for number in numbers] == before
  signal.signal(signal.SIGHUP, nohup)


@pytest.mark.parametrize(
  'number', [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1]
)
def test_a_wish_to_end_may_come_often(number, capsys):
  with console.Interruption() as interruption:
    assert not interruption.requested
    send(number, number, number)
    assert interruption.requested and interruption.signal == number
    send(signal.SIGTERM, signal.SIGHUP)
    assert interruption.signal == number
  said = capsys.readouterr().err
  assert said.count('Stopping') == 1
  assert f'({signal.Signals(number).name}): saving after this step.' in said


def test_a_second_ctrl_c_interrupts_at_once(capsys):
  with pytest.raises(KeyboardInterrupt):
    with console.Interruption() as interruption:
      send(signal.SIGINT)
      assert interruption.signal == signal.SIGINT
      send(signal.SIGTERM)  # As make sends it after a Ctrl-C.
      send(signal.SIGINT)
  assert 'again to stop at once' in capsys.readouterr().err


def test_a_ctrl_c_after_another_signal_is_the_first():
  with pytest.raises(KeyboardInterrupt):
    with console.Interruption() as interruption:
      send(signal.SIGTERM, signal.SIGINT)
      assert interruption.signal == signal.SIGTERM
      send(signal.SIGINT)


def test_nohup_is_obeyed():
  before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
  try:
    with console.Interruption() as interruption:
      send(signal.SIGHUP)
      assert not interruption.requested
  finally:
    signal.signal(signal.SIGHUP, before)


def test_off_a_terminal_there_are_whole_lines():
  file = io.StringIO()
  with console.LiveLine(1000, 0, file) as line:
    line.show(10, None, None)
    line.write('Compiling level 0.')
    line.show(20, 5, 3.0)
  said = file.getvalue()
  assert '\r' not in said and said.endswith('\n')
  lines = said.splitlines()
  assert 'Compiling level 0.' in lines
  assert all(text.strip() for text in lines)
  assert 'return=3' in lines[-1] and '20/1000' in lines[-1]


@pytest.mark.parametrize('columns', [0, 100])
def test_a_terminal_shows_the_line_whether_it_has_a_size_or_not(columns):
  outside, inside = os.openpty()
  size = struct.pack('HHHH', 24 if columns else 0, columns, 0, 0)
  fcntl.ioctl(inside, termios.TIOCSWINSZ, size)
  with os.fdopen(inside, 'w') as file:
    with console.LiveLine(1000, 0, file) as line:
      line.show(20, 5, 3.0)
  said = b''
  with contextlib.suppress(OSError):  # Nobody is inside any more.
    while part := os.read(outside, 10_000):
      said += part
  os.close(outside)
  said = said.decode()
  assert '\r' in said and '20/1000' in said and 'updates=5' in said


class Gone(io.StringIO):
  """A terminal that was closed."""

  def __init__(self, error):
    super().__init__()
    self.error = error

  def write(self, *unused_arguments):
    raise self.error

  flush = write


@pytest.mark.parametrize(
  'error',
  [
    BrokenPipeError(32, 'Broken pipe'),
    OSError(5, 'I/O error'),
    OSError(28, 'No space left'),
    ValueError('closed file'),
  ],
)
def test_output_that_nobody_reads_stops_nothing(error):
  gone = Gone(error)
  with console.LiveLine(10, 0, gone) as line:
    line.show(5, 1, 2.0)
    line.write('Warning: this is lost.')
  with console.Interruption(gone) as interruption:
    send(signal.SIGTERM)
    assert interruption.requested


def test_output_goes_where_it_shall_while_it_can():
  file = io.StringIO()
  print('said', file=command_line.Unbreakable(file), flush=True)
  assert file.getvalue() == 'said\n'
  assert command_line.Unbreakable(file).isatty() is False


# Speaks, as a library does, too, and opens a file.
_PROGRAM = """
import os, sys
from acme_hieros import command_line
command_line.outlive_readers()
print('to stdout'), print('h\\u00e9ros', flush=True)
print('to stderr', file=sys.stderr, flush=True)
sys.stdout.isatty(), sys.stdout.encoding
with open(sys.argv[1], 'w') as file:
  os.write(2, b'from a library')
  os.write(1, b'from a library')
  print(file.fileno(), file=file)
sys.exit(7)
"""


@pytest.mark.parametrize('closed', ['<&- >&- 2>&-', '>&-', '2>&-', '<&-'])
def test_closed_streams_neither_end_a_program_nor_get_into_files(
  tmp_path, closed
):
  path = tmp_path / 'file'
  command = [sys.executable, '-c', _PROGRAM, str(path)]
  done = subprocess.run(
    ['bash', '-c', f'exec "$@" {closed}', 'bash', *command],
    stdin=subprocess.DEVNULL,
    capture_output=True,
  )
  assert done.returncode == 7, done.stderr
  assert int(path.read_text()) >= 3


def test_a_log_has_each_line_when_it_is_said(tmp_path):
  program = """
import sys
from acme_hieros import command_line
command_line.outlive_readers()
print('begins')
print('goes on', file=sys.stderr)
print('ends')
"""
  usual = {n: x for n, x in os.environ.items() if n != 'PYTHONUNBUFFERED'}
  with open(tmp_path / 'log', 'w') as log:
    subprocess.run(
      [sys.executable, '-c', program],
      stdout=log,
      stderr=log,
      env=usual,
      check=True,
    )
  assert (tmp_path / 'log').read_text().split('\n')[:3] == [
    'begins',
    'goes on',
    'ends',
  ]


def test_a_terminal_without_some_letters_shows_the_rest():
  done = subprocess.run(
    [sys.executable, '-c', _PROGRAM, os.devnull],
    env=os.environ | {'PYTHONIOENCODING': 'ascii'},
    stdin=subprocess.DEVNULL,
    capture_output=True,
  )
  assert done.returncode == 7
  assert rb'h\xe9ros' in done.stdout
