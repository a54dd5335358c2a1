"""Predictions in files of any program, scored as a run's own are."""

import json
import os
import resource
import shutil

import numpy as np
import pytest
from PIL import Image

from tests.system.commands import TINY, sentence_of
from tfvp import config, video_io
from tfvp import run as runs
from tfvp.datasets.build import build_dataset
from tfvp.errors import UserError
from tfvp.evaluation import comparison, evaluator, external, given
from tfvp.evaluation.clip_files import ClipFiles
from tfvp.metrics import protocols
from tfvp.models.build import build_model, load_run
from tfvp.pipeline import batching

pytestmark = pytest.mark.current_stack

CONTEXT, HORIZON, CLIPS = 4, 4, 6


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """An evaluated run with the weights that it starts from, its true clips and its predictions.

    Returns:
        (metrics.json, uint8 [N, 8, H, W, C], float32 [N, 4, H, W, C]).
    """
    folder = tmp_path_factory.mktemp("exported")
    (folder / "tiny.yml").write_text(TINY)
    run = runs.Run.start(folder / "logs", config.load(folder / "tiny.yml", ["data.image_size=16"]))
    runs.save_weights(build_model(run.config), run.folder("model") / "best.weights.h5")
    document, _ = evaluator.evaluate(run, evaluator.choose_protocol(run.config), save_grid=False, progress=False)
    dataset = build_dataset(run.config)
    dataset.prepare()
    batches, count = batching.evaluation_batches(dataset, "test", batch_size=CLIPS, length=8, num_examples=CLIPS)
    batch = next(iter(batches))
    assert count == CLIPS
    parts = load_run(run.path).rollout(batch["video"][:, :CONTEXT], HORIZON, ids=batch["id"])
    predicted = np.concatenate(list(parts), axis=2)[:, 0]
    return document, video_io.to_uint8(batch["video"]), predicted


def write_images(folder, video):
    folder.mkdir(parents=True)
    for t, frame in enumerate(video_io.to_uint8(video)):
        Image.fromarray(frame[..., 0]).save(folder / f"{t:02d}.png")


def scored(predicted, truth, out, **options):
    return external.score(predicted, truth, external.Options(out=str(out), pictures=False, **options))[0]


METRICS = ("mse", "psnr", "ssim")


def test_floats_score_as_the_run_that_predicted_them(exported, tmp_path):
    expected, truth, predicted = exported
    for name in ("truth", "pred"):
        (tmp_path / name).mkdir()
    for i in range(CLIPS):
        np.save(tmp_path / "pred" / f"clip{i}.npy", predicted[i])
        np.savez_compressed(tmp_path / "truth" / f"clip{i}.npz", video=truth[i])
    found = scored(
        tmp_path / "pred", tmp_path / "truth", tmp_path / "out", context=CONTEXT, metrics=METRICS, unclipped=True
    )
    for predictor in ("model", "copy_last", "blank"):
        for metric in METRICS:
            ours, theirs = found[predictor][metric], expected[predictor][metric]
            assert ours["mean"] == pytest.approx(theirs["mean"], rel=1e-6), (predictor, metric)
            assert ours["curve"] == pytest.approx(theirs["curve"], rel=1e-6)
    assert "mean_frame" not in found, "the mean of training frames is not among the files"
    written = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert written["protocol"]["clips"] == CLIPS and written["protocol"]["seq_len"] == CONTEXT + HORIZON
    assert (tmp_path / "out" / "report.html").is_file()
    with np.load(tmp_path / "out" / "per_clip.npz") as archive:
        assert archive["model/psnr"].shape == (CLIPS, 1, HORIZON)


