"""Asks a served model for the future of a video, by TF Serving's REST or gRPC interface."""

import base64
import dataclasses
import io
import json
import os
import pathlib

import numpy as np
from PIL import Image

from tfvp.errors import UserError
from tfvp.preprocessing import Preprocessing
from tfvp.serving import transport
from tfvp.serving.description import FILE, FORMAT

SIGNATURE, FILES, FUTURES = "serving_uint8", "serving_encoded", "samples_uint8"


@dataclasses.dataclass(frozen=True)
class ModelDescription:
    """What a client has to know of a model beside its signatures.

    Attributes:
        context: frames to observe.
        preprocessing: how a video becomes those frames.
        horizon: frames that the run's own evaluation predicts.
        max_horizon: frames that may be asked for.
    """

    context: int
    preprocessing: Preprocessing
    horizon: int
    max_horizon: int


def read_description(path: str | os.PathLike) -> ModelDescription:
    """Reads the description that an export carries.

    Args:
        path: model.json; or the folder of a SavedModel, or a folder of its versions (then the newest).

    Raises:
        UserError: there is none, or it cannot be read.
    """
    path = file = pathlib.Path(path)
    if path.is_dir():
        versions = sorted((p for p in path.iterdir() if p.name.isdigit()), key=lambda p: int(p.name))
        file = next((p / FILE for p in (path, *versions[::-1]) if (p / FILE).is_file()), None)
        if file is None:
            raise UserError(f"{path} holds no {FILE}; export the run again with `tfvp export`")
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        written = values["format"]
        if written != FORMAT:
            raise UserError(f"{file} has format {written}, not {FORMAT}; use the version of tfvp that wrote it")
        preprocessing = Preprocessing.from_dict(values["preprocessing"])
        return ModelDescription(
            int(values["context"]), preprocessing, int(values["horizon"]), int(values["max_horizon"])
        )
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file} is not the description of an exported model ({error!r})") from None


class Client:
    """A served model.

    Args:
        server: a `tfvp.serving.transport.Rest` or `Grpc`.

    Attributes:
        image_shape: (height, width, channels) of its frames.
        stochastic: whether it takes a seed.

    Raises:
        UserError: the server cannot be reached, or serves no model that tfvp exported.
    """

    def __init__(self, server: transport.Rest | transport.Grpc):
        self.server = server
        self._inputs = server.inputs()
        try:
            shape = self._inputs[SIGNATURE]["context"]
            self.image_shape, self.stochastic = tuple(shape[-3:]), "seed" in self._inputs[SIGNATURE]
            self._inputs[SIGNATURE]["horizon"]
            if len(shape) != 5 or min(self.image_shape) < 1:
                raise KeyError("context [B, T, H, W, C]")
        except KeyError as error:
            raise UserError(f"{server.url} serves no model that tfvp exported: its metadata has no {error}") from None

    def predict(self, frames: np.ndarray, horizon: int, seed: int = 0, samples: int = 1) -> np.ndarray:
        """Predicts the frames that follow.

        Args:
            frames: uint8 [B, T, H, W, C].
            horizon: frames to predict.
            seed: of the sampling, for stochastic models.
            samples: futures of each clip, for stochastic models.

        Returns:
            uint8 [B, samples, horizon, H, W, C]; deterministic models give one sample.

        Raises:
            UserError: the server cannot be reached, refuses the request, or answers with something else.
        """
        samples = samples if self.stochastic else 1
        if samples > 1 and FUTURES not in self._inputs:
            raise UserError(
                f"{self.server.url} draws one future only; export the run again, or leave out --num-samples"
            )
        rest = isinstance(self.server, transport.Rest)
        # Images in base64 are shorter than the integers that JSON would spell out.
        signature = FUTURES if samples > 1 else FILES if rest and FILES in self._inputs else SIGNATURE
        numbers = {"horizon": np.int32(horizon), "seed": np.int64(seed), "samples": np.int32(samples)}
        inputs = {"context": frames if signature != FILES else [[_file(frame) for frame in clip] for clip in frames]}
        for key, shape in self._inputs[signature].items():
            if key in numbers:
                # One number for each clip; earlier exports have one for all.
                inputs[key] = np.repeat(numbers[key], len(frames)) if shape else numbers[key]
            elif key not in inputs:
                raise UserError(f"{self.server.url} asks for {key!r}, which this version does not know; update tfvp")
        video = self._video(self.server.predict(signature, inputs), horizon)
        # A server that batches may answer with the longest of several requests.
        video = video[:, :samples, :horizon] if signature == FUTURES else video[:, None, :horizon]
        if video.shape != (len(frames), samples, horizon, *self.image_shape):
            raise UserError(
                f"{self.server.url} answered with an array of shape {list(video.shape)}, not with the video"
            )
        return video

    def _video(self, outputs, horizon):
        """The frames of an answer, uint8, an axis per axis of the signature."""
        files = outputs.get("video_bytes")
        try:
            if files is None:
                return np.asarray(outputs["video"] if "video" in outputs else outputs[""]).astype(np.uint8)
            return np.stack([[_frame(file, self.image_shape[-1]) for file in clip[:horizon]] for clip in files])
        except (KeyError, TypeError, ValueError, OSError) as error:
            raise UserError(f"{self.server.url} answered with something that is no video ({error})") from None


def _file(frame):
    """A frame as a PNG, the way that TF Serving's JSON holds bytes."""
    content = io.BytesIO()
    Image.fromarray(frame[..., 0] if frame.shape[-1] == 1 else frame).save(content, "PNG")
    return {"b64": base64.b64encode(content.getvalue()).decode()}


def _frame(file, channels):
    frame = np.asarray(Image.open(io.BytesIO(base64.b64decode(file["b64"]))))
    return frame[..., None] if channels == 1 else frame
