"""Checks of a configuration before anything is trained."""

from tfvp import registry
from tfvp.errors import UserError
from tfvp.training.validation import VALIDATION_METRICS


def check_clips(config):
    """Checks what a batch of training clips is made of.

    Raises:
        UserError: the first number that is too small.
    """
    _positive({"train.batch_size": config.train.batch_size, "data.frame_stride": config.data.frame_stride})
    if config.train.seq_len < 2:
        raise UserError(f"train.seq_len={config.train.seq_len} is too short; a clip needs at least 2 frames")


def check(config, replicas):
    """Checks that no options contradict one another.

    Raises:
        UserError: the first contradiction, with what to change.
    """
    settings, evaluation = config.train, config.eval
    check_clips(config)
    positive = {
        "train.epochs": settings.epochs,
        "train.accumulate": settings.accumulate,
        "train.steps_per_execution": settings.steps_per_execution,
        "train.log_steps": settings.log_steps,
        "train.validate_every": settings.validate_every,
        "train.validation_examples": settings.validation_examples,
        "train.gif_examples": settings.gif_examples,
        "train.nonfinite_patience": settings.nonfinite_patience,
        "train.learning_rate": settings.learning_rate,
        "train.ema_every": settings.ema_every,
        "train.cycle_initial_div": settings.cycle_initial_div,
        "train.cycle_final_div": settings.cycle_final_div,
        "eval.open_loop_ctx": evaluation.open_loop_ctx,
        "eval.batch_size": evaluation.batch_size,
        "eval.chunk": evaluation.chunk,
        "eval.num_samples": evaluation.num_samples,
        "data.channels": config.data.channels,
        "data.image_size": min(_pair(config.data.image_size), default=0),
    }
    _positive(positive)
    not_negative = {
        "train.early_stopping": settings.early_stopping,
        "train.clip_norm": settings.clip_norm,
        "train.warmup_epochs": settings.warmup_epochs,
        "train.validation_seq_len": settings.validation_seq_len,
        "train.validate_steps": settings.validate_steps,
        "train.validate_minutes": settings.validate_minutes,
        "train.sample_steps": settings.sample_steps,
        "train.sample_minutes": settings.sample_minutes,
        "train.log_minutes": settings.log_minutes,
        "train.keep_checkpoints": settings.keep_checkpoints,
        "train.checkpoint_minutes": settings.checkpoint_minutes,
        "train.backup_minutes": settings.backup_minutes,
    }
    for key, value in not_negative.items():
        if value < 0:
            raise UserError(f"{key}={value} must not be negative; 0 turns it off")
    if settings.profile and (len(settings.profile) != 2 or not 0 <= settings.profile[0] <= settings.profile[1]):
        raise UserError("train.profile takes two numbers of steps, [first, last], or []")
    if settings.xla and replicas > 1:
        raise UserError(
            f"train.xla=true compiles the step of one device; with {replicas} devices their gradients are added up"
            " within the step, which XLA cannot compile. Set train.xla=false, or train.devices=1"
        )
    if not 0 <= settings.seed < 2**32:
        raise UserError(f"train.seed={settings.seed} must be from 0 to {2**32 - 1}")
    if settings.plateau_patience < 0 or settings.ema_start < 0:
        raise UserError("train.plateau_patience and train.ema_start must not be negative")
    if config.data.crop_margin < 0:
        raise UserError(f"data.crop_margin={config.data.crop_margin} must not be negative")
    if settings.devices < 0 or settings.steps_per_epoch < 0:
        raise UserError("train.devices and train.steps_per_epoch must not be negative; 0 lets tfvp choose")
    if not 0.0 <= settings.ema_decay < 1.0:
        raise UserError(f"train.ema_decay={settings.ema_decay} must be at least 0 and below 1; 0 turns the average off")
    frames = settings.validation_seq_len or settings.seq_len
    if evaluation.open_loop_ctx >= frames:
        raise UserError(
            f"eval.open_loop_ctx={evaluation.open_loop_ctx} leaves nothing to predict in validation clips of {frames}"
            " frames; raise train.seq_len or train.validation_seq_len, or lower eval.open_loop_ctx"
        )
    parts = replicas * settings.accumulate
    if settings.batch_size % parts:
        raise UserError(
            f"train.batch_size={settings.batch_size} does not divide into {replicas} devices x {settings.accumulate}"
            f" micro-batches; use a multiple of {parts}"
        )
    if settings.cycle_momentum and len(settings.cycle_momentum) != 2:
        raise UserError("train.cycle_momentum takes two numbers, [at the peak, at the ends], or []")


def check_steps(config, steps):
    """Checks the number of steps in an epoch.

    Raises:
        UserError: there are none.
    """
    settings = config.train
    if steps == 0:
        raise UserError(
            f"data set {config.data.name} has fewer training clips than one batch of {settings.batch_size};"
            " lower train.batch_size or set train.steps_per_epoch"
        )


def check_recompute(recompute, model):
    """Checks that the model can compute activations again.

    Raises:
        UserError: `recompute` is set, and the model has no such blocks.
    """
    if recompute and not model.can_recompute:
        raise UserError(
            f"{model.registered_name} does not support train.recompute; set it to false, and train.batch_size lower or"
            " train.accumulate higher to save memory"
        )


def check_micro_batches(settings, model):
    """Checks that a micro-batch has the clips that the model learns from.

    Raises:
        UserError: it has fewer than `model.fewest_training_clips`.
    """
    clips = settings.batch_size // settings.accumulate  # statistics are those of all devices
    if clips < model.fewest_training_clips:
        raise UserError(
            f"train.batch_size={settings.batch_size} with train.accumulate={settings.accumulate} makes micro-batches of"
            f" {clips}: {model.registered_name} learns from {model.fewest_training_clips} clips or more at once; raise"
            " train.batch_size or lower train.accumulate"
        )


def has_batch_norm(model):
    """Whether a layer of a built model keeps running statistics of batches."""
    return any(variable.name.split(":")[0].endswith("moving_variance") for variable in model.non_trainable_variables)


def _positive(values):
    for key, value in values.items():
        if value <= 0:
            raise UserError(f"{key}={value} must be greater than 0")


def _pair(size):
    return (size, size) if isinstance(size, int) else tuple(size)


def check_monitor(name, model):
    """Checks the name of the metric that decides which weights are best.

    Raises:
        UserError: `name` is not a logged validation metric.
    """
    names = [f"val_{term}" for term in model.term_names]
    names += [f"{split}_{metric}" for split in ("val", "train") for metric in VALIDATION_METRICS]
    if name not in names:
        raise UserError(
            f"train.monitor: {name!r} is not a logged validation metric{registry.nearest(name, names)}; choose"
            f" one of {', '.join(names)}"
        )