def test_images_score_as_their_rounded_frames(exported, tmp_path):
    expected, truth, predicted = exported
    for i in range(CLIPS):
        write_images(tmp_path / "pred" / str(i), predicted[i])
    np.save(tmp_path / "truth.npy", truth[:, CONTEXT:])
    np.savez(tmp_path / "ids.npz", video=truth[:, CONTEXT:], ids=[str(i) for i in range(CLIPS)])
    with pytest.raises(UserError, match="no clip in common: 6 of 6 clips have no prediction .00000, 00001"):
        scored(tmp_path / "pred", tmp_path / "truth.npy", tmp_path / "out")
    found = scored(tmp_path / "pred", tmp_path / "ids.npz", tmp_path / "out", metrics=METRICS)
    # Half a level of 255 in every pixel moves a squared error e by at most (e^.5 + .002)^2 - e.
    assert found["model"]["mse"]["mean"] == pytest.approx(expected["model"]["mse"]["mean"], abs=5e-4)
    assert found["model"]["ssim"]["mean"] == pytest.approx(expected["model"]["ssim"]["mean"], abs=2e-2)
    assert "copy_last" not in found and "no baselines" in " ".join(found["notes"])
    assert found["model"]["mse"]["mean"] != expected["model"]["mse"]["mean"]


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    """Five clips of two samples of 16x16 pixels, written in every layout: (truth, predictions, folder)."""
    folder = tmp_path_factory.mktemp("layouts")
    random = np.random.default_rng(0)
    truth = random.integers(0, 256, (5, 6, 16, 16, 1), np.uint8)
    predicted = random.integers(0, 256, (5, 2, 4, 16, 16, 1), np.uint8)
    np.save(folder / "truth.npy", truth)
    np.save(folder / "predicted_part.npy", truth[:, 2:])
    np.save(folder / "whole.npy", predicted)
    np.savez_compressed(folder / "whole.npz", video=predicted)
    for kind in ("arrays", "images", "mixed"):
        (folder / kind).mkdir()
    for i, clip in enumerate(predicted):
        np.save(folder / "arrays" / f"{i:05d}.npy", clip)
        for s, sample in enumerate(clip):
            write_images(folder / "images" / f"{i:05d}" / f"sample_{s:03d}", sample)
            (folder / "mixed" / f"{i:05d}").mkdir(exist_ok=True)
            kind = ("npy", "avi", "gif")[i % 3]
            path = folder / "mixed" / f"{i:05d}" / f"sample_{s:03d}.{kind}"
            video_io.write_video(path, sample, codec="ffv1" if kind == "avi" else None)
    return truth, predicted, folder


def test_every_layout_gives_the_same_numbers(samples, tmp_path):
    *_, folder = samples
    found = {}
    for kind in ("whole.npy", "whole.npz", "arrays", "images", "mixed"):
        found[kind] = scored(folder / kind, folder / "predicted_part.npy", tmp_path / kind, metrics=("mse",))
    first = found["whole.npy"]["model"]
    assert first["mse"]["samples"] == 2 and first["mse"]["best"]["mean"] < first["mse"]["worst"]["mean"]
    for kind, document in found.items():
        assert document["model"] == first, kind
        assert document["protocol"]["samples"] == 2
    assert "compressed video" in " ".join(found["mixed"]["notes"])


def test_there_may_be_more_clips_than_open_files(tmp_path):
    for i in range(80):
        np.save(tmp_path / f"{i}a.npy", np.full((2, 4, 4), i, np.uint8))
        np.savez(tmp_path / f"{i}b.npz", video=np.full((2, 4, 4, 1), i, np.uint8))
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened = len(os.listdir("/dev/fd"))
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (opened + 40, before[1]))
        clips = ClipFiles(tmp_path)
        assert [clips.read(name).max() for name in clips.names] == np.repeat(range(80), 2).tolist()
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
        with pytest.raises(
            UserError, match="0a.npy cannot be opened .Too many open files.; raise the limit with ulimit"
        ):
            clips.read("0a")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_memory_holds_one_batch(samples, tmp_path, monkeypatch):
    """Clips are read as they are scored, and no clip is kept."""
    *_, folder = samples
    monkeypatch.setattr(given, "BATCH_CLIPS", 2)
    asked = []
    read = ClipFiles.read
    monkeypatch.setattr(ClipFiles, "read", lambda self, name, *a, **k: asked.append(name) or read(self, name, *a, **k))
    whole = scored(folder / "whole.npz", folder / "truth.npy", tmp_path / "out", context=2, metrics=("mse",))
    # Two of the first clip, to see what it is; then batch by batch, the last filled up with the first clip.
    batches = [name for name in asked if name in ("00002", "00003")]
    assert batches == ["00002", "00003"] * 2 and asked[-1] == "00000"
    assert whole["model"]["mse"]["clips"] == 5


