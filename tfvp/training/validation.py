"""Validation: open-loop rollouts and the loss on fixed clips, shared by all devices of all workers."""

import typing

import numpy as np
import tensorflow as tf

from tfvp.evaluation import provenance
from tfvp.frames import to_uint8
from tfvp.models import input_checks
from tfvp.pipeline import batching, windows
from tfvp.training import strategies
from tfvp.training.replicas import Replicas, ReplicaScorer

VALIDATION_METRICS = ("mse", "mae", "psnr", "ssim")
SPLITS = {"val": "validation", "train": "train"}  # what scores are called by, and the split that they are on


class Clips(typing.NamedTuple):
    """The clips of a split that are validated, and this worker's part of them.

    Attributes:
        batches: dataset of this worker's rows of every batch.
        count: of all clips.
        numbers: int [batches, rows], which of the clips these rows are.
        real: bool [batches, rows]; the others fill up the last batch.
    """

    batches: object
    count: int
    numbers: np.ndarray
    real: np.ndarray


class Validation:
    """Open-loop rollouts and the loss, on fixed clips of the validation and training splits.

    Devices compute on their own clips of a batch. What is drawn in a rollout depends on the clip's id, and
    the numbers of all clips are put together before they are added up, so that results do not depend
    on the number of devices or workers.

    Args:
        model: a compiled model.
        sets: {"val" and "train": `Clips`}.
        seq_len: frames that the loss is computed on.
        context: observed frames of the rollouts.
        horizon: predicted frames of the rollouts.
        chunk: predicted frames per graph call.
        kept: number of clips whose rollouts are drawn, of those that worker 0 has.
        replicas: the `Replicas` that compute.
        gather: a `strategies.Gather`.
    """

    def __init__(self, model, sets, seq_len, context, horizon, chunk, kept, replicas, gather):
        self.sets = sets
        self.seq_len = seq_len
        self.context = context
        self.frames = context + horizon
        self.fewest = model.fewest_clips
        self.kept = kept if gather.worker.chief else 0
        self.gather = gather
        self.replicas = replicas
        self.terms = self.replicas.graph(lambda batch: model.loss_terms(batch, training=False))
        self.reconstruct = tf.function(lambda video: model.reconstruct(video)) if model.has_posterior else None
        self.scorers = {
            split: ReplicaScorer(self.replicas, model, VALIDATION_METRICS, context, horizon, chunk=chunk)
            for split in sets
        }

    def run(self):
        """Computes the losses on the validation clips, and rolls out both splits. All workers must call it.

        Returns:
            ({"val_loss": float, "val_mse": float, "train_mse": float, ...}, what `draw` returns).
        """
        losses, metrics, drawn = {}, {}, {}
        for split, clips in self.sets.items():
            table, pictures = self._table(split, self.kept if split == "val" else 0)
            table = self.gather.rows(table, clips.numbers[clips.real], clips.count)
            scorer = self.scorers[split]
            scorer.reset()
            scorer.add({**table, "examples": ()})
            for metric in VALIDATION_METRICS:
                metrics[f"{split}_{metric}"] = float(scorer.frame_metrics[metric].summary()["mean"])
            if split == "val":
                drawn = pictures
                for name in table:
                    if name.startswith("loss/"):
                        losses[f"val_{name.removeprefix('loss/')}"] = float(table[name].mean())
        return {**losses, **metrics}, drawn

    def draw(self):
        """Rolls out the clips to draw alone. All workers must call it.

        Returns:
            {tag: (truth uint8 [n, T, H, W, C], predictions uint8 [n, S, t, H, W, C], number of
            observed frames)}; {} in workers other than the first.
        """
        rows = self.sets["val"].numbers.shape[1]
        return self._table("val", self.kept, max(1, -(-self.kept // rows)))[1]

    def _table(self, split, kept, batches=-1):
        """This worker's rows of what is computed on a split, and the clips to draw.

        Args:
            split: "val" or "train".
            kept: how many clips to draw.
            batches: how many to read; -1 = all.

        Returns:
            ({"mask", "values/<metric>" and, on "val", "loss/<term>": [rows, ...]}, as `draw`).
        """
        clips, scorer = self.sets[split], self.scorers[split]
        parts, truth, examples, first = [], [], [], None
        for batch, real in zip(clips.batches.take(batches), clips.real):
            rows = int(real.sum())
            first = batch["video"] if first is None else first
            missing = min(rows, max(0, kept - sum(map(len, truth))))
            rolled = self._trim(batch, self.frames)
            part = scorer.score(rolled, rows, missing)
            if missing:
                truth.append(to_uint8(rolled["video"][:missing]))
                examples.append(part["examples"])
            del part["examples"]
            if split == "val" and batches < 0:
                terms = self._trim(batch, self.seq_len)
                del terms["mask"]
                for name, values in self.terms(self.replicas.split(terms)).items():
                    part[f"loss/{name}"] = self.replicas.join(values)[:rows]
            parts.append(part)
        table = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        if not truth:
            return table, {}
        truth = np.concatenate(truth)
        drawn = {"open_loop": (truth, np.concatenate(examples), self.context)}
        if self.reconstruct is not None:
            video = first[: max(len(truth), self.fewest), : self.seq_len]
            pictures = (to_uint8(frames)[: len(truth)] for frames in (video, self.reconstruct(video)[:, None]))
            drawn["reconstruction"] = (*pictures, 0)
        return table, drawn

    @staticmethod
    def _trim(batch, frames):
        return {key: value if key == "id" else value[:, :frames] for key, value in batch.items()}


def make_validation(config, model, dataset, gather=None):
    """Builds the `Validation` that a configuration describes, for this worker.

    Args:
        config: a `tfvp.config.Config`.
        model: compiled in the scope of its strategy.
        dataset: prepared.
        gather: a `strategies.Gather`. Defaults to that of a single worker.

    Raises:
        UserError: fewer clips would be predicted at once than the model can.
    """
    settings = config.train
    gather = gather or strategies.Gather(model.distribute_strategy, strategies.Worker())
    input_checks.check_clips(model, config.eval.batch_size, f"eval.batch_size={config.eval.batch_size}")
    whole = model.fewest_clips > 1
    replicas = Replicas(model.distribute_strategy, gather.worker, shared=not whole)
    devices = replicas.count * gather.worker.count
    frames = settings.validation_seq_len or settings.seq_len
    sets = {}
    for name, split in SPLITS.items():
        chosen = _windows(config, dataset, split)
        count = len(chosen["windows"][0])
        input_checks.check_clips(model, count, f"a validation on {count} of the {split} clips")
        size = config.eval.batch_size if whole else min(config.eval.batch_size, -(-count // devices))
        numbers, real = part_of_batches(count, size * devices, gather.worker)
        batches, _ = batching.evaluation_batches(
            dataset,
            split,
            batch_size=numbers.shape[1],
            positions=numbers.ravel(),
            needs=model.needs,
            **chosen,
        )
        sets[name] = Clips(batches, count, numbers, real)
    context = config.eval.open_loop_ctx
    return Validation(
        model,
        sets,
        settings.seq_len,
        context,
        frames - context,
        config.eval.chunk,
        settings.gif_examples,
        replicas,
        gather,
    )


def _windows(config, dataset, split):
    """The windows of a split that are validated, as arguments of `batching.evaluation_batches`."""
    settings, stride = config.train, config.data.frame_stride
    length = max(settings.validation_seq_len, settings.seq_len)
    chosen = windows.validation(dataset, split, length, stride, settings.validation_examples)
    return {"length": length, "stride": stride, "windows": chosen}


def list_windows(config, dataset):
    """{"val" and "train": [[clip, first frame], ...]}: the windows that are validated."""
    listed = {}
    for name, split in SPLITS.items():
        chosen = _windows(config, dataset, split)
        clips, starts, _ = chosen["windows"]
        listed[name] = provenance.describe_clips(dataset, split, clips, starts, chosen["length"]).windows()
    return listed


def part_of_batches(count, size, worker):
    """A worker's rows of batches of `size` clips, `count` in all, the last filled up from the beginning.

    Returns:
        (numbers, real): int and bool [batches, size / workers]; see `Clips`.
    """
    rows = np.arange(-(-count // size) * size).reshape([-1, size])
    own = np.split(rows, worker.count, axis=1)[worker.rank]
    return own % count, own < count
