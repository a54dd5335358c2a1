"""Predictions: waiting in line, computed one at a time, and told chunk by chunk."""

import collections
import contextlib
import dataclasses
import secrets
import sys
import threading
import time
import traceback

import numpy as np
import tensorflow as tf

from tfvp.errors import UserError
from tfvp.frames import to_uint8
from tfvp.studio import limits, results
from tfvp.studio.clips import Clip, Frames
from tfvp.studio.models import Loaded, Models, Offer

DEFECT = "Something went wrong in tfvp itself; the terminal that it was started in says more."
ENDED = ("done", "failed", "cancelled")


@dataclasses.dataclass(frozen=True)
class Request:
    """What is to be predicted.

    Attributes:
        offer: by which model.
        clip: of which clip.
        start: the first observed frame, as the model takes them; None = the last frames are observed.
        observed, horizon, futures: numbers of frames and of futures.
        seed: of the futures.
    """

    offer: Offer
    clip: Clip
    start: int | None
    observed: int
    horizon: int
    futures: int
    seed: int

    def check(self) -> None:
        """Refuses what the model, or the machine, cannot do.

        Raises:
            UserError: the sentence says what to change.
        """
        traits = self.offer.traits
        fewest, multiple = traits["fewest"], traits["multiple"]
        if self.observed < fewest or self.observed % multiple:
            every = f", and a multiple of {multiple}" if multiple > 1 else ""
            raise UserError(f"{self.offer.name} observes at least {fewest} frames{every}, not {self.observed}")
        if not 1 <= self.horizon <= limits.HORIZON:
            raise UserError(f"{self.horizon} frames cannot be predicted here; choose 1 to {limits.HORIZON}")
        if not 1 <= self.futures <= limits.FUTURES:
            raise UserError(f"{self.futures} futures cannot be drawn here; choose 1 to {limits.FUTURES}")
        height, width, channels = self.offer.config.frame_shape
        if self.futures * self.observed * height * width * channels > limits.OBSERVED_BYTES:
            raise UserError(
                f"{self.observed} observed frames are too many here; choose fewer of them, or fewer futures"
            )
        if self.futures * self.horizon * height * width * channels > limits.RESULT_BYTES:
            raise UserError(
                f"{self.futures} futures of {self.horizon} frames of {height} x {width} pixels are more than is kept"
                " here; choose fewer futures or a shorter horizon"
            )

    def describe(self) -> dict:
        """What the page calls it."""
        return {
            "model": {"id": self.offer.identity, "title": self.offer.title},
            "clip": {"id": self.clip.identity, "title": self.clip.title},
            "start": self.start,
            "observed": self.observed,
            "horizon": self.horizon,
        }

    def first(self, frames: np.ndarray) -> int:
        """The number of the first observed frame of a clip [T, H, W, C].

        Raises:
            UserError: the clip is too short.
        """
        first = len(frames) - self.observed if self.start is None else self.start
        if first < 0 or first + self.observed > len(frames):
            place = "" if self.start is None else f" from frame {self.start} on"
            raise UserError(
                f"{self.clip.title} has {max(0, len(frames) - (self.start or 0))} frames{place}, fewer than the"
                f" {self.observed} to observe; observe fewer{'' if self.start is None else ' or start earlier'}"
            )
        return first


