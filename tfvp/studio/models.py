"""The models that the studio offers: those that come trained, and the runs below a folder."""

import dataclasses
import functools
import json
import math
import pathlib
import threading
import time
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tfvp import registry
from tfvp import run as runs
from tfvp.config import Config
from tfvp.datasets.base import GeneratedDataset
from tfvp.datasets.build import build_dataset
from tfvp.errors import UserError
from tfvp.layers import label_maps
from tfvp.models import input_checks
from tfvp.models.build import load_run, make_model
from tfvp.prediction.futures import Futures
from tfvp.preprocessing import Preprocessing
from tfvp.studio import limits
from tfvp.zoo import shelf

# Keras keeps the names and the precision of layers that are being made in variables of the whole process.
_making = threading.RLock()
RECENT = 10.0  # seconds for which a model is found without looking through the folders


class Offer:
    """A model that can be chosen; nothing of it is loaded.

    Args:
        identity: what the page calls it: "zoo/NAME" or "run/PATH below the folder".
        path: its folder.
        card: of a model that comes trained, or None.

    Raises:
        UserError: its configuration cannot be read.
    """

    def __init__(self, identity: str, path: pathlib.Path, card: dict | None = None):
        self.identity, self.path, self.card = identity, path, card
        self.run = runs.Run(path)

    @property
    def config(self) -> Config:
        """The configuration that it was trained with."""
        return self.run.config

    @property
    def title(self) -> str:
        """One line on what it is."""
        return self.card["title"] if self.card else f"{self.config.model.name} on {self.config.data.name}"

    @property
    def name(self) -> str:
        """Its name without what kind it is of."""
        return self.identity.partition("/")[2]

    @property
    def weights(self) -> str:
        """Which weights are loaded: the best, or the last where there are no best ones.

        Raises:
            UserError: there are none.
        """
        try:
            self.run.weights_file("best")
            return "best"
        except UserError:
            self.run.weights_file("last")
            return "last"

    @property
    def description(self) -> Preprocessing:
        """What is done to the frames of a video."""
        return Preprocessing.from_config(self.config)

    @functools.cached_property
    def drawn(self) -> bool:
        """Whether the clips of its data set are computed, and not read from files."""
        try:
            dataset = build_dataset(self.config)
        except UserError:
            return False
        return dataset.endless or isinstance(dataset, GeneratedDataset)

    @property
    def has_data(self) -> bool:
        """Whether clips of its data set can be read."""
        root = self.config.data.root
        return self.drawn or bool(root) and pathlib.Path(root).expanduser().is_dir()

    @property
    def needs(self) -> tuple:
        """What else than frames the model reads."""
        return tuple(registry.lookup("model", self.config.model.name).needs)

    @functools.cached_property
    def traits(self) -> dict:
        """stochastic, fewest (observed frames) and multiple, of which the observed frames are one."""
        with _making, tf.device("CPU:0"):
            model = make_model(self.config, self.config.frame_shape)
        input_checks.check_clips(model, 1, "a single clip")
        return {"stochastic": model.stochastic, "fewest": model.fewest_context, "multiple": model.context_multiple}

    @property
    def fps(self) -> float:
        """Frames a second that its clips are played at: those of its rule, or 8 where it has none."""
        return self.description.fps / self.description.frame_stride or 8.0


@dataclasses.dataclass
class Loaded:
    """A model in memory.

    Attributes:
        offer: what it is.
        model: a `tfvp.models.base.VideoModel`.
        mean_frame: the mean frame of its training clips, float32 [H, W, C], or None.
        futures: its `tfvp.prediction.futures.Futures`.
    """

    offer: Offer
    model: tf.keras.Model
    mean_frame: np.ndarray | None

    def __post_init__(self):
        self.futures = Futures(self.model)
        self._metrics = {}

    def metric(self, name: str) -> Callable:
        """A metric as a graph: (true, predicted [1, n, H, W, C] float32) -> float32 [1, n]."""
        if name not in self._metrics:
            *sides, channels = self.model.image_shape
            labelled = channels == label_maps.CHANNELS
            metric = registry.lookup("metric", name)(horizon=1)
            spec = tf.TensorSpec([1, None, *sides, channels], tf.float32)

            def per_frame(true, predicted):
                if labelled:
                    true, predicted = label_maps.rgb_of(true), label_maps.rgb_of(predicted)
                return tf.cast(metric.per_frame(true, predicted), tf.float32)

            self._metrics[name] = tf.function(per_frame, input_signature=[spec, spec])
        return self._metrics[name]