def test_a_protocol_fixes_the_frames_and_says_what_differs(samples, tmp_path):
    truth, predicted, folder = samples
    random = np.random.default_rng(1)
    np.save(tmp_path / "truth.npy", random.integers(0, 256, (3, 20, 16, 16, 1), np.uint8))
    np.save(tmp_path / "pred.npy", random.uniform(size=(3, 10, 16, 16, 1)).astype(np.float16))
    document = scored(
        tmp_path / "pred.npy", tmp_path / "truth.npy", tmp_path / "out", protocol="iam4vp_readme", metrics=("mse_sum",)
    )
    assert document["protocol"]["context"] == 10 and list(document["model"]) == ["mse_sum"]
    assert document["modified"]["num_examples"] == {"protocol": 1008, "used": 3}
    assert document["modified"]["metrics"]["used"] == ["mse_sum"] and list(document["modified"])[1:] == ["num_examples"]
    assert "is on 1008 clips; these are 3" in " ".join(document["notes"])
    with pytest.raises(UserError, match="4 predicted frames, but 10 are expected"):
        scored(folder / "whole.npy", folder / "truth.npy", tmp_path / "out", protocol="iam4vp_readme")
    with pytest.raises(UserError, match="drop the 10 observed frames before them"):
        scored(tmp_path / "truth.npy", tmp_path / "truth.npy", tmp_path / "out", protocol="iam4vp_readme")
    with pytest.raises(UserError, match="fixes --context at 10"):
        scored(tmp_path / "pred.npy", tmp_path / "truth.npy", tmp_path / "out", protocol="iam4vp_readme", context=3)
    with pytest.raises(UserError, match="say with --context how many observed frames come first"):
        scored(tmp_path / "pred.npy", tmp_path / "truth.npy", tmp_path / "out")


def test_what_does_not_fit_is_a_sentence(samples, tmp_path):
    truth, predicted, folder = samples

    def refused(match, video=None, true=folder / "truth.npy", path=None, **options):
        path = path or tmp_path / "pred.npy"
        if video is not None:
            np.save(path, video)
        with pytest.raises(UserError, match=match):
            scored(path, true, tmp_path / "out", **{"context": 2, "metrics": ("mse",), **options})

    floats = predicted[:, 0].astype(np.float32) / 255
    refused(r"floats from 0 to 255, outside \[0, 1\]; divide", floats * 255)
    refused(r"floats from -1 to 1, outside", floats * 2 - 1)
    refused("NaN or infinite", np.where(floats > 0.5, np.nan, floats))
    refused("holds int64; store uint8, or floats", predicted[:, 0].astype(np.int64))
    refused(r"2 of 5 clips have no prediction \(00003, 00004\)", floats[:3])
    refused(r"shape \[5, 4, 16, 16, 7\]", np.zeros((5, 4, 16, 16, 7), np.uint8))
    refused("8 x 16 pixels with 1 channel, its truth of 16 x 16", floats[:, :, :8])
    refused("6 frames; protocol default takes the 3 predicted ones, or 5 with the 2 observed", floats[:, :3])
    refused("Python objects", np.array([{}, None], object))
    refused("does not exist", path=tmp_path / "none")
    refused("images beside the clips .*a folder of its own", path=folder / "images" / "00000" / "sample_000")
    (tmp_path / "empty").mkdir()
    refused("holds no clips; it needs <clip>.npy", path=tmp_path / "empty")
    np.savez(tmp_path / "two.npz", a=floats, b=floats)
    refused("holds the arrays a, b; call the one with the frames 'video'", path=tmp_path / "two.npz")
    twice = tmp_path / "twice"
    twice.mkdir()
    np.save(twice / "a.npy", floats[0])
    np.savez(twice / "a.npz", floats[0])
    refused("has clip a twice", path=twice)
    np.save(tmp_path / "two_clips.npy", truth[:2])
    options = {"context": 2, "metrics": ("mse",), "allow_missing": True}
    document = scored(folder / "arrays", tmp_path / "two_clips.npy", tmp_path / "out", **options)
    assert document["protocol"]["clips"] == 2 and "3 of 5 predictions have no truth" in document["notes"][0]


