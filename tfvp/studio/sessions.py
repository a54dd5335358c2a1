"""What each user has: uploads and predictions, which go when the user has been away for a while."""

import collections
import secrets
import threading
import time

from tfvp.errors import UserError
from tfvp.studio import limits
from tfvp.studio.clips import Clip, Frames, Upload
from tfvp.studio.prediction import Line, Prediction


class Session:
    """One user's browser.

    Attributes:
        identity: the secret that its cookie holds.
        seen: when it asked for something last, in seconds of a clock that only goes forward.
        uploads: {identity: Upload}.
        predictions: {identity: Prediction}, the oldest first.
    """

    def __init__(self):
        self.identity = secrets.token_urlsafe(32)
        self.seen = time.monotonic()
        self.uploads = collections.OrderedDict()
        self.predictions = collections.OrderedDict()

    @property
    def busy(self) -> bool:
        """Whether a prediction waits or is computed."""
        return any(not prediction.ended for prediction in self.predictions.values())


class Sessions:
    """All sessions.

    Args:
        line: where their predictions wait.
        frames: where the frames of their clips are kept.
    """

    def __init__(self, line: Line, frames: Frames):
        self.line, self.frames = line, frames
        self._sessions = collections.OrderedDict()
        self._lock = threading.RLock()

    def find(self, identity: str | None) -> Session | None:
        """The session of a cookie, or None."""
        with self._lock:
            session = self._sessions.get(identity)
            if session:
                session.seen = time.monotonic()
                self._sessions.move_to_end(identity)
            return session

    def begin(self) -> Session:
        """A new session; the one that was away longest leaves if there are too many."""
        with self._lock:
            while len(self._sessions) >= limits.SESSIONS:
                self._end(next(iter(self._sessions)))
            session = Session()
            self._sessions[session.identity] = session
            return session

    def add_upload(self, session: Session, upload: Upload) -> None:
        """Keeps an upload, and lets the session's oldest one go if it has too many."""
        with self._lock:
            session.uploads[upload.identity] = upload
            while len(session.uploads) > limits.UPLOADS:
                self._drop(session.uploads.popitem(last=False)[1])

    def add_prediction(self, session: Session, prediction: Prediction) -> None:
        """Puts a prediction in line, and lets older ones go where they are too many or too large.

        Raises:
            UserError: too many are waiting.
        """
        with self._lock:
            if sum(not one.ended for one in session.predictions.values()) >= limits.WAITING:
                raise UserError(f"{limits.WAITING} of your predictions are not finished; wait for one, or cancel it")
            self.line.add(prediction)
            session.predictions[prediction.identity] = prediction
            self._thin(session)

    def _thin(self, session):
        finished = [key for key, one in session.predictions.items() if one.ended]
        for key in finished[: max(0, len(session.predictions) - limits.KEPT)]:
            del session.predictions[key]
        held = [(one, key, two) for two in self._sessions.values() for key, one in two.predictions.items()]
        total = sum(one.bytes for one, _, _ in held)
        for one, key, holder in held:  # of the sessions that were away longest first
            if total <= limits.KEPT_BYTES:
                break
            if one.ended:
                total -= one.bytes
                del holder.predictions[key]

    def expire(self) -> None:
        """Ends the sessions that have been away for `limits.IDLE_SECONDS` and wait for nothing."""
        now = time.monotonic()
        with self._lock:
            for identity, session in list(self._sessions.items()):
                if now - session.seen > limits.IDLE_SECONDS and not session.busy:
                    self._end(identity)

    def close(self) -> None:
        """Ends all sessions."""
        with self._lock:
            for identity in list(self._sessions):
                self._end(identity)

    def _end(self, identity):
        session = self._sessions.pop(identity)
        for prediction in session.predictions.values():
            self.line.cancel(prediction)
        for upload in session.uploads.values():
            self._drop(upload)

    def _drop(self, clip: Clip):
        clip.close()
        self.frames.forget(clip)
