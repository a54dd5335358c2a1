"""The five steps of hierarchical video prediction, from generated label maps to rendered video."""

import json
import shutil

import numpy as np
import pytest
import yaml

from tfvp import config, registry, video_io, weights
from tfvp import run as runs
from tfvp.errors import UserError
from tfvp.layers import vgg
from tfvp.models.build import resolve
from tfvp.prediction import predict_labels, render_labels
from tfvp.training import loop

pytestmark = pytest.mark.usefixtures("plain_graphs")

STRUCTURE = {"classes": 5, "width": 4, "code_size": 8, "latents": 2, "rnn_size": 8}
SHARED = {
    "data": {"name": "shapes", "labels": "true", "image_size": 16, "channels": 3, "clip_length": 16},
    "eval": {"open_loop_ctx": 5, "eval_seq_len": 11, "num_examples": 4, "metrics": ["miou", "miou_frame", "psnr"]},
}
TRAIN = {
    "epochs": 1,
    "steps_per_epoch": 2,
    "batch_size": 2,
    "seq_len": 9,
    "validation_examples": 2,
    "monitor": "val_loss",
}


def train(logdir, name, model, **settings):
    values = {"model": model, **SHARED, "train": {**TRAIN, **settings}}
    return loop.train(config.from_dict(values, name), logdir)


