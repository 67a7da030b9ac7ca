"""Walks the chain from what a run's agent predicts to what it is rewarded for.

  python -m benchmarks.diagnose --workdir=runs/krull

Plays by the newest checkpoint, keeps what the agent of level 0 sees and
believes, and asks link by link where it fails: are rewards and values right, do
actions matter in imagination as they do in the environment, does acting see the
states that were trained. docs/diagnosis.md says how to read it. Prints a table
and writes every number to --out.
"""

from collections.abc import Sequence
import functools
import json
import sys
from typing import Any, NamedTuple

try:
  from acme_hieros import compat  # noqa: F401  Before what may be absent.
except ImportError as error:
  sys.exit(f'diagnose: {error}')

from absl import app, flags, logging
import jax
import jax.numpy as jnp
import numpy as np
import tqdm

from acme_hieros import command_line
from acme_hieros.experiments import runs
from acme_hieros.models import diagnostics, hierarchy, spaces, world_model
from acme_hieros.models import level as level_lib
from acme_hieros.storage import workdirs

_WORKDIR = flags.DEFINE_string('workdir', None, 'The directory of the run.')
_ENV = flags.DEFINE_string(
  'env',
  None,
  'The environment of the run, to say that the code of its module may be run: '
  "asked for where the run is somebody else's.",
)
_CHECKPOINT = flags.DEFINE_integer(
  'checkpoint', None, 'Its number. Default: the newest that can be used.'
)
_STEPS = flags.DEFINE_integer('steps', 4000, 'Environment steps to play.')
_STATES = flags.DEFINE_integer(
  'states', 100, 'States in which every first action is tried out.'
)
_REPEATS = flags.DEFINE_integer(
  'repeats', 4, 'Times that each is tried out in the environment.'
)
_SAMPLES = flags.DEFINE_integer('samples', 64, 'Times that each is imagined.')
_SEED = flags.DEFINE_integer('seed', 0, 'Random seed.')
_OUT = flags.DEFINE_string('out', 'diagnosis.json', 'Where the numbers go.')

# Steps ahead at which imagined rewards are judged.
_AHEAD = (0, 1, 2, 5, 10)


class Play(NamedTuple):
  """S steps in N environments, as replay would have them; NumPy arrays.

  observation: by name, [S, N, ...]; action: encoded, [S, N, A]; reward,
  discount: what it led to, [S, N]; start: of an episode, [S, N].
  levels: packed memory of each level after the observation, [S, N, n].
  """

  observation: dict[str, np.ndarray]
  action: np.ndarray
  reward: np.ndarray
  discount: np.ndarray
  start: np.ndarray
  levels: tuple[np.ndarray, ...]


class Saved(NamedTuple):
  """A moment to come back to.

  environment: its state; observation: that was seen there, by name; actor:
  state of one environment, before that observation was taken in.
  """

  environment: Any
  observation: dict[str, np.ndarray]
  actor: hierarchy.ActorState


def main(argv: Sequence[str]):
  command_line.refuse_arguments(argv)
  logging.set_verbosity(logging.WARNING)
  jax.config.update('jax_platforms', 'cpu')
  try:
    if _WORKDIR.value is None:
      raise ValueError('--workdir has to name the directory of a run.')
    for flag in (_STEPS, _STATES, _REPEATS, _SAMPLES):
      if flag.value < 1:
        raise ValueError(f'--{flag.name}={flag.value} must be at least 1.')
    learned = runs.read_learned(_WORKDIR.value, _CHECKPOINT.value, _ENV.value)
    if not isinstance(learned.networks.action_space, spaces.Discrete):
      raise ValueError(
        f'{learned.run.environment} has continuous actions, or nested ones; '
        'only discrete ones can be tried out one by one.'
      )
    if learned.run.config.actor_critic.core != 'none':
      raise ValueError(
        f'the actor of {_WORKDIR.value} has a memory of its own (actor_critic.'
        'core), without which what it would do from a state is not known.'
      )
    if 'extrinsic' not in learned.networks.levels[0].streams:
      raise ValueError(
        f'level 0 of {_WORKDIR.value} has no extrinsic reward, whose values '
        'are what is looked at (actor_critic.extrinsic_weight).'
      )
    if learned.networks.levels[0].manager:
      raise ValueError(
        f'the agent of {_WORKDIR.value} chooses subgoals while it imagines '
        '(subgoals.manager), which is not looked at here.'
      )
    found = Diagnosis(learned).run()
    with workdirs.writing(_OUT.value, 'choose another --out'):
      workdirs.write_json(_OUT.value, found)
  except ValueError as error:
    sys.exit(f'diagnose: {error}')
  show(found)
  print(f'Every number: {_OUT.value}')


