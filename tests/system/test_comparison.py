"""Runs compared with one another, and one rollout under every convention."""

import base64
import io
import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from tests.system.commands import TINY
from tfvp import config
from tfvp.errors import UserError
from tfvp.evaluation import comparison, documents, evaluator, per_clip
from tfvp.training import loop

pytestmark = pytest.mark.current_stack


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """Two runs of two seeds, evaluated on the same clips."""
    folder = tmp_path_factory.mktemp("compared")
    path = folder / "tiny.yml"
    path.write_text(TINY)
    found = []
    for seed, epochs in ((1, 1), (2, 2)):
        settings = [f"train.seed={seed}", f"train.epochs={epochs}", "eval.num_examples=12"]
        run = loop.train(config.load(path, settings), folder / f"seed{seed}")
        evaluator.evaluate(run, evaluator.choose_protocol(run.config))
        found.append(run.path)
    return found


def test_the_table_holds_what_the_evaluations_say(evaluated, tmp_path, here):
    status, said, errors = here("eval_with_lpips.py", "--compare", *evaluated, "--out", tmp_path)
    assert status == 0, errors
    document = json.loads((tmp_path / "comparison.json").read_text())
    assert list(document["runs"]) == ["tiny", "tiny (2)"]
    values = []
    for path, found in zip(evaluated, document["runs"].values()):
        summary = json.loads((path / "eval" / "default" / "metrics.json").read_text())["model"]
        for metric in ("mse", "psnr", "ssim"):
            assert found["metrics"][metric]["mean"] == pytest.approx(summary[metric]["mean"], rel=1e-5)
            low, high = found["metrics"][metric]["interval"]
            assert low < summary[metric]["mean"] < high
        values.append(summary["psnr"]["mean"])
    difference = document["runs"]["tiny (2)"]["metrics"]["psnr"]["difference"]
    assert difference["mean"] == pytest.approx(values[1] - values[0], rel=1e-4, abs=1e-5)
    assert 0 < difference["p"] <= difference["p_holm"] <= 1
    assert "tiny (2)" in said and "difference" in said
    assert document["compares"] == "checkpoints" and "nothing about other seeds" in said
    assert "nothing about other seeds" in (tmp_path / "report.html").read_text()


def test_evaluations_are_chosen_by_their_folders(evaluated, tmp_path):
    copies = []
    for path in evaluated:
        copies.append(tmp_path / path.parent.name)
        shutil.copytree(path / "eval" / "default", copies[-1] / "eval" / "default-ctx4-mine")
        shutil.copy(path / "config.yml", copies[-1])
    document, _ = comparison.compare(copies, protocol="default-ctx4-mine", out=tmp_path / "out")
    assert len(document["runs"]) == 2


