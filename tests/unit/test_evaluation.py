"""What an evaluation's flags do before any frame is predicted, and what it writes down."""

import csv
import hashlib
import json
import shutil
import subprocess

import numpy as np
import pytest

from tests.system.commands import TINY
from tfvp import config, registry
from tfvp import run as runs
from tfvp.datasets.build import build_dataset
from tfvp.errors import UserError
from tfvp.evaluation import documents, evaluator, per_clip
from tfvp.models import build


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with the weights that it starts from."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "tiny.yml").write_text(TINY)
    settings = config.load(folder / "tiny.yml", ["data.image_size=16", "train.gif_examples=1"])
    started = runs.Run.start(folder / "logs", settings)
    runs.save_weights(build.build_model(settings), started.folder("model") / "best.weights.h5")
    return started


@pytest.fixture(scope="module")
def evaluated(run):
    """(metrics.json, the folder) of an evaluation of the run as it is configured."""
    _, paths = evaluator.evaluate(run, evaluator.choose_protocol(run.config), progress=False)
    return json.loads(paths[0].read_text()), paths[0].parent


def small(name, label=""):
    cls = registry.lookup("model", name)
    return cls(cls.small_image_shape, **cls.small_variants[label])


def test_levels_are_switched_by_letters():
    model = small("htsr", "cwvae")
    evaluator.switch_levels(model, "Tf")
    assert model.use_obs == [True, False]
    for wrong in ("T", "TTT", "TX"):
        with pytest.raises(UserError, match="each of 2 levels, bottom first: TT"):
            evaluator.switch_levels(model, wrong)
    with pytest.raises(UserError, match="is for hierarchical models"):
        evaluator.switch_levels(small("convlstm_keras", ""), "TT")


def test_drawn_clips_become_as_long_as_they_are_evaluated():
    loaded = config.from_dict({"data": {"name": "moving_mnist"}})
    assert evaluator.data_config(loaded, frames=300).data.clip_length == 300
    assert evaluator.data_config(loaded, frames=15).data.clip_length == loaded.data.clip_length
    assert evaluator.data_config(loaded, "/data", 15).data.root == "/data"
    of_files = config.from_dict({"data": {"name": "human36m"}})
    assert evaluator.data_config(of_files, frames=300).data.clip_length == 8
    segments = config.from_dict({"data": {"name": "kth", "segments": True}})
    assert evaluator.data_config(segments, frames=40).data.segments
    assert not evaluator.data_config(segments, frames=40, windows="srvp").data.segments


def test_protocols_are_fixed_but_for_clips_and_samples():
    loaded = config.from_dict({"data": {"name": "mmnist_long"}})
    protocol = evaluator.choose_protocol(loaded, "htsr_264", num_examples=3, num_samples=2)
    assert (protocol.context, protocol.seq_len, protocol.num_examples, protocol.samples) == (36, 300, 3, 2)
    with pytest.raises(UserError, match="htsr_264 fixes --open-loop-ctx at 36"):
        evaluator.choose_protocol(loaded, "htsr_264", open_loop_ctx=12)
    with pytest.raises(UserError, match="is defined on data set stochastic_mnist"):
        evaluator.choose_protocol(loaded, "svg_smmnist")
    longer = evaluator.choose_protocol(loaded, open_loop_ctx=36)
    assert longer.seq_len == 36 + loaded.eval.eval_seq_len - loaded.eval.open_loop_ctx


def test_a_result_says_where_it_comes_from(run, evaluated):
    document, folder = evaluated
    assert document["format"] == documents.FORMAT and document["modified"] == {} and document["tag"] == ""
    assert documents.predictors(document) == ["model", "copy_last", "mean_context", "blank"]
    data = document["data"]
    assert (data["name"], data["image_size"], data["channels"], data["split"]) == ("moving_mnist", 16, 1, "test")
    assert any("drawn" in note for note in data["notes"])
    weights = run.weights_file("best")
    assert document["run"]["weights_file"] == "model/best.weights.h5"
    assert document["run"]["weights_sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    for key in ("device", "precision", "tf32", "commit", "epoch"):
        assert key in document["run"], key
    assert document["networks"] == [] and folder.name == "default"


def test_every_clip_has_an_id_and_the_hash_of_its_truth(run, evaluated):
    document, folder = evaluated
    with np.load(folder / "per_clip.npz") as archive:
        arrays = {key: archive[key] for key in archive.files}
    assert list(arrays["clip_ids"]) == [f"drawn:test:{n}" for n in range(6)] == list(arrays["sources"])
    assert arrays["starts"].tolist() == [0] * 6
    video = build_dataset(run.config).read("test", np.arange(6), np.zeros(6, np.int64), 8)["video"]
    assert list(arrays["truth_sha256"]) == [per_clip.truth_hash(clip) for clip in video]
    clips = per_clip.Clips(*(list(arrays[k]) for k in ("clip_ids", "sources")), arrays["starts"], 8, [])
    clips.truth_sha256 = arrays["truth_sha256"].tolist()
    assert {key: document["data"][key] for key in ("clips_sha256", "truth_sha256")} == clips.digests()
    with open(folder / "per_clip.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4 * 6 and list(rows[0])[:6] == ["clip", "id", "source", "start", "predictor", "sample"]
    assert [row["id"] for row in rows if row["predictor"] == "model"] == list(arrays["clip_ids"])
    for metric in ("mse", "psnr", "ssim"):
        numbers = [float(row[metric]) for row in rows if row["predictor"] == "model"]
        np.testing.assert_allclose(numbers, arrays[f"model/{metric}"].mean(axis=(1, 2)), rtol=1e-6)


def test_windows_of_a_file_are_called_by_file_and_frame():
    assert per_clip.clip_id("walking/a.avi", 120) == "walking/a.avi@120"
    assert per_clip.clip_id("drawn:test:3", 0) == "drawn:test:3"


def test_an_installed_package_is_not_the_checkout_around_it(tmp_path):
    """`git describe` in a virtual environment answers with whatever repository it lies in."""
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    package = tmp_path / "venv" / "tfvp"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    for arguments in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "start"]):
        subprocess.run([*git, *arguments], check=True)
    assert runs.commit(package).startswith("tfvp 0.")
    subprocess.run([*git, "add", "venv"], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "package"], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout
    assert head.startswith(runs.commit(package))
    shutil.rmtree(tmp_path / ".git")
    assert runs.commit(package).startswith("tfvp 0.")
