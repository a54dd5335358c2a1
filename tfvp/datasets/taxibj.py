"""TaxiBJ (Zhang, Zheng and Qi 2017, arXiv 1610.00081): taxi traffic in Beijing, in half-hour steps."""

import zipfile

import numpy as np

from tfvp.datasets import base
from tfvp.errors import UserError
from tfvp.pipeline import listing
from tfvp.pipeline.decoding import Source
from tfvp.registry import register

KEYS = {"train": ("X_train", "Y_train"), "test": ("X_test", "Y_test")}
VALIDATION_EVERY = 20
FRAMES = 8  # neighbouring clips share frames, so as many are dropped where training meets validation


@register("dataset", "taxibj")
class TaxiBJ(base.FileDataset):
    """Grids of 32x32 cells with inflow and outflow as two channels; 4 frames in, 4 out.

    Read from one .npz file with X_train, Y_train, X_test and Y_test [N, 4, 2, 32, 32] in
    [-1, 1], mapped to [0, 1] and kept as floats. Clips follow each other in time and overlap:
    the last twentieth of the training clips is the validation split, and the clips that share
    frames with it are dropped.

    Args:
        settings: `base.Settings` with channels=2 and image_size=32.
    """

    info = base.DatasetInfo(
        description="Inflow and outflow of taxis in each of 32 x 32 cells of Beijing, every 30 minutes.",
        homepage="https://github.com/TolicWang/DeepST/tree/master/data/TaxiBJ",
        licence="see the homepage",
        fps=None,
        download="put OpenSTL's taxibj/dataset.npz (https://github.com/chengtan9907/OpenSTL) into data.root",
        layout="dataset.npz with X_train, Y_train, X_test, Y_test: [N, 4, 2, 32, 32] in [-1, 1]",
        context=4,
        horizon=4,
        decoded=(base.Decoded(8 * (20_461 + 500), (32, 32, 2), item=4),),
    )
    channels = (2,)
    video_dtype = np.float32

    def __init__(self, settings):
        super().__init__(settings)
        if settings.margin:
            raise UserError("data.crop_margin must be 0 for taxibj, whose cells are not pixels")
        if settings.image_size != (32, 32):
            raise UserError(
                f"data.image_size={list(settings.image_size)} must be 32 for taxibj, whose cells are not pixels"
            )

    def sources(self):
        paths = listing.videos(self.root, (".npz",), images=False)
        splits = ("train", "validation", "test")
        return [
            Source(f"{p.relative_to(self.root).as_posix()}:{split}", split, p, split)
            for p in paths[:1]
            for split in splits
        ]

    def decode(self, source):
        try:
            with np.load(source.path, allow_pickle=False) as archive:
                parts = [archive[key] for key in KEYS["test" if source.split == "test" else "train"]]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise UserError(f"{source.path} is damaged or has other arrays ({error}); {self.info.download}") from None
        if any(part.ndim != 5 or part.shape[2:] != (2, 32, 32) for part in parts):
            raise UserError(f"{source.path} holds arrays {[p.shape for p in parts]}, not [N, 4, 2, 32, 32]")
        clips = np.moveaxis(np.concatenate(parts, axis=1), 2, -1)
        first = len(clips) - max(1, len(clips) // VALIDATION_EVERY)
        ranges = {
            "train": range(max(1, first - FRAMES)),
            "validation": range(first, len(clips)),
            "test": range(len(clips)),
        }
        for i in ranges[source.split]:
            yield f"{source.split}#{i}", {"video": ((clips[i] + 1.0) / 2.0).astype(np.float32)}
