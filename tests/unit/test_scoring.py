"""Parts of an evaluation alone: what scorers add up, what is kept of a stopped one, what is written as JSON."""

import hashlib
import json
import threading
import time

import numpy as np
import pytest
import tensorflow as tf

from tfvp import cli, files, registry, weights
from tfvp.errors import UserError
from tfvp.evaluation import journal, precision, provenance, scoring
from tfvp.metrics.base import SetMetric
from tfvp.models import baselines


def test_scores_of_other_weights_are_not_resumed(tmp_path):
    with journal.Journal(tmp_path, {"weights_sha256": "a"}).opened() as first:
        first.write(0, {"truth": np.zeros(1)})
        with pytest.raises(UserError, match="another process is evaluating into"):
            with journal.Journal(tmp_path, {"weights_sha256": "a"}).opened():
                pass
    with journal.Journal(tmp_path, {"weights_sha256": "a"}).opened() as again:
        assert again.done() == [0]
    with journal.Journal(tmp_path, {"weights_sha256": "b"}).opened() as other:
        assert other.done() == []


class Brightness(SetMetric):
    """The distance between mean brightnesses."""

    registered_name = "brightness"
    size, fewest_clips, feature_key = 1, 1, "mean"
    calls = 0

    def features(self, video):
        type(self).calls += 1
        return tf.reduce_mean(video, axis=[1, 2, 3])

    def distance(self, true, pred):
        return float(np.abs(true.mean() - pred.mean()))


def test_set_metrics_share_features_and_add_counts():
    """Features of the truth are computed once for all predictors, and counts add up as in one update."""
    random = np.random.default_rng(0)
    video = np.concatenate([random.uniform(size=(3, 4, 8, 8, 3)), random.integers(0, 3, (3, 4, 8, 8, 1)) / 255.0], -1)
    batch = {
        "video": tf.constant(video, tf.float32),
        "id": tf.range(3),
        "mask": tf.constant([[1.0] * 4] * 2 + [[0.0] * 4]),
    }
    scorers = {}
    for name in ("a", "b"):
        scorers[name] = scoring.Scorer(baselines.CopyLast((8, 8, 4)), ["miou"], 2, 2)
        scorers[name].set_metrics["brightness"] = Brightness(2)
        scorers[name].set_metrics["again"] = Brightness(2)
    outcome = scoring.run(scorers, [batch, batch], 4)
    assert Brightness.calls == 2 * (1 + 2), "per batch, one for the truth and one for each predictor"
    direct = registry.lookup("metric", "miou")(2)
    labels = tf.cast(tf.round(batch["video"][:2, ..., 3] * 255), tf.int32)
    direct.update_state(labels[:, 2:], tf.repeat(labels[:, 1:2], 2, axis=1))
    summaries = outcome.scores["a"].summaries
    assert summaries["miou"]["mean"] == direct.summary()["mean"] and summaries["miou"]["clips"] == 4
    expected = abs(float(np.mean(video[:2, 2:, ..., :3]) - np.mean(np.round(video[:2, 1, ..., :3] * 255) / 255)))
    assert summaries["brightness"]["mean"] == pytest.approx(expected, abs=1e-6)


def test_predictions_that_are_not_finite_void_what_is_computed_of_the_set():
    """As bytes they are black, which on dark data is a good prediction."""

    class Broken(baselines.CopyLast):
        def imagine(self, state, frames):
            video, state = super().imagine(state, frames)
            return tf.where(tf.range(3)[:, None, None, None, None] == self.broken, np.nan, video), state

    video = np.random.default_rng(0).uniform(size=(3, 4, 8, 8, 1)).astype(np.float32)
    batch = {"video": tf.constant(video), "id": tf.range(3), "mask": tf.ones([3, 4])}
    for broken, voided in ((1, True), (3, False)):
        model = Broken((8, 8, 1))
        model.broken = broken
        scorer = scoring.Scorer(model, ["csi"], 2, 2)
        scorer.set_metrics["brightness"] = Brightness(2)
        summaries = scoring.run({"a": scorer}, [batch], 3).scores["a"].summaries
        for name in ("csi", "brightness"):
            assert (summaries[name]["mean"] in (None, pytest.approx(np.nan, nan_ok=True))) == voided, name
            assert ("predictions are not finite (clips: 1)" in summaries[name].get("note", "")) == voided
            assert summaries[name]["clips"] == 3


