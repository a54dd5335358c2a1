"""Between the steps of a training session: signals, and what workers tell one another."""

import signal
import time

import numpy as np
import pytest
import tensorflow as tf

from tfvp.errors import UserError
from tfvp.training import strategies
from tfvp.training.records import Progress
from tfvp.training.signals import Signals


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGUSR1, 143), (signal.SIGINT, 130)])
def test_signals_are_noted_and_handlers_come_back(number, status):
    before = signal.getsignal(number)
    with Signals() as signals:
        assert signals.number == 0
        signal.raise_signal(number)
        signal.raise_signal(signal.SIGTERM)
        assert signals.number == number and Signals.describe(number) == (number.name, status)
    assert signal.getsignal(number) == before


def test_a_second_interrupt_interrupts_at_once():
    with pytest.raises(KeyboardInterrupt), Signals():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("replicas", [1, 2, 4])
def test_a_workers_batch_is_cut_into_its_replicas_parts(replicas):
    """Two nodes of several devices: the parts that a node's devices get, in order, are the node's part of the batch."""
    batch = {"video": np.arange(8 * 3).reshape(8, 3), "id": np.arange(8)}
    parts = list(strategies.split_among(tf.data.Dataset.from_tensors(batch).repeat(2), replicas))
    assert len(parts) == 2 * replicas and all(len(part["id"]) == 8 // replicas for part in parts)
    for key, values in batch.items():
        whole = np.concatenate([part[key] for part in parts[:replicas]])
        np.testing.assert_array_equal(whole, values)


def test_workers_with_other_clips_or_steps_are_told():
    class Gathered:
        worker = strategies.Worker(1, 3)

        def __init__(self, *answers):
            self.answers = list(answers)

        def __call__(self, value):
            return self.answers.pop(0)

    strategies.agree(Gathered([4, 4, 4], [7, 7, 7]), 4, 7, "backup")
    with pytest.raises(UserError, match="worker 1 finds 4 finished steps in backup, the workers' numbers are 0, 4, 4"):
        strategies.agree(Gathered([0, 4, 4], [7, 7, 7]), 4, 7, "backup")
    with pytest.raises(UserError, match="worker 1 does not have the clips of the others, 0 and 2;"):
        strategies.agree(Gathered([4, 4, 4], [8, 7, 8]), 4, 7, "backup")


@pytest.mark.parametrize("started", [False, True])
def test_only_the_gpus_that_are_asked_for_are_touched(monkeypatch, started):
    calls = []

    def note(name):
        def call(*arguments):
            if started:
                raise RuntimeError("devices cannot be changed after they were initialized")
            calls.append((name, *arguments))

        return call

    monkeypatch.setattr(tf.config, "set_visible_devices", note("visible"))
    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", note("growth"))
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: ["GPU:0"])
    if started:
        with pytest.raises(UserError, match="train.devices=2: TensorFlow has already started with fewer GPUs"):
            strategies._take(["first", "second"], True)
        return
    strategies._take(["first", "second"], True)
    assert calls == [("visible", ["first", "second"], "GPU"), ("growth", "first", True), ("growth", "second", True)]


def test_pauses_are_no_training_time():
    progress = Progress(1, 10, 8, shown=False)
    progress.begin(0)
    progress.advance(1)
    time.sleep(0.05)
    progress.advance(6)
    before = progress.rate
    with progress.paused():
        time.sleep(0.3)
    assert progress.rate == pytest.approx(before, rel=0.3)
    progress.end()