class Prediction:
    """One prediction: where it stands, what was told of it, and what came of it.

    Attributes:
        identity: its name in addresses.
        request: a `Request`.
        state: "queued", "loading", "running", "scoring", "done", "failed" or "cancelled".
        events: [(name, contents)] for pages, in order; see `progress` for what changes.
        pictures: {name: PNG} that events and the result refer to.
        result: what the page shows in the end, or None.
        outcome: the `results.Outcome`, or None.
    """

    def __init__(self, request: Request):
        self.identity = secrets.token_urlsafe(12)
        self.request = request
        self.state, self.error, self.ahead = "queued", None, 0
        self.frames, self.seconds_left = 0, None
        self.events, self.pictures = [], {}
        self.result = self.outcome = None
        self.seconds = {}
        self._cancelled = threading.Event()
        self._listeners = set()

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self.state in ENDED

    @property
    def bytes(self) -> int:
        """About the memory that it holds."""
        return sum(map(len, self.pictures.values())) + (self.outcome.bytes if self.outcome else 0)

    def progress(self) -> dict:
        """Where it stands, as the page reads it."""
        return {
            "state": self.state,
            "ahead": self.ahead,
            "frames": self.frames,
            "of": self.request.horizon,
            "seconds_left": self.seconds_left,
            "error": self.error,
        }

    def listen(self, listener) -> None:
        """Calls `listener()` after each change, from any thread, until `unlisten`."""
        self._listeners.add(listener)

    def unlisten(self, listener) -> None:
        """Ends `listen`."""
        self._listeners.discard(listener)

    def cancel(self) -> None:
        """Asks it to stop before its next chunk."""
        self._cancelled.set()

    def check_cancelled(self) -> None:
        """Raises `Cancelled` if `cancel` was called."""
        if self._cancelled.is_set():
            raise Cancelled

    def tell(self, event: str | None = None, contents: dict | None = None, **changes) -> None:
        """Changes attributes, adds an event, and tells listeners."""
        if event:
            self.events.append((event, contents))
        for name, value in changes.items():
            setattr(self, name, value)
        for listener in list(self._listeners):
            listener()

    def keep(self, name: str, frames: np.ndarray) -> dict:
        """Keeps frames [T, H, W, C] as a strip: {"url", "columns", "frames"}."""
        self.pictures[name], columns = results.strip(frames)
        return {"url": f"api/predictions/{self.identity}/{name}.png", "columns": columns, "frames": len(frames)}


class Cancelled(Exception):
    """The user does not want it any more."""


class Line:
    """Computes predictions one after the other, in a thread of its own.

    Args:
        models: the `Models`; only this thread loads them.
        frames: the `Frames` of clips.
    """

    def __init__(self, models: Models, frames: Frames):
        self.models, self.clips = models, frames
        self._waiting = collections.deque()
        self._current = self._wish = None
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="predictions", daemon=True)
        self._thread.start()

    def add(self, prediction: Prediction) -> None:
        """Puts a prediction at the end of the line.

        Raises:
            UserError: the line is full.
        """
        with self._changed:
            if len(self._waiting) >= limits.QUEUE:
                raise UserError("too many predictions are waiting; try again in a minute")
            self._waiting.append(prediction)
            self._renumber()
            self._changed.notify()

    def expect(self, offer: Offer) -> None:
        """Loads a model while nothing waits, as it will probably be asked for."""
        with self._changed:
            self._wish = offer
            self._changed.notify()

    def cancel(self, prediction: Prediction) -> None:
        """Stops a prediction; one that waits leaves the line at once."""
        prediction.cancel()
        with self._changed:
            if prediction in self._waiting:
                self._waiting.remove(prediction)
                prediction.tell(state="cancelled", ahead=0)
                self._renumber()

    def close(self) -> None:
        """Stops what is computed and what waits."""
        with self._changed:
            self._closed = True
            for prediction in [*self._waiting, *([self._current] if self._current else [])]:
                prediction.cancel()
            self._changed.notify()

    def _renumber(self):
        busy = self._current is not None
        for number, prediction in enumerate(self._waiting):
            if prediction.ahead != number + busy:
                prediction.tell(ahead=number + busy)

    def _work(self):
        while True:
            with self._changed:
                self._current = None
                self._renumber()
                while not (self._waiting or self._wish or self._closed):
                    self._changed.wait()
                if self._closed:
                    return
                if not self._waiting:
                    wish, self._wish = self._wish, None
                else:
                    wish, self._current = None, self._waiting.popleft()
                    self._current.ahead = 0
                    self._renumber()
            if wish:
                with contextlib.suppress(Exception):  # a prediction with it will say what is wrong
                    self.models.load(wish)
            else:
                self._run(self._current)

    def _run(self, prediction):
        try:
            predict(prediction, self.models, self.clips)
        except Cancelled:
            prediction.tell(state="cancelled", seconds_left=None)
        except UserError as error:
            prediction.tell(state="failed", error=sentence(error))
        except (MemoryError, tf.errors.ResourceExhaustedError):
            prediction.tell(state="failed", error="The memory is full; choose fewer futures or a shorter horizon.")
        except Exception:  # a defect: the page gets a sentence, the terminal the rest
            traceback.print_exc(file=sys.stderr)
            prediction.tell(state="failed", error=DEFECT)


