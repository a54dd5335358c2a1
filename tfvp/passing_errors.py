"""Tells errors that pass, such as a network drive that does not answer, from damage of a file."""

import errno

import av

# Of the machine or its network, not of the file. EIO may also be FFmpeg's word for damage; see `is_ambiguous`.
_NAMES = (
    "EINTR EAGAIN ENOMEM EMFILE ENFILE EIO ESTALE EACCES EREMOTEIO ENOLINK ETIMEDOUT ENOTCONN ECONNRESET ECONNABORTED"
    " ECONNREFUSED ENETDOWN ENETUNREACH ENETRESET EHOSTDOWN EHOSTUNREACH ENODEV ENXIO EBUSY"
)
_NUMBERS = {getattr(errno, name) for name in _NAMES.split() if hasattr(errno, name)}
_TENSORFLOW = ("ResourceExhaustedError", "UnavailableError", "PermissionDeniedError", "AbortedError", "UnknownError")


def passing(error: BaseException) -> BaseException | None:
    """The error that may pass among an error and what caused it, or None."""
    seen = []
    while error is not None and error not in seen:
        # SystemError: the parser of CPython 3.11, by which NumPy reads headers, sometimes fails in threads (gh-106905).
        if isinstance(error, (MemoryError, SystemError)) or getattr(error, "errno", None) in _NUMBERS:
            return error
        if type(error).__name__ in _TENSORFLOW and type(error).__module__.startswith("tensorflow."):
            return error
        seen.append(error)
        error = error.__cause__ or error.__context__
    return None


def is_ambiguous(error: BaseException) -> bool:
    """Whether it may be damage all the same: FFmpeg says "Input/output error" of some damaged files, too."""
    return isinstance(error, av.FFmpegError) and error.errno == errno.EIO


def can_be_read(path) -> bool:
    """Whether every byte of a file can be read."""
    try:
        with open(path, "rb") as file:
            while file.read(2**22):
                pass
    except OSError:
        return False
    return True
