"""One process at a time in a folder: a lock that goes with its process, or a lease where a file system has no locks."""

import contextlib
import errno
import os
import pathlib
import socket
import threading
import time

from tfvp.errors import UserError

try:
    import fcntl
except ImportError:  # not on every system
    fcntl = None

# What flock says where another process holds the lock; anything else means that there are no locks here.
TAKEN = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)
POLL = 1.0  # seconds between looks at another process's lease


@contextlib.contextmanager
def locked(folder, taken="", waiting=None):
    """Context manager: no other process that asks for it has `folder` meanwhile.

    The lock is flock's, which ends with its process. Where the file system knows none (some
    network and object stores), it is a lease: a file that is created exclusively, holds the machine
    and process, and is taken over if that process was on this machine and is gone.

    Args:
        folder: an existing folder.
        taken: the sentence to raise where another process has it.
        waiting: a function to call once before waiting for the other process instead.

    Raises:
        UserError: `taken`, or the folder cannot be written.
    """
    path = pathlib.Path(folder) / ".lock"
    try:
        file = open(path, "w", encoding="utf-8")  # noqa: SIM115 - closed below, and held until then
    except OSError as error:
        raise UserError(f"cannot write into {folder}: {error.strerror or error}") from None
    with file:
        if _flock(file, taken, waiting):
            yield
            return
    lease = path.with_name(".lease")
    _take(lease, taken, waiting)
    try:
        yield
    finally:
        lease.unlink(missing_ok=True)


def _flock(file, taken, waiting):
    """Whether the lock was taken; False where there are no locks."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in TAKEN:
            return False
        if waiting is None:
            raise UserError(taken) from None
        waiting()
        fcntl.flock(file, fcntl.LOCK_EX)
    return True


def _take(lease, taken, waiting):
    told = False
    while True:
        try:
            with open(lease, "x", encoding="utf-8") as file:
                file.write(f"{socket.gethostname()} {os.getpid()}")
            return
        except FileExistsError:
            holder = _holder(lease)
        if _is_gone(holder):
            _remove(lease, holder)
            continue
        says = f"the lease {lease} says: {' '.join(holder)}; delete it if that process is gone"
        if waiting is None:
            raise UserError(f"{taken} ({says})")
        if not told:
            waiting()
            print(says)
            told = True
        time.sleep(POLL)


def _remove(lease, holder):
    """Removes the lease of a holder that is gone, unless another process has replaced it meanwhile."""
    aside = lease.with_name(f"{lease.name}-{socket.gethostname()}-{os.getpid()}-{threading.get_ident()}")
    try:
        os.rename(lease, aside)  # of several processes that take over, one succeeds
    except FileNotFoundError:
        return
    if _holder(aside) == holder:
        aside.unlink()
    else:
        os.rename(aside, lease)


def _holder(lease):
    """[machine, process] of a lease, or []."""
    with contextlib.suppress(OSError):
        return lease.read_text(encoding="utf-8").split()
    return []


def _is_gone(holder):
    """Whether the holder of a lease was a process of this machine that has ended."""
    if len(holder) != 2 or holder[0] != socket.gethostname():
        return False
    try:
        os.kill(int(holder[1]), 0)
    except ProcessLookupError:
        return True
    except (OSError, ValueError):
        return False
    return False
