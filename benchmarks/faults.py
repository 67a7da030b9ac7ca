"""Does to runs what happens to them, one fault after the other.

  python -m benchmarks.faults
  python -m benchmarks.faults --only=sigterm,full_disk

Prints a line a fault: that it was survived, what was LOST, or why it could not
be tried here. Exits with 1 if anything was lost. It takes some minutes;
`benchmarks.kill` kills runs at random moments.
"""

from collections.abc import Callable, Iterator, Mapping
import contextlib
import csv
import ipaddress
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

from absl import app, flags
import psutil
import reverb

from acme_hieros import command_line
from acme_hieros.replay import tables
import benchmarks
from benchmarks import smallest

_ONLY = flags.DEFINE_list('only', [], 'Names of faults; default: all.')

_SMALLEST = (
  '--preset=tiny',
  '--depth=1',
  '--picture_minutes=0',
  *smallest.make_flags(),
)
_CATCH = (
  '--env=debug/catch',
  '--env_option=observation=vector',
)
_FAULTY = 'gym/benchmarks.faulty_environment:Faulty-v0'

# More steps than anybody waits for.
_ENDLESS = 10**9

# For a start and its compilation, on a busy machine.
_PATIENCE_SECONDS = 300.0

# Has a process believe that its clock is set back by an hour after some time.
_CLOCK = """
import time
_now, _start = time.time, time.monotonic()
time.time = lambda: _now() - 3600 * (time.monotonic() - _start > 15)
"""


class Lost(Exception):
  """The fault was not survived; the message says what is wrong."""


class Untried(Exception):
  """The fault cannot be made here; the message says why."""


def check(condition: bool, otherwise: str):
  if not condition:
    raise Lost(otherwise)


class Run:
  """A work directory, and the launcher at work there.

  workdir: of the run; None leaves that to the launcher. environment: variables
    beside those of this process.
  """

  def __init__(self, workdir: pathlib.Path | None, **environment: str):
    self.workdir = workdir
    self._environment = {
      **os.environ,
      'JAX_PLATFORMS': 'cpu',
      'JAX_DISABLE_MOST_OPTIMIZATIONS': '1',
      'PYTHONPATH': benchmarks.ROOT,
      **environment,
    }
    self._log = tempfile.TemporaryFile('w+')
    self.process = None

  def start(
    self, *flags: str, script: str = benchmarks.LAUNCHER, **settings
  ) -> 'Run':
    """Starts a script; what it says is kept. Settings: of `Popen`."""
    place = [f'--workdir={self.workdir}'] if self.workdir else []
    self.process = subprocess.Popen(
      [sys.executable, script, *place, *flags],
      env=self._environment,
      stdin=subprocess.DEVNULL,
      stderr=subprocess.STDOUT,
      **{'stdout': self._log, **settings},
    )
    return self

  def begin(self, *flags: str, num_steps: int = _ENDLESS, **settings) -> 'Run':
    """Starts a new run on catch."""
    flags = (*_SMALLEST, *_CATCH, f'--num_steps={num_steps}', *flags)
    return self.start(*flags, **settings)

  def said(self) -> str:
    self._log.seek(0)
    return self._log.read()

  def episodes(self) -> list[Mapping[str, str]]:
    """As the log has them."""
    try:
      with open(self.workdir / 'logs' / 'episodes.csv', newline='') as file:
        return list(csv.DictReader(file))
    except FileNotFoundError:
      return []

  def check_episodes(self, removed: int = 0):
    """Each is there once, and none is missing.

    Args:
      removed: episodes at least that were in the log when somebody removed it.
    """
    # By their numbers: several may end at one step of several actors.
    numbers = sorted(float(row['actor_episodes']) for row in self.episodes())
    first = int(numbers[0]) if removed and numbers else 1
    check(
      first > removed and numbers == list(range(first, first + len(numbers))),
      f'episodes are missing or there twice: {numbers}',
    )

  def wait(self, condition: Callable[[], bool], what: str):
    """Waits until something is so, while the run is at work."""
    end = time.monotonic() + _PATIENCE_SECONDS
    while not condition():
      check(self.process.poll() is None, f'it ended: {self.said()[-300:]}')
      check(time.monotonic() < end, f'after {_PATIENCE_SECONDS:g} s {what}')
      time.sleep(0.1)

  def wait_for_episodes(self, more: int = 5):
    wanted = len(self.episodes()) + more
    self.wait(lambda: len(self.episodes()) >= wanted, 'there are no episodes')

  def end(self, code: int = 0) -> 'Run':
    """Waits for its end, which has to be this."""
    try:
      self.process.wait(_PATIENCE_SECONDS)
    except subprocess.TimeoutExpired as error:
      raise Lost(f'it does not end: {self.said()[-300:]}') from error
    check(
      self.process.returncode == code,
      f'exit code {self.process.returncode} and not {code}: '
      f'{self.said()[-300:]}',
    )
    check('Traceback' not in self.said(), f'a traceback: {self.said()[-300:]}')
    return self

  def summary(self) -> Mapping:
    path = self.workdir / 'summary.json'
    check(path.exists(), 'there is no summary')
    return json.loads(path.read_text())

  def resumes(self, removed: int = 0):
    """It goes on from where it was saved, and nothing is there twice."""
    steps = self.summary()['steps']
    # Its flags may belong to another environment.
    self.start('--resume', f'--num_steps={steps + 20}').end()
    check(f'after {steps} steps' in self.said(), 'it does not go on')
    self.check_episodes(removed)

  def kill(self):
    if self.process and self.process.poll() is None:
      family = psutil.Process(self.process.pid).children(recursive=True)
      self.process.kill()
      self.process.wait()
      psutil.wait_procs(family, timeout=10)
    self._log.close()


