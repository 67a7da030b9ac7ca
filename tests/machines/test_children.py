"""What this process starts ends with it."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from acme_hieros.machines import children


@pytest.fixture
def started(tmp_path):
  """A program in a process of its own that has another one; and that other."""
  child = children.Child(
    ['sh', '-c', 'sleep 600 & wait'],
    dict(os.environ),
    str(tmp_path / 'log'),
  )
  assert child.poll() == 0 and child.pid is None
  child.start()
  while not (found := psutil.Process(child.pid).children()):
    time.sleep(0.01)
  yield child, found[0]
  child.kill()


def is_gone(process):
  psutil.wait_procs([process], timeout=10)
  return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize('how', ['kill', 'die', 'stop'])
def test_what_a_child_has_started_ends_with_it(started, how):
  child, other = started
  if how == 'kill':
    child.kill()
  else:
    if how == 'stop':  # And it does not hear, as a process that is stopped.
      os.kill(child.pid, signal.SIGSTOP)
      child.send(signal.SIGTERM)
    else:
      os.kill(child.pid, signal.SIGKILL)
    while child.wait(0.1) is None:
      pass
  assert is_gone(other)


def test_whether_it_is_stopped_is_known(started):
  child, _ = started
  assert not child.is_stopped and child.wait(0.01) is None
  os.kill(child.pid, signal.SIGSTOP)
  while not child.is_stopped:
    time.sleep(0.01)


def test_it_hears_signals_that_its_parent_holds_back(tmp_path):
  blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
  child = children.Child(['sleep', '600'], dict(os.environ), os.devnull)
  try:
    child.start()
    process = psutil.Process(child.pid)
    while process.name() != 'sleep':
      time.sleep(0.01)
    child.send(signal.SIGTERM)
    assert child.wait(10.0) == -signal.SIGTERM
  finally:
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    child.kill()


def test_a_child_is_gone_with_its_parent_even_while_it_starts():
  parent = subprocess.Popen(
    [
      sys.executable,
      '-c',
      'import os, subprocess, sys; '
      'bind = sys.argv[1:] + [str(os.getpid())]; '
      'child = subprocess.Popen(bind + ["sleep", "600"]); '
      'print(child.pid, flush=True); child.wait()',
      *children.BIND,
    ],
    stdout=subprocess.PIPE,
    text=True,
  )
  child = psutil.Process(int(parent.stdout.readline()))
  while child.name() != 'sleep':
    time.sleep(0.01)
  parent.kill()
  parent.wait()
  assert is_gone(child)


def test_a_child_does_not_start_for_a_parent_that_is_gone(tmp_path):
  gone = subprocess.Popen(['true'])
  gone.wait()
  path = tmp_path / 'started'
  command = [*children.BIND, str(gone.pid), 'touch', str(path)]
  assert subprocess.run(command).returncode == 1
  assert not path.exists()
