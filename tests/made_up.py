"""Work directories of runs that never were."""

import csv
import json
import pathlib
from typing import Any

import numpy as np
from PIL import Image

from acme_hieros import config as config_lib

HORIZONS = (1, 2, 5, 10, 20, 50)


def write_run(
  path: pathlib.Path,
  environment: str = 'debug/catch',
  seed: int = 0,
  preset: str = 'tiny',
  num_steps: int = 1000,
  level: float = 1.0,
  episodes: int = 20,
  evaluation: float | None = None,
  **fields: Any,
):
  """A finished run.

  Args:
    path: of its work directory, which is made.
    environment: its full name.
    seed: of the run, and of all that is random in it.
    preset: of the configuration.
    num_steps: of the run, and the last step of its last episode.
    level: that the returns climb to.
    episodes: of equal length; 0 is a run that ended none.
    evaluation: mean return of its last checkpoint, if that was evaluated.
    **fields: of the configuration, with two underscores for a dot.
  """
  rng = np.random.default_rng(seed)
  config = config_lib.override(
    config_lib.preset(preset),
    {name.replace('__', '.'): value for name, value in fields.items()},
  )
  (path / 'logs').mkdir(parents=True)
  (path / 'checkpoints' / '000002').mkdir(parents=True)
  write_json(
    path / 'config.json',
    {
      'environment': environment,
      'environment_options': {},
      'seed': seed,
      'agent': config_lib.to_dict(config),
      'num_steps': num_steps,
      'launch': 'local',
      'num_actors': 1,
      'num_evaluators': 0,
      'envs_per_actor': 1,
    },
  )
  if episodes:
    steps = np.linspace(num_steps / episodes, num_steps, episodes).astype(int)
    climb = steps / num_steps
    returns = level * climb + 0.1 * abs(level) * rng.normal(size=episodes)
    write_csv(
      path / 'logs' / 'episodes.csv',
      {
        'actor_episodes': np.arange(1, episodes + 1),
        'actor_steps': steps,
        'episode_return': returns,
      },
    )
  else:
    (path / 'logs' / 'episodes.csv').touch()
  write_json(
    path / 'summary.json',
    {
      'steps': num_steps,
      'episodes': episodes,
      'updates': num_steps // 4,
      'mean_return': level,
      'best_return': level,
      'seconds': 100.5,
      'interrupted': False,
      'workdir': 'elsewhere',
    },
  )
  if evaluation is not None:
    write_evaluation(path, '000002', num_steps, evaluation)


def write_evaluation(
  path: pathlib.Path,
  checkpoint: str,
  steps: int,
  mean: float,
  deterministic: bool = False,
):
  """What was played by one checkpoint."""
  label = checkpoint + '-deterministic' * deterministic
  (path / 'evaluation').mkdir(exist_ok=True)
  write_json(
    path / 'evaluation' / f'{label}.json',
    {
      'checkpoint': checkpoint,
      'steps': steps,
      'updates': steps // 4,
      'environment': 'debug/catch',
      'seed': 0,
      'deterministic': deterministic,
      'episodes': 100,
      'mean': mean,
      'standard_error': abs(mean) / 20,
      'median': mean,
      'human_normalised': None,
    },
  )


def write_evaluator(path: pathlib.Path, num_steps: int, level: float):
  """What evaluator nodes played while the run was at work."""
  (path / 'evaluation').mkdir(exist_ok=True)
  steps = np.linspace(num_steps / 10, num_steps, 10).astype(int)
  with open(path / 'evaluation' / 'evaluator.jsonl', 'w') as file:
    for step in steps:
      record = {
        'actor_steps': int(step),
        'episode_return': level * step / num_steps,
      }
      file.write(json.dumps(record) + '\n')
  write_json(path / 'evaluation' / 'evaluator.json', {'mean': level})


def write_diagnostics(
  path: pathlib.Path, level: int, num_steps: int, seed: int = 0
):
  """What one level measured of itself, with something that nobody knows."""
  rng = np.random.default_rng(seed)
  rows = 12
  steps = np.linspace(num_steps / 10, num_steps, rows).astype(int)
  climb = steps / num_steps

  def noisy(values):
    return values + 0.02 * rng.normal(size=rows)

  reached = noisy(0.33 + 0.4 * climb)
  # No subgoal ended in that batch.
  reached[3] = np.nan
  table = {
    'actor_steps': steps,
    'learner_steps': steps // 4,
    'subgoal_reached': reached,
    'subgoal_start_similarity': noisy(0.2 + 0.1 * climb),
    'subgoal_end_similarity': noisy(0.2 + 0.5 * climb),
    'subgoal_random_similarity': noisy(0.2 + 0.0 * climb),
    'code_entropy': noisy(1 - 0.4 * climb),
    'distinct_codes': np.round(40 + 200 * climb),
    'autoencoder_unexplained': noisy(1 - 0.8 * climb),
    'unheard_of': noisy(climb),
    'never_measured': np.full(rows, np.nan),
    **{
      f'open_loop_error_{h}': noisy(1 - climb * 0.7 / np.sqrt(h))
      for h in HORIZONS
    },
  }
  write_csv(path / 'logs' / f'level_{level}_diagnostics.csv', table)
  write_csv(
    path / 'logs' / f'level_{level}.csv',
    {
      'actor_steps': steps,
      'learner_steps': steps // 4,
      'actor_loss': noisy(climb),
      'extrinsic_advantage_share': 1 - 0.3 * climb,
      'subgoal_advantage_share': 0.3 * climb,
    },
  )


def write_pictures(path: pathlib.Path, steps: int):
  """A picture and an animation that moves."""
  folder = path / 'pictures' / f'{steps:09d}'
  folder.mkdir(parents=True)
  frames = [
    Image.fromarray(
      np.add.outer(np.arange(60), np.arange(900) + 40 * i).astype(np.uint8)
    )
    for i in range(3)
  ]
  frames[0].save(folder / 'open_loop.png')
  frames[0].save(
    folder / 'episode.gif', save_all=True, append_images=frames[1:]
  )


def write_json(path: pathlib.Path, values: Any):
  path.write_text(json.dumps(values))


def write_csv(path: pathlib.Path, columns: dict[str, np.ndarray]):
  with open(path, 'w', newline='') as file:
    writer = csv.writer(file)
    writer.writerow(columns)
    writer.writerows(zip(*columns.values()))