def show(found: dict[str, Any], indent: str = ''):
  """Prints nested numbers, a line each."""
  for name, value in found.items():
    if isinstance(value, dict):
      print(f'{indent}{name}')
      show(value, indent + '  ')
    elif isinstance(value, list):
      print(f'{indent}{name}: {json.dumps(value)}')
    else:
      text = f'{value:.4g}' if isinstance(value, float) else value
      print(f'{indent}{name}: {text}')


class Diagnosis:
  """What is asked of one agent."""

  _ENVIRONMENTS = 8

  def __init__(self, learned: runs.Learned):
    self._learned = learned
    self._networks = learned.networks
    self._level = learned.networks.levels[0]
    self._params = learned.state[0].params
    self._policy = [level_lib.policy_params(s.params) for s in learned.state]
    self._step = jax.jit(self._networks.step)
    self._reset = jax.jit(self._networks.reset)
    self._rng = np.random.default_rng(_SEED.value)
    self._key = jax.random.PRNGKey(_SEED.value)
    self._settings = learned.run.config.actor_critic

  def run(self) -> dict[str, Any]:
    """All links, from the first to the last."""
    play, saved = self._play()
    return {
      'environment': self._learned.run.environment,
      'updates': self._learned.updates,
      'played': {
        'steps': int(play.reward.size),
        'reward_a_step': float(play.reward.mean()),
        'policy_entropy': self._entropy(play),
      },
      'rewards': self._rewards(play),
      'values': self._values(play),
      'states': self._states(play),
      'actions': self._actions(saved),
    }

  def _next_key(self) -> jax.Array:
    self._key, key = jax.random.split(self._key)
    return key

  def _make(self, count: int) -> list[Any]:
    seeds = self._rng.integers(2**32, size=count)
    made = [self._learned.run.make_environment(int(seed)) for seed in seeds]
    if not hasattr(made[0], 'get_state'):
      raise ValueError(
        f'{self._learned.run.environment} cannot be set back to a state, '
        'for which it would need get_state and set_state.'
      )
    return made

  def _play(self) -> tuple[Play, list[Saved]]:
    """Plays as the agent does, and keeps some moments."""
    environments = self._make(self._ENVIRONMENTS)
    count = len(environments)
    steps = -(-_STEPS.value // count)
    keep = np.zeros(steps * count, bool)
    most = min(_STATES.value, keep.size)
    keep[self._rng.choice(keep.size, most, replace=False)] = True
    keep = keep.reshape(steps, count)
    state = self._networks.initial_state(self._next_key(), count)
    timesteps = [e.reset() for e in environments]
    rows, saved = [], []
    for i in tqdm.trange(steps, desc='playing', leave=False):
      start = np.array([t.first() for t in timesteps])
      observation = _stack([_flat(t.observation) for t in timesteps])
      state = self._reset(state, start)
      for j in np.flatnonzero(keep[i]):
        saved.append(
          Saved(
            environments[j].get_state(),
            jax.tree.map(lambda x, j=j: x[j].copy(), observation),
            _row(state, j),
          )
        )
      action, state = self._step(self._policy, observation, state)
      action = np.asarray(action)
      timesteps = [e.step(a) for e, a in zip(environments, action)]
      rows.append(
        Play(
          observation=observation,
          action=np.asarray(self._networks.action_space.encode(action)),
          reward=np.array([t.reward for t in timesteps]),
          discount=np.array([t.discount for t in timesteps]),
          start=start,
          levels=jax.device_get(state.memories),
        )
      )
      # An episode's last observation is no step of its own here.
      timesteps = [
        e.reset() if t.last() else t for e, t in zip(environments, timesteps)
      ]
    return _stack(rows), saved

  def _believe(self, levels: Sequence[np.ndarray]) -> 'Belief':
    """What level 0 takes of packed memories [N, n] of all levels."""
    memories = self._networks.memories(levels)
    code = hierarchy.subgoal(memories, 0)
    return self._judge(memories[0].state, code)

  @functools.cached_property
  def _judge(self):
    level, params = self._level, self._params

    def judge(state, code):
      features = level.world_model.predict(params.world_model, state).features
      inputs = level.policy_inputs(features, code)
      value = level.behaviour.value(params.critics[level_lib.EXTRINSIC], inputs)
      policy = level.actor.apply(params.actor, inputs)
      return Belief(state, features, code, value, policy.log_probs)

    return jax.jit(judge)

  def _windows(self, play: Play) -> world_model.Sequence:
    """The play in sequences of T steps, as training sees it: [W, T, ...]."""
    length = self._learned.run.config.sequence_length
    most = len(play.reward) // length * length
    if not most:
      raise ValueError(
        f'--steps={_STEPS.value} are less than a sequence of {length} steps in '
        f'each of {self._ENVIRONMENTS} environments.'
      )

    def cut(x):
      x = x[:most].swapaxes(0, 1)
      return x.reshape((-1, length) + x.shape[2:])

    sequence = world_model.Sequence(
      play.observation,
      play.action,
      play.reward,
      play.discount,
      play.start,
    )
    return jax.tree.map(cut, self._level.as_learned(sequence))

  @functools.cached_property
  def _observe(self):
    """Trains nothing: States, and Arrivals, of sequences."""

    def observe(key, sequence):
      came = world_model.arrivals(sequence, _AsEncoded())
      state = self._level.world_model.observe(
        self._params.world_model,
        key,
        sequence.observation,
        came.previous_action,
        sequence.start_of_episode,
      )
      return state, came

    return jax.jit(observe)

  def _rewards(self, play: Play) -> dict[str, Any]:
    """Are rewards predicted as large as they are, now and k steps ahead?"""
    windows = self._windows(play)
    state, came = self._observe(self._next_key(), windows)
    length = windows.reward.shape[1]
    seen = length // 2
    ahead = [k for k in _AHEAD if k < length - seen]
    predict = jax.jit(self._level.world_model.predict)
    prediction = predict(self._params.world_model, state)
    forecast = jax.jit(
      jax.vmap(
        lambda key, start, action: (
          diagnostics.forecast(
            self._level, self._params.world_model, key, start, action
          ).reward
        ),
        (0, None, None),
      )
    )
    expected = forecast(
      jax.random.split(self._next_key(), 16),
      self._level.world_model.starts(state, slice(seen, seen + 1), length),
      came.previous_action[:, seen + 1 :],
    ).mean(0)
    same = np.cumsum(windows.start_of_episode[:, seen + 1 :], 1) == 0
    found = {}
    for k in ahead:
      if k == 0:
        known = np.asarray(came.known)
        pair = np.asarray(prediction.reward)[known], came.reward[known]
      else:
        chosen = same[:, k - 1]
        pair = expected[chosen, k - 1], came.reward[chosen, seen + k]
      found[f'{k}_ahead'] = _agreement(*map(np.asarray, pair))
    return found

  def _values(self, play: Play) -> dict[str, Any]:
    """Are values near the returns of the same policy?"""
    discount = self._settings.discount
    belief = jax.device_get(self._believe(_rows(play.levels)))
    value = belief.value.reshape(play.reward.shape)
    reward = np.asarray(self._level.reward_as_learned(play.reward))
    returns = np.zeros_like(value)
    following = value[-1]
    for t in reversed(range(len(value))):
      if t + 1 < len(value):
        # What comes after a truncation is not known.
        cut = play.start[t + 1] & (play.discount[t] > 0)
        following = np.where(cut, value[t], following)
      following = reward[t] + discount * play.discount[t] * following
      returns[t] = following
    # Nothing is said where the guess at the end counts for more than 5 %.
    far = int(np.ceil(np.log(0.05) / np.log(discount))) if discount < 1 else 0
    most = max(1, len(value) - far)
    return _agreement(value[:most].ravel(), returns[:most].ravel())

  def _entropy(self, play: Play) -> float:
    log_probs = np.asarray(self._believe(_rows(play.levels)).log_probs)
    return float(-np.sum(np.exp(log_probs) * log_probs, (-2, -1)).mean())

  def _states(self, play: Play) -> dict[str, Any]:
    """Does acting see the h that training saw?"""
    state, _ = self._observe(self._next_key(), self._windows(play))
    trained = np.asarray(state.deter).reshape(-1, state.deter.shape[-1])
    acted = np.asarray(self._believe(_rows(play.levels)).state.deter)
    low, high = trained.min(0), trained.max(0)
    outside = (acted < low) | (acted > high)
    return {
      'share_of_h_outside_of_training': float(outside.mean()),
      'distance_of_means_in_deviations': float(
        np.mean(np.abs(acted.mean(0) - trained.mean(0)) / trained.std(0))
      ),
    }

  def _actions(self, saved: Sequence[Saved]) -> dict[str, Any]:
    """Do first actions count for as much in imagination as in truth?"""
    horizon = self._settings.horizon
    count = self._networks.action_space.classes
    if self._networks.action_space.num_choices != 1:
      return {}
    environments = self._make(count)
    emulated, imagined, bootstrapped, policy = [], [], [], []
    for moment in tqdm.tqdm(saved, desc='trying actions', leave=False):
      rows = jax.tree.map(
        lambda x: np.repeat(x[None], count, 0), moment.observation
      )
      state = moment.actor._replace(
        **{
          name: jax.tree.map(
            lambda x: jnp.repeat(x, count, 0), getattr(moment.actor, name)
          )
          for name in ('time', 'memories', 'did')
        }
      )
      _, state = self._step(self._policy, rows, state)
      belief = self._believe(state.memories)
      policy.append(np.exp(np.asarray(belief.log_probs[0, 0])))
      emulated.append(
        [
          self._emulate(environments, moment, state, horizon)
          for _ in range(_REPEATS.value)
        ]
      )
      one = jax.tree.map(lambda x: x[:1], (belief.state, belief.features))
      code = None if belief.code is None else belief.code[:1]
      sums, values = self._imagine(self._next_key(), *one, code)
      imagined.append(np.asarray(sums))
      bootstrapped.append(np.asarray(sums + values))
    emulated = np.array(emulated)  # [states, repeats, actions]
    imagined = np.array(imagined)
    bootstrapped = np.array(bootstrapped)
    policy = np.array(policy)
    truth, model, full = (
      emulated.mean(1),
      imagined.mean(1),
      bootstrapped.mean(1),
    )
    half = len(emulated[0]) // 2
    found = {
      'horizon': horizon,
      'return': {'real': float(truth.mean()), 'imagined': float(model.mean())},
      'spread_over_states': {
        'real': float(truth.mean(1).std()),
        'imagined': float(model.mean(1).std()),
      },
      'spread_over_actions_of_a_state': {
        'real_with_noise': float(_centred(truth).std()),
        'real_noise': float(
          (
            emulated.std(1, ddof=1) if len(emulated[0]) > 1 else truth * 0
          ).mean()
          / np.sqrt(len(emulated[0]))
        ),
        'imagined': float(_centred(model).std()),
        'imagined_noise': float(
          imagined.std(1).mean() / np.sqrt(imagined.shape[1])
        ),
        'imagined_with_value': float(_centred(full).std()),
      },
      'noise_of_one_imagined_return': float(bootstrapped.std(1).mean()),
      'correlation_over_states': _correlation(truth.mean(1), model.mean(1)),
      'correlation_over_actions': _correlation(
        _centred(truth), _centred(model)
      ),
      'correlation_over_actions_with_value': _correlation(
        _centred(truth), _centred(full)
      ),
      'policy_gain_over_uniform': {
        'real': float(np.sum((policy - 1 / count) * truth, 1).mean()),
        'imagined': float(np.sum((policy - 1 / count) * model, 1).mean()),
        'imagined_with_value': float(
          np.sum((policy - 1 / count) * full, 1).mean()
        ),
      },
      'mean_by_action': {
        'real': truth.mean(0).round(3).tolist(),
        'imagined': model.mean(0).round(3).tolist(),
        'imagined_with_value': full.mean(0).round(3).tolist(),
        'policy': policy.mean(0).round(3).tolist(),
      },
    }
    if half:
      # The same measured twice agrees no better than that.
      found['correlation_of_two_real_halves'] = _correlation(
        _centred(emulated[:, :half].mean(1)),
        _centred(emulated[:, half : 2 * half].mean(1)),
      )
    return found

  def _emulate(
    self,
    environments: Sequence[Any],
    moment: Saved,
    state: hierarchy.ActorState,
    horizon: int,
  ) -> np.ndarray:
    """Discounted rewards [A] after each first action, then by the policy.

    They are as the model learns them, and so as it imagines them.
    """
    for environment in environments:
      environment.set_state(moment.environment)
    space = self._networks.action_space
    actions = space.to_numpy(space.decode(jnp.eye(len(environments))))
    state = self._networks.replace_action(state, jnp.asarray(actions))
    state = state._replace(key=self._next_key())
    total = np.zeros(len(environments))
    factor = np.ones(len(environments))
    timesteps = [None] * len(environments)
    for _ in range(horizon):
      reward, weight = np.zeros_like(total), factor.copy()
      for i, environment in enumerate(environments):
        if factor[i] > 0:
          timesteps[i] = environment.step(actions[i])
          reward[i] = timesteps[i].reward
          factor[i] *= self._settings.discount * timesteps[i].discount
          if timesteps[i].last():
            factor[i] = 0.0
      total += weight * np.asarray(self._level.reward_as_learned(reward))
      observation = _stack([_flat(t.observation) for t in timesteps])
      actions, state = self._step(self._policy, observation, state)
      actions = np.asarray(actions)
    return total

  @functools.cached_property
  def _imagine(self):
    """Discounted rewards and last values [samples, A] after each action."""
    level, params = self._level, self._params
    count = self._networks.action_space.classes
    settings = self._settings

    def imagine(key, state, features, code):
      rows = _SAMPLES.value * count
      state, features, code = jax.tree.map(
        lambda x: jnp.repeat(x, rows, 0), (state, features, code)
      )
      first = jnp.tile(jnp.eye(count), (_SAMPLES.value, 1))

      def step(carry, inputs):
        state, factor, total, action = carry
        model_key, policy_key = jax.random.split(inputs)
        state = level.world_model.imagine_step(
          params.world_model, model_key, state, action
        )
        prediction = level.world_model.predict(params.world_model, state)
        total += factor * prediction.reward
        factor *= settings.discount * prediction.continuation
        inputs = level.policy_inputs(prediction.features, code)
        action = level.actor.apply(params.actor, inputs).sample(policy_key)
        return (state, factor, total, action), None

      start = (state, jnp.ones(rows), jnp.zeros(rows), first)
      (state, factor, total, _), _ = jax.lax.scan(
        step, start, jax.random.split(key, settings.horizon)
      )
      prediction = level.world_model.predict(params.world_model, state)
      value = level.behaviour.value(
        params.critics[level_lib.EXTRINSIC],
        level.policy_inputs(prediction.features, code),
      )
      return total.reshape(-1, count), (factor * value).reshape(-1, count)

    return jax.jit(imagine)


class Belief(NamedTuple):
  """Of level 0 in N states."""

  state: world_model.State
  features: Any
  code: Any
  value: jax.Array
  log_probs: jax.Array


class _AsEncoded:
  """An action space whose actions are encoded already."""

  def encode(self, action):
    return action


def _flat(observation: Any) -> dict[str, np.ndarray]:
  # Environments may write the next one into the same array.
  return {
    name: np.array(x)
    for name, x in spaces.flatten_observation(observation).items()
  }


def _stack(trees: Sequence[Any]) -> Any:
  return jax.tree.map(lambda *x: np.stack(x), *trees)


def _row(state: hierarchy.ActorState, index: int) -> hierarchy.ActorState:
  """One environment's part, as a batch of one."""
  rows = jax.tree.map(
    lambda x: np.asarray(x)[index : index + 1],
    (state.time, state.memories, state.did),
  )
  return hierarchy.ActorState(np.asarray(state.key), *rows)


def _rows(levels: Sequence[np.ndarray]) -> list[np.ndarray]:
  """[S, N, n] to [S N, n]."""
  return [x.reshape(-1, x.shape[-1]) for x in levels]


def _centred(x: np.ndarray) -> np.ndarray:
  return x - x.mean(-1, keepdims=True)


def _correlation(x: np.ndarray, y: np.ndarray) -> float | None:
  x, y = x.ravel() - x.mean(), y.ravel() - y.mean()
  size = np.sqrt((x @ x) * (y @ y))
  return float(x @ y / size) if size > 0 else None


def _agreement(predicted: np.ndarray, real: np.ndarray) -> dict[str, Any]:
  """How predictions fit what came, and by their size."""
  order = np.argsort(predicted, kind='stable')
  tenths = np.array_split(order, 10)
  variance = real.var()
  return {
    'mean_predicted': float(predicted.mean()),
    'mean_real': float(real.mean()),
    'correlation': _correlation(predicted, real),
    'explained': float(1 - np.mean((predicted - real) ** 2) / variance)
    if variance > 0
    else None,
    'predicted_by_tenth': [
      round(float(predicted[i].mean()), 3) for i in tenths if len(i)
    ],
    'real_by_tenth': [
      round(float(real[i].mean()), 3) for i in tenths if len(i)
    ],
  }


if __name__ == '__main__':
  app.run(main)
