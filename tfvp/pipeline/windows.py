"""Which windows of clips are read, in which order."""

import functools
import math
import threading
import typing

import numpy as np

from tfvp.errors import UserError
from tfvp.pipeline import draws

KINDS = ("random", "by_length", "split", "first")
SAMPLE = "sample"  # the rule of `sample`, where a protocol names a rule
SAMPLE_SEED = 0
GOLDEN = (math.sqrt(5) - 1) / 2


class Windows(typing.NamedTuple):
    """Windows in the order of their positions: clip number, first frame, whether to mirror it, where to crop it."""

    clips: np.ndarray
    starts: np.ndarray
    mirrored: np.ndarray
    places: np.ndarray


class Pieces:
    """How many windows each clip counts for, numbered clip after clip.

    Args:
        clips: int64 [n], numbers of clips.
        counts: int64 [n], windows of each.
    """

    def __init__(self, clips, counts):
        self.clips = clips
        self.counts = counts
        self._ends = np.cumsum(counts)
        self.total = int(self._ends[-1])

    def locate(self, numbers):
        """(the row of `clips` that each window lies in, its number among the windows of that clip)."""
        rows = np.searchsorted(self._ends, numbers, side="right")
        return rows, numbers - (self._ends[rows] - self.counts[rows])


def first(dataset, split, length, stride=1):
    """The first `length` frames of each clip that is long enough, in order: (clips, starts, ids), int64 [N] each.

    Raises:
        UserError: no clip is long enough.
    """
    clips = dataset.usable_clips(split, length, stride)
    return clips, np.zeros_like(clips), clips