Fault = Callable[[pathlib.Path, contextlib.ExitStack], None]
FAULTS: dict[str, Fault] = {}


def fault(function: Fault) -> Fault:
  """Adds a fault; its docstring is what is done, and to be survived."""
  FAULTS[function.__name__] = function
  return function


def make_run(
  directory: pathlib.Path,
  stack: contextlib.ExitStack,
  name: str | None = 'run',
  **environment: str,
) -> Run:
  run = Run(name and directory / name, **environment)
  stack.callback(run.kill)
  return run


def _asked_to_end(name: str, number: signal.Signals, times: int, what: str):
  def asked(directory, stack):
    run = make_run(directory, stack).begin()
    run.wait_for_episodes()
    for _ in range(times):
      run.process.send_signal(number)
      time.sleep(0.3)
    run.end(128 + number)
    check(run.summary()['signal'] == number.name, 'it says another cause')
    run.resumes()

  asked.__name__ = name
  asked.__doc__ = what
  fault(asked)


_asked_to_end('sigterm', signal.SIGTERM, 3, 'SIGTERM three times.')
_asked_to_end('hangup', signal.SIGHUP, 1, 'The terminal is closed (SIGHUP).')
_asked_to_end('usr1', signal.SIGUSR1, 2, 'SIGUSR1, as schedulers send it.')
_asked_to_end('ctrl_c', signal.SIGINT, 1, 'Ctrl-C.')


@fault
def auto_resume(directory, stack):
  """A job that is killed and started again by the same command."""
  run = make_run(directory, stack).begin('--auto_resume', num_steps=200)
  run.end()
  run.begin('--auto_resume', num_steps=240).end()
  check(run.summary()['steps'] == 240, 'it has not gone on')


@fault
def closed_output(directory, stack):
  """Nobody reads any more what it says."""
  reader, writer = os.pipe()
  with open(writer, 'w') as output:
    run = make_run(directory, stack).begin(num_steps=600, stdout=output)
  os.close(reader)
  run.end()
  check(run.summary()['steps'] == 600, 'it has ended early')


@fault
def full_disk(directory, stack):
  """The disk is full for a while."""
  place = directory / 'small'
  place.mkdir()
  mount = ['mount', '-t', 'tmpfs', '-o', 'size=24m', 'tmpfs', str(place)]
  if subprocess.run(mount, capture_output=True).returncode:
    raise Untried('only root can mount a small file system')
  stack.callback(subprocess.run, ['umount', '-l', str(place)])
  run = make_run(place, stack).begin('--checkpoint_minutes=0.05')
  checkpoint = run.workdir / 'checkpoints' / '000001'
  run.wait(checkpoint.exists, 'there is no checkpoint')
  ballast = place / 'ballast'
  with open(ballast, 'wb') as file, contextlib.suppress(OSError):
    while file.write(bytes(1 << 16)):
      file.flush()
  time.sleep(10)
  check(run.process.poll() is None, f'it ended: {run.said()[-300:]}')
  check('Warning' in run.said(), 'nobody was told')
  ballast.unlink()
  run.wait_for_episodes()
  run.process.send_signal(signal.SIGTERM)
  run.end(143)
  run.resumes()


def _faulty(directory, stack, name: str, when: int) -> Run:
  run = make_run(directory, stack).start(
    *_SMALLEST,
    f'--env={_FAULTY}',
    f'--env_option=fault={name}',
    f'--env_option=when={when}',
    '--num_steps=120',
    '--override=replay.ratio=4',
  )
  run.end()
  run.resumes()
  return run


