"""What becomes of a prediction: players, scores, curves and files."""

import dataclasses
import io
import math
import pathlib
import shlex
import tempfile

import numpy as np
import tensorflow as tf
from PIL import Image

from tfvp import registry
from tfvp.evaluation import precision, scoring
from tfvp.frames import as_rgb, grid, palette, to_uint8
from tfvp.layers import label_maps
from tfvp.prediction import forecast
from tfvp.prediction.futures import as_floats

FILES = ("mp4", "gif", "npz")
WIDEST = 4096  # pixels of a strip, where its frames are not wider
RANKED_BY = "psnr"
FRAMES_AT_ONCE = 128  # that are scored together
DEVIATION_SCALE = 2  # the standard deviation of values from 0 to 1 is at most .5


@dataclasses.dataclass
class Outcome:
    """Frames of a prediction, and how good they are.

    Attributes:
        request: a `tfvp.studio.prediction.Request`.
        observed: [T, H, W, C] uint8, or float32 in [0, 1] where the data set keeps such.
        truth: [n, H, W, C], the true frames after them, at most as many as are predicted.
        first: number of the first observed frame.
        notes: sentences for the user.
        cut: whether the clip goes on after what was read of it.
        futures: uint8 [S, horizon, H, W, C].
        curves: {metric: {"label", "unit", "higher_is_better", "futures": S lists, "baselines": {name: list}}}.
    """

    request: object
    observed: np.ndarray
    truth: np.ndarray
    first: int
    notes: list
    cut: bool = False
    futures: np.ndarray | None = None
    curves: dict = dataclasses.field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """The memory of the frames."""
        return self.observed.nbytes + self.truth.nbytes + (0 if self.futures is None else self.futures.nbytes)

    @property
    def clip(self) -> np.ndarray:
        """uint8 [T + n, H, W, C]: what was observed, and what is known to follow."""
        return to_uint8(np.concatenate([self.observed, self.truth]))

    @property
    def shape(self) -> dict:
        """Numbers of frames and futures, as the page reads them."""
        request = self.request
        futures = request.futures if request.offer.traits["stochastic"] else 1
        return {
            "observed": request.observed,
            "horizon": request.horizon,
            "futures": futures,
            "fps": request.offer.fps,
            "frame": list(self.observed.shape[1:3]),
        }

    # Scores.

    def score(self, predicted: np.ndarray, loaded, check_cancelled) -> None:
        """Compares predicted frames with the true ones.

        Args:
            predicted: float32 [S, n, H, W, C], unclipped, as many frames as are known.
            loaded: the `tfvp.studio.models.Loaded` that predicted them.
            check_cancelled: is called between metrics, and may raise.
        """
        names, notes = scoring.usable_metrics(forecast.METRICS, predicted.shape[-3:])
        self.notes += [note if note.endswith(".") else f"{note}." for note in notes]
        truth = as_floats(self.truth)
        still = {"copy_last": as_floats(self.observed[-1:])}
        if loaded.mean_frame is not None and loaded.mean_frame.shape == truth.shape[1:]:
            still["mean_frame"] = loaded.mean_frame[None]
        for name in names:
            metric = loaded.metric(name)
            baselines = {}
            for baseline, frame in still.items():
                check_cancelled()
                baselines[baseline] = _values(metric, truth, np.repeat(frame[None], len(truth), axis=1))[0]
            futures = []
            for future in predicted:
                check_cancelled()
                futures += _values(metric, truth, future[None])
            cls = registry.lookup("metric", name)
            self.curves[name] = {
                "label": name.upper(),
                "unit": cls.unit,
                "higher_is_better": cls.higher_is_better,
                "futures": [_padded(values, self.request.horizon) for values in futures],
                "baselines": {key: _padded(values, self.request.horizon) for key, values in baselines.items()},
            }

    @property
    def ranking(self) -> list[int]:
        """Numbers of the futures, the best first; [] where there is nothing to choose."""
        if len(self.futures) < 2 or RANKED_BY not in self.curves:
            return []
        means = [np.mean([v for v in values if v is not None]) for values in self.curves[RANKED_BY]["futures"]]
        return [int(number) for number in np.argsort(means)[::-1]]

    # What the page shows.

    def describe(self, keep) -> dict:
        """The result as the page reads it.

        Args:
            keep: a function (name, uint8 [T, h, w, 1 or 3]) that keeps frames and returns their strip.
        """
        request, offer = self.request, self.request.offer
        notes, ranking = list(self.notes), self.ranking
        if ranking:
            notes.append(f"Best and worst are by the mean {RANKED_BY.upper()} over the {len(self.truth)} true frames.")
        if 0 < len(self.truth) < request.horizon:
            notes.append(f"The clip ends {len(self.truth)} frames after the observed ones; only these can be scored.")
        command = self.command
        if command is None:
            notes.append("No command makes the same, as the clip is of another model's data set.")
        return {
            **self.shape,
            "model": {"id": offer.identity, "title": offer.title},
            "clip": request.clip.identity,
            "start": request.start,
            "seed": request.seed,
            "players": list(self._players(keep, ranking)),
            "curves": self.curves,
            "scored": len(self.truth),
            "known": len(self.observed) + len(self.truth),
            "ranked_by": RANKED_BY if ranking else None,
            "notes": notes,
            "command": command,
        }

    def _players(self, keep, ranking):
        observed, futures = to_uint8(self.observed), self.futures
        length = len(observed) + self.request.horizon
        truth = _extended(self.clip, length)

        def player(key, title, kind, frames, **more):
            strip = keep(key.replace("/", "-"), frames)
            return {"key": key, "title": title, "kind": kind, "strip": strip, "frames": len(frames), **more}

        whole = [np.concatenate([observed, future]) for future in futures]
        names = [f"Future {n + 1}" for n in range(len(futures))] if len(futures) > 1 else ["Prediction"]
        if len(self.truth):
            yield player("truth", "Truth", "truth", shown(truth))
        for n, video in enumerate(whole):
            marks = {"best": bool(ranking) and n == ranking[0], "worst": bool(ranking) and n == ranking[-1]}
            yield player(f"future/{n}", names[n], "future", shown(video), **marks)
        if len(futures) > 1:
            yield player("mean", "Mean of the futures", "mean", np.concatenate([shown(observed), self.mean]))
            blank = np.zeros((len(observed), *self.deviation.shape[1:]), np.uint8)
            title = f"Deviation between the futures, × {DEVIATION_SCALE}"
            yield player("deviation", title, "deviation", np.concatenate([blank, self.deviation]))
        for n, video in enumerate(whole if len(self.truth) else ()):
            known = len(observed) + len(self.truth)
            difference = np.abs(shown(video[:known]).astype(np.int16) - shown(truth[:known])).astype(np.uint8)
            yield player(f"difference/{n}", f"Difference, {names[n]}", "difference", _extended(difference, length))
        if observed.shape[-1] == label_maps.CHANNELS:
            if len(self.truth):
                yield player("labels/truth", "Label maps, truth", "labels", palette()[truth[..., 3]])
            for n, video in enumerate(whole):
                yield player(f"labels/{n}", f"Label maps, {names[n]}", "labels", palette()[video[..., 3]])

    @property
    def mean(self) -> np.ndarray:
        """The mean of the futures as uint8 [horizon, H, W, 1 or 3]."""
        return np.round(np.mean(shown(self.futures), axis=0, dtype=np.float32)).astype(np.uint8)

    @property
    def deviation(self) -> np.ndarray:
        """Twice the standard deviation between the futures, mean over colours: uint8 [horizon, H, W, 1]."""
        deviation = np.std(shown(self.futures).astype(np.float32), axis=0).mean(axis=-1, keepdims=True)
        return np.round(np.minimum(DEVIATION_SCALE * deviation, 255.0)).astype(np.uint8)

    @property
    def command(self) -> str | None:
        """The command line that makes the same futures, or None where there is none."""
        request, offer = self.request, self.request.offer
        clip = request.clip.words(offer)
        if clip is None:
            return None
        words = ["tfvp", "predict", *(["--model", offer.name] if offer.card else ["--logdir", str(offer.path)]), *clip]
        stride = request.clip.stride(offer)
        # Without --start the last frames of a file are observed, whatever their number, and the first of a test clip.
        if request.start is not None or stride > 1 or self.cut or "--test-clip" in clip:
            words += ["--start", str(self.first * stride)]
        words += ["--open-loop-ctx", str(request.observed), "--horizon", str(request.horizon)]
        if self.shape["futures"] > 1:
            words += ["--num-samples", str(request.futures)]
        if offer.traits["stochastic"]:
            words += ["--seed", str(request.seed)]
        if offer.weights != "best":
            words += ["--weights", offer.weights]
        return shlex.join(words)

    # Files.

    def file(self, suffix: str) -> bytes:
        """The contents of one of `FILES`, of which mp4 and gif are as `tfvp predict` draws them.

        An npz holds "observed" [T, H, W, C], "futures" [S, horizon, H, W, C] and "truth" [n, H, W, C], "mean" and
        "deviation" [horizon, H, W, 1 or 3], all uint8, and "seed".
        """
        observed, truth = to_uint8(self.observed), to_uint8(self.truth)
        if suffix == "npz":
            buffer = io.BytesIO()
            arrays = {"observed": observed, "futures": self.futures, "truth": truth}
            np.savez_compressed(buffer, **arrays, mean=self.mean, deviation=self.deviation, seed=self.request.seed)
            return buffer.getvalue()
        with tempfile.TemporaryDirectory(prefix="tfvp-studio-") as folder:
            path = pathlib.Path(folder) / f"futures.{suffix}"
            beside = None if self.request.start is None else truth
            forecast.write(path, observed, self.futures, self.request.offer.description, beside)
            return path.read_bytes()


