"""Keras callbacks: progress, validation, records, weights, early stopping, backups."""

import time

import numpy as np
import tensorflow as tf
from tensorflow import keras
from tqdm import tqdm

from tfvp import compat, files, video_io
from tfvp.errors import UserError
from tfvp.evaluation import curves, pictures
from tfvp.run import save_weights

RISING = ("psnr", "ssim")  # endings of monitored names for which higher is better


class Progress(keras.callbacks.Callback):
    """Measures frames per second; if `shown`, draws a bar per epoch with the loss, the rate and the time left."""

    def __init__(self, epochs, steps, frames_per_step, shown=True):
        super().__init__()
        self.epochs = epochs
        self.steps = steps
        self.frames_per_step = frames_per_step
        self.shown = shown
        self.rates = []

    def on_epoch_begin(self, epoch, logs=None):
        description = f"epoch {epoch + 1}/{self.epochs}"
        self.bar = tqdm(total=self.steps, desc=description, unit="step", mininterval=1.0, disable=not self.shown)
        self.seen = 0

    def on_train_batch_end(self, batch, logs=None):
        if self.seen == 0:  # the first call traces and compiles, so it says nothing about the speed of training
            self.began, self.first = time.perf_counter(), batch
        self.bar.update(batch + 1 - self.seen)
        self.seen = batch + 1
        shown = {k: f"{float(v):.4g}" for k, v in (logs or {}).items() if k == "loss"}
        if batch > self.first:
            shown["frames/s"] = f"{self._rate(batch):.0f}"
        self.bar.set_postfix(shown, refresh=False)

    def on_epoch_end(self, epoch, logs=None):
        self.bar.close()
        if self.seen - 1 > self.first:
            self.rates.append(self._rate(self.seen - 1))

    def _rate(self, batch):
        return (batch - self.first) * self.frames_per_step / (time.perf_counter() - self.began)


