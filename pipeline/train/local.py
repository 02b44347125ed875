"""A training run in this process: torch, no Ray."""

from collections.abc import Sequence

import torch

from pipeline.config import dump_config
from pipeline.errors import ConfigError
from pipeline.normals.checkpoints import check_architecture, load_network
from pipeline.samples.rows import find_row_groups
from pipeline.storage.store import Store
from pipeline.train.checkpoint import CheckpointStore
from pipeline.train.config import TrainConfig
from pipeline.train.data import TrainingData, split_validation
from pipeline.train.folder import TrainingFolder
from pipeline.train.loop import LocalWorker, Trainer


def load_data(config: TrainConfig, paths: Sequence[str], validation: Sequence[str] = ()) -> TrainingData:
    """Finds the rows to train and to validate on.

    Without validation data, `data.validation` of the training rows are kept for it.

    Raises:
        DataError: The data cannot be used.
        ConfigError: No data is given.
    """
    if not paths and config.data.render_seed is None:
        raise ConfigError("There is nothing to train on: give --data, or set data.render_seed.")
    groups = find_row_groups(paths, config.storage) if paths else []
    if validation:
        held = find_row_groups(validation, config.storage)
    else:
        groups, held = split_validation(groups, config.data.validation)
    return TrainingData(groups, held)


def initial_parameters(init: str | None, architecture: str) -> dict[str, torch.Tensor] | None:
    """Reads parameters to start from: a checkpoint of a run (its moving average) or weights.

    Raises:
        TrainingError: They are of another architecture.
        WeightsError: The weights cannot be read.
    """
    if init is None:
        return None
    network = load_network(init)
    check_architecture(network.architecture, architecture)
    return network.state_dict()


def train_local(
    config: TrainConfig,
    paths: Sequence[str],
    out: str,
    validation: Sequence[str] = (),
    init: str | None = None,
) -> dict[str, float]:
    """Trains in this process; goes on from the last checkpoint in `out` if there is one.

    Returns:
        The last validation metrics.
    """
    data = load_data(config, paths, validation)
    initial = initial_parameters(init, config.architecture)
    store = Store(out, config.storage)
    with TrainingFolder(store) as folder:
        folder.write_text("config.yaml", dump_config(config))
        worker = LocalWorker(CheckpointStore(store, config.output.keep))
        return Trainer(config, data, folder, worker, initial).run()
