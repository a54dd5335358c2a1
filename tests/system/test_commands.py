"""The commands as a user types them: train, kill, resume, evaluate, export, and their errors."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.golden import ROOT
from tests.system.commands import TINY, command, weights
from tfvp import cli
from tfvp.pipeline import listing


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "tiny.yml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="module")
def trained(tiny, tmp_path_factory):
    """An uninterrupted run, exported at its end."""
    logdir = tmp_path_factory.mktemp("logs")
    result = command("train.py", "--logdir", logdir, "--config", tiny, "--export", "--set", "train.profile=[3,4]")
    assert "next: python eval_with_lpips.py" in result.stdout
    return logdir / "tiny"


def test_a_run_holds_what_it_should(trained):
    for name in (
        "config.yml",
        "environment.json",
        "validation.json",
        "metrics.jsonl",
        "curves.png",
        "model/best.weights.h5",
        "model/last.weights.h5",
        "model/status.json",
        "model/mean_frame.npy",
        "samples/open_loop_0003.gif",
        "export/1/saved_model.pb",
    ):
        assert (trained / name).is_file(), name
    assert list((trained / "tensorboard").iterdir()) and list((trained / "backup").iterdir())
    assert list((trained / "profile").rglob("*.xplane.pb"))
    lines = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3] and [line["step"] for line in lines] == [12, 24, 36]
    for key in ("loss", "grad_norm", "val_loss", "val_mse", "val_psnr", "val_ssim", "train_mae", "learning_rate"):
        assert np.isfinite([line[key] for line in lines]).all(), key
    assert not list(trained.rglob("*.tmp*"))
    assert list(listing.walk(trained.parent)) == [(trained.parent, [])], "videos of a run would be taken for a user's"


def same_ending(ours, theirs):
    """Whether two runs have the same last weights and the same lines of metrics, up to rounding."""
    first, second = weights(ours), weights(theirs)
    assert first.keys() == second.keys() and first
    for key in first:
        np.testing.assert_allclose(first[key], second[key], rtol=1e-5, atol=1e-6, err_msg=key)
    lines = [[json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()] for run in (ours, theirs)]
    for mine, other in zip(*lines, strict=True):
        for key in other:
            if key != "frames_per_second":
                assert mine[key] == pytest.approx(other[key], rel=1e-5, abs=1e-6), key


def test_a_killed_run_ends_as_one_that_was_not(trained, tiny, tmp_path, here):
    process = subprocess.Popen(
        [
            *(sys.executable, str(ROOT / "train.py"), "--logdir", str(tmp_path), "--config", str(tiny)),
            *("--set", "train.log_steps=1", "train.backup_minutes=0.0001", "train.loggers=[jsonl]"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    deadline = time.time() + 200
    while not list((tmp_path / "tiny" / "backup").glob("step-*.npz")) and time.time() < deadline:
        time.sleep(0.005)
    process.kill()
    said = process.communicate(timeout=60)[0]
    assert process.returncode == -signal.SIGKILL, "the run ended before it could be killed: " + said
    status, *resumed = here("train.py", "--logdir", tmp_path, "--config", tiny)
    assert status == 0
    assert int(re.search(r"after step (\d+) of 36", "".join(resumed))[1]) >= 1 and "Traceback" not in said
    same_ending(tmp_path / "tiny", trained)


def test_a_finished_run_has_nothing_left_to_do(trained, tiny, here):
    before = weights(trained)
    status, *said = here("train.py", "--logdir", trained.parent, "--config", tiny)
    assert status == 0 and "already trained" in "".join(said)
    assert all(np.array_equal(before[k], v) for k, v in weights(trained).items())
    assert len(json.loads((trained / "environment.json").read_text())["sessions"]) >= 2


def test_evaluation_writes_its_report(trained):
    result = command("eval_with_lpips.py", "--logdir", trained / "model", "--open-loop-ctx", 3, "--eval-seq-len", 8)
    assert "copy_last" in result.stdout and "report.html" in result.stdout
    assert "This is not protocol default as named: context 3 instead of 4." in result.stdout
    folder = trained / "eval" / "default-ctx3"
    document = json.loads((folder / "metrics.json").read_text())
    assert document["protocol"]["context"] == 3 and document["protocol"]["clips"] == 6
    assert document["modified"] == {"context": {"protocol": 4, "used": 3}}
    assert document["run"]["epoch"] == json.loads((trained / "model" / "status.json").read_text())["best_epoch"]
    for predictor in ("model", "copy_last", "mean_context", "mean_frame", "blank"):
        assert len(document[predictor]["psnr"]["curve"]) == 5 and np.isfinite(document[predictor]["psnr"]["mean"])
    tables = ["table.md", "table.tex"]
    for name in (
        "curves.csv",
        "curves.png",
        "per_clip.npz",
        "per_clip.csv",
        "clip_best.gif",
        "clip_worst.png",
        *tables,
    ):
        assert (folder / name).stat().st_size > 100, name
    page = (folder / "report.html").read_text()
    assert page.count("data:image/") >= 3 and "copy_last" in page and not re.search(r"(src|href)=.https?:", page)
    per_clip = np.load(folder / "per_clip.npz")["model/psnr"]
    assert per_clip.shape == (6, 1, 5)
    assert per_clip.mean() == pytest.approx(document["model"]["psnr"]["mean"], rel=1e-5)


def test_evaluation_finds_the_newest_run_by_itself(trained, tmp_path, here, monkeypatch):
    (tmp_path / "logs").symlink_to(trained.parent)
    monkeypatch.chdir(tmp_path)
    status, said, _ = here("eval_with_lpips.py", "--num-examples", 2, "--no-save-grid", "--split", "validation")
    assert status == 0 and "evaluating logs/tiny" in said


def test_the_export_needs_nothing_but_tensorflow(trained, tmp_path):
    """Loaded in a process that cannot import tfvp, it predicts what the model in Python predicts."""
    context = np.random.default_rng(0).uniform(size=(2, 5, 32, 32, 1)).astype(np.float32)
    np.save(tmp_path / "context.npy", context)
    program = (
        "import numpy as np, tensorflow as tf, sys\n"
        "s = tf.saved_model.load(sys.argv[1]).signatures\n"
        "c = tf.constant(np.load('context.npy'))\n"
        "np.save('video.npy', s['serving_default'](context=c, horizon=tf.constant([12, 12]))['video'])\n"
        "assert not any(m.startswith('tfvp') for m in sys.modules)\n"
    )
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    command_line = [sys.executable, "-c", program, str(trained / "export" / "1")]
    result = subprocess.run(command_line, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr[-2000:]
    import tfvp

    expected = np.concatenate(list(tfvp.load_run(trained).rollout(context, 12, chunk=5)), axis=2)[:, 0]
    np.testing.assert_allclose(np.load(tmp_path / "video.npy"), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("suffix", [".mp4", ".gif", ".npy"])
def test_the_future_of_one_video(trained, tmp_path, suffix, here, refused):
    from tests.layouts import marked_clip
    from tfvp import video_io

    clip, out = tmp_path / "clip.avi", tmp_path / f"future{suffix}"
    video_io.write_video(clip, marked_clip(1, 9, 48, 64), 8)
    arguments = ("--logdir", trained, "--video", clip, "--open-loop-ctx", 4, "--horizon", 6, "--out", out)
    for start, panels in (((), 1), (("--start", 1), 2)):
        status, said, errors = here("eval_with_lpips.py", *arguments, *start)
        assert status == 0 and str(out) in said, errors
        assert ("4 true frames follow frame 4" in said and "copy_last" in said) == bool(start)
        expected = (6, 32, 32, 1) if suffix == ".npy" else (10, 34, 34 * panels, 3)
        assert video_io.read_video(out).shape == expected
    assert "fewer than the 20 to observe" in refused(
        "--logdir", trained, "--video", clip, "--open-loop-ctx", 20, script="eval_with_lpips.py"
    )


def test_another_export_gets_the_next_number(trained, capsys):
    cli.execute(["export", "--logdir", str(trained)])
    said = capsys.readouterr().out
    assert (trained / "export" / "2" / "saved_model.pb").is_file()
    assert "context:     4 frames of 32 x 32 x 1" in said and "serving_encoded" in said
    assert (trained / "export" / "2" / "assets.extra" / "model.json").is_file()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (["train.batch_sise=3"], "did you mean 'train.batch_size'"),
        (["train.batch_size=many"], "must be an integer"),
        (["data.name=folder", "data.root=/nowhere/at/all"], "/nowhere/at/all"),
        (["data.image_size=34"], "do not divide by 4"),
        (["eval.open_loop_ctx=8"], "leaves nothing to predict"),
        (["train.batch_size=3", "train.accumulate=2"], "use a multiple of 2"),
        (["train.log_steps=0"], "train.log_steps=0 must be greater than 0"),
        (["train.early_stopping=-1"], "train.early_stopping=-1 must not be negative; 0 turns it off"),
        (["train.seed=-1"], "train.seed=-1 must be from 0 to 4294967295"),
        (["train.profile=[3]"], "takes two numbers of steps"),
        (["train.optimizer=adem"], "did you mean 'Adam'"),
        (["train.seq_len=30"], "frames"),
    ],
    ids=lambda value: value[-1].split("=")[0] if isinstance(value, list) else "",
)
def test_wrong_options_get_a_sentence_and_leave_nothing(tiny, tmp_path, changes, sentence, refused):
    assert sentence in refused("--logdir", tmp_path / "logs", "--config", tiny, "--set", *changes)
    assert not (tmp_path / "logs" / "tiny").exists()


def test_a_run_of_another_configuration_is_refused(trained, tiny, refused):
    message = refused("--logdir", trained.parent, "--config", tiny, "--set", "train.learning_rate=0.5")
    assert "train.learning_rate: 0.01 -> 0.5" in message


def test_an_unwritable_logdir_is_refused(tiny, tmp_path, refused):
    (tmp_path / "file").write_text("")
    assert "cannot write into" in refused("--logdir", tmp_path / "file" / "logs", "--config", tiny)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--open-loop-ctx", "0"], "--open-loop-ctx"),
        (["--open-loop-ctx", "9", "--eval-seq-len", "8"], "leaves no frame to predict"),
        (["--protocol", "mmnist_10to11"], "did you mean 'mmnist_10to10'"),
        (["--protocol", "svg_kth"], "trained on moving_mnist"),
        (["--num-samples", "0"], "--num-samples"),
    ],
)
def test_evaluations_that_make_no_sense_are_refused(trained, arguments, sentence, refused):
    assert sentence in refused("--logdir", trained, *arguments, script="eval_with_lpips.py")


def test_a_logdir_without_runs_is_refused(tmp_path, refused):
    assert "train one first" in refused("--logdir", tmp_path, script="eval_with_lpips.py")


def test_damaged_weights_are_refused(trained, tmp_path, refused):
    import shutil

    copy = tmp_path / "tiny"
    shutil.copytree(trained, copy, ignore=shutil.ignore_patterns("export", "eval", "backup", "tensorboard"))
    path = copy / "model" / "best.weights.h5"
    path.write_bytes(path.read_bytes()[:500])
    assert "cannot be loaded" in refused("--logdir", copy, script="eval_with_lpips.py")