def test_runs_on_other_clips_are_not_compared(refused, evaluated, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(evaluated[0], other)
    path = other / "eval" / "default" / "metrics.json"
    document = json.loads(path.read_text())
    document["protocol"]["context"] = 3
    path.write_text(json.dumps(document))
    with pytest.raises(UserError, match="context: 4 in tiny, 3 in other"):
        comparison.compare([evaluated[0], other], out=tmp_path / "out")
    with pytest.raises(UserError, match="not evaluated under protocol default-ctx36 .*its evaluations are: default"):
        comparison.compare([evaluated[0], other], "default-ctx36", tmp_path / "out")
    document["protocol"].update(context=4, first_scored=6)
    path.write_text(json.dumps(document))
    with pytest.raises(UserError, match="first_scored: 4 in tiny, 6 in other"):
        comparison.compare([evaluated[0], other], out=tmp_path / "out")
    shutil.rmtree(other / "eval")
    with pytest.raises(UserError, match="is not evaluated under protocol default .*run: tfvp evaluate"):
        comparison.compare([evaluated[0], other], out=tmp_path / "out")
    with pytest.raises(UserError, match="scores/mistyped does not exist; name an evaluated run, or a folder with the"):
        comparison.compare([evaluated[0], "scores/mistyped"], out=tmp_path / "out")
    assert "at least two" in refused("--compare", other, script="eval_with_lpips.py")


def copy_of(evaluated, folder, change=None, order=None, kept=None):
    """A copy of an evaluated run whose per_clip.npz and frames.npz are changed."""
    shutil.copytree(evaluated, folder)
    path = folder / "eval" / "default" / "per_clip.npz"
    with np.load(path) as archive:
        arrays = {key: archive[key] for key in archive.files}
    if order is not None:
        arrays = {key: value[order] for key, value in arrays.items()}
    arrays.update(change(arrays) if change else {})
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    path = path.with_name("frames.npz")
    with np.load(path) as archive:
        frames = {key: archive[key] for key in archive.files}
    if order is not None:
        frames = {key: value[order[: len(value)]] if kept is None else value[kept] for key, value in frames.items()}
    np.savez(path, **frames)
    return folder


def test_runs_with_other_true_frames_are_refused(evaluated, tmp_path):
    def inverted(arrays):
        hashes = arrays["truth_sha256"].copy()
        hashes[3] = per_clip.truth_hash(np.zeros((10, 4, 4, 1), np.uint8))
        return {"truth_sha256": hashes}

    other = copy_of(evaluated[1], tmp_path / "inverted", inverted)
    with pytest.raises(UserError, match=r"the true frames of clip drawn:test:3 differ between tiny and inverted"):
        comparison.compare([evaluated[0], other], out=tmp_path / "out")
    other = copy_of(evaluated[1], tmp_path / "renamed", lambda a: {"clip_ids": np.array([*a["clip_ids"][:-1], "else"])})
    with pytest.raises(UserError, match=r"clip drawn:test:11 is in tiny and not in renamed"):
        comparison.compare([evaluated[0], other], out=tmp_path / "out")
    other = copy_of(evaluated[1], tmp_path / "old", lambda arrays: {"truth_sha256": None})
    with pytest.raises(UserError, match="does not record which clips it used.* run: tfvp evaluate --logdir .*old"):
        comparison.compare([evaluated[0], other], out=tmp_path / "out")


def test_clips_are_aligned_by_their_ids(evaluated, tmp_path):
    order = np.arange(12)[::-1].copy()
    with np.load(evaluated[1] / "eval" / "default" / "frames.npz") as archive:
        shown = len(archive["truth"])
    kept = np.arange(shown)[::-1][: shown - 1]  # fewer examples, the last one first
    where = {"clips": 11 - kept}
    other = copy_of(evaluated[1], tmp_path / "tiny", order=order, kept=kept)
    path = other / "eval" / "default" / "frames.npz"
    with np.load(path) as archive:
        np.savez(path, **where, **{key: archive[key] for key in archive.files})
    straight, _ = comparison.compare(evaluated, out=tmp_path / "straight")
    turned, paths = comparison.compare([evaluated[0], other], out=tmp_path / "turned")
    for metric in ("mse", "psnr", "ssim"):
        found, expected = (d["runs"]["tiny (2)"]["metrics"][metric] for d in (turned, straight))
        assert found["difference"]["p"] == expected["difference"]["p"]
        assert found["difference"]["interval"] == pytest.approx(expected["difference"]["interval"])
    assert paths[-1].read_text().count("<figcaption>truth") == shown - 1


def test_several_runs_of_a_method(evaluated, tmp_path):
    """Methods are compared by their runs: the interval of a method holds the spread of its seeds."""
    better = lambda a: {"model/mse": a["model/mse"] / 2, "model/psnr": a["model/psnr"] + 9}  # noqa: E731
    more = [copy_of(evaluated[n], tmp_path / f"better{n}", better) for n in (0, 1)]
    a, b = f"A={evaluated[0]},{evaluated[1]}", f"B={more[0]},{more[1]}"
    document, paths = comparison.compare([a, b], out=tmp_path / "methods")
    single, _ = comparison.compare([evaluated[0], more[0]], out=tmp_path / "single")
    assert document["compares"] == "methods" and list(document["runs"]) == ["A", "B"]
    entry = document["runs"]["B"]["metrics"]["psnr"]
    assert entry["mean"] == pytest.approx(np.mean(entry["runs"])) and len(entry["runs"]) == 2
    assert entry["difference"]["mean"] == pytest.approx(9, abs=1e-4)
    one = single["runs"]["better0"]["metrics"]["psnr"]["difference"]
    assert np.ptp(entry["difference"]["interval"]) > np.ptp(one["interval"]) + 0.5 * np.ptp(entry["runs"])
    assert "Methods are compared, by several runs of each (2 of A, 2 of B)" in paths[-1].read_text()
    mixed, _ = comparison.compare([evaluated[0], b], out=tmp_path / "mixed")
    assert mixed["compares"] == "mixed" and "single runs (tiny)" in mixed["statistics"][0]
    assert "p-values are of the share of resampled differences beyond 0 against" in mixed["statistics"][-1]
    mixed, _ = comparison.compare([evaluated[0], f"C={evaluated[1]}", b], out=tmp_path / "three")
    tests = (
        "a paired permutation test for C, and of the share of resampled differences beyond 0 for the others, against"
    )
    assert f"p-values are of {tests} the first" in mixed["statistics"][-1]
    for wrong, sentence in (("A=", "is NAME=RUN"), (f"A={more[0]},{more[0]}", "names a run twice")):
        with pytest.raises(UserError, match=sentence):
            comparison.compare([wrong, evaluated[0]], out=tmp_path / "wrong")


def test_scores_that_are_not_finite_are_not_compared(evaluated, tmp_path):
    def diverging(arrays):
        broken = arrays["model/psnr"].copy()
        broken[3, :, -1] = np.nan
        return {"model/psnr": broken}

    broken = copy_of(evaluated[1], tmp_path / "broken", diverging)
    (written,) = broken.rglob("metrics.json")
    document = json.loads(written.read_text())
    document["model"]["psnr"] |= {"mean": None, "std": None, "interval": [None, None], "ci95": None}
    written.write_text(json.dumps(document))
    for specs in ([evaluated[0], broken], [broken, evaluated[0]]):
        document, paths = comparison.compare(specs, out=tmp_path / "out")
        metrics = {name: run["metrics"] for name, run in document["runs"].items()}
        assert metrics["broken"]["psnr"] == {"mean": None, "unit": "dB"} and document["tests"] == 2
        assert metrics["tiny"]["psnr"]["mean"] and "difference" not in metrics["tiny"]["psnr"]
        assert "psnr of broken is not finite on 1 of 12 clips" in document["statistics"][-1]
        assert re.search(r"broken +-", comparison.table(document)) and "nan" not in paths[-1].read_text()


def test_what_another_evaluation_did_differently_is_said(evaluated, tmp_path):
    other = copy_of(evaluated[1], tmp_path / "other")
    path = other / "eval" / "default" / "metrics.json"
    document = json.loads(path.read_text())
    document["protocol"]["samples"] = 3
    document["modified"] = documents.modifications(None, None, weights=("best", "last"))
    path.write_text(json.dumps(document))
    said = comparison.compare([evaluated[0], other], out=tmp_path / "out")[0]["statistics"]
    assert "other was evaluated with samples 3 (the first: 1), weights last (the first: as configured)." in said
    assert not any(
        "was evaluated with" in text for text in comparison.compare(evaluated[:2], out=tmp_path / "o")[0]["statistics"]
    )


def test_the_interval_of_a_set_says_what_it_is(evaluated, tmp_path):
    copies = [copy_of(path, tmp_path / f"run{n}") for n, path in enumerate(evaluated[:2])]
    for copy in copies:
        path = copy / "eval" / "default" / "metrics.json"
        document = json.loads(path.read_text())
        document["model"]["kvd"] = {"mean": 2.0, "interval": [1.0, 3.0], "convention": "", "unit": ""}
        path.write_text(json.dumps(document))
    document, _ = comparison.compare(copies, out=tmp_path / "out")
    assert [run["metrics"]["kvd"]["interval"] for run in document["runs"].values()] == [[1.0, 3.0]] * 2
    assert "The interval of kvd is that of its evaluation, by the jackknife over clips." in document["statistics"]


def test_clips_of_one_film_give_no_intervals(evaluated, tmp_path):
    film = lambda arrays: {"sources": np.array(["a.avi"] * 12)}  # noqa: E731
    copies = [copy_of(path, tmp_path / f"run{n}", film) for n, path in enumerate(evaluated)]
    document, paths = comparison.compare(copies, out=tmp_path / "out")
    psnr = [run["metrics"]["psnr"] for run in document["runs"].values()]
    assert psnr[1]["difference"] == {"mean": pytest.approx(psnr[1]["mean"] - psnr[0]["mean"])}
    assert "interval" not in psnr[0] and document["tests"] == 0
    sentence = "There are no intervals and no p-values, as 12 clips of one film say nothing about other films."
    assert document["statistics"] == [sentence] and sentence in paths[-1].read_text()
    assert "±" not in comparison.table(document)


def test_one_rollout_under_every_convention(evaluated, here):
    arguments = ["--logdir", evaluated[0], "--protocol", "all", "--num-examples", 3]
    status, said, errors = here("eval_with_lpips.py", *arguments)
    assert status == 0, errors
    document = json.loads((evaluated[0] / "eval" / "all-n3" / "metrics.json").read_text())
    found = document["model"]
    default = json.loads((evaluated[0] / "eval" / "default" / "metrics.json").read_text())["protocol"]
    assert document["protocol"]["context"] == default["context"]
    for metric in ("psnr", "psnr_unclipped", "ssim", "ssim_finn", "ssim_skimage7_L2", "psnr_uint8_wrap", "mse_sum"):
        assert metric in found, metric
    assert "psnr_uint8_wrap (dB) (broken)" in said and re.search(r"ssim_finn .*srvp", said)


def test_the_page_shows_the_frames_that_were_scored(evaluated):
    """Clips are predicted anew for the page: their errors are those of the table of clips."""
    folder = evaluated[0] / "eval" / "default"
    shown = json.loads((folder / "metrics.json").read_text())["examples"]
    assert [entry["rank"] for entry in shown] == ["best", "median", "worst"]
    with np.load(folder / "per_clip.npz") as archive:
        errors, ids = archive["model/mse"].mean(axis=(1, 2)), archive["clip_ids"]
    order = np.argsort(errors, kind="stable")
    assert [entry["clip"] for entry in shown] == [order[0], order[len(order) // 2], order[-1]]
    page = (folder / "report.html").read_text(encoding="utf-8")
    played = json.loads(re.search(r'id="videos">(.*?)</script>', page)[1])
    frames = [_frames(sheet, played["frames"]) for sheet in played["sheets"]]
    for number, entry in enumerate(shown):
        assert entry["id"] == ids[entry["clip"]] and entry["id"] in page
        truth, predicted = (video[played["observed"] :] for video in frames[2 * number : 2 * number + 2])
        error = np.mean((truth - predicted) ** 2)
        assert error == pytest.approx(errors[entry["clip"]], rel=0.02), entry


def _frames(sheet, count):
    """The frames of a page's picture, float [T, H, W] in [0, 1]."""
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(sheet["source"].split(",")[1]))), float) / 255
    size = picture.shape[1] // sheet["columns"]
    rows, columns = picture.shape[0] // size, sheet["columns"]
    return picture.reshape(rows, size, columns, size).swapaxes(1, 2).reshape(-1, size, size)[:count]
