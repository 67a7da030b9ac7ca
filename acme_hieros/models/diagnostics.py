"""Numbers that tell whether a level's world model and its subgoals work.

All of them are taken from replay: what the level did, judged by what it
believes now.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from acme_hieros.models import distributions, subgoals, world_model
from acme_hieros.models import level as level_lib

Array = jax.Array

# Steps ahead at which predictions are judged, as far as sequences reach.
HORIZONS = (1, 2, 5, 10, 20, 50)


# What varies less is a constant, of which no share can be explained.
_LEAST_VARIANCE = 1e-8


class Forecast(NamedTuple):
  """What a level expects of the steps ahead, without looking, [B, H, ...].

  observation: by name, as the decoder gives it; reward as it is learned, see
    `Level.as_learned`.
  """

  observation: dict[str, Array]
  reward: Array
  continuation: Array


def forecast(
  level: level_lib.Level,
  params: Any,
  key: Array,
  start: world_model.State,
  action: Array,
) -> Forecast:
  """Follows the prior under given actions: an open-loop prediction.

  Args:
    level: whose world model it is.
    params: of its world model.
    key: random key.
    start: the states [B, ...] to start from.
    action: encoded actions [B, H, A], taken from the start on.

  Returns:
    A Forecast of the H states that the actions lead to.
  """

  def step(state, inputs):
    key, action = inputs
    state = level.world_model.imagine_step(params, key, state, action)
    return state, state

  keys = jax.random.split(key, action.shape[1])
  _, states = jax.lax.scan(step, start, (keys, action.swapaxes(0, 1)))
  states = jax.tree.map(lambda x: x.swapaxes(0, 1), states)
  prediction = level.world_model.predict(params, states)
  return Forecast(
    observation=level.world_model.decode(params, states),
    reward=prediction.reward,
    continuation=prediction.continuation,
  )


def diagnose(
  level: level_lib.Level,
  params: level_lib.Params,
  key: Array,
  batch: level_lib.Batch,
) -> dict[str, Array]:
  """Judges a level by a batch of its replay.

  Args:
    level: the level.
    params: all of its parameters.
    key: random key.
    batch: [B, T, ...], best one that it has not just learned from.

  Returns:
    Scalars by name; NaN where the batch holds no case of what is measured.
    Errors of observations are shares of the batch's variance: 0 is perfect, and
    the batch's mean would have 1.
  """
  observe_key, forecast_key, code_key, errand_key = jax.random.split(key, 4)
  sequence = level.as_learned(batch.sequence)
  came = world_model.arrivals(sequence, level.action_space)
  state = level.world_model.observe(
    params.world_model,
    observe_key,
    sequence.observation,
    came.previous_action,
    sequence.start_of_episode,
  )
  metrics = _prediction_errors(
    level, params.world_model, forecast_key, sequence, came, state
  )
  if level.autoencoder:
    coded = subgoals.reconstruct(
      level.autoencoder, params.autoencoder, code_key, state.deter
    )
    target = distributions.symlog(state.deter)
    metrics['autoencoder_unexplained'] = jnp.mean(coded.error) / _variance(
      target
    )
    if level.subgoal_space and batch.subgoal is not None:
      code = level.subgoal_space.encode(batch.subgoal)
      goal = level.autoencoder.decode(params.autoencoder, code)
      metrics.update(
        subgoal_metrics(
          goal, batch.subgoal, state.deter, sequence.start_of_episode
        ),
        **_errand_metrics(level, params, errand_key, state, coded.log_probs),
        **code_metrics(batch.subgoal, level.subgoal_space.classes),
      )
  return metrics


def _errand_metrics(
  level: level_lib.Level,
  params: level_lib.Params,
  key: Array,
  state: world_model.State,
  log_probs: Array,
) -> dict[str, Array]:
  """Whether imagined steps lead to states of replay, if told to.

  Each state of the batch is left for two others, whose likeliest codes are the
  subgoals for as many steps as subgoals last. Only imagined states with as many
  steps behind them are compared: what was seen is more like all goals.

  Args:
    level, params: as in `diagnose`.
    key: random key.
    state: posterior states [B, T].
    log_probs: of their codes, [B, T, count, classes].

  Returns:
    errand_end_similarity: of h at the end to the subgoal;
    errand_other_similarity: of h at the end of the other errand to it;
    errand_reached: share of the errands whose own end is more similar than the
    other's; ties count half (by chance 1/2).
  """
  assert level.autoencoder
  start = level.world_model.starts(state, slice(None), level.duration)
  features = level.world_model.predict(params.world_model, start).features
  count, classes = len(start.deter), log_probs.shape[-1]
  code = jax.nn.one_hot(jnp.argmax(log_probs, -1), classes)
  code = code.reshape((count, -1))
  # By thirds of the batch: neither is near the start or the other.
  codes = jnp.stack([jnp.roll(code, i * count // 3, 0) for i in (1, 2)])
  acting = level_lib.PolicyParams(
    params.world_model, params.actor, params.manager
  )

  def end(key, code):
    memory = level.actor.initial_state(count)
    trajectory = level.imagine(
      acting, key, start, features, code, memory, level.duration
    )
    return trajectory.deter[-1]

  ends = jax.vmap(end)(jax.random.split(key), codes)
  goals = level.autoencoder.decode(params.autoencoder, codes)
  own = subgoals.similarity(goals, ends)
  other = subgoals.similarity(goals, ends[::-1])
  return {
    'errand_reached': jnp.mean(0.5 + 0.5 * jnp.sign(own - other)),
    'errand_end_similarity': jnp.mean(own),
    'errand_other_similarity': jnp.mean(other),
  }


def _prediction_errors(
  level: level_lib.Level,
  params: Any,
  key: Array,
  sequence: world_model.Sequence,
  came: world_model.Arrivals,
  state: world_model.State,
) -> dict[str, Array]:
  """Errors of what is seen (horizon 0) and of what is expected, open loop."""
  length = sequence.reward.shape[1]
  # As far ahead as leaves a fifth to look at first.
  longest = max(h for h in HORIZONS if h <= length - max(1, length // 5))
  context = length - longest
  targets = {
    name: space.encode(sequence.observation[name])
    for name, space in level.observation_spaces.items()
  }

  def unexplained(decoded, targets, weight):
    """[B, H, ...] by name to [H]: the mean over observations that vary."""
    shares = []
    for name, target in targets.items():
      axes = tuple(range(2, target.ndim))
      error = jnp.sum(jnp.square(decoded[name] - target), axes)
      shares.append(_mean(error, weight, 0) / variances[name])
    return jnp.nanmean(jnp.stack(shares), 0)

  variances = {name: _variance(x) for name, x in targets.items()}
  seen = level.world_model.decode(params, state)
  everywhere = jnp.ones(sequence.reward.shape, bool)
  metrics = {
    'reconstruction_error': jnp.mean(unexplained(seen, targets, everywhere))
  }
  expected = forecast(
    level,
    params,
    key,
    level.world_model.starts(state, slice(context - 1, context), longest),
    came.previous_action[:, context:],
  )
  # A new episode cannot be foreseen.
  same = jnp.cumsum(sequence.start_of_episode[:, context:], 1) == 0
  targets, came = jax.tree.map(lambda x: x[:, context:], (targets, came))
  observation = unexplained(expected.observation, targets, same)
  reward = _mean(jnp.abs(expected.reward - came.reward), same, 0)
  continuation = _mean(
    jnp.abs(expected.continuation - came.continuation), same, 0
  )
  for horizon in HORIZONS:
    if horizon <= longest:
      metrics[f'open_loop_error_{horizon}'] = observation[horizon - 1]
      metrics[f'open_loop_reward_error_{horizon}'] = reward[horizon - 1]
      metrics[f'open_loop_continuation_error_{horizon}'] = continuation[
        horizon - 1
      ]
  return metrics


def subgoal_metrics(
  goal: Array,
  subgoal: Array,
  deter: Array,
  start_of_episode: Array,
) -> dict[str, Array]:
  """Whether subgoals are reached: similarity of h at their end and start.

  A subgoal lasts from the step at which it is set until another is set or the
  episode ends; one that is set again goes on. Its end is the state that its
  last action led to. Those that the sequence cuts are left out.

  Args:
    goal: decoded subgoals [B, T, D], in symlog space.
    subgoal: their codes [B, T, categoricals].
    deter: h [B, T, D].
    start_of_episode: bool [B, T].

  Returns:
    subgoal_start_similarity, subgoal_end_similarity: of h to the subgoal;
    subgoal_random_similarity: of h at the end to another subgoal of the run;
    subgoal_reached: share of the subgoals whose end is more similar than both
    (at most 1/3 by chance).
  """
  length = subgoal.shape[1]
  another = jnp.any(subgoal[:, 1:] != subgoal[:, :-1], -1)
  begins = start_of_episode.at[:, 1:].set(start_of_episode[:, 1:] | another)
  steps = jnp.arange(length)
  begin = jax.lax.cummax(jnp.where(begins, steps, -1), axis=1)

  def following(x):
    """The next step's [B, T]; False after the last."""
    return jnp.pad(x[:, 1:], ((0, 0), (0, 1)))

  # The step after a subgoal's last one shows where that led to, unless a new
  # episode begins there.
  end = steps + 1 - following(start_of_episode)
  valid = following(begins) & (begin >= 0) & (end > begin)

  def at(x, index):
    return jnp.take_along_axis(x, index.clip(0, length - 1)[..., None], 1)

  arrived = at(deter, end)
  random = _another(goal.reshape((-1, goal.shape[-1]))).reshape(goal.shape)
  first = subgoals.similarity(goal, at(deter, begin))
  last = subgoals.similarity(goal, arrived)
  other = subgoals.similarity(random, arrived)
  reached = (last > first) & (last > other)
  return {
    f'subgoal_{name}': _mean(x.astype(jnp.float32), valid)
    for name, x in (
      ('reached', reached),
      ('start_similarity', first),
      ('end_similarity', last),
      ('random_similarity', other),
    )
  }


