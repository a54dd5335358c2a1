"""Training: from a configuration to a trained run directory, started or resumed at any step."""

import contextlib
import functools
import hashlib
import json
import pathlib
import tempfile
import traceback
import typing

import numpy as np
import tensorflow as tf
from tensorflow import keras
from tqdm import tqdm

from tfvp import files
from tfvp.datasets.build import build_dataset
from tfvp.errors import UserError
from tfvp.models.build import build_model, load_run, resolve
from tfvp.pipeline import batching, windows
from tfvp.run import Run
from tfvp.training import checks, initial, loggers, optimizers, strategies
from tfvp.training.backup import Backup, backups
from tfvp.training.records import Progress, Records
from tfvp.training.session import Profile, Session
from tfvp.training.steps import Stepper
from tfvp.training.validation import list_windows, make_validation

MEAN_FRAME_CLIPS = 256


def train(config, logdir, check=None):
    """Trains the model that `config` describes, or resumes where an earlier session stopped.

    Args:
        config: a `tfvp.config.Config`.
        logdir: folder of runs; the run is `<logdir>/<config.name>`.
        check: called with the built model before anything is written; it may refuse what is to come of the run.

    Returns:
        The `tfvp.run.Run`.

    Raises:
        UserError: anything that prevents training, in one sentence; where it can be known
            beforehand, before anything is written.
        SystemExit: a signal asked it to end; it was saved at its step (see `tfvp.training.signals`).
    """
    worker = strategies.this_worker()
    try:
        return _train(config, logdir, worker, check)
    except KeyboardInterrupt as stopped:
        sentence = str(stopped) or "stopped; rerun the same command to resume at the last backup"
        raise KeyboardInterrupt(sentence) from None
    except strategies.LOST_WORKER as error:
        if worker.count == 1:
            raise
        reason = " ".join(str(error).split())[:200]
        details = pathlib.Path(logdir) / config.name / "errors" / f"worker-{worker.rank}.txt"
        with files.atomic_write(details) as temporary:
            temporary.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
        # The frames hold a thread pool that a failed TensorFlow call left open. If the garbage collector closed its
        # queue first, a stack trace would be printed at exit.
        traceback.clear_frames(error.__traceback__)
        raise UserError(
            f"worker {worker.rank} of {worker.count} lost the others ({type(error).__name__}: {reason}; all of it is in"
            f" {details}); start all workers again with the same command to resume at the last backup"
        ) from None


class Plan(typing.NamedTuple):
    """What a configuration comes to, before anything is written.

    Attributes:
        config: the configuration, with values resolved that depend on what is installed.
        model: built and compiled.
        dataset: prepared.
        training_set: the data set that training clips are cut from; with `data.crop_margin` its frames are larger.
        steps: in an epoch.
        average: the `WeightAverage` that is evaluated and saved in place of the weights, or None.
    """

    config: object
    model: keras.Model
    dataset: object
    training_set: object
    steps: int
    average: object


