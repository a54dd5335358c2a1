"""What an evaluation's flags do before any frame is predicted, and what it writes down."""

import csv
import dataclasses
import hashlib
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from tests.system.commands import TINY
from tfvp import config, registry
from tfvp import run as runs
from tfvp.datasets.build import build_dataset
from tfvp.errors import UserError
from tfvp.evaluation import documents, evaluator, journal, per_clip, selection, sharding, tables
from tfvp.metrics import i3d, protocols
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
    assert selection.data_config(loaded, frames=300).data.clip_length == 300
    assert selection.data_config(loaded, frames=15).data.clip_length == loaded.data.clip_length
    assert selection.data_config(loaded, "/data", 15).data.root == "/data"
    of_files = config.from_dict({"data": {"name": "human36m"}})
    assert selection.data_config(of_files, frames=300).data.clip_length == 8
    segments = config.from_dict({"data": {"name": "kth", "segments": True}})
    assert selection.data_config(segments, frames=40).data.segments
    assert selection.data_config(segments, frames=40, windows="sample").data.segments
    assert not selection.data_config(segments, frames=40, windows="srvp").data.segments


def test_windows_of_fixed_sets_are_spread_as_those_of_files():
    for sets, windows in (("drawn", ""), ("notebook", "sample")):
        settings = {"open_loop_ctx": 4, "eval_seq_len": 8, "num_examples": 6}
        loaded = config.from_dict({"data": {"name": "moving_mnist", "sets": sets}, "eval": settings})
        protocol = evaluator.choose_protocol(loaded)
        clips = selection.Selection(loaded, protocol).clips
        assert protocol.windows == windows and len(clips.ids) == 6
        assert (clips.ids == [f"drawn:test:{n}" for n in range(6)]) == (not windows)


def test_clips_that_are_too_short_for_a_protocol_get_advice_that_helps(tmp_path):
    for split in ("train", "validation", "test"):
        (tmp_path / split).mkdir()
        np.save(tmp_path / split / "clip.npy", np.zeros((20, 8, 8, 1), np.uint8))
    loaded = config.from_dict({"data": {"name": "folder", "root": str(tmp_path), "image_size": 8, "channels": 1}})
    advice = "lower eval.eval_seq_len with --protocol default, as htsr_264 fixes 300 frames"
    with pytest.raises(UserError, match=f"has no clip of 300 frames, the longest has 20; {advice}"):
        selection.Selection(loaded, evaluator.choose_protocol(loaded, "htsr_264"))


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
    assert document["data"]["windows"] == [[f"drawn:test:{n}", 0] for n in range(6)]
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


def changed(protocol, **changes):
    return dataclasses.replace(protocol, **changes)


def test_folders_say_what_differs_from_the_protocol(run):
    protocol = evaluator.choose_protocol(run.config)

    def name(tag="", settings=(), **changes):
        return documents.folder_name(
            "default", documents.modifications(changed(protocol, **changes), protocol, **dict(settings)), tag
        )

    assert name() == "default"
    assert name(context=36, seq_len=72, num_examples=8) == "default-ctx36-len72-n8"
    assert name(num_examples=0, samples=3, split="validation") == "default-nall-s3-validation"
    assert name(metrics=(*protocol.metrics, "mae")) == "default-mae"
    assert name("mine", {"weights": ("best", "last"), "use_obs": ("TT", "TF")}) == "default-last-obsTF-mine"
    folders = [name(settings={"data__root": ("/a", other)}) for other in ("/a", "/b", "/c")]
    assert folders[0] == "default" and len(set(folders)) == 3 and folders[1].startswith("default-data")
    with pytest.raises(UserError, match="--tag"):
        name("../other")


def test_another_evaluation_leaves_the_first_alone(run, evaluated):
    document, folder = evaluated
    before = (folder / "metrics.json").read_bytes()
    protocol = evaluator.choose_protocol(run.config, num_examples=2)
    other, paths = evaluator.evaluate(run, protocol, progress=False, save_grid=False)
    assert paths[0].parent.name == "default-n2" and (folder / "metrics.json").read_bytes() == before
    assert other["modified"] == {"num_examples": {"protocol": 6, "used": 2}}
    with pytest.raises(UserError, match="holds the result of another evaluation .*--tag"):
        evaluator.evaluate(run, evaluator.choose_protocol(run.config), progress=False, tag="n2")
    assert documents.evaluations(run.path / "eval")[:2] == ["default", "default-n2"]


