"""What every data set is told, and what it says of itself."""

import dataclasses
import functools
import math
import pathlib

from tfvp import files
from tfvp.pipeline import remote


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings that every data set takes.

    Attributes:
        root: folder of the published files, on this machine or as the URL of an object store; "" = none.
        cache: folder for decoded shards; "" = below `root`, or below the user's cache folder
            (the environment variable TFVP_CACHE, or ~/.cache/tfvp) where that cannot be written.
        image_size: (height, width) in pixels.
        channels: 1 = grey, 3 = RGB.
        seed: of generated training clips. Validation and test clips are always the same.
        flow: folder of flow files (`FlowFiles`), for models that need flow; "" = it is computed.
        max_damaged: share of the files that may be damaged; one file may be, in any case.
        storage: how decoded frames of files are kept, one of `tfvp.pipeline.frame_codecs.KINDS`.
        margin: pixels by which `image_size` is larger than what models take, as batches are cut out of the frames
            (`data.crop_margin`).
    """

    root: str = ""
    cache: str = ""
    image_size: tuple[int, int] = (64, 64)
    channels: int = 1
    seed: int = 1
    flow: str = ""
    max_damaged: float = 0.01
    storage: str = "raw"
    margin: int = 0

    @property
    def model_size(self) -> tuple[int, int]:
        """(height, width) of what models take."""
        height, width = self.image_size
        return height - self.margin, width - self.margin

    @functools.cached_property
    def mirror(self) -> remote.Mirror | None:
        """The local copy of `root` where that is in an object store."""
        return remote.Mirror(self.root, remote.cache(self.cache)) if files.is_url(self.root) else None

    @property
    def folder(self) -> pathlib.Path | None:
        """`root` on this machine, or None if it is empty; what is in an object store is fetched at the first use."""
        if self.mirror:
            return self.mirror.fetch()
        return pathlib.Path(self.root).expanduser() if self.root else None


@dataclasses.dataclass(frozen=True)
class Decoded:
    """What all published frames take once they are decoded.

    Attributes:
        frames: how many there are.
        shape: (height, width, channels) that is usual.
        item: bytes of a value.
        note: what these frames are, or where their number comes from.
    """

    frames: int
    shape: tuple[int, int, int]
    item: int = 1
    note: str = ""

    @property
    def bytes(self) -> int:
        return self.frames * self.item * math.prod(self.shape)


@dataclasses.dataclass(frozen=True)
class DatasetInfo:
    """Facts about a data set.

    Attributes:
        description: one sentence.
        homepage: where it is published.
        licence: the terms of use.
        fps: frames per second, or None where it varies or has no meaning.
        download: what to get and where to put it, in one sentence.
        layout: the files that are expected below data.root.
        context: usual number of observed frames.
        horizon: usual number of predicted frames.
        decoded: what the published files take on disk once they are decoded; () = it depends on the files.
    """

    description: str
    homepage: str
    licence: str
    fps: float | None
    download: str
    layout: str
    context: int
    horizon: int
    decoded: tuple[Decoded, ...] = ()
