"""Validation: open-loop rollouts and the loss on fixed clips."""

import tensorflow as tf

from tfvp.evaluation import scoring
from tfvp.frames import to_uint8
from tfvp.pipeline import batching

VALIDATION_METRICS = ("mse", "mae", "psnr", "ssim")


class Validation:
    """Open-loop rollouts and the loss, on fixed clips of the validation and training splits.

    Args:
        model: a compiled model.
        sets: {"val" and "train": (dataset of evaluation batches, number of clips)}.
        seq_len: frames that the loss is computed on.
        context: observed frames of the rollouts.
        horizon: predicted frames of the rollouts.
        chunk: predicted frames per graph call.
        kept: number of clips whose rollouts are drawn.
    """

    def __init__(self, model, sets, seq_len, context, horizon, chunk, kept):
        self.sets = sets
        self.seq_len = seq_len
        self.context = context
        self.frames = context + horizon
        self.terms = tf.function(lambda batch: model.loss_terms(batch, training=False))
        self.reconstruct = tf.function(lambda video: model.reconstruct(video)) if model.has_posterior else None
        self.scorers = {
            split: scoring.Scorer(
                model, VALIDATION_METRICS, context, horizon, chunk=chunk, kept=kept if split == "val" else 1
            )
            for split in sets
        }

    def run(self):
        """Computes the losses on the validation clips, and rolls out both splits.

        Returns:
            ({"val_loss": float, "val_mse": float, "train_mse": float, ...},
            {tag: (truth uint8 [n, T, H, W, C], predictions uint8 [n, S, t, H, W, C], number of
            observed frames)} of the clips to draw).
        """
        logs = self._losses(self.sets["val"][0])
        for split, (batches, count) in self.sets.items():
            trimmed = batches.map(self._trim(self.frames))
            scores, truth, _ = scoring.run({"model": self.scorers[split]}, trimmed, count)
            summaries = scores["model"].summaries
            logs.update({f"{split}_{metric}": float(summaries[metric]["mean"]) for metric in VALIDATION_METRICS})
            if split == "val":
                drawn = {"open_loop": (truth, scores["model"].examples, self.context)}
                if self.reconstruct is not None:
                    video = next(iter(batches))["video"][: len(truth), : self.seq_len]
                    reconstruction = to_uint8(self.reconstruct(video))
                    drawn["reconstruction"] = (to_uint8(video), reconstruction[:, None], 0)
        return logs, drawn

    def _losses(self, batches):
        totals, clips = {}, 0.0
        for batch in batches.map(self._trim(self.seq_len)):
            real = tf.reduce_max(batch.pop("mask"), axis=1)
            for name, values in self.terms(batch).items():
                totals[name] = totals.get(name, 0.0) + float(tf.reduce_sum(values * real))
            clips += float(tf.reduce_sum(real))
        return {f"val_{name}": total / clips for name, total in totals.items()}

    @staticmethod
    def _trim(frames):
        return lambda batch: {k: v if k == "id" else v[:, :frames] for k, v in batch.items()}


def make_validation(config, model, dataset):
    """Builds the `Validation` that a configuration describes."""
    settings = config.train
    frames = settings.validation_seq_len or settings.seq_len
    length = max(frames, settings.seq_len)
    sets = {
        name: batching.evaluation_batches(
            dataset,
            split,
            batch_size=config.eval.batch_size,
            length=length,
            num_examples=settings.validation_examples,
            stride=config.data.frame_stride,
            needs=model.needs,
            windows=dataset.validation_windows(length, config.data.frame_stride) if name == "val" else None,
        )
        for name, split in (("val", "validation"), ("train", "train"))
    }
    context = config.eval.open_loop_ctx
    return Validation(
        model, sets, settings.seq_len, context, frames - context, config.eval.chunk, settings.gif_examples
    )
