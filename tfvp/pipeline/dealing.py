"""Splits that are dealt out by a hash of names, because nothing else says which file is for what.

A data set deals out what it lists, by names alone. Which of the files have frames, and which split they were in before,
is known once they are decoded: then `settled` has the last word, so that no split is left with damaged files alone, and
no film changes sides because others come or go.
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
        only_empty: whether a split that has other sources with frames gets no film.
    """

    shares: dict[str, float]
    film_of: collections.abc.Callable[[str], str] = str
    cut: bool = False
    only_empty: bool = False

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

    def splits(self, names: list[str], known: dict[str, str] | None = None) -> dict[str, str]:
        """{name: split} of sources; `known` are the splits that some of them had before."""
        needed = ["train", *(split for split, share in reversed(self.shares.items()) if share)]
        if self.cut and len({self.film_of(name) for name in names}) < len(needed):
            return dict.fromkeys(names, "+".join(needed))
        known = {name: split for name, split in (known or {}).items() if split == "train" or split in self.shares}
        return listing.assign_splits(names, self.film_of, known, **self.shares)


def settled(
    sources: list, filled: set[str], known: dict[str, str], lost: collections.abc.Iterable[str]
) -> dict[str, str]:
    """The splits of sources, now that it is known which of them have frames.

    Args:
        sources: list of `tfvp.pipeline.decoding.Source`, as a data set lists them.
        filled: names of those that have frames.
        known: {name: split} of before, of sources that have or had frames.
        lost: names of sources with frames that are not listed any more; all are in `known`.

    Returns:
        {name: split} of listed and lost sources.
    """
    splits = {source.name: source.split for source in sources} | {name: known[name] for name in lost}
    placed = {source.split for source in sources if source.deal is None and source.name in filled}
    deals = {}
    for source in sources:
        if source.deal is not None and source.name in filled:
            deals.setdefault(id(source.deal), (source.deal, []))[1].append(source.name)
    for deal, names in deals.values():
        if deal.only_empty:
            open_ = {split: share for split, share in deal.shares.items() if split not in placed}
            deal = dataclasses.replace(deal, shares=open_)
        # A film without its file still stands for its split, but one that was cut by time has none.
        held = [name for name in lost if known[name] in ("train", *deal.shares) or "+" in known[name]]
        splits.update(deal.splits([*names, *held], known))
    return splits


def splits_of(manifest: dict | None) -> dict[str, str]:
    """{name: split} of the sources with frames in a manifest of `tfvp.pipeline.shards`."""
    return {clip["source"]: clip["split"] for clip in manifest["clips"]} if manifest else {}


def known_splits(manifest: dict, prints: dict[str, str]) -> dict[str, str]:
    """`splits_of` a manifest, under the names of then and, of files that are renamed, under those of now.

    Args:
        manifest: the former one.
        prints: {name: fingerprint} of the sources that are listed now.
    """
    then = splits_of(manifest)
    renamed = {manifest["sources"][name][0]: split for name, split in then.items() if name not in prints}
    return {name: renamed[fingerprint] for name, fingerprint in prints.items() if fingerprint in renamed} | then
