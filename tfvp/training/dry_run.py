"""What a training run would be, without making one: `tfvp train --dry-run`."""

import numpy as np

from tfvp import compat
from tfvp.training import arithmetic, loop
from tfvp.training.validation import make_validation


def describe(config, check=None):
    """Plans a run, computes one step of one clip, and writes nothing but what the data set prepares.

    Args:
        config: a `tfvp.config.Config`.
        check: see `tfvp.training.loop.train`.

    Returns:
        A text: data, steps, parameters, bytes, arithmetic, and the first batch.

    Raises:
        UserError: anything that would prevent the training, in one sentence.
    """
    planned = loop.plan(config, check=check)
    make_validation(planned.config, planned.model, planned.dataset)
    batch = {key: value.numpy() for key, value in next(iter(loop.training_batches(planned))).items()}
    return "\n".join([*_data(planned), *_model(planned), *_batch(batch), *_arithmetic(planned, batch)])


def _data(planned):
    dataset, settings = planned.dataset, planned.config.train
    clips = ", ".join(f"{len(dataset.clip_lengths(split)):,} {split}" for split in dataset.splits)
    return [
        f"data set {dataset.name}: {clips} clips",
        *(f"  {note}" for note in dataset.notes()),
        f"{planned.steps:,} steps of {settings.batch_size} clips in an epoch,"
        f" {planned.steps * settings.epochs:,} in {settings.epochs} epochs",
    ]


def _model(planned):
    model = planned.model
    trained, fixed = _size(model.trainable_variables), _size(model.non_trainable_variables)
    slots = [v for optimizer in model.optimizers for v in compat.optimizer_variables(optimizer)]
    average = planned.average.variables if planned.average is not None else []
    total = _bytes([*model.variables, *slots, *average])
    return [
        f"model {planned.config.model.name}: {trained:,} trainable parameters, {fixed:,} others",
        f"  {total / 1e6:,.1f} MB with the optimizer's state"
        + (" and the moving average" if average else "")
        + "; gradients and activations come on top",
    ]


def _arithmetic(planned, batch):
    each = planned.config.train.accumulate  # a micro-batch has at least one clip
    few = {key: value[:each] for key, value in batch.items()}
    replicas = planned.model.distribute_strategy.num_replicas_in_sync
    macs = arithmetic.of_a_step(planned.model, few).macs / (each * replicas)
    clips = planned.config.train.batch_size
    return [
        f"arithmetic: {macs / 1e9:,.3g} GMAC for the step of one clip, forward and backward,"
        f" {macs * clips / 1e9:,.3g} for the batch"
    ]


def _batch(batch):
    lines = ["first batch:"]
    for key, value in batch.items():
        what = f"  {key}: {value.dtype} {list(value.shape)}"
        if value.ndim > 1:
            what += f", from {value.min():.3g} to {value.max():.3g}, mean {value.mean():.3g}"
        lines.append(what)
    return lines


def _size(variables):
    return sum(int(np.prod(v.shape)) for v in variables)


def _bytes(variables):
    dtypes = (compat.backing_variable(v).dtype.as_numpy_dtype for v in variables)
    return sum(int(np.prod(v.shape)) * np.dtype(dtype).itemsize for v, dtype in zip(variables, dtypes))
