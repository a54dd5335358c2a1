"""Training: from a configuration to a run directory, or on from where it stopped."""

import contextlib
import functools
import pathlib
import tempfile
import traceback

import numpy as np
import tensorflow as tf
from tensorflow import keras
from tqdm import tqdm

import tfvp
from tfvp import callbacks, files, optimizers, registry, strategies
from tfvp.backup import Backup
from tfvp.datasets import base as datasets
from tfvp.datasets import pipeline
from tfvp.errors import UserError
from tfvp.layers import label_maps
from tfvp.run import Run

MEAN_FRAME_CLIPS = 256


def train(config, logdir):
    """Trains what `config` describes, resuming where an earlier session of it stopped.

    Args:
        config: a `tfvp.config.Config`.
        logdir: folder of runs; the run is `<logdir>/<config.name>`.

    Returns:
        The `tfvp.run.Run`.

    Raises:
        UserError: anything in the way, in one sentence, before anything is written where
            that can be known beforehand.
    """
    worker = strategies.this_worker()
    try:
        return _train(config, logdir, worker)
    except strategies.LOST_WORKER as error:
        if worker.count == 1:
            raise
        reason = " ".join(str(error).split())[:200]
        # They hold a thread pool of TensorFlow's that a failed call left open. Left to the garbage collector, its
        # queue may be closed first, which prints a stack trace at exit.
        traceback.clear_frames(error.__traceback__)
        raise UserError(
            f"worker {worker.rank} of {worker.count} lost the others ({type(error).__name__}: {reason}); start all"
            " workers again with the same command, and they go on from the last finished epoch"
        ) from None


