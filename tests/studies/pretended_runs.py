"""Studies whose runs are pretended: a program that does next to nothing."""

import json
import os

from acme_hieros.studies import study as study_lib

# Writes what a finished run and its evaluation leave, in no time. Files beside
# it say otherwise: 'slow' has runs wait, '<name>-fails' fail.
PROGRAM = """
import json, os, pathlib, sys, time
here = pathlib.Path(__file__).parent
what, workdir, identity, extent = sys.argv[1:]
workdir, extent = pathlib.Path(workdir), json.loads(extent)
with open(here / 'calls', 'a') as file:
  call = {'what': what, 'run': workdir.name, 'pid': os.getpid()}
  call |= {'cores': sorted(os.sched_getaffinity(0))}
  call |= {'resumes': (workdir / 'config.json').exists()}
  file.write(json.dumps(call) + chr(10))
if (here / f'{workdir.name}-fails').exists():
  print('All was well.')
  sys.exit('hieros train: all is lost.')
steps = extent['num_steps']
(workdir / 'logs').mkdir(parents=True, exist_ok=True)

def write(name, values):
  (workdir / name).parent.mkdir(exist_ok=True)
  # Whole or not at all, as real runs write: tests kill while they look.
  partial = workdir / f'{name}.{os.getpid()}'
  partial.write_text(json.dumps(values))
  partial.rename(workdir / name)

def end(steps, interrupted):
  seed = json.loads(identity)['seed']
  depth = json.loads(identity)['agent']['depth']
  # Those of two levels always score more.
  score = depth + 0.1 * seed
  rows = [f'{i},{score},{i / 10}' for i in range(10, steps + 1, 10)]
  (workdir / 'logs' / 'episodes.csv').write_text(
    chr(10).join(['actor_steps,episode_return,walltime', *rows, ''])
  )
  if what == 'train':
    write('summary.json', {
      'steps': steps, 'updates': steps, 'seconds': steps / 10,
      'cpu_seconds': 1.0, 'mean_return': score, 'interrupted': interrupted,
    })
  else:
    write('evaluation/000001.json', {
      'checkpoint': '000001', 'steps': steps, 'deterministic': False,
      'episodes': extent['episodes'], 'mean': score, 'standard_error': 0.1,
    })

if what == 'train':
  (workdir / 'summary.json').unlink(missing_ok=True)
  write('config.json', json.loads(identity) | extent)
try:
  while (here / 'slow').exists():
    time.sleep(0.02)
except KeyboardInterrupt:
  end(steps // 2, True)
  sys.exit(130)
end(steps, False)
"""

SMALL = {
  'name': 'small',
  'question': 'Is it the depth?',
  'run': {'environment': 'debug/catch', 'preset': 'tiny', 'num_steps': 100},
  'grid': {'depth': [1, 2], 'seed': [0, 1, 2]},
  'evaluation': {'episodes': 7},
  'answer': {'compare': 'depth', 'against': 1},
}


class Pretended:
  """Studies in a directory of the test's own.

  workdir: of the study.
  """

  def __init__(self, path):
    self._path = path
    self.program = path / 'program.py'
    self.workdir = path / 'work'

  def switch(self, name, on=True):
    """Whether runs are 'slow', or one '<name>-fails'."""
    if on:
      (self._path / name).touch()
    else:
      (self._path / name).unlink()

  @property
  def calls(self):
    try:
      text = (self._path / 'calls').read_text()
    except FileNotFoundError:
      return []
    return [json.loads(line) for line in text.splitlines()]

  @property
  def status(self):
    return json.loads((self.workdir / 'status.json').read_text())


def pretend(path, patch):
  """Has runs of studies be the program above, in a directory."""
  found = Pretended(path)
  if not found.program.exists():
    found.program.write_text(PROGRAM)

  def command(what, run, workdir, **extent):
    extent |= {'num_steps': run.num_steps, 'cpu_minutes': run.cpu_minutes}
    identity = json.dumps(run.identity())
    return [str(found.program), what, workdir, identity, json.dumps(extent)]

  patch.setattr(
    study_lib.Run,
    'training',
    lambda run, workdir: command('train', run, workdir),
  )
  patch.setattr(
    study_lib.Run,
    'evaluating',
    lambda run, workdir, evaluation: command(
      'evaluate', run, workdir, episodes=evaluation.episodes
    ),
  )
  return found


# In a directory of the PYTHONPATH, it has other processes pretend as well.
_SITE = """
import pathlib, sys
if sys.argv[0] in ('-m', '-c', '') or 'program.py' not in sys.argv[0]:
  sys.path.insert(0, {here!r})
  import pretended_runs
  from acme_hieros.studies import study
  class Patch:
    setattr = staticmethod(setattr)
  pretended_runs.pretend(pathlib.Path({path!r}), Patch)
"""


def pretend_everywhere(path):
  """Variables of processes whose runs are pretended in a directory."""
  here = os.path.dirname(__file__)
  site = path / 'site'
  site.mkdir()
  text = _SITE.format(here=here, path=str(path))
  (site / 'sitecustomize.py').write_text(text)
  root = os.path.dirname(os.path.dirname(here))
  return {'PYTHONPATH': f'{site}:{root}'}
