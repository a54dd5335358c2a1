"""When something is due between steps: every so many steps, or so many minutes after the last time."""

import time

# Bit n of `Intervals.overdue` stands for event number n.
TIMED = ("validation", "samples", "checkpoint")


class Intervals:
    """The steps at which validation, samples and checkpoints are due.

    Minutes are counted in all sessions of a run together, and are looked at where readings are taken anyway.

    Args:
        settings: `config.train`.
        steps: in an epoch.
        waited: {event: seconds since it was last done}, from `waited` of the session that is resumed.
        clock: a function that returns seconds.
    """

    def __init__(self, settings, steps, waited=None, clock=time.monotonic):
        self.settings = settings
        self.steps = steps
        self.total = settings.epochs * steps
        self.clock = clock
        self.every = {
            "validation": settings.validate_steps,
            "samples": settings.sample_steps,
            "checkpoint": settings.keep_checkpoints,
        }
        if not settings.validate_steps and not settings.validate_minutes:
            self.every["validation"] = settings.validate_every * steps
        self.minutes = {
            "validation": settings.validate_minutes,
            "samples": settings.sample_minutes,
            "checkpoint": settings.checkpoint_minutes,
        }
        self.last = {event: clock() - (waited or {}).get(event, 0.0) for event in TIMED}
        self.logged = clock() - 60.0 * settings.log_minutes

    @property
    def timed(self):
        """Whether anything but logging goes by the clock."""
        return any(self.minutes.values())

    @property
    def samples_apart(self):
        """Whether samples have intervals of their own, instead of being drawn at each validation."""
        return bool(self.every["samples"] or self.minutes["samples"])

    @property
    def waited(self):
        """{event: seconds since it was last done}, for a backup."""
        return {event: self.clock() - last for event, last in self.last.items()}

    def overdue(self):
        """What is due by the clock, a whole number with a bit for each of `TIMED`."""
        waited = self.waited
        return sum(
            2**n for n, event in enumerate(TIMED) if self.minutes[event] and waited[event] >= 60.0 * self.minutes[event]
        )

    def due(self, step, overdue=0):
        """What is due after so many steps.

        Args:
            step: steps done.
            overdue: of worker 0, whose clock counts.

        Returns:
            A subset of {"epoch", "validation", "samples", "checkpoint"}.
        """
        events = {event for event, every in self.every.items() if every and step % every == 0}
        events |= {event for n, event in enumerate(TIMED) if overdue & 2**n}
        if step % self.steps == 0:
            events.add("epoch")
        if step == self.total:
            events.add("validation")
        return events

    def until_due(self, step):
        """Steps from `step` to the next at which something is due or logs are read; at least 1."""
        intervals = [self.steps, self.settings.log_steps, *self.every.values()]
        return min(every - step % every for every in intervals if every)

    def done(self, events):
        """Starts the minutes of these events again."""
        for event in events & set(TIMED):
            self.last[event] = self.clock()

    def log_now(self, always=False):
        """Whether the loggers get a reading, `always` or if their minutes are over; if so, these start again."""
        now = self.clock()
        if not always and now - self.logged < 60.0 * self.settings.log_minutes:
            return False
        self.logged = now
        return True