def plan(config, fresh=True, check=None):
    """Checks a configuration, and makes the model and the data that it asks for.

    Args:
        config: a `tfvp.config.Config`.
        fresh: whether training starts, and does not resume.
        check: see `train`.

    Returns:
        A `Plan`.

    Raises:
        UserError: anything that prevents training, in one sentence.
    """
    settings = config.train
    if settings.deterministic:
        tf.config.experimental.enable_op_determinism()
    strategy = strategies.make_strategy(settings.devices, settings.memory_growth)
    checks.check(config, strategy.num_replicas_in_sync)
    loggers.check(settings.loggers)
    initial.check(settings)
    config = resolve(config)
    keras.mixed_precision.set_global_policy(settings.precision)
    keras.utils.set_random_seed(settings.seed)
    dataset = build_dataset(config)
    with strategy.scope():
        model = build_model(config, dataset.frame_shape, settings.batch_size // strategy.num_replicas_in_sync)
    model.check_context(config.eval.open_loop_ctx, "eval.open_loop_ctx")
    checks.check_monitor(settings.monitor, model)
    checks.check_micro_batches(settings, model)
    if check:
        check(model)
    if fresh:
        with strategy.scope():
            initial.start_from(settings, model)
        load_pretrained(model)
    dataset.prepare()
    training_set = _larger(config, dataset)
    one_pass = batching.steps_in_one_pass(
        dataset, settings.batch_size, settings.seq_len, config.data.window, config.data.frame_stride
    )
    steps = settings.steps_per_epoch or one_pass
    checks.check_steps(config, steps)
    with strategy.scope():
        average = compile_model(config, model, steps)
    return Plan(config, model, dataset, training_set, steps, average)


def training_batches(planned, first_step=0, worker=(0, 1)):
    """The batches of a `Plan` from a step on, or a worker's part of each; see `batching.training_batches`."""
    data, settings = planned.config.data, planned.config.train
    return batching.training_batches(
        planned.training_set,
        batch_size=settings.batch_size,
        length=settings.seq_len,
        steps_per_epoch=planned.steps,
        seed=settings.seed,
        first_step=first_step,
        window=data.window,
        stride=data.frame_stride,
        flip=data.flip,
        crop_margin=data.crop_margin,
        crop_padding=data.crop_padding,
        needs=planned.model.needs,
        worker=worker,
    )


def _train(config, logdir, worker, check):
    files.writable_folder(logdir)
    shared = pathlib.Path(logdir) / config.name
    planned = plan(config, not backups(shared / "backup"), check)
    config, model = planned.config, planned.model
    gather = strategies.Gather(model.distribute_strategy, worker)
    validation = make_validation(config, model, planned.dataset, gather)
    with _run_folder(logdir, config, worker, checks.has_batch_norm(model)) as run, run.locked():
        run.record_environment([d.name for d in tf.config.list_logical_devices()])
        files.write_json(run.path / "validation.json", list_windows(config, planned.dataset))
        backup = Backup(shared / "backup", model, planned.average, writes=worker.chief)
        _fit(run, planned, validation, backup, gather)
    return run if worker.chief else Run(shared)


def _larger(config, dataset):
    """The prepared data set that training clips are cut from: `dataset`, or with frames larger by the margin."""
    if not config.data.crop_margin:
        return dataset
    larger = build_dataset(config, config.data.crop_margin)
    larger.prepare()
    return larger


def compile_model(config, model, steps):
    """Compiles a built model with the configured optimizers. Call it in the strategy's scope.

    Args:
        config: a `tfvp.config.Config`.
        model: a built model.
        steps: batches in an epoch.

    Returns:
        The `WeightAverage` that is evaluated and saved in place of the weights, or None if there is none.
    """
    settings = config.train
    model.steps_per_epoch = steps
    checks.check_recompute(settings.recompute, model)
    model.recompute = settings.recompute

    def make_optimizer(batches_after=model.batches_after):
        return optimizers.build_optimizer(settings, settings.epochs * steps, steps, batches_after)

    def current_batch(_):  # discriminators update after the generator, some of them in part of the chunks only
        generator = getattr(model, "optimizer", None)  # Keras 2 asks before there is one
        updates = tf.constant(0, tf.int64) if generator is None else tf.cast(generator.iterations, tf.int64)
        return model.batches_after(tf.maximum(updates - 1, 0))

    average = None
    if settings.ema_decay:
        average = optimizers.WeightAverage(model, settings.ema_decay, settings.ema_every, settings.ema_start)
    others = {}
    if model.discriminator_count:
        others = {"discriminator_optimizers": [make_optimizer(current_batch) for _ in range(model.discriminator_count)]}
    model.compile(
        optimizer=make_optimizer(),
        **others,
        clip_norm=settings.clip_norm,
        accumulate=settings.accumulate,
        average=average,
        seed=settings.seed,
        jit_compile=settings.xla,
        steps_per_execution=settings.steps_per_execution,
    )
    return average


@contextlib.contextmanager
def _run_folder(logdir, config, worker, batch_norm):
    """Yields the run. Workers other than the chief compute the same and write to a temporary directory."""
    if worker.chief:
        yield Run.start(logdir, config, batch_norm)
        return
    with tempfile.TemporaryDirectory(prefix=f"worker-{worker.rank}-") as directory:
        yield Run.start(directory, config)


def _fit(run, planned, validation, backup, gather):
    """Trains from the newest backup, or from the start, to the last step or the first signal."""
    config, model, steps = planned.config, planned.model, planned.steps
    settings, strategy, worker = config.train, model.distribute_strategy, gather.worker
    total = settings.epochs * steps
    state, notes = backup.restore()
    for note in notes:
        tqdm.write(note)
    step = _step_of(state, steps)
    strategies.agree(gather, step, _digest(planned.training_set), backup.folder)
    run.rewind_metrics(step)
    made = loggers.make(settings.loggers, run) if worker.chief else []
    records = Records(run, settings, model, validation, planned.average, made, steps, state)
    if step >= total or records.stopped_early:
        tqdm.write(f"{run.path} is already trained, for {step} steps; there is nothing left to do")
        return
    if state:
        tqdm.write(f"resuming {run.path} after step {step} of {total} ({step / steps:g} of {settings.epochs} epochs)")
    _save_mean_frame(run, config, planned.dataset, model)
    batches = strategies.distribute(strategy, worker, functools.partial(training_batches, planned, step))
    stepper = Stepper(model, batches, settings.nonfinite_patience, settings.xla)
    progress = Progress(settings.epochs, steps, settings.batch_size * settings.seq_len, shown=worker.chief)
    with contextlib.closing(records), Profile(run.path / "profile", settings.profile) as profile:
        Session(settings, steps, stepper, records, backup, progress, gather, profile).run(step)


def _step_of(state, steps):
    """Steps done in a restored state; backups of 0.1 count epochs."""
    if not state:
        return 0
    return state["step"] if "step" in state else state["epoch"] * steps


def _digest(dataset):
    """A whole number that stands for the training clips of a data set: their lengths, in order, and its options."""
    facts = [dataset.name, sorted(map(str, dataset.options.items())), dataset.clip_lengths("train").tolist()]
    return int(hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:12], 16)