def test_the_command_writes_beside_the_name(here, samples, tmp_path, monkeypatch):
    *_, folder = samples
    monkeypatch.chdir(tmp_path)
    arguments = ["--pred", folder / "arrays", "--truth", folder / "truth.npy", "--context", 2, "--metrics", "mse,psnr"]
    (tmp_path / "run.py").write_text("from tfvp import cli\ncli.main()\n")
    status, said, _ = here(tmp_path / "run.py", "score", *arguments, "--name", "mine", "--tag", "first")
    assert status == 0 and "copy_last" in said
    (written,) = (tmp_path / "scores" / "mine").glob("default-metrics*-first/metrics.json")
    document = json.loads(written.read_text())
    assert document["run"]["model"] == "mine" and list(document["model"]) == ["mse", "psnr"]
    # What lies there is not overwritten by another method of the same name.
    other = ["--pred", folder / "whole.npy", *arguments[2:], "--name", "mine", "--tag", "first"]
    status, _, said = here(tmp_path / "run.py", "score", *other)
    assert "holds the scores of" in sentence_of(status, said) and "--name" in said
    status, _, said = here(tmp_path / "run.py", "score", "--pred", folder / "none", *arguments[2:])
    assert "does not exist" in sentence_of(status, said)


def test_scores_of_other_metrics_lie_beside_those_of_the_first(samples, tmp_path, monkeypatch):
    *_, folder = samples
    monkeypatch.chdir(tmp_path)
    shutil.copytree(folder / "arrays", tmp_path / "outputs" / "lr0.1")
    written = {}
    for metrics in (("mse",), ("psnr",)):
        options = external.Options(context=2, metrics=metrics, pictures=False)
        written[metrics] = external.score("outputs/lr0.1", folder / "truth.npy", options)[1][0]
    assert {path.parents[1].name for path in written.values()} == {"lr0.1"}
    for metrics, path in written.items():
        assert json.loads(path.read_text())["model"].keys() == {*metrics} and path.parent.name.startswith("default-")
    monkeypatch.chdir(tmp_path / "outputs" / "lr0.1")
    with pytest.raises(UserError, match="lr0.1/scores/lr0.1/default-.* lies among the clips .*--out"):
        external.score(".", folder / "truth.npy", external.Options(context=2, metrics=("mse",)))
    assert not (tmp_path / "outputs" / "lr0.1" / "scores").exists()


def test_every_clip_has_as_many_samples(samples, tmp_path):
    _, predicted, folder = samples
    for counts in ((1, 2), (2, 1)):
        pred = tmp_path / f"pred{counts[0]}"
        pred.mkdir()
        for i, clip in enumerate(predicted):
            np.save(pred / f"{i:05d}.npy", clip[: counts[i == 4]])
        with pytest.raises(UserError, match=f"00004 has {counts[1]} samples, 00000 has {counts[0]}; every clip needs"):
            scored(pred, folder / "truth.npy", tmp_path / "out", context=2, metrics=("mse",))


def test_protocol_all_is_every_convention():
    protocol, _ = external._choose(external.Options(protocol="all", context=2), 6, 4, "truth.npy", "00000")
    assert protocol.metrics[:5] == protocols.DEFAULT_METRICS
    assert {"fvd", "kvd", "fvd_half_pixel", "ssim_finn"} <= {*protocol.metrics}
    assert not {"miou_frame", "csi"} & {*protocol.metrics}