def _one_bad_value(name: str):
  def bad_value(directory, stack):
    run = _faulty(directory, stack, name, 55)
    check('built anew' in run.said(), 'nobody was told')

  bad_value.__name__ = name
  bad_value.__doc__ = f'The environment does it once: {name}.'
  fault(bad_value)


for _name in (
  'nan_reward',
  'infinite_reward',
  'nan_observation',
  'shape',
  'raise',
):
  _one_bad_value(_name)


@fault
def close(directory, stack):
  """An environment that cannot be closed, also in an evaluation."""
  run = _faulty(directory, stack, 'close', 0)
  run.start('--episodes=3', '--envs=2', script=benchmarks.EVALUATOR).end()
  played = [path.suffix for path in (run.workdir / 'evaluation').iterdir()]
  check(sorted(played) == ['.json', '.jsonl'], f'of the evaluation: {played}')


@fault
def brackets(directory, stack):
  """A kill, in a directory whose name could be a pattern."""
  run = make_run(directory, stack, 'run[seed=1]*?')
  run.begin('--checkpoint_minutes=0.05')
  checkpoint = run.workdir / 'checkpoints' / '000001'
  run.wait(checkpoint.exists, 'there is no checkpoint')
  run.wait_for_episodes(20)
  run.process.kill()
  run.process.wait()
  steps = int(float(run.episodes()[-1]['actor_steps']))
  run.start('--resume', f'--num_steps={steps + 50}').end()
  run.check_episodes()


@fault
def proxy(directory, stack):
  """A proxy for all connections, which does not answer."""
  dead = 'http://127.0.0.1:9'
  for launch in ('local', 'local_mp'):
    make_run(directory, stack, launch, http_proxy=dead, https_proxy=dead).begin(
      f'--launch={launch}', num_steps=200
    ).end()


@fault
def same_second(directory, stack):
  """Three runs are started at once, none with a work directory."""
  runs = [
    make_run(directory, stack, None).begin(
      f'--seed={seed}', num_steps=60, cwd=directory
    )
    for seed in range(3)
  ]
  for run in runs:
    run.end()
  found = sorted(
    json.loads(path.read_text())['seed']
    for path in (directory / 'runs').glob('*/config.json')
  )
  check(found == [0, 1, 2], f'the runs of seeds {found} are there')


@fault
def clock(directory, stack):
  """The clock is set back by an hour."""
  place = directory / 'python'
  place.mkdir()
  (place / 'sitecustomize.py').write_text(_CLOCK)
  run = make_run(
    directory, stack, PYTHONPATH=os.pathsep.join([str(place), benchmarks.ROOT])
  )
  run.begin('--checkpoint_minutes=0.05')
  run.wait_for_episodes()
  time.sleep(20)
  checkpoints = run.workdir / 'checkpoints'
  newest = max(path.name for path in checkpoints.iterdir())
  run.wait_for_episodes()
  run.wait(
    lambda: max(path.name for path in checkpoints.iterdir()) > newest,
    'there is no new checkpoint',
  )
  run.process.send_signal(signal.SIGTERM)
  run.end(143)
  check(0 < run.summary()['seconds'] < 1800, 'the seconds are wrong')


@fault
def removed(directory, stack):
  """The work directory is removed while the run is at work."""
  run = make_run(directory, stack).begin()
  run.wait_for_episodes()
  subprocess.run(['rm', '-rf', str(run.workdir)], check=True)
  time.sleep(2)
  run.process.send_signal(signal.SIGTERM)
  run.process.wait(_PATIENCE_SECONDS)
  if run.process.returncode == 143:
    run.resumes(removed=5)
  else:
    check('Traceback' not in run.said(), 'a traceback')
    check(str(run.workdir) in run.said(), 'nobody was told')


@fault
def open_ports(directory, stack):
  """Somebody from outside looks for a port."""
  for launch in ('local', 'local_mp'):
    run = make_run(directory, stack, launch).begin(f'--launch={launch}')
    run.wait_for_episodes()
    for address in listening(run.process.pid):
      host = ipaddress.ip_address(address.ip)
      local = (getattr(host, 'ipv4_mapped', None) or host).is_loopback
      check(local, f'{launch} listens at {address}')
    run.process.send_signal(signal.SIGTERM)
    run.end(143)


@fault
def emptied(directory, stack):
  """Another program empties the replay."""
  run = make_run(directory, stack).begin()
  run.wait_for_episodes()
  (address,) = listening(run.process.pid)
  reverb.Client(f'localhost:{address.port}').reset(tables.table_name(0))
  run.wait_for_episodes(50)
  run.process.send_signal(signal.SIGTERM)
  run.end(143)
  run.resumes()


