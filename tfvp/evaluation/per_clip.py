"""The scores of every clip, with what identifies the clips: per_clip.npz and per_clip.csv."""

import csv
import dataclasses
import hashlib
import json
import pathlib

import numpy as np

from tfvp import files, registry


@dataclasses.dataclass
class Clips:
    """What identifies the clips of an evaluation, in their order.

    Attributes:
        ids: names, the same on every machine: the file below the data's folder and the first frame
            ("walking/a.avi@120"), or "drawn:<split>:<number>".
        sources: the films that they are cut from; clips of one film are not independent.
        starts: int64 [N], their first frames.
        length: frames of a clip, observed and predicted.
        truth_sha256: the SHA-256 of each clip's true frames, observed ones included, as uint8; see `truth_hash`.
    """

    ids: list[str]
    sources: list[str]
    starts: np.ndarray
    length: int
    truth_sha256: list[str]

    def digests(self) -> dict[str, str]:
        """{"clips_sha256": of the list of (id, start, length), "truth_sha256": of the list of the clips' hashes}."""
        listed = [[name, int(start), self.length] for name, start in zip(self.ids, self.starts, strict=True)]
        return {"clips_sha256": _digest(listed), "truth_sha256": _digest(list(self.truth_sha256))}

    def windows(self) -> list[list]:
        """[clip, first frame] of each window, plain JSON types."""
        starts = [int(start) for start in self.starts]
        return [[name.removesuffix(f"@{start}"), start] for name, start in zip(self.ids, starts, strict=True)]

    def arrays(self) -> dict[str, np.ndarray]:
        """The entries of per_clip.npz beside the scores."""
        return {
            "clip_ids": np.array(self.ids, np.str_),
            "sources": np.array(self.sources, np.str_),
            "starts": np.asarray(self.starts, np.int64),
            "truth_sha256": np.array(self.truth_sha256, np.str_),
        }


def clip_id(name: str, start: int) -> str:
    """The id of a window of the clip `name`: drawn clips, read from frame 0, are called by their name alone."""
    return name if name.startswith("drawn:") and not start else f"{name}@{start}"


def truth_hash(video: np.ndarray) -> str:
    """The SHA-256 of a clip, uint8 [T, H, W, C], that identifies its frames and their layout."""
    shape = json.dumps(list(video.shape)).encode()
    return hashlib.sha256(shape + np.ascontiguousarray(video, np.uint8).tobytes()).hexdigest()


def write(folder: pathlib.Path, scores: dict, clips: Clips) -> list[pathlib.Path]:
    """Writes per_clip.npz and per_clip.csv.

    Args:
        folder: where to.
        scores: {predictor: tfvp.evaluation.scoring.Scores}.
        clips: what identifies the clips.

    Returns:
        The two paths. per_clip.npz holds "<predictor>/<metric>" float32 [clips, samples, frames], of metrics of a
        pooled mean what is pooled (squared errors for psnr_pooled), and `Clips.arrays`; per_clip.csv one row per
        clip, predictor and sample, with each metric's mean over frames as the metric reports it, "nan" where a
        frame's score is not a number.
    """
    archive, table = folder / "per_clip.npz", folder / "per_clip.csv"
    with files.atomic_write(archive) as temporary:
        values = {f"{p}/{m}": v for p, result in scores.items() for m, v in result.values.items()}
        np.savez_compressed(temporary, **values, **clips.arrays())
    metrics = list(dict.fromkeys(metric for result in scores.values() for metric in result.values))
    with files.atomic_write(table) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["clip", "id", "source", "start", "predictor", "sample", *metrics])
        for predictor, result in scores.items():
            means = {metric: _over_frames(metric, values) for metric, values in result.values.items()}
            shape = next(iter(means.values())).shape if means else (0, 0)
            for clip, sample in np.ndindex(shape):
                numbers = [f"{means[m][clip, sample]:.9g}" if m in means else "" for m in metrics]
                place = [clip, clips.ids[clip], clips.sources[clip], int(clips.starts[clip])]
                writer.writerow([*place, predictor, sample, *numbers])
    return [archive, table]


def _over_frames(metric, values):
    """What the metric reports of each clip and sample: float64 [clips, samples] of [clips, samples, frames]."""
    return registry.lookup("metric", metric)(1).finish(values.mean(axis=2, dtype=np.float64))


def _digest(value):
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