def load_pretrained(model):
    """Copies the weights of pretrained sub-models from the runs that trained them.

    Raises:
        UserError: no run is named, or its model has other options.
    """
    for name, path in model.pretrained.items():
        option = f"model.{name}_run"
        if not path:
            raise UserError(f"{option} is empty; name the run that trained the {name}")
        part, source = getattr(model, name), load_run(path)
        ours, theirs = part.get_config(), source.get_config()
        differing = [key for key in ours if ours[key] != theirs.get(key)]
        if type(part) is not type(source) or differing:
            what = "; ".join(f"{key}={theirs.get(key)!r} there, {ours[key]!r} here" for key in differing)
            raise UserError(f"{option}={path} is another model: {what or source.registered_name}; change model.{name}")
        for target, value in zip(part.variables, source.variables, strict=True):
            target.assign(value)


def _save_mean_frame(run, config, dataset, model):
    """Saves the mean frame of the training clips, a baseline of the evaluation."""
    path = run.folder("model") / "mean_frame.npy"
    if path.exists():
        return
    stride = config.data.frame_stride
    batches, _ = batching.evaluation_batches(
        dataset,
        "train",
        batch_size=16,
        length=config.train.seq_len,
        stride=stride,
        needs=[key for key in model.needs if key == "labels"],
        windows=windows.sample(dataset, "train", config.train.seq_len, stride, MEAN_FRAME_CLIPS),
    )
    total, frames = 0.0, 0.0
    for batch in batches:
        mask = batch["mask"][:, :, None, None, None]
        total = total + tf.reduce_sum(batch["video"] * mask, axis=[0, 1]).numpy().astype(np.float64)
        frames += float(tf.reduce_sum(batch["mask"]))
    with files.atomic_write(path) as temporary:
        np.save(temporary, (total / frames).astype(np.float32))