class Models:
    """All models on offer, and the few that are loaded.

    Args:
        logdir: a folder of runs, or a run. It need not exist.
    """

    def __init__(self, logdir: str | pathlib.Path):
        self.logdir = runs.named(logdir)
        self._offers, self._looked = {}, -math.inf
        self._looking = threading.Lock()
        self._loaded = {}

    def offers(self, age: float = 0.0) -> dict[str, Offer | str]:
        """{identity: what is on offer, or the sentence that says why it cannot be used}.

        Args:
            age: seconds since when the folders need not have been looked through.
        """
        with self._looking:
            if time.monotonic() > self._looked + age:
                self._look()
            return {identity: offer for identity, (_, offer) in self._offers.items()}

    def _look(self):
        found = {}
        for name, entry in shelf.entries().items():
            identity = f"zoo/{name}"
            broken = isinstance(entry, str)
            found[identity] = (None, entry) if broken else self._offer(identity, entry.path, entry.card)
        for path in self._runs():
            name = path.name if path == self.logdir else path.relative_to(self.logdir).as_posix()
            found[f"run/{name}"] = self._offer(f"run/{name}", path)
        self._offers, self._looked = found, time.monotonic()

    def _runs(self):
        places = [self.logdir, *self.logdir.glob("*/"), *self.logdir.glob("*/*/")]
        found = [path for path in places if (path / "config.yml").is_file()]
        return sorted(found, key=lambda path: (path / "config.yml").stat().st_mtime, reverse=True)

    def _offer(self, identity, path, card=None):
        """(time of the last change, `Offer` or sentence), anew only where the files changed."""
        watched = [path / "config.yml", path / shelf.CARD, *sorted(path.glob("model/*.weights.h5"))]
        changed = [(str(file), file.stat().st_mtime_ns) for file in watched if file.exists()]
        if self._offers.get(identity, [None])[0] == changed:
            return self._offers[identity]
        try:
            offer = Offer(identity, path, card)
            _ = offer.weights, offer.traits, offer.description
        except UserError as error:
            return changed, str(error)
        return changed, offer

    def find(self, identity: object) -> Offer:
        """The model of an identity.

        Raises:
            UserError: there is none, or it cannot be used.
        """
        offers = self.offers(RECENT)
        if not isinstance(identity, str) or identity not in offers:
            raise UserError(f"there is no model {identity!r} any more; choose another one")
        if isinstance(offers[identity], str):
            raise UserError(offers[identity])
        return offers[identity]

    def load(self, offer: Offer) -> Loaded:
        """The model in memory. At most `limits.MODELS` stay there; the one that was used longest ago leaves.

        Raises:
            UserError: its weights are missing or damaged.
        """
        loaded = self._loaded.pop(offer.identity, None)
        if loaded is None or loaded.offer is not offer:
            while len(self._loaded) >= limits.MODELS:
                self._loaded.pop(next(iter(self._loaded)))
            if offer.card:
                shelf.find(offer.name)
            with _making:
                model = load_run(offer.path, offer.weights)
            path = offer.path / "model" / "mean_frame.npy"
            loaded = Loaded(offer, model, np.load(path) if path.is_file() else None)
        self._loaded[offer.identity] = loaded
        return loaded


def numbers(offer: Offer) -> tuple[list[dict], str]:
    """(means of the model's metrics as the page shows them, the protocol that they were measured by)."""
    document = _evaluation(offer)
    if document is None:
        return [], ""
    scores, protocol = document
    shown = []
    for metric, summary in scores.items():
        if metric in registry.names("metric") and isinstance(summary, dict) and summary.get("mean") is not None:
            cls = registry.lookup("metric", metric)
            shown.append(
                {
                    "metric": metric,
                    "label": metric.upper(),
                    "mean": summary["mean"],
                    "ci95": summary.get("ci95"),
                    "unit": cls.unit,
                    "higher_is_better": cls.higher_is_better,
                }
            )
    return shown, protocol


def _evaluation(offer):
    """(summaries of the model, the protocol in words) of the card or of the last evaluation; None without."""
    if offer.card:
        evaluation = offer.card.get("evaluation") or {}
        scores = (evaluation.get("scores") or {}).get("model")
        return scores and (scores, f"{evaluation.get('name')}, {evaluation.get('clips')} clips")
    paths = sorted(offer.path.glob("eval/*/metrics.json"), key=lambda path: path.stat().st_mtime)
    for path in reversed(paths):
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            protocol = document["protocol"]
            return document["model"], f"{protocol['name']}, {protocol.get('clips', '?')} clips"
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None


def picture(offer: Offer) -> pathlib.Path | None:
    """An animated GIF of what the model predicts, or of its clip."""
    if offer.card:
        clip = offer.path / "clip.gif"
        return clip if clip.is_file() else None
    found = [*offer.path.glob("samples/*.gif"), *offer.path.glob("eval/*/*.gif")]
    return max(found, key=lambda path: path.stat().st_mtime, default=None)
