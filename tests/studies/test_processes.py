"""Programs that are started, and what reaches them."""

import signal
import time

from acme_hieros.studies import processes


def test_ctrl_c_reaches_a_program_of_somebody_who_holds_it_back(tmp_path):
  """As a worker of Ray does."""
  log, ready = tmp_path / 'log', tmp_path / 'ready'
  code = (
    'import pathlib, sys, time\n'
    'try:\n'
    f'  pathlib.Path({str(ready)!r}).touch()\n'
    '  time.sleep(60)\n'
    'except KeyboardInterrupt:\n'
    '  sys.exit(7)\n'
  )
  before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
  try:
    program = processes.start(
      ['-c', code], str(log), processes.usable_cores(), {}
    )
  finally:
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
  deadline = time.time() + 60
  while not ready.exists():
    assert time.time() < deadline
    time.sleep(0.01)
  program.send_signal(signal.SIGINT)
  assert program.wait(30) == 7
