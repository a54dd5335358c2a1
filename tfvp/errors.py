"""The error that a user can act on."""

import collections

_noted = collections.deque(maxlen=8)


class UserError(Exception):
    """A problem whose message is one sentence that says what to do about it.

    The commands print the message alone and exit with status 2; everything else that is
    raised is a defect of tfvp and keeps its stack trace.
    """


def note(error: UserError) -> None:
    """Remembers an error that is raised where TensorFlow makes one of its own of it, as it does within a pipeline."""
    _noted.append(error)


def noted(error: BaseException) -> UserError | None:
    """The remembered error that another one was made of: its sentence is in that one's text. None if there is none."""
    text = str(error)
    return next((one for one in reversed(_noted) if f"{type(one).__name__}: {one}" in text), None)
