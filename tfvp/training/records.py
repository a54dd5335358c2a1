"""What a training run writes down: progress, logs, validation, weights; and what it decides by them."""

import contextlib
import time

import numpy as np
from tqdm import tqdm

from tfvp import compat, files, video_io
from tfvp.evaluation import curves, pictures
from tfvp.run import save_weights
from tfvp.training.intervals import Intervals

RISING = ("psnr", "ssim")  # endings of monitored names for which higher is better


class Progress:
    """A bar per epoch with the loss, frames per second and the time left.

    Args:
        epochs: of the whole run.
        steps: in an epoch.
        frames_per_step: of all devices together.
        shown: whether the bar is drawn.
    """

    def __init__(self, epochs, steps, frames_per_step, shown=True):
        self.epochs = epochs
        self.steps = steps
        self.frames_per_step = frames_per_step
        self.shown = shown
        self.bar = None

    def begin(self, step):
        """Starts the bar of the epoch that step number `step` belongs to."""
        epoch, within = divmod(step, self.steps)
        self.bar = tqdm(
            total=self.steps,
            initial=within,
            desc=f"epoch {epoch + 1}/{self.epochs}",
            unit="step",
            mininterval=1.0,
            disable=not self.shown,
        )
        self.seen, self.first = within, None

    def advance(self, within):
        """Notes that so many steps of the epoch were called; the first call traces and compiles, and is not timed."""
        self.bar.update(within - self.seen)
        self.seen = within
        if self.first is None:
            self.first, self.began = within, time.perf_counter()

    @contextlib.contextmanager
    def paused(self):
        """Context manager: the time within it is not the training's."""
        began = time.perf_counter()
        yield
        if self.first is not None:
            self.began += time.perf_counter() - began

    def show(self, logs):
        """Shows the running mean of the loss."""
        shown = {"loss": f"{logs['loss']:.4g}"}
        if self.rate:
            shown["frames/s"] = f"{self.rate:.0f}"
        self.bar.set_postfix(shown, refresh=False)

    def end(self):
        """Closes the bar, if there is one."""
        if self.bar is not None:
            self.bar.close()

    @property
    def rate(self):
        """Frames per second in this epoch, without the first call; None if there was no other."""
        if self.first is None or self.seen == self.first:
            return None
        return (self.seen - self.first) * self.frames_per_step / (time.perf_counter() - self.began)