class StopWhenNotFinite(keras.callbacks.Callback):
    """Raises a `UserError` when the gradient was not finite for `patience` steps in a row."""

    def __init__(self, patience, steps_per_execution):
        super().__init__()
        self.patience = patience
        self.calls = max(1, -(-patience // steps_per_execution))
        self.steps_per_execution = steps_per_execution

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch, self.skipped, self.streak = epoch, 0, 0

    def on_train_batch_end(self, batch, logs=None):
        skipped = float(logs["skipped"])
        per_call = self.steps_per_execution * self.model.updates_per_batch
        self.streak = self.streak + 1 if skipped - self.skipped >= per_call - 0.5 else 0
        self.skipped = skipped
        if self.streak >= self.calls:
            raise UserError(
                f"training stopped in epoch {self.epoch + 1}, step {batch + 1}: the gradient was not finite for"
                f" {self.streak * self.steps_per_execution} steps in a row; lower train.learning_rate, set"
                " train.clip_norm, or look for broken clips with `tfvp data`; the last good epoch is kept"
            )


class EndOfEpoch(keras.callbacks.Callback):
    """Validates, logs, saves weights, adjusts the schedule or stops, and backs up, in that order.

    Args:
        run: the `tfvp.run.Run`.
        settings: `config.train`.
        validation: a `Validation`.
        backup: a `tfvp.training.backup.Backup`.
        average: the `WeightAverage` that is evaluated and saved in place of the weights, or None.
        progress: the `Progress` callback, whose rates are logged.
        state: the attribute `state` of the session that is resumed, or None.
    """

    def __init__(self, run, settings, validation, backup, average, progress, state=None):
        super().__init__()
        self.run = run
        self.settings = settings
        self.validation = validation
        self.backup = backup
        self.average = average
        self.progress = progress
        self.sign = -1.0 if settings.monitor.endswith(RISING) else 1.0
        self.state = {"best": None, "best_epoch": 0, "waited": 0, "plateau_waited": 0}
        self.state.update({k: v for k, v in (state or {}).items() if k in self.state})
        self.writer = tf.summary.create_file_writer(str(run.folder("tensorboard")))

    def on_epoch_end(self, epoch, logs=None):
        done = epoch + 1
        line = {"epoch": done, "step": int(self.model.step), **{k: float(v) for k, v in (logs or {}).items()}}
        line["learning_rate"] = compat.learning_rate(self.model.optimizer)
        if self.progress.rates:
            line["frames_per_second"] = round(self.progress.rates[-1], 2)
        last = done == self.params["epochs"] or self.model.stop_training
        validate = done % self.settings.validate_every == 0 or last
        if self.average is None:
            self._validate_and_save(done, line, validate)
        else:
            with self.average.in_place():
                self._validate_and_save(done, line, validate)
        self.run.append_metrics(line)
        with self.writer.as_default(step=done):
            for key, value in line.items():
                if key not in ("epoch", "step"):
                    tf.summary.scalar(key.replace("_", "/", 1) if key.startswith(("val_", "train_")) else key, value)
        self.writer.flush()
        curves.draw_training(self.run.path / "curves.png", self.run.read_metrics())
        self.backup.save(done, self.state)

    def _validate_and_save(self, epoch, line, validate):
        """Saves the current weights of the model, and validates them where `validate` asks for it."""
        save_weights(self.model, self.run.folder("model") / "last.weights.h5")
        if not validate:
            return
        logs, drawn = self.validation.run()
        line.update(logs)
        for tag, clips in drawn.items():
            self._draw(epoch, tag, *clips)
        value = line[self.settings.monitor]
        improved = np.isfinite(value) and (self.state["best"] is None or self.sign * (value - self.state["best"]) < 0)
        if improved or self.state["best_epoch"] == 0:
            save_weights(self.model, self.run.folder("model") / "best.weights.h5")
        if improved:
            self.state.update(best=value, best_epoch=epoch, waited=0, plateau_waited=0)
        else:
            self.state["best_epoch"] = max(1, self.state["best_epoch"])
            self.state["waited"] += 1
            self.state["plateau_waited"] += 1
        tqdm.write(
            f"epoch {epoch}: loss {line['loss']:.4g}, val loss {line['val_loss']:.4g}, open-loop"
            f" mse {line['val_mse']:.4g}, psnr {line['val_psnr']:.2f} dB, ssim {line['val_ssim']:.3f}"
            + (" (best)" if improved else "")
            + (f", {line['skipped']:.0f} updates skipped" if line.get("skipped") else "")
        )
        files.write_json(
            self.run.path / "model" / "status.json", {"epoch": epoch, "monitor": self.settings.monitor, **self.state}
        )
        self._adjust_schedule()

    def _adjust_schedule(self):
        """Lowers the learning rate on a plateau and stops early, if the configuration says so."""
        if self.settings.schedule == "plateau" and self.state["plateau_waited"] > self.settings.plateau_patience:
            optimizer = self.model.optimizer
            optimizer.learning_rate = compat.learning_rate(optimizer) * self.settings.plateau_factor
            self.state["plateau_waited"] = 0
        if self.settings.early_stopping and self.state["waited"] >= self.settings.early_stopping:
            tqdm.write(
                f"{self.settings.monitor} has not improved for {self.state['waited']} validations: stopping early"
            )
            self.model.stop_training = True

    def _draw(self, epoch, tag, truth, predictions, context):
        videos = [pictures.comparison(clip, samples, context) for clip, samples in zip(truth, predictions)]
        path = self.run.folder("samples") / f"{tag}_{epoch:04d}.gif"
        video_io.write_video(path, np.concatenate(videos, axis=1), fps=8)
        height, width = videos[0].shape[1] * len(videos), videos[0].shape[2]
        image = tf.compat.v1.Summary.Image(
            height=height, width=width, colorspace=3, encoded_image_string=path.read_bytes()
        )
        summary = tf.compat.v1.Summary(value=[tf.compat.v1.Summary.Value(tag=tag, image=image)])
        with self.writer.as_default():
            tf.summary.experimental.write_raw_pb(summary.SerializeToString(), step=epoch)
