"""What a backup costs a training step: tfvp benchmark backups [--only svg]

Each round times as many steps without a backup as with one that is begun before the first of them.
"Waits" is what the call itself takes, in which the variables are copied; "longer" is how much longer
the steps of the round take in all, that wait and the writing in the background included, as quartiles
over rounds; "alone" is the time until the file is there if no step is made meanwhile.
"""

import pathlib
import statistics
import tempfile
import time

import tensorflow as tf

from tfvp import config
from tfvp import run as runs
from tfvp.training import loop, strategies
from tfvp.training.backup import Backup
from tfvp.training.steps import Stepper

from . import choice

# (configuration, clips in a batch), of data sets that are drawn.
CASES = [("demo", 32), ("svg/smmnist", 8), ("convlstm/mmnist", 2)]


def measure(path, batch, steps, rounds):
    """A row of the table for a configuration; times in seconds."""
    planned = loop.plan(config.load(path, [f"train.batch_size={batch}", "train.steps_per_epoch=1000"]))
    strategy, worker = planned.model.distribute_strategy, strategies.Worker()
    stepper = Stepper(planned.model, strategies.distribute(strategy, worker, lambda worker: _batches(planned)), 10)
    with tempfile.TemporaryDirectory() as folder:
        backup = Backup(pathlib.Path(folder), planned.model, planned.average)
        _timed(stepper, 2)
        plain, saving, waits, alone = [], [], [], []
        for number in range(rounds):
            plain.append(_timed(stepper, steps))
            began = time.perf_counter()
            backup.save(2 * number, {})
            waits.append(time.perf_counter() - began)
            saving.append(waits[-1] + _timed(stepper, steps))
            backup.wait()
            began = time.perf_counter()
            backup.save(2 * number + 1, {})
            backup.wait()
            alone.append(time.perf_counter() - began)
        size = max(file.stat().st_size for file in pathlib.Path(folder).iterdir())
    return {
        "MB": size / 1e6,
        "step": statistics.median(plain) / steps,
        "waits": statistics.median(waits),
        "longer": statistics.quantiles([b - a for a, b in zip(plain, saving)]),
        "alone": statistics.median(alone),
    }


def _batches(planned):
    """One batch again and again: what is timed is the step, not the loader."""
    return loop.training_batches(planned).take(1).cache().repeat()


def _timed(stepper, steps):
    began = time.perf_counter()
    stepper.run(steps)
    stepper.read()
    return time.perf_counter() - began


def run(options):
    cases = choice.chosen(CASES, options.only, lambda case: case[0])
    here = runs.describe_environment([])
    print(f"commit {here['commit']}, {here['processor']}, {here['cores']} cores, TensorFlow {tf.__version__}")
    print(f"rounds of {options.steps} steps, {options.rounds} of each")
    print("| configuration | batch | MB | step s | waits s | longer s | alone s |", flush=True)
    print("|---|---|---|---|---|---|---|")
    for path, batch in cases:
        row = measure(path, batch, options.steps, options.rounds)
        longer = " / ".join(f"{value:.2g}" for value in row["longer"])
        print(
            f"| {path} | {batch} | {row['MB']:.1f} | {row['step']:.3g} | {row['waits']:.3g} | {longer}"
            f" | {row['alone']:.3g} |",
            flush=True,
        )
