"""The clips that a report shows: those that the model predicts best, as usual, and worst."""

import dataclasses

import numpy as np

from tfvp import registry
from tfvp.evaluation import scoring, tables


@dataclasses.dataclass
class Example:
    """A clip that a report shows.

    Attributes:
        rank: "best", "median" or "worst", or another name.
        clip: its position among the evaluated clips.
        metric: the metric that ranks clips.
        value: the clip's mean of it over samples and frames, as the metric reports it; None without a metric.
        samples: {label: number of a sample}: the first one, and with several the best and the worst of the clip.
        truth: uint8 [T, H, W, C].
        predictions: uint8 [S, horizon, H, W, C].
    """

    rank: str
    clip: int
    metric: str
    value: float | None
    samples: dict[str, int]
    truth: np.ndarray | None = None
    predictions: np.ndarray | None = None

    def title(self):
        """What it is, in words."""
        if self.value is None:
            return self.rank
        cls = registry.lookup("metric", self.metric)
        unit = f" {cls.unit}" if cls.unit else ""
        return f"{self.rank.capitalize()} clip by {self.metric}: {tables.format_number(self.value)}{unit}"

    def describe(self, clips):
        """Its entry in metrics.json; `clips` are the `tfvp.evaluation.per_clip.Clips`."""
        return {
            "rank": self.rank,
            "clip": self.clip,
            "id": clips.ids[self.clip],
            "metric": self.metric,
            "value": self.value,
        }


def choose(scores, metrics):
    """The best, the median and the worst clip of a predictor by its first metric of frames; fewer of few clips.

    Clips and samples with a score that is not a number are the worst.

    Args:
        scores: the predictor's `tfvp.evaluation.scoring.Scores`.
        metrics: the protocol's metrics, in its order.

    Returns:
        List of `Example` without frames.
    """
    metric = next((m for m in metrics if m in scores.values), None)
    if metric is None:
        return []
    judge = registry.lookup("metric", metric)(1)
    over_time = scores.values[metric].mean(axis=2)
    values = over_time.mean(axis=1)
    order = np.argsort(-judge.rank(values), kind="stable")  # NaN comes last, as the worst
    positions = {0: "best", len(order) // 2: "median", len(order) - 1: "worst"}
    if len(order) < 3:
        positions = dict(zip(range(len(order)), ("best", "worst")))
    examples = []
    for place, rank in positions.items():
        clip = int(order[place])
        examples.append(
            Example(rank, clip, metric, float(judge.finish(values[clip])), _samples(judge.rank(over_time[clip])))
        )
    return examples


def _samples(ranking):
    if len(ranking) == 1:
        return {"prediction": 0}
    count, ranking = len(ranking), np.where(np.isnan(ranking), -np.inf, ranking)
    return {
        "sample 1": 0,
        f"best of {count} samples": int(np.argmax(ranking)),
        f"worst of {count} samples": int(np.argmin(ranking)),
    }


def kept(truth, predictions):
    """Examples of clips whose frames were kept, without a rank.

    Args:
        truth: uint8 [clips, T, H, W, C], the first of all clips.
        predictions: uint8 [clips, S, horizon, H, W, C].
    """
    return [
        Example(f"{i:03d}", i, "", None, _names(len(samples)), clip, samples)
        for i, (clip, samples) in enumerate(zip(truth, predictions))
    ]


def _names(count):
    return {"prediction": 0} if count == 1 else {f"sample {i + 1}": i for i in range(min(count, 3))}


def predict(examples, predictor, batches, context, horizon, samples=1, chunk=50, mode="open_loop", first=None):
    """Fills in the frames of examples: the clips are predicted once more, so that scoring need not keep any.

    A prediction depends on the clip's id and the sample's number alone, and for some models on the clips beside it,
    which `batches` then must have, too. So it is the one that was scored, up to rounding.

    Args:
        examples: list of `Example`, changed in place.
        predictor: the VideoModel.
        batches: dataset of the examples' clips, in order, before all others; see `tfvp.evaluation.scoring.run`.
        context, horizon, samples, chunk, mode, first: as in `tfvp.evaluation.scoring.Scorer`.
    """
    kept = len(examples)
    scorer = scoring.Scorer(predictor, [], context, horizon, samples, chunk, mode, kept, first)
    outcome = scoring.run({"model": scorer}, batches, kept)
    for example, truth, predictions in zip(examples, outcome.truth, outcome.scores["model"].examples, strict=True):
        example.truth = truth
        example.predictions = predictions
