"""Runs compared with one another, and one rollout under every convention."""

import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from tests.golden import ROOT
from tests.system.commands import TINY, command
from tfvp import config
from tfvp.errors import UserError
from tfvp.evaluation import comparison, comparison_page, evaluator
from tfvp.training import loop


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


def test_the_table_holds_what_the_evaluations_say(evaluated, tmp_path):
    done = command("eval_with_lpips.py", "--compare", *evaluated, "--out", tmp_path)
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
    assert 0 < difference["p"] <= 1 and "tiny (2)" in done.stdout and "difference" in done.stdout


def test_runs_on_other_clips_are_not_compared(refused, evaluated, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(evaluated[0], other)
    path = other / "eval" / "default" / "metrics.json"
    document = json.loads(path.read_text())
    document["protocol"]["context"] = 3
    path.write_text(json.dumps(document))
    with pytest.raises(UserError, match="context: 4 in tiny, 3 in other"):
        comparison.compare([evaluated[0], other], out=tmp_path / "out")
    shutil.rmtree(other / "eval")
    with pytest.raises(UserError, match="is not evaluated under protocol default .*run: tfvp evaluate"):
        comparison.compare([evaluated[0], other], out=tmp_path / "out")
    assert "at least two" in refused("--compare", other, script="eval_with_lpips.py")


def test_one_rollout_under_every_convention(evaluated):
    done = command("eval_with_lpips.py", "--logdir", evaluated[0], "--protocol", "all", "--num-examples", 3)
    document = json.loads((evaluated[0] / "eval" / "all" / "metrics.json").read_text())
    found = document["model"]
    default = json.loads((evaluated[0] / "eval" / "default" / "metrics.json").read_text())["protocol"]
    assert document["protocol"]["context"] == default["context"]
    for metric in ("psnr", "psnr_unclipped", "ssim", "ssim_finn", "ssim_skimage7_L2", "psnr_uint8_wrap", "mse_sum"):
        assert metric in found, metric
    assert "psnr_uint8_wrap (broken)" in done.stdout and re.search(r"ssim_finn .*srvp", done.stdout)


def test_bootstrap_covers_the_truth():
    random = np.random.default_rng(0)
    hits, values = 0, random.normal(size=(200, 40)) + 3.0
    for number, sample in enumerate(values):
        _, low, high = comparison.bootstrap(sample, seed=number)
        hits += low <= 3.0 <= high
    assert 0.88 < hits / len(values) <= 0.99
    assert comparison.paired_p(random.normal(size=50) + 2.0) < 0.01
    assert comparison.paired_p(np.tile([1.0, -1.0], 20)) > 0.9


def moving_videos():
    """Two videos of three clips; every frame differs."""
    grey = np.arange(60, dtype=np.uint8)[None, :, None, None, None] * 4
    video = np.broadcast_to(grey, (3, 60, 16, 16, 1)).copy()
    return {"truth": video, "model": 255 - video}


def test_videos_play_in_a_browser(tmp_path):
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium is installed")
    curves = tmp_path / "curves.png"
    Image.fromarray(np.full((40, 80, 3), 99, np.uint8)).save(curves)
    (tmp_path / "report.html").write_text(comparison_page.page("two runs", "table", curves, moving_videos(), 20))
    common = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    common += ["--disable-background-networking", "--disable-sync", "--no-first-run", "--window-size=900,1200"]
    shots = []
    for budget in (400, 4000):
        picture = tmp_path / f"{budget}.png"
        options = [f"--virtual-time-budget={budget}", f"--screenshot={picture}"]
        subprocess.run([*common, *options, f"file://{tmp_path / 'report.html'}"], timeout=50, check=True, cwd=ROOT)
        shots.append(np.asarray(Image.open(picture).convert("L"), np.int16))
    assert np.mean(np.abs(shots[0] - shots[1]) > 20) > 0.02, "the canvases show the same frame at both times"
    dump = [*common, "--virtual-time-budget=4000", "--dump-dom", f"file://{tmp_path / 'report.html'}"]
    text = subprocess.run(dump, timeout=50, check=True, capture_output=True, text=True).stdout
    frame, drawn = (int(re.search(rf'data-{key}="(\d+)"', text)[1]) for key in ("frame", "drawn"))
    assert 20 < frame < 60 and drawn == 6 * (frame + 1)
    assert f"frame {frame + 1} of 60, predicted" in text and text.count('class="predicted"') == 3