def sample(dataset, split, length, stride=1, count=0):
    """Windows for validation and tests, spread over all clips of a split and over their whole lengths.

    They are taken from all windows that do not overlap, from frame 0 of each clip on, so that a clip counts by its
    length: a quasi-random sequence, whose every beginning is spread evenly over all of them. Where it starts depends
    on `SAMPLE_SEED` alone: runs of any seed are tested on the same windows, and `count` of them begin with those of any
    smaller count. All are taken, clip after clip, where there are no more. Clips that are computed are drawn already:
    of those it is the first `count`, from frame 0.

    Args:
        dataset: a prepared `VideoDataset`.
        split: the split.
        length: frames in a window.
        stride: frames of the clip from one frame of the window to the next.
        count: how many; 0 = all.

    Returns:
        (clips, starts, ids), int64 [N] each. The id of a clip's first window is the clip's number.

    Raises:
        UserError: no clip is long enough.
    """
    if dataset.endless:
        return tuple(column[: count or None] for column in first(dataset, split, length, stride))
    lengths, span = dataset.clip_lengths(split), (length - 1) * stride + 1
    clips = dataset.usable_clips(split, length, stride)
    pieces = Pieces(clips, lengths[clips] // span)
    numbers = np.arange(min(count or pieces.total, pieces.total))
    if len(numbers) < pieces.total:
        numbers = _spread(pieces.total, len(numbers))
    rows, nth = pieces.locate(numbers)
    return clips[rows], nth * span, clips[rows] + nth * len(lengths)


def _spread(total, count):
    """`count` of the numbers below `total`, int64, such that those at every beginning are spread evenly.

    Multiples of the golden section fill a circle more evenly than those of any other number (Knuth, "The art of
    computer programming", volume 3, section 6.4). Numbers that they meet again are left out.
    """
    begin, points, first = draws.Draws(draws.keys(SAMPLE, SAMPLE_SEED)).uniform(), 2 * count, ()
    while len(first) < count:
        places = (begin + GOLDEN * np.arange(points)) % 1.0
        numbers = np.minimum(total - 1, (total * places).astype(np.int64))
        first = np.sort(np.unique(numbers, return_index=True)[1])
        points *= 2
    return numbers[first[:count]]


def validation(dataset, split, length, stride=1, count=0):
    """The windows of a split that training validates on: those that the data set says, or a `sample`.

    Args:
        dataset, split, length, stride, count: as in `sample`.

    Returns:
        (clips, starts, ids), int64 [N] each.

    Raises:
        UserError: no clip is long enough.
    """
    listed = dataset.validation_windows(length, stride) if split == "validation" else None
    if listed is None:
        return sample(dataset, split, length, stride, count)
    clips, starts = (column[: count or None] for column in listed)
    return clips, starts, np.arange(len(clips))


class TrainingWindows:
    """The window at every position of every epoch of `examples` positions, as a pure function.

    Passes, which have every window once, follow one another without regard to epochs; only clips that are drawn anew
    begin a new pass with each epoch. A pass has, by `window`,

        random      one window of each clip, at a random place
        by_length   frames // span windows of each clip (at least one), at other random places in each pass: a clip's
                    starts are dealt out to its windows, which each take one of their own, so that no window is in a
                    pass twice and every start is as likely as any other
        split       all windows from frame 0 on that do not overlap
        first       the window at frame 0

    where span is the number of frames from a window's first to its last. Windows are computed when they are asked
    for; what is kept in memory grows with the number of clips, and in all kinds but "by_length" with the number of
    windows in a pass.

    Args:
        dataset: a prepared `VideoDataset`.
        split: the split.
        length: frames in a window.
        stride: frames of the clip from one frame of the window to the next.
        window: one of `KINDS`.
        seed: of all that is random.
        examples: positions in an epoch.

    Raises:
        UserError: an unknown kind, or no clip is long enough.
    """

    def __init__(self, dataset, split, length, stride, window, seed, examples):
        if window not in KINDS:
            raise UserError(f"data.window={window!r} is none of {', '.join(KINDS)}")
        self.kind = window
        self.span = (length - 1) * stride + 1
        lengths = dataset.clip_lengths(split)
        clips = dataset.usable_clips(split, length, stride, option="train.seq_len")
        counts = lengths[clips] // self.span if window in ("by_length", "split") else np.ones_like(clips)
        self.pieces = Pieces(clips, counts)
        self.choices = lengths[clips] - self.span + 1
        self.windows = self.pieces.total
        self.examples = examples
        self.passes = -(-examples // self.windows)
        # A pass over new clips takes new numbers: they are never those of another pass or epoch.
        self.renewed = len(lengths) if dataset.endless and split == "train" else 0
        self.seed = seed
        self.lock = threading.Lock()
        self.order = functools.lru_cache(maxsize=4)(self._order)

    def at(self, epoch, positions):
        """The `Windows` at positions (int64 [n], ascending) of an epoch."""
        if not self.renewed:
            epoch, positions = 0, positions + epoch * self.examples
        number = positions // self.windows
        parts = [self._of_pass(epoch, int(n), positions[number == n] - n * self.windows) for n in np.unique(number)]
        return Windows(*(np.concatenate(column) for column in zip(*parts)))

    def _of_pass(self, epoch, number, places):
        windows = self._numbers(epoch, number, places)
        rows, nth = self.pieces.locate(windows)
        key = ("windows", self.seed, epoch, number)
        random = draws.Draws(draws.keys(*key, places))
        if self.kind in ("random", "by_length"):
            random.uniform()  # the first number of a key is for the start of the window of that number
        mirrored = random.uniform() < 0.5
        crops = np.stack([random.uniform(), random.uniform()], axis=-1)
        starts = self._starts(rows, nth, draws.Draws(draws.keys(*key, windows)), epoch, number)
        new = (epoch * self.passes + number) * self.renewed
        return Windows(self.pieces.clips[rows] + new, starts, mirrored, crops)

    def _numbers(self, epoch, number, places):
        """Numbers of the windows at some places of a pass."""
        if self.kind == "by_length":
            return draws.shuffled(places, self.windows, "order", self.seed, epoch, number)
        with self.lock:
            return self.order(epoch, number)[places]

    def _order(self, epoch, number):
        return draws.order(self.windows, "order", self.seed, epoch, number)

    def _starts(self, rows, nth, random, epoch, number):
        choices = self.choices[rows]
        if self.kind == "random":
            return random.integers(0, choices)
        if self.kind != "by_length":
            return nth * self.span if self.kind == "split" else np.zeros_like(rows)
        counts = self.pieces.counts[rows]
        first, end = nth * choices // counts, (nth + 1) * choices // counts
        # Without the turn, starts of smaller shares would be drawn more often than others, in every pass.
        turn = draws.Draws(draws.keys("turn", self.seed, epoch, number, rows)).integers(0, choices)
        return (random.integers(first, end) + turn) % choices
