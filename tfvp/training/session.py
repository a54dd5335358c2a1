"""One session of a training run: the loop over steps, and what happens between them."""

import sys
import time

import tensorflow as tf
from tqdm import tqdm

from tfvp.training.signals import Signals


class Session:
    """Trains from a step to the end, to an early stop or to a signal.

    Values are read from the devices only where something is due (an epoch's end, a validation, a
    log, a checkpoint); between those points the host queues steps without waiting.

    Args:
        settings: `config.train`.
        steps: in an epoch.
        stepper: a `Stepper`.
        records: a `Records`.
        backup: a `Backup`.
        progress: a `Progress`.
        gather: a `strategies.Gather`, by which workers decide together.
        profile: a `Profile`.
    """

    def __init__(self, settings, steps, stepper, records, backup, progress, gather, profile):
        self.settings = settings
        self.steps = steps
        self.total = settings.epochs * steps
        self.stepper = stepper
        self.records = records
        self.backup = backup
        self.progress = progress
        self.gather = gather
        self.profile = profile

    def run(self, step):
        """Trains on from `step` finished steps.

        Raises:
            SystemExit: a signal arrived; the run was saved at the step that was under way.
            UserError: the gradient was not finite for too many steps in a row, or no backup can be written.
        """
        if step % self.steps:
            self.stepper.resume()
        self.saved = time.monotonic()
        try:
            with Signals() as signals:
                while step < self.total and not self.records.finished:
                    if step % self.steps == 0:
                        self.stepper.reset()
                    self.progress.begin(step)
                    step = self._epoch(step, signals)
            self.backup.wait()
        finally:
            self.progress.end()

    def _epoch(self, step, signals):
        """Trains to the end of an epoch; returns the steps done by then."""
        intervals, end = self.records.intervals, (step // self.steps + 1) * self.steps
        while step < end and not self.records.finished:
            step = self._to_next_event(step, end, signals)
            logs = self.stepper.read()
            self.stepper.check(step)
            self.progress.show(logs)
            events = intervals.due(step, self.gather(intervals.overdue())[0] if intervals.timed else 0)
            if step == end:
                self.progress.end()
            with self.progress.paused():
                if events:
                    self.records.take(step, events, logs, self.progress.rate)
                else:
                    self.records.log(step, logs)
                stop = max(self.gather(signals.number))
                if "epoch" in events or self.records.finished or stop or self._backup_is_late():
                    self.backup.save(step, self.records.backup_state)
                    self.saved = time.monotonic()
            if stop:
                self._stop(step, stop)
        return step

    def _to_next_event(self, step, end, signals):
        due = min(end, step + self.records.intervals.until_due(step))
        while step < due:
            count = min(self.settings.steps_per_execution, due - step)
            self.profile.at(step, count)
            self.stepper.run(count)
            step += count
            self.progress.advance(step - (end - self.steps))
            if signals.number and self.gather.worker.count == 1:
                break
        return step

    def _backup_is_late(self):
        minutes = (time.monotonic() - self.saved) / 60.0
        every = self.settings.backup_minutes
        return bool(every) and max(self.gather(int(minutes >= every))) > 0

    def _stop(self, step, number):
        self.backup.wait()
        self.progress.end()
        name, status = Signals.describe(number)
        tqdm.write(f"{name}: saved after step {step} of {self.total}; run the same command again to resume there")
        sys.exit(status)


class Profile:
    """Context manager that profiles steps.

    Args:
        folder: where TensorBoard's profile plugin finds it.
        bounds: (first, last) number of the steps, or empty.
    """

    def __init__(self, folder, bounds):
        self.folder = folder
        self.bounds = tuple(bounds)
        self.running = False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.running:
            tf.profiler.experimental.stop()

    def at(self, step, count=1):
        """To be called before each graph call, with the number of its first step and how many it makes."""
        if not self.bounds:
            return
        first, last = self.bounds
        if not self.running and step <= last and step + count > first:
            tf.profiler.experimental.start(str(self.folder))
            self.running = True
        elif self.running and step > last:
            tf.profiler.experimental.stop()
            self.running = False
