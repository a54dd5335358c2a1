"""Films that are cut into parts for training, validation and test, where there are too few for whole films."""

import dataclasses

import numpy as np

from tfvp.errors import UserError


@dataclasses.dataclass
class Parts:
    """The clips of one split, as parts of stored ones.

    Attributes:
        stored: the stored split that they are parts of.
        clips, first, lengths: int64 [N]: the stored clip, its first frame and the number of frames of each.
        names: [N], of the clips.
    """

    stored: str
    clips: np.ndarray
    first: np.ndarray
    lengths: np.ndarray
    names: list[str]


def cut(stored, names, groups, lengths, fractions, gap, least):
    """Cuts films by time: the beginning of each is for training, the end for the test.

    The files of a film follow each other in their order, as one film does. A file that a cut goes through is part of
    two splits; `gap` frames at each cut belong to none, because frames that follow each other are almost the same.

    Args:
        stored: name of the stored split.
        names, groups: [n], of its clips and of the films that they belong to.
        lengths: int64 [n], their frames.
        fractions: {split: share of the frames}, in the order of time; "train" comes first and gets the rest.
        gap: frames between two splits.
        least: frames of a part; shorter ones are dropped.

    Returns:
        {split: `Parts`}.

    Raises:
        UserError: a film is too short.
    """
    rows = {split: [] for split in ("train", *fractions)}
    for group in dict.fromkeys(groups):
        members = [n for n, other in enumerate(groups) if other == group]
        ends = np.cumsum(lengths[members])
        for split, (begin, end) in _bounds(group, int(ends[-1]), fractions, gap, least).items():
            for clip, last in zip(members, ends.tolist()):
                before = last - int(lengths[clip])
                first, stop = max(begin, before) - before, min(end, last) - before
                if stop - first >= least:
                    whole = stop - first == lengths[clip]
                    name = names[clip] if whole else f"{names[clip]}#{first + 1}-{stop}"
                    rows[split].append((clip, first, stop - first, name))
    return {
        split: Parts(stored, *(np.array(column, np.int64) for column in columns[:3]), list(columns[3]))
        for split, columns in ((split, list(zip(*found)) or [(), (), (), ()]) for split, found in rows.items())
    }


def _bounds(film, frames, fractions, gap, least):
    """{split: (first frame, end)} of a film."""
    used = frames - gap * len(fractions)
    sizes = {split: max(least, round(used * fraction)) for split, fraction in fractions.items()}
    bounds = {"train": (0, used - sum(sizes.values()))}
    if bounds["train"][1] < least:
        raise UserError(
            f"{film} has {frames} frames, too few to be cut into {', '.join(['training', *fractions])} with"
            f" {gap} frames between them; lower data.gap, or add videos"
        )
    for split, size in sizes.items():
        begin = max(end for _, end in bounds.values()) + gap
        bounds[split] = (begin, begin + size)
    return bounds