def _train(config, logdir, worker):
    settings = config.train
    strategy = strategies.make_strategy(settings.devices)
    check(config, strategy.num_replicas_in_sync)
    files.writable_folder(logdir)
    keras.mixed_precision.set_global_policy(settings.precision)
    keras.utils.set_random_seed(settings.seed)
    dataset = datasets.build_dataset(config)
    with strategy.scope():
        model = build_model(config, dataset.frame_shape, settings.batch_size // strategy.num_replicas_in_sync)
    model.check_context(config.eval.open_loop_ctx, "eval.open_loop_ctx")
    callbacks.check_monitor(settings.monitor, model)
    dataset.prepare()
    one_pass = pipeline.steps_in_one_pass(
        dataset, settings.batch_size, settings.seq_len, config.data.window, config.data.frame_stride
    )
    steps = settings.steps_per_epoch or one_pass
    check_steps(config, steps)
    validation = make_validation(config, model, dataset)

    with strategy.scope():
        average = compile_model(config, model, steps)
    with _run_folder(logdir, config, worker) as run, run.locked():
        run.record_environment([d.name for d in tf.config.list_logical_devices()])
        shared = pathlib.Path(logdir) / config.name
        backup = Backup(shared / "backup", model, average, writes=worker.chief)
        _fit(run, config, model, average, dataset, validation, steps, backup, worker)
    return run if worker.chief else Run(shared)


def compile_model(config, model, steps):
    """Gives a built model its optimizers, as the configuration says; to be called in the strategy's scope.

    Args:
        config: a `tfvp.config.Config`.
        model: a built model.
        steps: batches in an epoch.

    Returns:
        The `WeightAverage` that is evaluated and saved in place of the weights, or None.
    """
    settings = config.train

    def make_optimizer():
        return optimizers.build_optimizer(settings, settings.epochs * steps, steps, model.batches_after)

    average = None
    if settings.ema_decay:
        average = optimizers.WeightAverage(model, settings.ema_decay, settings.ema_every, settings.ema_start)
    model.compile(
        optimizer=make_optimizer(),
        **({"others": [make_optimizer() for _ in model.judges]} if hasattr(model, "judges") else {}),
        clip_norm=settings.clip_norm,
        accumulate=settings.accumulate,
        average=average,
        jit_compile=settings.xla,
        steps_per_execution=settings.steps_per_execution,
    )
    return average


@contextlib.contextmanager
def _run_folder(logdir, config, worker):
    """The run; workers other than the chief compute all that it does, and write it to a place that vanishes."""
    if worker.chief:
        yield Run.start(logdir, config)
        return
    with tempfile.TemporaryDirectory(prefix=f"worker-{worker.rank}-") as vanishing:
        yield Run.start(vanishing, config)


def _fit(run, config, model, average, dataset, validation, steps, backup, worker):
    settings = config.train
    state, notes = backup.restore()
    for note in notes:
        tqdm.write(note)
    done = state["epoch"] if state else 0
    strategies.agree(model.distribute_strategy, worker, done, backup.folder)
    run.rewind_metrics(done)
    if state and settings.early_stopping and state["waited"] >= settings.early_stopping or done >= settings.epochs:
        tqdm.write(f"{run.path} is trained already, for {done} epochs; there is nothing left to do")
        return
    if not state:
        _take_over(model)
    else:
        tqdm.write(f"resuming {run.path} after epoch {done} of {settings.epochs}")
    make_batches = functools.partial(
        pipeline.training_batches,
        dataset,
        batch_size=settings.batch_size,
        length=settings.seq_len,
        steps_per_epoch=steps,
        seed=settings.seed,
        first_epoch=done,
        window=config.data.window,
        stride=config.data.frame_stride,
        flip=config.data.flip,
        crop_padding=config.data.crop_padding,
        needs=model.needs,
    )
    batches = strategies.distribute(model.distribute_strategy, worker, make_batches)
    progress = callbacks.Progress(settings.epochs, steps, settings.batch_size * settings.seq_len, shown=worker.chief)
    end = callbacks.EndOfEpoch(run, settings, validation, backup, average, progress, state)
    _save_mean_frame(run, config, dataset, model)
    stop = callbacks.StopWhenNotFinite(settings.nonfinite_patience, settings.steps_per_execution)
    model.fit(
        batches,
        initial_epoch=done,
        epochs=settings.epochs,
        steps_per_epoch=steps,
        verbose=0,
        shuffle=False,
        callbacks=[progress, stop, end],
    )


def _take_over(model):
    """Gives sub-models the weights of the runs that they were trained in.

    Raises:
        UserError: no run is named, or its options are others.
    """
    for name, path in model.pretrained.items():
        option = f"model.{name}_run"
        if not path:
            raise UserError(f"{option} is empty; name the run in which the {name} was trained")
        part, source = getattr(model, name), tfvp.load_run(path)
        ours, theirs = part.get_config(), source.get_config()
        differing = [key for key in ours if ours[key] != theirs.get(key)]
        if type(part) is not type(source) or differing:
            what = "; ".join(f"{key}={theirs.get(key)!r} there, {ours[key]!r} here" for key in differing)
            raise UserError(f"{option}={path} is another model: {what or source.registered_name}; change model.{name}")
        for mine, found in zip(part.variables, source.variables, strict=True):
            mine.assign(found)


def make_model(config, image_shape):
    """A model without weights; see `build_model`."""
    cls = registry.lookup("model", config.model.name)
    dataset = registry.lookup("dataset", config.data.name)
    if "labels" in cls.needs:
        if "labels" not in dataset.provides:
            raise UserError(
                f"model {config.model.name} needs label maps, which data set {config.data.name} does not provide"
            )
        if image_shape[-1] != 3:
            raise UserError(f"model {config.model.name} paints in colour; set data.channels to 3")
        image_shape = (*image_shape[:2], label_maps.CHANNELS)
    options = {k: v.to_dict() if hasattr(v, "to_dict") else v for k, v in config.options("model").items()}
    try:
        return cls(tuple(image_shape), **options)
    except (ValueError, ArithmeticError) as error:  # a layer was given a size that it cannot have
        reason = " ".join(str(error).split())
        raise UserError(
            f"model {config.model.name} cannot be made with these options ({reason}); look for sizes below 1"
        ) from error


def build_model(config, image_shape, batch_size=1):
    """A built model with fresh weights.

    Args:
        config: a `tfvp.config.Config`.
        image_shape: (height, width, channels).
        batch_size: examples per replica that the model is traced with.

    Returns:
        A `tfvp.models.base.VideoModel`.
    """
    model = make_model(config, image_shape)
    image_shape = model.image_shape
    length = config.train.seq_len
    spec = {
        "video": tf.TensorSpec([batch_size, length, *image_shape], tf.float32),
        "id": tf.TensorSpec([batch_size], tf.int64),
    }
    for key in model.needs:
        if key.startswith("flow"):
            spec[key] = tf.TensorSpec([batch_size, length, *image_shape[:2], 2], tf.float32)
    model.build_on(spec)
    return model


def make_validation(config, model, dataset):
    """The `Validation` that a configuration asks for."""
    settings = config.train
    frames = settings.validation_seq_len or settings.seq_len
    length = max(frames, settings.seq_len)
    sets = {
        name: pipeline.evaluation_batches(
            dataset,
            split,
            batch_size=config.eval.batch_size,
            length=length,
            num_examples=settings.validation_examples,
            stride=config.data.frame_stride,
            needs=model.needs,
        )
        for name, split in (("val", "validation"), ("train", "train"))
    }
    context = config.eval.open_loop_ctx
    return callbacks.Validation(
        model, sets, settings.seq_len, context, frames - context, config.eval.chunk, settings.gif_examples
    )


def _save_mean_frame(run, config, dataset, model):
    """Keeps the mean frame of the training clips, which evaluation uses as a baseline."""
    path = run.folder("model") / "mean_frame.npy"
    if path.exists():
        return
    batches, _ = pipeline.evaluation_batches(
        dataset,
        "train",
        batch_size=16,
        length=config.train.seq_len,
        num_examples=MEAN_FRAME_CLIPS,
        stride=config.data.frame_stride,
        needs=[key for key in model.needs if key == "labels"],
    )
    total, frames = 0.0, 0.0
    for batch in batches:
        mask = batch["mask"][:, :, None, None, None]
        total = total + tf.reduce_sum(batch["video"] * mask, axis=[0, 1]).numpy().astype(np.float64)
        frames += float(tf.reduce_sum(batch["mask"]))
    with files.replacing(path) as temporary:
        np.save(temporary, (total / frames).astype(np.float32))


def check(config, replicas):
    """Refuses options that contradict one another.

    Raises:
        UserError: the first contradiction, and what to change.
    """
    settings, evaluation = config.train, config.eval
    positive = {
        "train.epochs": settings.epochs,
        "train.batch_size": settings.batch_size,
        "train.accumulate": settings.accumulate,
        "train.steps_per_execution": settings.steps_per_execution,
        "train.validate_every": settings.validate_every,
        "train.validation_examples": settings.validation_examples,
        "train.gif_examples": settings.gif_examples,
        "train.nonfinite_patience": settings.nonfinite_patience,
        "train.learning_rate": settings.learning_rate,
        "eval.open_loop_ctx": evaluation.open_loop_ctx,
        "eval.batch_size": evaluation.batch_size,
        "eval.chunk": evaluation.chunk,
        "eval.num_samples": evaluation.num_samples,
        "data.channels": config.data.channels,
        "data.frame_stride": config.data.frame_stride,
        "data.image_size": min(_pair(config.data.image_size), default=0),
    }
    for key, value in positive.items():
        if value <= 0:
            raise UserError(f"{key}={value} must be greater than 0")
    if settings.devices < 0 or settings.steps_per_epoch < 0:
        raise UserError("train.devices and train.steps_per_epoch must not be negative; 0 lets tfvp choose")
    if settings.seq_len < 2:
        raise UserError(f"train.seq_len={settings.seq_len} is too short; a clip needs at least 2 frames")
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
    """Refuses an epoch without steps, or one that executions do not divide."""
    settings = config.train
    if steps == 0:
        raise UserError(
            f"data set {config.data.name} has fewer training clips than one batch of {settings.batch_size};"
            " lower train.batch_size or set train.steps_per_epoch"
        )
    if steps % settings.steps_per_execution:
        raise UserError(
            f"train.steps_per_execution={settings.steps_per_execution} does not divide an epoch of {steps} steps;"
            " change it or set train.steps_per_epoch"
        )


def _pair(size):
    return (size, size) if isinstance(size, int) else tuple(size)
