"""Batches scored one after the other, or by several devices at a time.

Each device has a copy of the model and scores whole batches. Nothing is exchanged between them: predictions depend on
the clips' ids alone, and the scores are added up in the order of the batches, however many devices there are.
"""

import collections
import contextlib
import itertools
import queue
import typing
from concurrent import futures

import numpy as np
import tensorflow as tf

from tfvp.evaluation.per_clip import truth_hash
from tfvp.frames import to_uint8


class Team(typing.NamedTuple):
    """The scorers of one device, each with a copy of its predictor there; None = wherever TensorFlow puts it."""

    device: str | None
    scorers: dict

    def score(self, number, batch):
        """The part of a batch: {"truth", "truth_sha256", "<predictor>/<entry of Scorer.score>": array}."""
        with tf.device(self.device) if self.device else contextlib.nullcontext():
            real = int(tf.reduce_sum(tf.cast(tf.reduce_max(batch["mask"], axis=1) > 0, tf.int32)))
            before = number * batch["video"].shape[0]
            video = to_uint8(batch["video"][:real])
            kept = max(scorer.kept for scorer in self.scorers.values())
            part = {
                "truth": video[: max(0, kept - before)],
                "truth_sha256": np.array([truth_hash(clip) for clip in video], np.str_),
            }
            shared = {}
            for name, scorer in self.scorers.items():
                scored = scorer.score(batch, real, max(0, scorer.kept - before), shared)
                part.update({f"{name}/{key}": value for key, value in scored.items()})
            return part


def parts(teams, batches, done):
    """Yields (number, part) of the batches that are not done, in order; every team scores a batch at a time."""
    finished = set(done)
    numbered = zip((n for n in itertools.count() if n not in finished), batches)
    if len(teams) == 1:
        for number, batch in numbered:
            yield number, teams[0].score(number, batch)
        return
    idle = queue.SimpleQueue()
    for team in teams:
        idle.put(team)

    def score(number, batch):
        team = idle.get()
        try:
            return team.score(number, batch)
        finally:
            idle.put(team)

    with futures.ThreadPoolExecutor(len(teams)) as pool:
        pending = collections.deque()
        try:
            for number, batch in numbered:
                pending.append((number, pool.submit(score, number, batch)))
                if len(pending) > len(teams):
                    first, future = pending.popleft()
                    yield first, future.result()
            while pending:
                first, future = pending.popleft()
                yield first, future.result()
        finally:
            for _, future in pending:
                future.cancel()


def merged(done, journal, new):
    """Yields (number, part, whether it is new) of the parts in the journal and the new ones, in order."""
    waiting = collections.deque(done)
    for number, part in new:
        while waiting and waiting[0] < number:
            earlier = waiting.popleft()
            yield earlier, journal.read(earlier), False
        yield number, part, True
    for earlier in waiting:
        yield earlier, journal.read(earlier), False