def image_options(**changes):
    options = {"window": 3, "chunk": 3, "width": 4, "blocks": 1, "discriminator_width": 4, "foreground": [1]}
    options |= {"double_every": 2, "temporal_scales": 0}
    return {"name": "hierarchical", "structure": STRUCTURE, "perceptual": "off", **options, **changes}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(run of the structure generator, run of the pair, whose second epoch renders twice as far as its first)."""
    logdir = tmp_path_factory.mktemp("logs")
    first = train(logdir, "structure", {"name": "hierarchical_structure", **STRUCTURE})
    second = train(
        logdir,
        "image",
        image_options(structure_run=str(first.path)),
        schedule="linear",
        optimizer_options={"beta_1": 0.5},
        epochs=2,
    )
    return first, second


def test_the_pair_takes_the_structure_over(trained):
    import tfvp

    first, second = (tfvp.load_run(run.path) for run in trained)
    for ours, theirs in zip(second.structure.variables, first.variables, strict=True):
        np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))


def test_label_maps_are_predicted_and_rendered(trained, tmp_path):
    first, second = trained
    older = [
        f"clip_0000{place}.png" for place in ("1/sample_00001/000025", "1/sample_00003/000000", "9/sample_00000/0")
    ]
    for name in older:
        path = first.path / "structures" / "test" / name
        path.parent.mkdir(parents=True)
        path.touch()
    folder = predict_labels.extract(first, horizon=20, samples=2, num_examples=2, progress=lambda line: None)
    assert not any((folder / name).exists() for name in older)
    index = json.loads((folder / "index.json").read_text())
    assert index["clips"] == 2 and index["horizon"] == 20
    assert index["protocol"] == "default" and index["windows"]["clip_00001"] == {
        "clip": 1,
        "start": 0,
        "true_frames": 16,
    }
    assert index["refresh_predicted_skips"] is True
    labels = [predict_labels.read_label_maps(folder / "clip_00001" / f"sample_0000{n}") for n in range(3)]
    assert [len(sample) for sample in labels] == [16, 25, 25] and max(sample.max() for sample in labels) < 5
    for sample in labels[1:]:
        np.testing.assert_array_equal(sample[:5], labels[0][:5])
    (folder / "clip_00009").mkdir()
    said = []
    earlier = second.path / "painted" / "test" / "clip_00001" / "sample_00003.gif"
    earlier.parent.mkdir(parents=True)
    earlier.touch()
    rendered = render_labels.render(second, folder.parent, "gif", progress=said.append)
    assert len(said) == 2
    names = {path.relative_to(rendered).as_posix() for path in rendered.rglob("*.gif")}
    assert names == {f"clip_0000{clip}/sample_0000{sample}.gif" for clip in range(2) for sample in range(3)}
    video = video_io.read_video(rendered / "clip_00001" / "sample_00002.gif")
    assert video.shape == (25, 16, 16, 3)
    with pytest.raises(UserError, match="rendering needs one of hierarchical"):
        render_labels.render(first, folder)
    with pytest.raises(UserError, match="no index.json"):
        render_labels.render(second, tmp_path)


def test_clips_of_any_length_have_predicted_label_maps(trained, tmp_path, monkeypatch):
    copy = runs.Run(shutil.copytree(trained[0].path, tmp_path / "structure"))
    copy.config.data.frame_stride = 2
    lengths = np.array([11, 9, 8, 16])  # of every second frame 6, 5, 4 and 8, and 5 are observed
    monkeypatch.setattr(registry.lookup("dataset", "shapes"), "clip_lengths", lambda self, split: lengths)
    folder = predict_labels.extract(copy, horizon=2, samples=1, progress=lambda line: None)
    windows = json.loads((folder / "index.json").read_text())["windows"]
    assert {name: window["true_frames"] for name, window in windows.items()} == {
        "clip_00000": 6,
        "clip_00001": 5,
        "clip_00003": 7,
    }
    for name, window in windows.items():
        assert len(list((folder / name / "sample_00000").iterdir())) == window["true_frames"]
        assert len(list((folder / name / "sample_00001").iterdir())) == 7


def test_rendering_in_chunks_is_rendering_at_once(trained, monkeypatch):
    import tfvp

    model = tfvp.load_run(trained[1].path)
    random = np.random.default_rng(0)
    observed, labels = random.uniform(size=(2, 16, 16, 3)).astype(np.float32), random.integers(0, 5, (15, 16, 16))
    whole = render_labels.render_clip(model, observed, labels)
    monkeypatch.setattr(render_labels, "CHUNK", 4)
    parts = render_labels.render_clip(model, observed, labels)
    assert np.abs(whole.astype(int) - parts.astype(int)).max() <= 1 and whole.shape == (15, 16, 16, 3)


def test_the_pair_is_evaluated_with_and_without_labels(trained, here):
    status, _, errors = here("eval_with_lpips.py", "--logdir", trained[1].path, "--num-samples", 2)
    assert status == 0, errors
    document = json.loads((trained[1].path / "eval" / "default-s2" / "metrics.json").read_text())
    for predictor in ("model", "copy_last"):
        assert 0 < document[predictor]["miou"]["mean"] <= 1 and len(document[predictor]["miou"]["curve"]) == 6
    assert "miou" not in document["mean_context"] and document["mean_context"]["psnr"]["mean"] > 0
    assert document["model"]["miou_frame"]["best"]["mean"] >= document["model"]["miou_frame"]["mean"]


def test_resuming_keeps_the_discriminators_optimizers(tmp_path, trained):
    whole_run = trained[1]
    ignored = shutil.ignore_patterns("eval", "painted", "tensorboard")
    shutil.copytree(whole_run.path, tmp_path / "image", ignore=ignored)
    sorted((tmp_path / "image" / "backup").iterdir())[-1].unlink()  # as if killed in the second epoch
    resumed = loop.train(config.from_dict(whole_run.config.to_dict(), "image"), tmp_path)
    whole, parts = (runs.Run(run.path).read_metrics()[-1] for run in (whole_run, resumed))
    assert whole["step"] == parts["step"] == 4
    # Adversaries amplify rounding, so weights are no measure. A discriminator that began anew has d_image .96, not .64.
    for term in ("loss", "gan", "feature", "d_image", "grad_norm"):
        assert parts[term] == pytest.approx(whole[term], rel=0.1), term


def test_what_does_not_fit_is_refused(tmp_path, trained):
    with pytest.raises(UserError, match="structure_run is empty"):
        train(tmp_path, "a", image_options())
    other = {**STRUCTURE, "rnn_size": 6}
    with pytest.raises(UserError, match="rnn_size=8 there, 6 here"):
        train(tmp_path, "b", image_options(structure=other, structure_run=str(trained[0].path)))
    with pytest.raises(UserError, match="unknown option 'rnn_siz'.*rnn_size"):
        train(tmp_path, "c", image_options(structure={"rnn_siz": 6}))
    with pytest.raises(UserError, match="train.seq_len=4 is too short"):
        train(tmp_path, "d", image_options(structure_run=str(trained[0].path)), seq_len=4, validation_seq_len=9)
    with pytest.raises(UserError, match="data.labels=none provides none"):
        values = {"model": {"name": "hierarchical_structure", **STRUCTURE}, **SHARED, "train": TRAIN}
        values["data"] = {**values["data"], "labels": "none"}
        loop.train(config.from_dict(values, "e"), tmp_path)
    with pytest.raises(UserError, match="moving_mnist does not provide"):
        values["data"] = {"name": "moving_mnist", "channels": 3}
        loop.train(config.from_dict(values, "f"), tmp_path)


def test_the_perceptual_loss_needs_vgg16_or_is_left_out_in_writing(tmp_path, trained, monkeypatch):
    options = image_options(structure_run=str(trained[0].path))
    variable, missing = weights.variable(vgg.WEIGHTS), tmp_path / "none.npz"
    monkeypatch.setenv(variable, str(missing))
    vgg.layers.cache_clear()
    with pytest.raises(UserError, match="perceptual=vgg16: .*none.npz is not a file.*or set model.perceptual=off"):
        train(tmp_path, "a", {**options, "perceptual": "vgg16"})
    assert not (tmp_path / "a").exists()
    monkeypatch.setattr(loop, "_fit", lambda *args: None)
    written = train(tmp_path, "b", {**options, "perceptual": "auto"}).path / "config.yml"
    assert yaml.safe_load(written.read_text())["model"]["perceptual"] == "off"
    missing.touch()
    values = {"model": {**options, "perceptual": "auto"}, **SHARED, "train": TRAIN}
    assert resolve(config.from_dict(values, "c")).model.perceptual == "vgg16"
