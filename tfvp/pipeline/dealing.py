"""Splits that are dealt out by a hash of names, because nothing else says which file is for what.

They are a function of the names alone, the same at any image size and on any machine. Files that are gone count as long
as their decoded frames are used, so that those that are left keep their splits.
"""

import collections.abc
import dataclasses

from tfvp.pipeline import listing


@dataclasses.dataclass(frozen=True)
class Deal:
    """How films are dealt out.

    Attributes:
        shares: {split: share of the films}; what they leave is for "train".
        film_of: a function from a source's name to that of its film, whose sources are all in one split. Defaults to
            the source's own name.
        cut: whether films are cut by time where there are too few for all splits: their split is then
            "train+validation", say.
    """

    shares: dict[str, float]
    film_of: collections.abc.Callable[[str], str] = str
    cut: bool = False

    def out(self, sources: list, names: collections.abc.Container | None = None) -> list:
        """Deals out the sources that are listed for training.

        Args:
            sources: list of `tfvp.pipeline.decoding.Source`.
            names: of those that are meant; None = all.

        Returns:
            All sources, in their order.
        """
        meant = [
            source.name for source in sources if source.split == "train" and (names is None or source.name in names)
        ]
        splits = self.splits(meant)
        return [
            dataclasses.replace(source, split=splits[source.name], deal=self) if source.name in splits else source
            for source in sources
        ]

    def splits(self, names: list[str]) -> dict[str, str]:
        """{name: split} of sources."""
        needed = ["train", *(split for split, share in reversed(self.shares.items()) if share)]
        if self.cut and len({self.film_of(name) for name in names}) < len(needed):
            return dict.fromkeys(names, "+".join(needed))
        return listing.assign_splits(names, self.film_of, **self.shares)


def settled(sources: list, lost: dict[str, str]) -> dict[str, str]:
    """The splits of all sources, those without their files among them.

    Args:
        sources: list of `tfvp.pipeline.decoding.Source`, as a data set lists them.
        lost: {name: split} of before, of sources that are not listed any more and whose frames are used.

    Returns:
        {name: split} of both.
    """
    splits = {source.name: source.split for source in sources} | lost
    deals = {}
    for source in sources if lost else ():
        if source.deal is not None:
            deals.setdefault(id(source.deal), (source.deal, []))[1].append(source.name)
    for deal, names in deals.values():
        held = [name for name, split in lost.items() if split in ("train", *deal.shares) or "+" in split]
        dealt = deal.splits([*names, *held])
        # A film that was cut by time is whole among more.
        splits.update({name: dealt[name] for name in (*names, *(n for n in held if "+" in lost[n]))})
    return splits


def splits_of(manifest: dict | None) -> dict[str, str]:
    """{name: split} of the sources with frames in a manifest of `tfvp.pipeline.shards`."""
    return {clip["source"]: clip["split"] for clip in manifest["clips"]} if manifest else {}


def has_folder(splits: dict[str, str], split: str, *names: str) -> bool:
    """Whether some of {name: split} are in a split because they lie in a folder of one of these plain names."""
    return any(
        one == split and any(listing.plain(part) in names for part in name.split("/")[:-1])
        for name, one in splits.items()
    )
