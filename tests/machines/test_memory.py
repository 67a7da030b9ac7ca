"""What is foretold of memory, and what is read of what is left."""

import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import psutil
import pytest

from acme_hieros.machines import memory

KIB, GIB = 2**10, 2**30


def look(forecast, most, period=100):
  """Looks after every so many steps; returns what was told, by steps."""
  told = {n: forecast.look(n) for n in range(0, most, period)}
  return {n: text for n, text in told.items() if text}


class Growing:
  """Memory that grows by `rate` bytes a step, and once by 1 GiB."""

  def __init__(self, rate, total, noise=0.0, once=1000):
    self.steps, self.rate, self.total, self.once = 0, rate, total, once
    self._noise = noise
    self._rng = np.random.default_rng(0)

  def used(self):
    self.steps += 500
    return int(
      GIB * (self.steps > self.once)
      + self.rate * self.steps
      + self._noise * self._rng.normal()
    )

  def free(self):
    return int(self.total - GIB - self.rate * self.steps)


def test_it_is_told_once_and_early_what_will_not_fit():
  # 20 KiB a step: a million steps have 19 GiB.
  growing = Growing(20 * KIB, 11 * GIB, noise=1e6)
  told = look(memory.Forecast(10**6, growing.used, growing.free), 20_000)
  assert len(told) == 1
  ((steps, text),) = told.items()
  assert steps <= 10_000
  rate = float(re.search(r'by ([\d.]+) KiB', text)[1])
  assert rate == pytest.approx(20, rel=0.1)
  full = int(re.search(r'after ([\d,]+) steps', text)[1].replace(',', ''))
  assert full == pytest.approx(10 * GIB / (20 * KIB), rel=0.1)
  # What it advises fits.
  capacity = int(re.search(r'capacity=(\d+)', text)[1])
  growing = Growing(20 * KIB, 11 * GIB, noise=1e6)
  assert not look(memory.Forecast(capacity, growing.used, growing.free), 20_000)


def test_nothing_is_told_of_what_fits():
  for rate, most in ((20 * KIB, 300_000), (0, 10**6)):
    # Whenever a level begins to learn.
    for once in range(0, 20_000, 1000):
      growing = Growing(rate, 11 * GIB, noise=1e6, once=once)
      forecast = memory.Forecast(most, growing.used, growing.free)
      assert not look(forecast, 20_000)


def test_nobody_looks_when_replay_is_full():
  looks = []
  forecast = memory.Forecast(1000, lambda: looks.append(0) or 0, lambda: 0)
  look(forecast, 3000)
  assert len(looks) == 2  # After no steps and after 500.


def test_used_memory_is_that_of_processes_that_there_are():
  child = subprocess.Popen(
    [sys.executable, '-c', 'x = bytearray(10**8); input()'],
    stdin=subprocess.PIPE,
  )
  one = psutil.Process(child.pid)
  ours = psutil.Process()
  assert memory.used(ours, one) > memory.used(one) > 0
  child.communicate(b'\n')
  assert memory.used(one) == 0
  assert memory.used(ours, one) > 0


def test_a_process_is_among_its_siblings():
  assert os.getpid() in [one.pid for one in memory.siblings()]


def write(root: pathlib.Path, files: dict[str, str]) -> pathlib.Path:
  for name, text in files.items():
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
  return root


@pytest.mark.parametrize(
  'files,left',
  [
    (
      {
        'proc/self/cgroup': '0::/user/job\n',
        'sys/fs/cgroup/user/memory.max': '9000000\n',
        'sys/fs/cgroup/user/memory.current': '5000000\n',
        'sys/fs/cgroup/user/memory.stat': 'anon 7\ninactive_file 1000000\n',
        'sys/fs/cgroup/user/job/memory.max': 'max\n',
        'sys/fs/cgroup/user/job/memory.current': '5000000\n',
      },
      5_000_000,
    ),
    (
      {
        'proc/self/cgroup': '4:memory:/job\n3:cpu:/job\n',
        'sys/fs/cgroup/memory/memory.limit_in_bytes': '3000000\n',
        'sys/fs/cgroup/memory/memory.usage_in_bytes': '4000000\n',
        'sys/fs/cgroup/memory/memory.stat': 'total_inactive_file 500000\n',
      },
      0,
    ),
  ],
)
def test_containers_limit_what_is_left(tmp_path, files, left):
  assert memory.free(write(tmp_path, files)) == left


def test_without_containers_the_machine_has_what_is_left(tmp_path):
  machine = psutil.virtual_memory().available
  assert memory.free(tmp_path) == pytest.approx(machine, rel=0.2)