def _another(rows: Array) -> Array:
  """For each of N rows another, far from it."""
  return jnp.roll(rows, len(rows) // 2, 0)


def code_metrics(code: Array, classes: int) -> dict[str, Array]:
  """How many different subgoals there are.

  Args:
    code: class indices [B, T, categoricals].
    classes: of each categorical.

  Returns:
    code_entropy: of a categorical, as a share of log(classes), their mean;
    distinct_codes: number of different codes among the batch's B T.
  """
  code = code.reshape((-1, code.shape[-1])).astype(jnp.int32)
  share = jnp.mean(jax.nn.one_hot(code, classes), 0)
  entropy = -jnp.sum(jax.scipy.special.xlogy(share, share), -1)
  order = jnp.lexsort(code.T)
  changes = jnp.any(code[order][1:] != code[order][:-1], -1)
  return {
    'code_entropy': jnp.mean(entropy) / jnp.log(max(classes, 2)),
    'distinct_codes': 1.0 + jnp.sum(changes),
  }


def _variance(x: Array) -> Array:
  """Of [B, T, ...], summed over all but B and T; NaN for a constant."""
  variance = jnp.sum(jnp.var(x, (0, 1)))
  return jnp.where(variance > _LEAST_VARIANCE, variance, jnp.nan)


def _mean(x: Array, weight: Array, axis: int | None = None) -> Array:
  """Mean of x where weight (bool) is set; NaN where it is so nowhere."""
  count = jnp.sum(weight, axis)
  return jnp.where(
    count > 0, jnp.sum(jnp.where(weight, x, 0.0), axis) / count, jnp.nan
  )
