"""SEVIR (Veillette, Samsi and Mattioli, NeurIPS 2020): storms on weather radar, in five-minute steps."""

import csv
import datetime

import numpy as np

from tfvp.datasets import base
from tfvp.errors import UserError
from tfvp.pipeline import listing
from tfvp.pipeline.decoding import Source
from tfvp.registry import register

SPLIT_DATES = ("2019-01-01", "2019-06-01")  # from which on events are validation, and test
EVENT_FRAMES = 49
COLUMNS = ("id", "file_name", "file_index", "img_type", "time_utc")


@register("dataset", "sevir")
class SEVIR(base.FileDataset):
    """Vertically integrated liquid (VIL), 49 frames of 384x384 an event, in bytes.

    Read from the HDF5 files that CATALOG.csv lists, array "vil" [N, 384, 384, 49]. Events
    before 2019-01-01 are training, from 2019-06-01 on test, those between validation, as in
    Earthformer (arXiv 2207.05833).

    Args:
        settings: `base.Settings` with channels=1; sizes other than 384 are resized by area.
    """

    info = base.DatasetInfo(
        description="Storms over the United States on weather radar: vertically integrated liquid.",
        homepage="https://registry.opendata.aws/sevir",
        licence="open; see the homepage",
        fps=None,
        download=(
            "run: aws s3 sync --no-sign-request s3://sevir DATA --exclude '*' --include"
            " 'CATALOG.csv' --include 'data/vil/*'"
        ),
        layout="CATALOG.csv, data/vil/<year>/SEVIR_VIL_*.h5",
        context=13,
        horizon=12,
        decoded=(base.Decoded(49 * 20_393, (384, 384, 1)),),
    )
    channels = (1,)

    def sources(self):
        catalogues = listing.videos(self.root, ("catalog.csv",), images=False)
        if not catalogues:
            return []
        folder, sources, missing = catalogues[0].parent, [], set()
        for row in self._rows(catalogues[0]):
            path = next(
                (p for p in (folder / "data" / row["file_name"], folder / row["file_name"]) if p.is_file()), None
            )
            if path is None:
                missing.add(row["file_name"])
                continue
            day = row["time_utc"][:10]
            split = "train" if day < SPLIT_DATES[0] else "validation" if day < SPLIT_DATES[1] else "test"
            sources.append(
                Source(f"{row['id']}@{row['file_name']}#{row['file_index']}", split, path, member=row["file_index"])
            )
        if missing:
            self.warn_once(
                f"{len(missing)} files of {self.name} are skipped: {sorted(missing)[0]} and others are missing"
            )
        return sources

    def frames_in(self, source):
        return EVENT_FRAMES

    @staticmethod
    def _rows(path):
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            lacking = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
            if lacking:
                raise UserError(f"{path} has no column {lacking[0]}; download it again")
            rows = [row for row in reader if row["img_type"] == "vil"]
        for row in rows:
            try:
                datetime.date.fromisoformat(row["time_utc"][:10])
                int(row["file_index"])
            except ValueError:
                raise UserError(
                    f"{path}: event {row['id']} has no date or index ({row['time_utc']!r}); download it again"
                ) from None
        return rows

    def decode(self, source):
        import h5py

        try:
            with h5py.File(source.path, "r") as file:
                event = file["vil"][int(source.member)]
        except (OSError, KeyError, ValueError, IndexError) as error:
            raise UserError(f"{source.path} is truncated or damaged ({error}); download it again") from None
        if event.ndim != 3 or event.dtype != np.uint8:
            raise UserError(f"{source.path} holds {event.dtype} {event.shape} as an event, not uint8 [384, 384, 49]")
        frames = (np.ascontiguousarray(event[..., t, None]) for t in range(event.shape[-1]))
        yield source.name, {"video": self.preprocessing.convert(frames)}