def predict(prediction: Prediction, models: Models, clips: Frames) -> None:
    """Observes once, imagines chunk by chunk, scores where the truth is known, and says so all along.

    Args:
        prediction: what to do; it is told what happens.
        models: where the model is loaded from.
        clips: where the frames come from.

    Raises:
        UserError: the clip cannot be observed, or the model cannot be loaded.
        Cancelled: it was cancelled.
    """
    request, begun = prediction.request, time.monotonic()
    prediction.check_cancelled()
    prediction.tell(state="loading")
    frames, notes = clips.of(request.clip, request.offer)
    first = request.first(frames)
    last = first + request.observed
    observed, truth = frames[first:last], frames[last : last + (0 if request.start is None else request.horizon)]
    outcome = results.Outcome(request, observed, truth, first, list(notes), bool(notes))
    seen = results.shown(outcome.clip)
    prediction.tell("observed", {**outcome.shape, "strip": prediction.keep("clip", seen), "known": len(seen)})
    prediction.check_cancelled()
    loaded = models.load(request.offer)
    prediction.tell(state="running")
    chunks, scored = [], []
    for chunk in imagined(loaded, observed, prediction):
        done = prediction.frames
        known = min(len(truth), done + chunk.shape[1]) - done
        if known > 0:
            scored.append(chunk[:, :known])
        chunks.append(to_uint8(chunk))
        strips = [prediction.keep(f"chunk{done}-{n}", results.shown(part)) for n, part in enumerate(chunks[-1])]
        told = {"from": done, "to": done + chunk.shape[1], "strips": strips}
        prediction.tell("frames", told, frames=done + chunk.shape[1])
        prediction.seconds.setdefault("first_frames", round(time.monotonic() - begun, 3))
    outcome.futures = np.concatenate(chunks, axis=1)
    prediction.tell(state="scoring", seconds_left=None)
    if scored:
        outcome.score(np.concatenate(scored, axis=1), loaded, prediction.check_cancelled)
    prediction.seconds["all"] = round(time.monotonic() - begun, 3)
    prediction.outcome = outcome
    downloads = {suffix: f"api/predictions/{prediction.identity}/download.{suffix}" for suffix in results.FILES}
    result = outcome.describe(prediction.keep)
    prediction.result = {**result, "downloads": downloads, "seconds": prediction.seconds}
    prediction.tell(state="done")


def imagined(loaded: Loaded, observed: np.ndarray, prediction: Prediction):
    """Yields the predicted frames as `Futures.imagine` does, and says how long the rest will take."""
    request, begun = prediction.request, time.monotonic()
    samples = request.futures if loaded.model.stochastic else 1
    state = loaded.futures.observe(observed, samples, request.seed)
    prediction.seconds["observe"] = round(time.monotonic() - begun, 3)
    begun = time.monotonic()
    for chunk in loaded.futures.imagine(state, request.horizon):
        prediction.check_cancelled()
        pace = (time.monotonic() - begun) / chunk.shape[1]
        left = request.horizon - prediction.frames - chunk.shape[1]
        prediction.seconds_left = round(pace * left, 1)
        yield chunk
        begun = time.monotonic()


def sentence(error: object) -> str:
    """A message in one line that ends with a full stop."""
    text = " ".join(str(error).split())
    return text + ("" if text.endswith((".", "!", "?")) else ".")
