"""Hieros as an Acme builder."""

from collections.abc import Iterator, Sequence

from acme import adders as adders_lib
from acme import core, specs
from acme.agents.jax import builders
from acme.jax import networks as networks_lib
from acme.jax import variable_utils
from acme.utils import counting
import reverb

from acme_hieros.agent import acting, learning
from acme_hieros.agent import adders as hieros_adders
from acme_hieros.agent import networks as hieros_networks
from acme_hieros.config import HierosConfig
from acme_hieros.models import hierarchy
from acme_hieros.replay import datasets, tables


class HierosBuilder(builders.ActorLearnerBuilder):
  """Builds Hieros for any of Acme's layouts.

  Example:
    builder = HierosBuilder(config)
    spec = acme.make_environment_spec(environment)
    networks = make_networks(config, spec)
    agent = LocalLayout(seed, spec, builder, networks, make_policy(networks),
                        batch_size=config.batch_size, ...)
  """

  def __init__(
    self,
    config: HierosConfig,
    logger_fn: learning.LoggerFactory | None = None,
    seed: int | None = None,
    limit_ratio: bool = False,
  ):
    """Creates a builder.

    Args:
      config: the agent's configuration.
      logger_fn: label ('level_0', ...) to the logger of a level's learning.
      seed: of what is drawn from the replay. With one, batches are drawn when
        the learner asks for them: where actor and learner take turns in one
        process, the same run draws the same. None: batches are prefetched.
      limit_ratio: let Reverb hold the replay ratio, whatever the number of
        actors: it blocks the actors or the learner, whoever is ahead. Not where
        they take turns in one thread.
    """
    self._config = config
    self._logger_fn = logger_fn
    self._seed = seed
    self._limit_ratio = limit_ratio

  def make_replay_tables(
    self, environment_spec: specs.EnvironmentSpec
  ) -> list[reverb.Table]:
    networks = hieros_networks.make_networks(self._config, environment_spec)
    levels = tables.make_tables(
      self._config, networks, environment_spec, self._seed
    )
    if not self._limit_ratio:
      return levels
    return [
      *levels,
      tables.make_step_table(self._config),
    ]

  def make_dataset_iterator(
    self, replay_client: reverb.Client
  ) -> Iterator[datasets.LevelBatches]:
    return datasets.LevelDataset(
      replay_client,
      self._config,
      prefetch=self._seed is None,
      limit_ratio=self._limit_ratio,
    )

  def make_adder(
    self, replay_client: reverb.Client
  ) -> hieros_adders.HierarchicalAdder:
    return hieros_adders.HierarchicalAdder(
      replay_client, self._config, self._limit_ratio
    )

  def make_actor(
    self,
    random_key: networks_lib.PRNGKey,
    policy_network: hieros_networks.HierosPolicy,
    adder: adders_lib.Adder | None = None,
    variable_source: core.VariableSource | None = None,
  ) -> acting.HierosActor:
    if variable_source is None:
      raise ValueError(
        'make_actor needs a variable_source, as a learner is, to act by.'
      )
    return acting.HierosActor(
      policy_network, random_key, self._variable_client(variable_source), adder
    )

  def make_batch_actor(
    self,
    random_key: networks_lib.PRNGKey,
    policy: hieros_networks.BatchPolicy,
    adders: Sequence[adders_lib.Adder | None],
    variable_source: core.VariableSource,
  ) -> acting.BatchActor:
    """Creates an actor for as many environments as there are adders."""
    return acting.BatchActor(
      policy, random_key, self._variable_client(variable_source), adders
    )

  def _variable_client(
    self, source: core.VariableSource
  ) -> variable_utils.VariableClient:
    return variable_utils.VariableClient(
      source,
      'policy',
      update_period=self._config.variable_update_period,
      device='cpu',
    )

  def make_learner(
    self,
    random_key: networks_lib.PRNGKey,
    networks: hierarchy.Hierarchy,
    dataset: Iterator[datasets.LevelBatches],
    replay_client: reverb.Client | None = None,
    counter: counting.Counter | None = None,
  ) -> learning.HierosLearner:
    del replay_client  # Priorities are never updated.
    return learning.HierosLearner(
      networks, random_key, dataset, counter, self._logger_fn
    )


class HierosExperimentBuilder(HierosBuilder):
  """Builds Hieros for the experiments of Acme's repository.

  Since its last release, 0.4.0, builders also make the policy, and get it, the
  environment's spec and a function that makes loggers
  (github.com/google-deepmind/acme, acme/agents/jax/builders.py and
  acme/jax/experiments/run_experiment.py).

  Example:
    experiment = experiments.ExperimentConfig(
        HierosExperimentBuilder(config), environment_factory=...,
        network_factory=lambda spec: make_networks(config, spec), ...)
  """

  def make_policy(
    self,
    networks: hierarchy.Hierarchy,
    environment_spec: specs.EnvironmentSpec,
    evaluation: bool = False,
  ) -> hieros_networks.HierosPolicy:
    del environment_spec, evaluation  # It is evaluated as it acts.
    return hieros_networks.make_policy(networks)

  def make_replay_tables(
    self,
    environment_spec: specs.EnvironmentSpec,
    policy: hieros_networks.HierosPolicy,
  ) -> list[reverb.Table]:
    del policy  # What it adds follows from the configuration.
    return super().make_replay_tables(environment_spec)

  def make_adder(
    self,
    replay_client: reverb.Client,
    environment_spec: specs.EnvironmentSpec | None = None,
    policy: hieros_networks.HierosPolicy | None = None,
  ) -> hieros_adders.HierarchicalAdder:
    del environment_spec, policy
    return super().make_adder(replay_client)

  def make_actor(
    self,
    random_key: networks_lib.PRNGKey,
    policy: hieros_networks.HierosPolicy,
    environment_spec: specs.EnvironmentSpec,
    variable_source: core.VariableSource | None = None,
    adder: adders_lib.Adder | None = None,
  ) -> acting.HierosActor:
    del environment_spec
    return super().make_actor(random_key, policy, adder, variable_source)

  def make_learner(
    self,
    random_key: networks_lib.PRNGKey,
    networks: hierarchy.Hierarchy,
    dataset: Iterator[datasets.LevelBatches],
    logger_fn: learning.LoggerFactory,
    environment_spec: specs.EnvironmentSpec,
    replay_client: reverb.Client | None = None,
    counter: counting.Counter | None = None,
  ) -> learning.HierosLearner:
    """Creates the learner; `logger_fn` counts where the builder has none."""
    del environment_spec, replay_client
    return learning.HierosLearner(
      networks, random_key, dataset, counter, self._logger_fn or logger_fn
    )
