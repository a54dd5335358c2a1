"""Trained models: found by name, checked, the same numbers as on their cards, a start for other trainings."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import yaml

import tfvp
from tests.golden import ROOT
from tfvp import cli, config, files, video_io
from tfvp import run as runs
from tfvp.errors import UserError
from tfvp.models import named_weights
from tfvp.models.build import make_model
from tfvp.prediction import publish
from tfvp.training import initial
from tfvp.zoo import shelf

SHIPPED = sorted(path.parent.name for path in shelf.SHIPPED.glob("*/card.yml"))
LARGEST = 60 * 2**20  # bytes of all of them, so that the wheel stays small
QUICK = "convlstm-mmnist-32"


def test_some_come_with_the_package():
    assert QUICK in SHIPPED
    assert sum(path.stat().st_size for path in shelf.SHIPPED.rglob("*") if path.is_file()) < LARGEST


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_model_is_what_its_card_says(name):
    entry = shelf.find(name)
    card, folder = entry.card, entry.path
    settings = config.load(folder / "config.yml")
    assert settings.name == card["name"] == name and settings.model.name == card["model"]
    assert card["limits"] and card["licence"]["weights"] and card["licence"]["data"]
    assert card["source"]["files"] if card["training"] == "imported" else card["training"]["steps"]
    assert not settings.data.root and settings.data.name == card["data"]
    assert (folder / shelf.WEIGHTS).stat().st_size == card["weights"]["bytes"]
    assert card["weights"]["rounding"] <= 1e-3
    assert all(np.isfinite(array).all() for array in named_weights.read(folder / shelf.WEIGHTS).values())
    assert set(card["evaluation"]["scores"]["model"]) >= {"psnr", "ssim"}


@pytest.fixture(scope="module")
def quick():
    return tfvp.load_pretrained(QUICK)


@pytest.mark.slow
def test_a_model_that_observes_label_maps_predicts_a_clip_of_its_data_set(tmp_path, capsys):
    cli.execute(
        ["predict", "--model", "hierarchical-shapes-32", "--horizon", "3", "--out", str(tmp_path / "future.npy")]
    )
    assert "true frames follow frame" in capsys.readouterr().out
    assert np.load(tmp_path / "future.npy").shape == (3, 32, 32, 4)  # colours and label maps
    run = shelf.run_of("hierarchical-shapes-32", tmp_path)
    with pytest.raises(UserError, match="leave --clip out"):
        publish.publish(run, "mine", tmp_path / "zoo", clip=True)


@pytest.mark.slow
def test_the_command_reproduces_a_card(tmp_path):
    """To the digit on the stack that wrote the card, and within .1 % on the other; with LPIPS where it is installed."""
    cli.execute(["evaluate", "--model", QUICK, "--logdir", str(tmp_path), "--no-save-grid"])
    document = json.loads((tmp_path / QUICK / "eval" / "default" / "metrics.json").read_text(encoding="utf-8"))
    card = shelf.find(QUICK).card["evaluation"]
    same = document["run"]["versions"]["tensorflow"] == card["versions"]["tensorflow"]
    compared = 0
    for predictor, scores in card["scores"].items():
        for metric, score in scores.items():
            if metric in document[predictor]:
                mean = document[predictor][metric]["mean"]
                assert mean == pytest.approx(score["mean"], rel=1e-6 if same else 1e-3), (predictor, metric)
                compared += 1
    assert compared >= 12


@pytest.mark.smoke
def test_a_shipped_model_predicts_its_clip(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cli.execute(["predict", "--model", QUICK, "--horizon", "12", "--out", "future.npy"])
    future = np.load(tmp_path / "future.npy")
    assert future.shape == (12, 32, 32, 1) and future.max() > 100


def test_names_are_those_of_attributes(quick):
    assert list(named_weights.named(quick)) == [
        "output_conv/kernel",
        "recurrent/00/kernel",
        "recurrent/00/recurrent_kernel",
        "recurrent/01/kernel",
        "recurrent/01/recurrent_kernel",
    ]


def test_depthwise_kernels_are_called_alike_under_both_versions_of_keras():
    """Keras 2 calls them depthwise_kernel."""
    settings = config.load(shelf.SHIPPED / "simvp-mmnist-32" / "config.yml")
    names = set(named_weights.named(make_model(settings, settings.frame_shape)))
    kept = set(named_weights.read(shelf.SHIPPED / "simvp-mmnist-32" / shelf.WEIGHTS))
    assert names == kept and any(name.endswith("wide/kernel") for name in names)


def test_damage_and_wrong_names_get_a_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TFVP_ZOO", str(tmp_path))
    shutil.copytree(shelf.SHIPPED / QUICK, tmp_path / "mine")
    weights = tmp_path / "mine" / shelf.WEIGHTS
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.write_bytes(data)
    with pytest.raises(UserError, match="weights of mine are damaged"):
        tfvp.load_pretrained("mine")
    with pytest.raises(UserError, match=f"did you mean '?{QUICK}"):
        tfvp.load_pretrained("convlstm-mmnist-23")
    for text, reason in (("- no card", "list indices"), ("title: x", "it has no weights"), ("a: [", "while parsing")):
        (tmp_path / "mine" / "card.yml").write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match=rf"mine/card.yml cannot be read \({reason}.*; remove the folder"):
            shelf.find("mine")
    assert shelf.find(QUICK).name == QUICK, "which another's card does not concern"
    cli.execute(["list", "trained"])
    cli.execute(["list", "trained", "mine"])
    said = " ".join(capsys.readouterr().out.split())
    assert said.count("mine/card.yml cannot be read") == 2 and QUICK in said


def test_another_model_s_run_is_not_overwritten(tmp_path):
    run = shelf.run_of(QUICK, tmp_path)
    assert run.config.name == QUICK and shelf.run_of(QUICK, tmp_path).path == run.path
    (run.path / shelf.WEIGHTS).write_bytes(b"trained on")
    with pytest.raises(UserError, match="holds another model"):
        shelf.run_of(QUICK, tmp_path)


def test_training_starts_from_a_trained_model(quick):
    settings = config.load("demo", [f"train.initial_weights={QUICK}", "train.initial_weights_skip=['output_*']"])
    model = tfvp.build_model(settings)
    fresh = np.array(named_weights.named(model)["output_conv/kernel"])
    initial.start_from(settings.train, model)
    for name, variable in named_weights.named(model).items():
        wanted = fresh if name == "output_conv/kernel" else np.array(named_weights.named(quick)[name])
        np.testing.assert_array_equal(np.array(variable), wanted)


def test_published_configurations_name_no_place_on_this_machine(tmp_path):
    started = [f"train.initial_weights={tmp_path}", "train.initial_weights_skip=['output_*']"]
    published = publish._portable(config.load("demo", started), "x").train
    assert published.initial_weights == "" and published.initial_weights_skip == []
    published = publish._portable(config.load("demo", [f"train.initial_weights={QUICK}"]), "x").train
    assert published.initial_weights == QUICK


def test_every_variable_that_does_not_fit_is_named():
    settings = config.load("demo", [f"train.initial_weights={QUICK}", "model.hidden=[64, 32]"])
    with pytest.raises(UserError, match=r"recurrent/01/kernel is \[3, 3, 64, 128\] here and \[3, 3, 64, 256\]"):
        initial.start_from(settings.train, tfvp.build_model(settings))
    settings = config.load("demo", [f"train.initial_weights={QUICK}", "train.initial_weights_skip=[encoder/*]"])
    with pytest.raises(UserError, match="'encoder/.' fits no variable"):
        initial.start_from(settings.train, tfvp.build_model(settings))
    with pytest.raises(UserError, match="names no weights"):
        initial.check(config.load("demo", ["train.initial_weights_skip=[x]"]).train)


@pytest.mark.slow
def test_a_run_is_published_and_found(tmp_path, monkeypatch):
    monkeypatch.setenv("TFVP_ZOO", str(tmp_path / "zoo"))
    run = shelf.run_of(QUICK, tmp_path / "logs")
    values = yaml.safe_load((run.path / "config.yml").read_text(encoding="utf-8"))
    values["eval"] |= {"num_examples": 4, "metrics": ["psnr"], "weights": "last"}
    (run.path / "config.yml").write_text(yaml.safe_dump(values), encoding="utf-8")
    arguments = ["--logdir", str(run.path), "--name", "my-own", "--title", "Mine", "--clip"]
    cli.execute(["publish", *arguments])
    entry = shelf.find("my-own")
    assert entry.path == tmp_path / "zoo" / "my-own" and entry.card["title"] == "Mine"
    assert entry.card["weights"]["dtype"] == "float16" and entry.card["weights"]["rounding"] == 0.0
    assert entry.card["evaluation"]["clips"] == 4
    assert 15 < entry.card["evaluation"]["scores"]["model"]["psnr"]["mean"] < 22
    assert config.load(entry.path / "config.yml").eval.weights == "best", "which are published"
    frames = video_io.read_video(entry.clip, channels=1)
    np.testing.assert_array_equal(frames, video_io.read_video(shelf.find(QUICK).clip, channels=1))
    for wrong, sentence in (("My Own", "lower-case letters"), ("my-own", "exists")):
        with pytest.raises(UserError, match=sentence):
            cli.execute(["publish", *arguments[:3], wrong])


def test_a_card_has_metrics_without_a_mean():
    """far of forecasts without an alarm, or fvd of a few clips, and the command needs the folder of the files."""
    summaries = {"psnr": {"mean": 20.0, "ci95": 1.0}, "far": {"mean": None}}
    facts = dict.fromkeys(
        ("name", "split", "context", "seq_len", "clips", "samples", "commit", "processor", "versions")
    )
    before, after = ({"protocol": facts, "run": facts, "model": dict(summaries)} for _ in range(2))
    after["model"]["psnr"] = {"mean": 20.1}
    assert publish._largest_change(before, after) == pytest.approx(0.005)
    assert publish._largest_change({"model": {"far": {"mean": None}}}, {"model": {"far": {"mean": None}}}) == 0
    assert publish._largest_change({"model": {"far": {"mean": 0.1}}}, {"model": {"far": {"mean": None}}}) == np.inf
    kept = publish._evaluation(before, "mine", True)
    assert kept["scores"]["model"]["far"] == {"mean": None, "ci95": None}
    assert kept["command"] == "tfvp evaluate --model mine --datadir DATA"
    assert publish._evaluation(before, "mine", False)["command"] == "tfvp evaluate --model mine"


def test_the_next_command_finds_what_was_published(tmp_path, monkeypatch, capsys):
    zoo, card = tmp_path / "my zoo", {"weights": {"bytes": 1, "dtype": "float16"}}
    monkeypatch.setattr(publish, "publish", lambda *_: shelf.Trained("mine", zoo / "mine", card))  # tested above
    for place, command in ((zoo, "tfvp"), (tmp_path, f"TFVP_ZOO='{zoo.resolve()}' tfvp")):
        monkeypatch.setenv("TFVP_ZOO", str(place))
        cli.execute(["publish", "--logdir", str(shelf.SHIPPED / QUICK), "--name", "mine", "--zoo", str(zoo)])
        assert f"next: {command} predict --model mine" in capsys.readouterr().out


@pytest.mark.parametrize(
    "name, told, sentence",
    [
        ("hierarchical/kitti_structure", "--test-clip 0 --datadir '{}'", "observes label maps, which a video has not;"),
        ("svg/kth", "--video clip.mp4", "name a video with --video, or the folder of its data set, kth, with"),
    ],
)
def test_a_model_of_files_says_what_it_can_be_given(tmp_path, monkeypatch, capsys, name, told, sentence):
    monkeypatch.setenv("TFVP_ZOO", str(tmp_path / "zoo"))
    folder, data = tmp_path / "zoo" / "mine", tmp_path / "my data"
    run = runs.Run.start(tmp_path / "logs", config.load(name, [f"data.root={data}"]))
    (folder / "model").mkdir(parents=True)
    (folder / shelf.WEIGHTS).write_bytes(b"weights")
    card = {"title": "x", "weights": {"bytes": 1, "dtype": "float16", "sha256": files.sha256(folder / shelf.WEIGHTS)}}
    (folder / shelf.CARD).write_text(yaml.safe_dump(card), encoding="utf-8")
    publish._portable(run.config, "mine").save(folder / "config.yml")
    monkeypatch.setattr(publish, "publish", lambda *_: shelf.find("mine"))
    cli.execute(["publish", "--logdir", str(run.path), "--name", "mine"])
    assert capsys.readouterr().out.endswith(f"next: tfvp predict --model mine {told.format(data)}\n")
    with pytest.raises(UserError, match=f"no clip comes with mine.*{sentence}.* --datadir"):
        cli.execute(["predict", "--model", "mine"])


@pytest.mark.parametrize(
    "words, kept",
    [
        (["--config", "/home/me/x.yml", "--logdir", "/home/me/logs"], "--config x.yml"),
        (
            ["--config=./x.yml", "--set", "data.root=/home/me", "train.epochs=2"],
            "--config ./x.yml --set train.epochs=2",
        ),
        (["--config", "demo", "--set", "train.initial_weights=~/old", "data.cache='/me'"], "--config demo"),
        (["/home/me/film.mp4", "--structure", "/home/me/run", "--name", "a"], "--name a"),
    ],
)
def test_the_command_on_a_card_names_no_folder_of_this_machine(words, kept):
    assert publish._command(["tfvp", "train", *words]) == f"tfvp train {kept}"


def test_a_clip_that_stands_still_keeps_its_frames(tmp_path):
    frames = np.repeat(np.random.default_rng(0).integers(0, 256, (3, 16, 16, 1)), 2, axis=0).astype(np.uint8)
    for split in ("train", "validation", "test"):
        (tmp_path / "own" / split).mkdir(parents=True)
        np.save(tmp_path / "own" / split / "still.npy", frames)
    data = {"name": "folder", "root": str(tmp_path / "own"), "channels": 1, "image_size": 16}
    settings = config.from_dict({"data": data, "eval": {"open_loop_ctx": 4, "eval_seq_len": 6}})
    publish._save_clip(tmp_path, settings)
    np.testing.assert_array_equal(video_io.read_video(shelf.Trained("still", tmp_path, {}).clip), frames)


def test_a_list_of_trained_models_needs_no_tensorflow():
    code = "import sys; from tfvp import cli; cli.execute(['list', 'models', '--trained']);"
    code += "print('tensorflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert QUICK in done.stdout and done.stdout.strip().endswith("False")
