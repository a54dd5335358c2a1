"""Signals that ask a training run to end: of a terminal, a scheduler or a preempted machine."""

import contextlib
import signal
import threading


class Signals:
    """Remembers the first of SIGTERM, SIGUSR1 and SIGINT that arrives while it is entered.

    SIGUSR1 is what Slurm sends some time before the limit (`--signal=B:USR1@120`). A second
    SIGINT interrupts at once.

    Attributes:
        number: of the signal, or 0.
    """

    def __init__(self):
        self.number = 0
        self._stack = contextlib.ExitStack()

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():  # Python allows handlers in no other
            for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
                self._stack.callback(signal.signal, number, signal.signal(number, self._note))
        return self

    def __exit__(self, *_):
        self._stack.close()

    def _note(self, number, _):
        if self.number and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.number = self.number or number

    @staticmethod
    def describe(number):
        """(name, exit status): 130 for Ctrl-C, 143 for the others, which schedulers take for a preempted job."""
        return signal.Signals(number).name, 130 if number == signal.SIGINT else 143