def test_teacher_forced_scores_begin_at_one_frame(run, monkeypatch):
    """The baselines need one frame, the model four: they were scored on frames that the model was not."""
    monkeypatch.setattr(registry.lookup("model", run.config.model.name), "min_context", 4)
    protocol = changed(evaluator.choose_protocol(run.config, num_examples=2), context=1, mode="teacher_forced")
    document, paths = evaluator.evaluate(run, protocol, progress=False, save_grid=False, tag="forced")
    with np.load(paths[0].parent / "per_clip.npz") as archive:
        shapes = {archive[f"{name}/mse"].shape for name in documents.predictors(document)}
        model, last = archive["model/mse"], archive["copy_last/mse"]
    assert shapes == {(2, 1, 4)} and not np.array_equal(model, last)
    assert "<h1>Teacher-forced" in paths[-1].read_text()
    assert document["protocol"]["first_scored"] == 4 and any("from frame 5 of 8" in n for n in document["notes"])
    video = build_dataset(run.config).read("test", np.arange(2), np.zeros(2, np.int64), 8)["video"] / 255.0
    np.testing.assert_allclose(last[:, 0], np.mean((video[:, 3:-1] - video[:, 4:]) ** 2, (2, 3, 4)), rtol=1e-5)


def test_a_stopped_evaluation_resumes_with_equal_numbers(run, evaluated, monkeypatch):
    expected, folder = evaluated
    protocol, scored = evaluator.choose_protocol(run.config), []
    score, write = sharding.Team.score, journal.Journal.write

    def stop(self, number, part):
        write(self, number, part)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(journal.Journal, "write", stop)
        with pytest.raises(KeyboardInterrupt, match="stopped after 4 of 6 clips.*default-resumed; rerun the same"):
            evaluator.evaluate(run, protocol, progress=False, tag="resumed")
    monkeypatch.setattr(sharding.Team, "score", lambda team, n, batch: scored.append(n) or score(team, n, batch))
    document, paths = evaluator.evaluate(run, protocol, progress=False, save_grid=False, tag="resumed")
    assert scored == [1], "finished batches are scored again"
    for name in documents.predictors(expected):
        assert document[name] == expected[name]
    with np.load(folder / "per_clip.npz") as whole, np.load(paths[0].parent / "per_clip.npz") as resumed:
        assert set(whole.files) == set(resumed.files)
        for key in whole.files:
            np.testing.assert_array_equal(whole[key], resumed[key], err_msg=key)
    assert not (paths[0].parent / "partial").exists()


def test_two_devices_give_the_numbers_of_one(run, evaluated, monkeypatch):
    expected, folder = evaluated
    score, devices = sharding.Team.score, []
    monkeypatch.setattr(
        sharding.Team, "score", lambda team, n, batch: devices.append(team.device) or score(team, n, batch)
    )
    document, paths = evaluator.evaluate(
        run, evaluator.choose_protocol(run.config), progress=False, save_grid=False, tag="two", devices=2
    )
    assert set(devices) == {None, "CPU:1"} and document["run"]["device"].count("CPU:") == 2
    for name in documents.predictors(expected):
        for metric, summary in expected[name].items():
            np.testing.assert_allclose(document[name][metric]["curve"], summary["curve"], rtol=1e-6, atol=1e-7)
    with np.load(folder / "per_clip.npz") as one, np.load(paths[0].parent / "per_clip.npz") as two:
        for key in one.files:
            if one[key].dtype.kind == "f":
                np.testing.assert_allclose(two[key], one[key], rtol=1e-6, atol=1e-6, err_msg=key)
            else:
                np.testing.assert_array_equal(two[key], one[key], err_msg=key)


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_predicted(run, monkeypatch):
    (run.path / "eval").mkdir(exist_ok=True)
    (run.path / "eval" / "default-blocked").write_text("")
    monkeypatch.setattr(sharding.Team, "score", lambda *_: pytest.fail("a batch was scored"))
    with pytest.raises(UserError, match="cannot write into .*default-blocked"):
        evaluator.evaluate(run, evaluator.choose_protocol(run.config), progress=False, tag="blocked")


