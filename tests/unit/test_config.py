"""Configuration: strict keys and types, hints, overrides, run names."""

import pathlib
import re

import pytest

from tfvp import changes, config, registry
from tfvp.errors import UserError
from tfvp.models import hierarchical

CONFIGS = pathlib.Path(__file__).parents[2] / "configs"

pytestmark = pytest.mark.smoke


def write(tmp_path, text, name="mine.yml"):
    path = tmp_path / name
    path.write_text(text)
    return path


def test_defaults_come_from_base_and_from_the_classes(tmp_path):
    loaded = config.load(write(tmp_path, "model: {name: convlstm_openstl, patch: 2}"))
    assert loaded.model.patch == 2
    assert loaded.model.hidden == [128, 128, 128, 128]
    assert loaded.train.batch_size == 16
    assert "name" not in loaded.options("model")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("train: {batch_sise: 3}", "train.batch_size"),
        ("model: {name: convlstm_openstl}\ntrain: {patch: 3}", "model.patch"),
        ("modle: {name: x}", "did you mean 'model'"),
        ("model: {name: convlstm_openst}", "did you mean 'convlstm_openstl'"),
        ("train: {batch_size: many}", "must be an integer"),
        ("train: {batch_size: 2.5}", "must be an integer"),
        ("train: {batch_size: true}", "must be an integer"),
        ("train: {xla: 1}", "must be true or false"),
        ("train: {learning_rate: fast}", "must be a number"),
        ("train: {schedule: cosin}", "did you mean 'cosine'"),
        ("model: {name: convlstm_openstl, hidden: 128}", "must be a list of an integer"),
        ("model: {name: convlstm_openstl, hidden: [a]}", r"model.hidden\[0\] must be an integer"),
        ("model: {name: convlstm_keras, recurrent_activation: sigmod}", "did you mean 'sigmoid'"),
        ("train: 3", "section 'train' must hold keys"),
        ("- 1", "must be a mapping"),
        ("train: {seed: 1, seed: 2}", "given twice"),
        ("train: {seed: 1", "not valid YAML"),
        ("train: !!python/object/apply:os.system [ls]", "not valid YAML"),
    ],
)
def test_wrong_configurations_get_a_sentence(tmp_path, text, expected):
    path = write(tmp_path, text)
    with pytest.raises(UserError, match=expected) as raised:
        config.load(path)
    assert str(path) in str(raised.value)


def test_a_missing_file_names_the_nearest(tmp_path):
    write(tmp_path, "", "kth.yml")
    with pytest.raises(UserError, match="did you mean 'kth.yml'"):
        config.load(tmp_path / "kht.yml")


def test_overrides_are_yaml_and_checked(tmp_path):
    path = write(tmp_path, "train: {learning_rate: 3e-4}")
    loaded = config.load(
        path, ["train.batch_size=8", "data.root=/data/mnist", "model.hidden=[8, 8]", "train.learning_rate=1"]
    )
    assert (loaded.train.batch_size, loaded.data.root, loaded.model.hidden) == (8, "/data/mnist", [8, 8])
    assert isinstance(loaded.train.learning_rate, float)
    assert config.load(path).train.learning_rate == 3e-4
    for wrong in ("batch_size=8", "train.batch_size", "train.batch_size=x", "train.batchsize=8"):
        with pytest.raises(UserError):
            config.load(path, [wrong])


def test_saved_configurations_load_as_they_were(tmp_path):
    loaded = config.load(write(tmp_path, "model: {name: convlstm_keras}"), ["data.image_size=[32, 48]"])
    loaded.save(tmp_path / "config.yml")
    again = config.load(tmp_path / "config.yml")
    assert again.to_dict() == loaded.to_dict() and again.name == "mine"
    config.load(tmp_path / "config.yml", name="1e3").save(tmp_path / "config.yml")
    assert config.load(tmp_path / "config.yml").name == "1e3"
    for name in ("2024", "2024-01-01", "1e3"):
        assert config.load(write(tmp_path, f"name: {name}\nmodel: {{name: convlstm_keras}}", "x.yml")).name == name
    assert changes.differences(loaded, again) == []
    other = config.load(tmp_path / "config.yml", ["train.seed=5"])
    assert changes.differences(loaded, other) == ["train.seed: 1 -> 5"]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("configs/kth.yml", "kth"),
        ("./configs/svg/smmnist.yml", "svg_smmnist"),
        ("/x/configs/a/b.yml", "a_b"),
        ("own.yml", "own"),
    ],
)
def test_run_names(path, name):
    assert config.run_name(path) == name


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.yml")), ids=lambda p: str(p.relative_to(CONFIGS)))
def test_every_shipped_configuration_is_valid(path):
    loaded = config.load(path)
    assert loaded.model.name in registry.names("model")
    if path.name != "base.yml":
        header = path.read_text().split("\n\n")[0]
        assert header.startswith("#") and "python" in header, f"{path} does not begin with its command"
        assert "not yet measured" in header or "Expect" in header, f"{path} does not say what to expect"


@pytest.mark.parametrize("name", ["svg/smmnist", "svg/smmnist.yml", pathlib.PurePath("svg/smmnist")])
def test_shipped_configurations_have_names(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    loaded = config.load(name)
    assert loaded.name == "svg_smmnist" and loaded.model.latents == 10
    assert "svg/smmnist" in config.shipped() and "base" not in config.shipped()


def test_a_file_wins_over_a_shipped_configuration_and_a_folder_does_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "kth").mkdir()
    assert config.find("kth") == CONFIGS / "kth.yml"
    write(tmp_path, "train: {seed: 5}", "kth.yml")
    assert config.load("kth.yml").train.seed == 5 and config.load("kth").train.seed == 1


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("smmnist", "'svg/smmnist'"),
        ("svg/smnist", "'svg/smmnist'"),
        ("tiny", "'iam4vp/tiny' or 'simvp/tiny' or 'svg/tiny'"),
        ("./configs/kth.yml", "'kth'"),
        ("kth.yaml", "'kth'"),
    ],
)
def test_an_unknown_name_gets_the_nearest(name, nearest, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=re.escape(f"did you mean {nearest}")):
        config.load(name)


@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("coder", 64, "model.structure.coder: 64 is none of auto, 64, 128, 256, 128x256 (did you mean '64'?)"),
        ("initializer", "glorot", "model.structure.initializer: 'glorot' is none of normal, he"),
        ("refresh_skips", "no", "model.structure.refresh_skips must be true or false, not 'no' (str)"),
        ("context", 2.5, "model.structure.context must be an integer, not 2.5 (float)"),
        ("beta", "1", "model.structure.beta must be a number, not '1' (str)"),
    ],
)
def test_options_within_an_option_are_checked_alike(option, value, sentence):
    with pytest.raises(UserError, match=f"^{re.escape(sentence)}$"):
        hierarchical.make_structure((16, 16, 4), {"classes": 3, option: value})