def shown(video: np.ndarray) -> np.ndarray:
    """Frames uint8 [..., C] in grey or colours, [..., 1 or 3], without a label map."""
    channels = video.shape[-1]
    if channels == label_maps.CHANNELS:
        return video[..., :3]
    return video if channels in (1, 3) else as_rgb(video)


def strip(frames: np.ndarray) -> tuple[bytes, int]:
    """uint8 [T, H, W, 1 or 3] side by side, row by row, as a PNG: (its bytes, frames in a row)."""
    count, height, width, _ = frames.shape
    columns = max(1, min(WIDEST // width, math.ceil(math.sqrt(count * height / width))))
    missing = -count % columns
    padded = np.concatenate([frames, np.zeros((missing, *frames.shape[1:]), np.uint8)])
    picture = grid(padded[:, None], columns=columns, gap=0)[0]
    buffer = io.BytesIO()
    Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture).save(buffer, "PNG", compress_level=3)
    return buffer.getvalue(), columns


def _extended(video, length):
    """The video with black frames after its end."""
    return np.concatenate([video, np.zeros((length - len(video), *video.shape[1:]), np.uint8)])


def _values(metric, truth, predicted):
    """A list of floats per video of [B, n, H, W, C]."""
    parts = []
    for start in range(0, len(truth), FRAMES_AT_ONCE):
        stop = start + FRAMES_AT_ONCE
        with precision.measuring():
            parts.append(metric(tf.constant(truth[None, start:stop]), tf.constant(predicted[:, start:stop])).numpy())
    return np.concatenate(parts, axis=1).tolist()


def _padded(values, length):
    """Numbers, None where they are not finite, and after their end."""
    return [value if math.isfinite(value) else None for value in values] + [None] * (length - len(values))