def test_a_sample_that_is_no_number_is_the_worst_of_a_clip():
    for name in ("psnr", "mse"):
        metric = registry.lookup("metric", name)(2)
        metric.update_values(np.array([[[3.0, 3.0], [np.nan, 1.0], [2.0, 2.0]]]))
        summary = metric.summary()
        assert np.isnan(summary["worst"]["mean"]) and summary["best"]["mean"] == (3.0 if name == "psnr" else 2.0)


def test_one_sentence_after_ctrl_c(capsys):
    def stop(*message):
        raise KeyboardInterrupt(*message)

    for said, shown in (((), "stopped"), (("stopped after 4 of 6 clips",), "stopped after 4 of 6 clips")):
        with pytest.raises(SystemExit) as ended:
            cli.run(lambda said=said: stop(*said))
        assert ended.value.code == 130 and capsys.readouterr().err.strip() == shown


def test_devices_predict_and_measure_in_turns():
    """The switch for TF32 is one for the whole process: no thread may predict while another one measures."""
    execution, wrong = tf.config.experimental, []

    def work(measuring):
        for _ in range(50):
            with precision.measuring() if measuring else precision.predicting():
                for _ in range(3):
                    wrong.append(execution.tensor_float_32_execution_enabled() == measuring)
                    time.sleep(1e-5)

    threads = [threading.Thread(target=work, args=(measuring,)) for measuring in (True, False, True, False)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert len(wrong) == 600 and not any(wrong) and execution.tensor_float_32_execution_enabled()


def test_metrics_are_computed_without_tf32():
    execution, seen = tf.config.experimental, []
    scorer = scoring.Scorer(baselines.CopyLast((8, 8, 1)), ["mse"], 2, 2)
    per_frame, imagine = scorer.per_frame, scorer.predictor.rollout

    def measured(*arguments):
        seen.append(("metric", execution.tensor_float_32_execution_enabled()))
        return per_frame(*arguments)

    def predicted(*arguments):
        for chunk in imagine(*arguments):
            seen.append(("model", execution.tensor_float_32_execution_enabled()))
            yield chunk

    scorer.per_frame, scorer.predictor.rollout = measured, predicted
    batch = {"video": tf.zeros([1, 4, 8, 8, 1]), "id": tf.range(1), "mask": tf.ones([1, 4])}
    assert execution.tensor_float_32_execution_enabled()
    scoring.run({"model": scorer}, [batch], 1)
    assert seen == [("model", True), ("metric", False)] and execution.tensor_float_32_execution_enabled()


def test_json_has_no_bare_nan(tmp_path):
    value = {"model": {"psnr": {"mean": float("inf"), "curve": [1.0, float("nan")]}}, "notes": ["first"]}
    files.write_json(tmp_path / "metrics.json", value)

    def refuse(name):
        raise AssertionError(name)

    document = json.loads((tmp_path / "metrics.json").read_text(), parse_constant=refuse)
    assert document["model"] == {"psnr": {"mean": None, "curve": [1.0, None]}}
    assert document["notes"][0] == "first" and "model/psnr/mean (infinite)" in document["notes"][1]
    assert "model/psnr/curve/1 (not a number)" in document["notes"][1]


def test_metrics_that_cannot_take_the_frames_are_left_out(monkeypatch):
    monkeypatch.setattr(scoring.weights, "find", lambda name: name)
    usable, notes = scoring.usable_metrics(["psnr", "lpips", "fvd"], (28, 28, 2), 2, 5)
    assert usable == ["psnr"] and "lpips takes frames" in notes[0] and len(notes) == 2
    usable, notes = scoring.usable_metrics(["psnr", "fvd", "fvd_with_context"], (64, 64, 1), 6, 5)
    assert usable == ["psnr", "fvd_with_context"] and "at least 10 frames" in notes[0]


def test_networks_that_the_user_names_are_identified(tmp_path, monkeypatch):
    path = tmp_path / "mine.npz"
    path.write_bytes(b"weights")
    monkeypatch.setenv(weights.variable("lpips_alex"), str(path))
    (network,) = provenance.describe_networks(["psnr", "lpips", "lpips_unclipped"])
    digest = hashlib.sha256(b"weights").hexdigest()
    assert network == {"name": "lpips_alex", "file": str(path), "sha256": digest}


def test_metrics_of_label_maps_say_which_models_have_some():
    with pytest.raises(
        UserError, match="miou compares.*only hierarchical and hierarchical_structure do; choose metrics"
    ):
        scoring.Scorer(baselines.CopyLast((8, 8, 1)), ["mse", "miou"], 2, 2)
