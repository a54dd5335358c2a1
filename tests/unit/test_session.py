"""Between the steps of a training session: signals, and what workers tell one another."""

import signal
import time
import types

import numpy as np
import pytest
import tensorflow as tf

from tfvp import config
from tfvp.errors import UserError
from tfvp.training import session, strategies
from tfvp.training.intervals import Intervals
from tfvp.training.records import Progress
from tfvp.training.session import Session
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


class Minutes:
    """A clock that a test sets."""

    now = 0.0

    def __call__(self):
        return 60.0 * self.now


def intervals(clock, waited=None, **settings):
    train = {"epochs": 3, "log_steps": 5, **settings}
    return Intervals(config.from_dict({"train": train}).train, 40, waited, clock)


def test_events_go_by_steps_or_by_minutes():
    clock = Minutes()
    made = intervals(clock, validate_minutes=10.0, sample_minutes=3.0, sample_steps=30, keep_checkpoints=20)
    assert made.timed and made.samples_apart and made.due(10) == set() and made.until_due(11) == 4
    assert made.due(40) == {"epoch", "checkpoint"}, "validation goes by the clock"
    assert made.due(60) == {"samples", "checkpoint"} and made.due(120) >= {"epoch", "validation", "samples"}
    clock.now = 9.9
    assert made.due(15, made.overdue()) == {"samples"}
    made.done({"samples"})
    clock.now = 10.0
    assert made.due(15, made.overdue()) == {"validation"}
    made.done({"validation"})
    assert made.overdue() == 0
    clock.now = 13.0
    waited = made.waited
    later = intervals(clock, waited, validate_minutes=10.0, checkpoint_minutes=12.0)
    assert later.due(1, later.overdue()) == {"checkpoint"}, "minutes go on in the next session"
    clock.now = 20.0
    assert "validation" in later.due(1, later.overdue())


def test_epochs_count_where_no_other_interval_is_given():
    made = intervals(Minutes(), validate_every=2)
    assert not made.timed and not made.samples_apart
    assert made.due(40) == {"epoch"} and made.due(80) == {"epoch", "validation"}


def test_loggers_get_no_more_readings_than_they_should():
    clock = Minutes()
    made = intervals(clock, log_minutes=2.0)
    taken = []
    for clock.now in (0.0, 1.0, 1.9, 2.0, 3.0, 4.5):
        taken.append(made.log_now())
    assert taken == [True, False, False, True, False, True]
    assert made.log_now(always=True) and intervals(clock).log_now() and not made.timed
    clock.now = 6.4
    assert not made.log_now(), "two minutes after the last one, whatever it was"


def test_the_clock_of_the_first_worker_counts():
    """All workers validate at the same step, whatever their own clocks say."""
    clock, taken = Minutes(), []
    made = intervals(clock, epochs=1, log_steps=10, validate_minutes=1.0, backup_minutes=0.0)
    clock.now = 100.0
    assert made.overdue() == 1, "by this worker's clock a validation is due at every reading"
    sent = iter([0, 0, 0, 0, 1, 0, 0, 0])  # by worker 0: what is overdue, then its signal, at steps 10, 20, 30 and 40
    nothing = types.SimpleNamespace(
        **dict.fromkeys(["run", "check", "save", "wait", "at", "log", "reset"], lambda *values: None),
        read=lambda: {"loss": 0.0},
    )
    records = types.SimpleNamespace(
        intervals=made,
        finished=False,
        backup_state={},
        take=lambda step, events, logs, rate: taken.append((step, sorted(events))),
        log=lambda step, logs: None,
    )

    def gather(value):
        return [next(sent), value]

    gather.worker = strategies.Worker(1, 2)
    progress = Progress(1, 40, 1, shown=False)
    Session(made.settings, 40, nothing, records, nothing, progress, gather, nothing).run(0)
    assert taken == [(30, ["validation"]), (40, ["epoch", "validation"])]


@pytest.mark.parametrize(("bounds", "count", "started"), [([1, 1], 2, 0), ([3, 3], 2, 2), ([101, 109], 10, 100)])
def test_steps_are_profiled_wherever_graph_calls_begin(monkeypatch, bounds, count, started):
    calls = []
    for name in ("start", "stop"):
        monkeypatch.setattr(session.tf.profiler.experimental, name, lambda *_, name=name: calls.append((name, step)))
    profile = session.Profile("folder", bounds)
    for step in range(0, 130, count):
        profile.at(step, count)
    assert calls == [("start", started), ("stop", started + count)]