def test_a_model_is_loaded_in_the_precision_that_it_was_trained_in(run, tmp_path):
    copy = tmp_path / "tiny"
    shutil.copytree(run.path, copy, ignore=shutil.ignore_patterns("eval"))
    text = (copy / "config.yml").read_text()
    assert "precision: float32" in text
    (copy / "config.yml").write_text(text.replace("precision: float32", "precision: mixed_bfloat16"))
    model = build.load_run(copy)
    assert model.dtype_policy.name == "mixed_bfloat16" and model.layers[0].dtype_policy.name == "mixed_bfloat16"
    assert keras.mixed_precision.global_policy().name == "float32"


def test_more_metrics_beside_the_protocols(run, monkeypatch):
    """FVD and KVD share the network's passes, and all predictors those over the truth."""
    seen = []

    def network(half_pixel_centers=False):
        def logits(video):
            seen.append(len(video))
            return tf.tile(tf.reduce_mean(video, axis=[2, 3, 4])[:, :10], [1, 40])

        return logits

    monkeypatch.setattr(i3d, "graph", network)
    monkeypatch.setattr(i3d.weights, "find", lambda name: __file__)
    protocol = evaluator.choose_protocol(run.config, eval_seq_len=14, num_examples=8, metrics=("kvd", "fvd", "mse"))
    assert protocol.metrics == ("mse", "psnr", "ssim", "kvd", "fvd")
    document, paths = evaluator.evaluate(run, protocol, progress=False, save_grid=False)
    assert paths[0].parent.name == "default-len14-n8-kvd-fvd"
    kvd = document["model"]["kvd"]
    assert kvd["clips"] == 8 and kvd["interval"][0] <= kvd["mean"] <= kvd["interval"][1]
    assert document["model"]["fvd"]["mean"] is None and any("fvd of 8 clips" in note for note in document["notes"])
    predictors = len(documents.predictors(document))
    assert sum(seen) == 8 * (predictors + 1)
    with pytest.raises(UserError, match="did you mean 'kvd'"):
        evaluator.choose_protocol(run.config, metrics=("kvdd",))


def test_protocol_all_computes_what_any_protocol_on_the_data_reports(run):
    metrics = evaluator.choose_protocol(run.config, "all").metrics
    for name in ("fvd", "fvd_with_context", "kvd", "lpips_vgg", "psnr_uint8_wrap", "ssim_finn"):
        assert name in metrics
    assert "miou" not in metrics and "csi" not in metrics
    assert "fvd_with_context" in protocols.get("srvp_kth").metrics and "fvd" in protocols.get("htsr_264").metrics


def test_predictions_that_are_no_numbers_are_reported_as_such(run, tmp_path):
    broken = runs.Run.start(tmp_path, run.config)
    model = build.build_model(run.config)
    for variable in model.trainable_variables:
        variable.assign(tf.fill(variable.shape, np.nan))
    runs.save_weights(model, broken.folder("model") / "best.weights.h5")
    protocol = evaluator.choose_protocol(run.config, num_examples=2, metrics=("csi",))
    document, paths = evaluator.evaluate(broken, protocol, progress=False, save_grid=False)
    assert document["model"]["csi"]["mean"] is None and document["blank"]["csi"]["mean"] == 0
    assert document["model"]["csi"]["clips"] == 2
    assert "csi is no number, as predictions are not finite (clips: 2)." in document["notes"]
    assert document["model"]["psnr"]["mean"] is None is document["model"]["psnr"]["interval"]
    assert any("model/mse/mean (not a number)" in note for note in document["notes"])
    assert re.search(r"^model +- +- +- +-$", tables.text(tables.of_evaluation(document)), re.MULTILINE)
    with open(paths[0].parent / "per_clip.csv", encoding="utf-8") as file:
        assert {row["psnr"] for row in csv.DictReader(file) if row["predictor"] == "model"} == {"nan"}
    assert paths[-1].is_file() and not (paths[0].parent / "partial").exists()


