"""The hierarchy benchmark: who is trained on what. Training is pretended."""

import csv
import json
import pathlib

import pytest
from scipy import stats

ROOT = pathlib.Path(__file__).parents[2]

TRAINING = """
import json, pathlib, sys
flags = [a.removeprefix('--').partition('=')[::2] for a in sys.argv[1:]]
here, flags = pathlib.Path(__file__).parent, dict(flags) | {
  'overrides': [v for n, v in flags if n == 'override']
}
with open(here / 'calls', 'a') as file:
  print(json.dumps(flags), file=file)
workdir = pathlib.Path(flags['workdir'])
(workdir / 'logs').mkdir(parents=True, exist_ok=True)
config = {'cpu_minutes': float(flags['cpu_minutes'])}
config['num_steps'] = int(flags['num_steps'])
(workdir / 'config.json').write_text(json.dumps(config))
summary = {'steps': 10, 'updates': 5, 'seconds': 60.0, 'cpu_seconds': 60.0}
(workdir / 'summary.json').write_text(
  json.dumps(summary | {'interrupted': False})
)
(workdir / 'logs' / 'episodes.csv').write_text(
  'actor_steps,episode_return,walltime\\n'
)
(workdir / 'logs' / 'level_0.csv').write_text('actor_steps,learner_steps\\n')
"""

# A director comes half of the way in pads of two, and a little farther with
# every seed; others play at random.
PLAYING = """
import json, pathlib, sys
flags = dict(a.removeprefix('--').partition('=')[::2] for a in sys.argv[1:])
workdir = pathlib.Path(flags['workdir'])
seed = int(workdir.name[-1])
mean = 0.209
if workdir.parent.name == 'director':
  mean += (0.5 + 0.1 * seed) * (126.2 - 0.209)
(workdir / 'evaluation').mkdir(exist_ok=True)
(workdir / 'evaluation' / '000001.json').write_text(json.dumps({
  'steps': 10,
  'episodes': int(flags['episodes']),
  'mean': mean,
  'standard_error': 1.0,
  'median': mean,
  'human_normalised': None,
}))
"""


@pytest.fixture(scope='module')
def load(load_launcher):
  return load_launcher('hierarchy', ROOT / 'benchmarks')


@pytest.fixture
def bench(load, tmp_path, pretend):
  pretend(TRAINING, PLAYING)

  def bench(*flags):
    return load(
      f'--results={tmp_path}', f'--workdir={tmp_path / "runs"}', *flags
    )

  return bench


def test_every_variant_plays_every_task_with_every_seed(
  bench, tmp_path, capsys
):
  flags = ['--tasks=pads2,key', '--variants=depth1,director', '--seeds=3']
  flags += ['--cpu_minutes=1', '--override=batch_size=4']
  for _ in range(2):  # Nothing is done twice.
    assert bench(*flags) == 0
  calls = list(map(json.loads, (tmp_path / 'calls').read_text().splitlines()))
  assert len(calls) == 12
  assert {(c['system'], tuple(c['overrides'])) for c in calls} == {
    ('hieros', ('batch_size=4', 'depth=1')),
    ('director', ('batch_size=4',)),
  }
  assert {(c['env'], c.get('env_option')) for c in calls} == {
    ('sparse/pads', 'order=2'),
    ('sparse/key', None),
  }
  assert sorted(c['seed'] for c in calls) == sorted('012' * 4)
  with open(tmp_path / 'hierarchy.csv', newline='') as file:
    rows = list(csv.DictReader(file))
  assert len(rows) == 12
  said = capsys.readouterr().out
  (line,) = {
    line.split('seeds')[0]
    for line in said.splitlines()
    if line.startswith('pads2') and 'director' in line
  }
  # Shares 0.5, 0.6 and 0.7: a deviation of 0.1, of three values.
  margin = 0.1 / 3**0.5 * stats.t.ppf(0.975, 2)
  assert line.endswith(f' 0.600 ± {margin:.3f}')


@pytest.mark.parametrize(
  ('flags', 'sentence'),
  [
    (['--tasks=maze'], '--tasks=maze: there are pads2, '),
    (['--variants=depth9'], '--variants=depth9: there are depth1, '),
    (['--cpu_minutes=3,2'], 'ascending'),
    (['--name=a/b'], '--name'),
    (['--preset=huge'], 'huge'),
  ],
)
def test_bad_flags_give_one_sentence(bench, tmp_path, flags, sentence):
  error = bench(*flags)
  assert error.startswith('hierarchy: ') and sentence in error
  assert '\n' not in error and not (tmp_path / 'calls').exists()