def test_scores_of_two_programs_are_compared(tmp_path):
    random = np.random.default_rng(3)
    truth = random.integers(0, 256, (6, 8, 16, 16, 1), np.uint8)
    np.save(tmp_path / "truth.npy", truth)
    folders = []
    for name, noise in (("first", 40), ("second", 10)):
        noisy = np.clip(truth[:, 4:] + noise * random.normal(size=(6, 4, 16, 16, 1)), 0, 255)
        np.save(tmp_path / f"{name}.npy", noisy.astype(np.uint8))
        folders.append(tmp_path / "scores" / name / "default")
        scored(tmp_path / f"{name}.npy", tmp_path / "truth.npy", folders[-1], context=4, metrics=("mse",), name=name)
    document, paths = comparison.compare(folders, out=tmp_path / "comparison")
    assert list(document["runs"]) == ["first", "second"] and paths[-1].is_file()
    difference = document["runs"]["second"]["metrics"]["mse"]["difference"]
    assert difference["interval"][1] < 0 and difference["p"] == pytest.approx(2 / 64, abs=0.01)  # 6 clips, 64 signs


def test_a_comparison_marks_no_frame_as_observed_where_the_truth_holds_none(tmp_path):
    np.save(tmp_path / "truth.npy", np.random.default_rng(4).integers(0, 256, (2, 10, 16, 16, 1), np.uint8))
    folders = [tmp_path / "scores" / name for name in ("first", "second")]
    for folder in folders:
        options = {"protocol": "iam4vp_readme", "metrics": ("mse_sum",), "name": folder.name}
        scored(tmp_path / "truth.npy", tmp_path / "truth.npy", folder, **options)
    _, paths = comparison.compare(folders, out=tmp_path / "comparison")
    assert '"frames": 10, "observed": 0' in paths[-1].read_text()


def test_metrics_that_cannot_take_the_clips_are_left_out(tmp_path):
    for name in ("pred", "truth"):
        np.save(tmp_path / f"{name}.npy", np.random.default_rng(0).uniform(size=(2, 3, 16, 16, 2)).astype(np.float32))
    options = external.Options(metrics=("mse", "lpips", "fvd"), context=0, out=tmp_path / "out", progress=False)
    document, _ = external.score(tmp_path / "pred.npy", tmp_path / "truth.npy", options)
    assert list(document["model"]) == ["mse"]
    said = " ".join(document["notes"])
    assert "lpips is left out" in said and "fvd is left out" in said


def test_ratios_of_nothing_are_no_numbers(tmp_path):
    """No alarm can be false where nothing is forecast, as by the baseline `blank` or in a dark frame."""
    random, folders = np.random.default_rng(0), [tmp_path / name for name in ("first", "second")]
    np.save(tmp_path / "t.npy", random.integers(0, 256, (2, 6, 12, 12, 1), np.uint8))
    predicted = random.integers(0, 256, (2, 4, 12, 12, 1), np.uint8)
    predicted[:, 1] = 0
    np.save(tmp_path / "p.npy", predicted)
    options = {"context": 2, "metrics": ("far", "csi_pool16")}
    for folder in folders:
        document = scored(tmp_path / "p.npy", tmp_path / "t.npy", folder, name=folder.name, **options)
    assert document["blank"]["far"]["mean"] is None and document["blank"]["far"]["curve"] == [None] * 4
    assert [value is None for value in document["model"]["far"]["curve"]] == [False, True, False, False]
    assert "csi_pool16 takes frames of at least 16 x 16 pixels" in document["notes"][0]
    rows = [line.split(",")[:4] for line in (folders[0] / "curves.csv").read_text().splitlines()]
    assert ["model", "far", "2", ""] in rows and (folders[0] / "report.html").is_file()
    compared, _ = comparison.compare(folders, out=tmp_path / "comparison")
    assert compared["runs"]["first"]["metrics"]["far"]["mean"] == document["model"]["far"]["mean"]
    with pytest.raises(UserError, match="none of the metrics can run: csi_pool16 is left out"):
        scored(tmp_path / "p.npy", tmp_path / "t.npy", tmp_path / "none", context=2, metrics=("csi_pool16",))
    assert not (tmp_path / "none").exists()