class Records:
    """Validates, logs, saves weights, adjusts the schedule and stops early, at the steps that are due.

    Args:
        run: the `tfvp.run.Run`.
        settings: `config.train`.
        model: the model that is trained.
        validation: a `Validation`.
        average: the `WeightAverage` that is evaluated and saved in place of the weights, or None.
        loggers: list of `tfvp.training.loggers.Logger`.
        steps: in an epoch.
        state: the attribute `backup_state` of the session that is resumed, or None.

    Attributes:
        state: what later decisions depend on, plain JSON types.
        intervals: an `Intervals`.
        finished: whether training stops early.
    """

    def __init__(self, run, settings, model, validation, average, loggers, steps, state=None):
        self.run = run
        self.settings = settings
        self.model = model
        self.validation = validation
        self.average = average
        self.loggers = loggers
        self.steps = steps
        state = state or {}
        self.intervals = Intervals(settings, steps, state.get("intervals"))
        self.finished = False
        self.sign = -1.0 if settings.monitor.endswith(RISING) else 1.0
        self.state = {"best": None, "best_epoch": 0, "best_step": 0, "waited": 0, "plateau_waited": 0}
        self.state.update({k: v for k, v in state.items() if k in self.state})
        if isinstance(self.state["waited"], dict):  # some backups of 0.2's development lack the count
            later = [line for line in run.read_metrics() if line["step"] > self.state["best_step"]]
            self.state["waited"] = sum(settings.monitor in line for line in later)

    @property
    def backup_state(self):
        """What a backup needs of this session, plain JSON types."""
        return {**self.state, "intervals": self.intervals.waited}

    @property
    def stopped_early(self):
        """Whether the validations so far end the training."""
        return bool(self.settings.early_stopping) and self.state["waited"] >= self.settings.early_stopping

    def log(self, step, logs):
        """Hands running means to the loggers, unless their minutes are not over yet."""
        if not self.intervals.log_now():
            return
        for logger in self.loggers:
            logger.scalars(step, {**logs, "learning_rate": compat.learning_rate(self.model.optimizer)})

    def take(self, step, events, logs, rate):
        """Does what is due after so many steps.

        Args:
            step: steps done.
            events: from `Intervals.due`.
            logs: running means of the epoch.
            rate: frames per second, or None.
        """
        line = {"epoch": _whole(step / self.steps), "step": step, **logs}
        line["learning_rate"] = compat.learning_rate(self.model.optimizer)
        if rate:
            line["frames_per_second"] = round(rate, 2)
        if self.average is None:
            self._save_and_validate(step, events, line)
        else:
            with self.average.in_place():
                self._save_and_validate(step, events, line)
        self.intervals.done(events)
        if events == {"samples"}:
            self.log(step, logs)
        else:
            self.run.append_metrics(line)
            scalars = {key: value for key, value in line.items() if key not in ("epoch", "step")}
            for logger in self.loggers:
                logger.scalars(step, scalars)
            self.intervals.log_now(always=True)
            curves.draw_training(self.run.path / "curves.png", self.run.read_metrics())

    def _save_and_validate(self, step, events, line):
        """Saves the current weights of the model, validates them and draws samples, where that is due."""
        folder = self.run.folder("model")
        if events - {"samples"}:
            save_weights(self.model, folder / "last.weights.h5")
        if "checkpoint" in events:
            save_weights(self.model, folder / f"step-{step:09d}.weights.h5")
        if "validation" not in events:
            if "samples" in events:
                self._draw_all(step, self.validation.draw())
            return
        logs, drawn = self.validation.run()
        line.update(logs)
        if "samples" in events or not self.intervals.samples_apart:
            self._draw_all(step, drawn)
        value = line[self.settings.monitor]
        improved = np.isfinite(value) and (self.state["best"] is None or self.sign * (value - self.state["best"]) < 0)
        if improved or self.state["best_step"] == 0:
            save_weights(self.model, folder / "best.weights.h5")
        if improved:
            self.state.update(best=value, best_epoch=line["epoch"], best_step=step, waited=0, plateau_waited=0)
        else:
            if self.state["best_step"] == 0:
                self.state.update(best_epoch=line["epoch"], best_step=step)
            self.state["waited"] += 1
            self.state["plateau_waited"] += 1
        tqdm.write(
            f"epoch {line['epoch']:g}: loss {line['loss']:.4g}, val loss {line['val_loss']:.4g}, open-loop"
            f" mse {line['val_mse']:.4g}, psnr {line['val_psnr']:.2f} dB, ssim {line['val_ssim']:.3f}"
            + (" (best)" if improved else "")
            + (f", {line['skipped']:.0f} updates skipped" if line.get("skipped") else "")
        )
        status = {"epoch": line["epoch"], "step": step, "monitor": self.settings.monitor, **self.state}
        files.write_json(folder / "status.json", status)
        self._adjust_schedule()

    def _adjust_schedule(self):
        """Lowers the learning rates on a plateau and stops early, if the configuration says so."""
        if self.settings.schedule == "plateau" and self.state["plateau_waited"] > self.settings.plateau_patience:
            for optimizer in self.model.optimizers:
                optimizer.learning_rate = compat.learning_rate(optimizer) * self.settings.plateau_factor
            self.state["plateau_waited"] = 0
        if self.stopped_early:
            tqdm.write(
                f"{self.settings.monitor} has not improved for {self.state['waited']} validations: stopping early"
            )
            self.finished = True

    def _draw_all(self, step, drawn):
        for tag, clips in drawn.items():
            self._draw(step, tag, *clips)

    def _draw(self, step, tag, truth, predictions, context):
        videos = [pictures.comparison(clip, samples, context) for clip, samples in zip(truth, predictions)]
        whole = step % self.steps == 0
        name = f"{tag}_{step // self.steps:04d}.gif" if whole else f"{tag}_step-{step:09d}.gif"
        path = self.run.folder("samples") / name
        video_io.write_video(path, np.concatenate(videos, axis=1), fps=8)
        for logger in self.loggers:
            logger.gif(step, tag, path, videos[0].shape[1] * len(videos), videos[0].shape[2])

    def close(self):
        """Ends the loggers."""
        for logger in self.loggers:
            logger.close()


def _whole(number):
    """`number` as an integer where it is one."""
    return int(number) if number == int(number) else round(number, 6)