def test_a_baseline_may_lack_the_curve_that_the_model_has(run):
    protocol = evaluator.choose_protocol(run.config, num_examples=2, metrics=("far",))
    document, paths = evaluator.evaluate(run, protocol, progress=False, save_grid=False)
    assert 0 <= document["copy_last"]["far"]["mean"] <= 1 and None not in document["copy_last"]["far"]["curve"]
    assert document["blank"]["far"]["mean"] is None and set(document["blank"]["far"]["curve"]) == {None}
    assert paths[-1].name == "report.html" and "far" in paths[-1].read_text(encoding="utf-8")


def test_data_of_files_need_a_folder(tmp_path):
    started = runs.Run.start(tmp_path, config.load("folder"))
    with pytest.raises(UserError, match=r"folder is read from files.* name their folder with --datadir"):
        evaluator.evaluate(started, evaluator.choose_protocol(started.config))


def test_metrics_of_label_maps_leave_no_folder(run):
    with pytest.raises(UserError, match=r"miou compares label maps.*choose metrics, or a protocol, without it"):
        evaluator.evaluate(run, evaluator.choose_protocol(run.config, metrics=("miou",)), progress=False)
    assert not (run.path / "eval" / "default-miou").exists()


def test_clips_that_are_too_short_leave_no_folder(tmp_path):
    for split in ("train", "validation", "test"):
        (tmp_path / "data" / split).mkdir(parents=True)
        np.save(tmp_path / "data" / split / "clip.npy", np.zeros((4, 16, 16, 1), np.uint8))
    (tmp_path / "tiny.yml").write_text(TINY)
    files = ["data.name=folder", f"data.root={tmp_path / 'data'}", "data.image_size=16", "data.channels=1"]
    settings = config.load(tmp_path / "tiny.yml", files)
    started = runs.Run.start(tmp_path / "logs", settings)
    runs.save_weights(build.build_model(settings), started.folder("model") / "best.weights.h5")
    with pytest.raises(UserError, match="has no clip of .* the longest has 4"):
        evaluator.evaluate(started, evaluator.choose_protocol(settings), progress=False)
    assert not (started.path / "eval").exists()


def test_windows_of_one_film_do_not_count_as_many_clips(run, monkeypatch):
    of_clips = evaluator.provenance.describe_clips

    def of_two_films(*arguments):
        clips = of_clips(*arguments)
        clips.sources = ["a" if n % 2 else "b" for n in range(len(clips.ids))]
        return clips

    monkeypatch.setattr(evaluator.provenance, "describe_clips", of_two_films)
    document, _ = evaluator.evaluate(
        run, evaluator.choose_protocol(run.config), progress=False, save_grid=False, tag="films"
    )
    assert "The 6 clips are cut from 2 films, and intervals count films, not clips." in document["notes"]
    for metric in ("mse", "psnr", "ssim"):
        summary = document["model"][metric]
        assert summary["sources"] == 2 and summary["clips"] == 6
        # t of one degree of freedom, 12.7, where six independent clips would have 2.57
        half = 12.706 * abs(np.subtract(*by_film(run, metric))) / 2
        assert summary["ci95"] == pytest.approx(half, rel=1e-3)


def by_film(run, metric):
    """The means of the even and of the odd clips of the evaluation above."""
    with np.load(run.path / "eval" / "default-films" / "per_clip.npz") as archive:
        values = archive[f"model/{metric}"].astype(np.float64).mean(axis=(1, 2))
    return values[::2].mean(), values[1::2].mean()


def test_clips_whose_predictions_depend_on_the_batch_keep_their_neighbours(run, monkeypatch):
    protocol = evaluator.choose_protocol(run.config)
    chosen = selection.Selection(run.config, protocol)
    around = {n: [int(i) for batch in chosen.batch_around(n) for i in batch["id"]] for n in (2, 5)}
    assert around == {2: [2, 0, 1, 3], 5: [5, 4, 0, 1]}  # the last batch is filled up from the beginning
    monkeypatch.setattr(registry.lookup("model", "convlstm_openstl"), "fewest_clips", 2)
    with pytest.raises(UserError, match="^an evaluation on 1 of the test clips is too few: convlstm_openstl pred"):
        evaluator.evaluate(run, dataclasses.replace(protocol, num_examples=1), progress=False)