@fault
def module(directory, stack):
  """Somebody else's run names a module whose code would be run."""
  marker = directory / 'it_was_run'
  (directory / 'evil.py').write_text(f'open({str(marker)!r}, "w")')
  run = make_run(directory, stack, PYTHONPATH=f'{directory}:{benchmarks.ROOT}')
  run.begin(num_steps=60).end()
  config = json.loads((run.workdir / 'config.json').read_text())
  config['environment'] = 'gym/evil:X-v0'
  (run.workdir / 'config.json').write_text(json.dumps(config))
  run.start('--resume').end(1)
  run.start('--episodes=1', script=benchmarks.EVALUATOR).end(1)
  check(not marker.exists(), 'the code was run')
  check('--env=gym/evil:X-v0' in run.said(), 'nobody was told why')


@fault
def damaged_checkpoint(directory, stack):
  """A byte of the newest checkpoint is another."""
  run = make_run(directory, stack).begin(num_steps=100).end()
  run.start('--resume', '--num_steps=160').end()
  newest = run.workdir / 'checkpoints' / '000002' / 'learner.npz'
  content = bytearray(newest.read_bytes())
  content[len(content) // 2] ^= 1
  newest.write_bytes(content)
  run.start('--resume', '--num_steps=200').end()
  check('after 100 steps' in run.said(), 'the one before was not used')
  kept = [
    path
    for path in (run.workdir / 'checkpoints').rglob('learner.npz')
    if path.read_bytes() == bytes(content)
  ]
  check(bool(kept), 'the damaged one was not set aside')


@fault
def damaged_logs(directory, stack):
  """Lines of logs are no numbers, and a foreign file lies beside them."""
  run = make_run(directory, stack).begin(num_steps=100).end()
  logs = run.workdir / 'logs'
  with open(logs / 'episodes.csv', 'ab') as file:
    file.write(b'\xff\x00 no number\n')
  (logs / 'notes.csv').write_text('mine\n1\n')
  run.resumes()
  check((logs / 'notes.csv').read_text() == 'mine\n1\n', 'a file was changed')


@fault
def hung_actor(directory, stack):
  """An actor of a program is stopped, then all is asked to end."""
  run = make_run(directory, stack).begin('--launch=local_mp', '--num_actors=2')
  run.wait_for_episodes()
  pids = json.loads((run.workdir / 'nodes' / 'pids.json').read_text())
  os.kill(pids['actor_0'], signal.SIGSTOP)
  run.wait_for_episodes()
  run.process.send_signal(signal.SIGTERM)
  run.end(143)
  check(not any(map(psutil.pid_exists, pids.values())), 'nodes are left')
  run.resumes()


@fault
def platforms(directory, stack):
  """JAX_PLATFORMS names an accelerator that is not there."""
  run = make_run(directory, stack, JAX_PLATFORMS='cuda').begin(num_steps=60)
  run.process.wait(_PATIENCE_SECONDS)
  check('Traceback' not in run.said(), f'a traceback: {run.said()[-300:]}')


def listening(pid: int) -> Iterator:
  """Addresses at which a process and its children listen."""
  process = psutil.Process(pid)
  for each in (process, *process.children(recursive=True)):
    for connection in each.net_connections('tcp'):
      if connection.status == psutil.CONN_LISTEN:
        yield connection.laddr


def try_fault(function: Fault) -> str:
  """Returns what came of it."""
  with tempfile.TemporaryDirectory() as directory:
    try:
      with contextlib.ExitStack() as stack:
        function(pathlib.Path(directory), stack)
    except Lost as lost:
      return 'LOST: ' + ' '.join(str(lost).split())
    except Untried as untried:
      return f'not tried: {untried}'
  return 'survived'


def main(argv):
  command_line.refuse_arguments(argv)
  # What `nohup` has started does not hear of a closed terminal, nor does what
  # that starts.
  signal.signal(signal.SIGHUP, signal.SIG_DFL)
  unknown = set(_ONLY.value) - FAULTS.keys()
  if unknown:
    sys.exit(
      f'faults: {", ".join(sorted(unknown))}: unknown; known are '
      f'{", ".join(FAULTS)}.'
    )
  lost = 0
  for name in _ONLY.value or FAULTS:
    outcome = try_fault(FAULTS[name])
    print(f'{name} ({FAULTS[name].__doc__.rstrip(".")}): {outcome}', flush=True)
    lost += outcome.startswith('LOST')
  print(f'{lost} of {len(_ONLY.value or FAULTS)} lost something.')
  sys.exit(1 if lost else 0)


if __name__ == '__main__':
  app.run(main)
