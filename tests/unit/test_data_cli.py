"""data_loader.py: what it prints, what it draws, and how it fails."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import data_loader
from tests import golden, layouts
from tfvp import video_io
from tfvp.datasets import base
from tfvp.errors import UserError
from tfvp.pipeline import overview


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    measure = overview.speed
    monkeypatch.setattr(overview, "speed", lambda dataset, config: measure(dataset, config, seconds=0.1))
    base._printed.clear()


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["data_loader.py", *map(str, arguments)])
    data_loader.main()
    return capsys.readouterr().out


def write_config(tmp_path, text):
    (tmp_path / "c.yml").write_text(text)
    return tmp_path / "c.yml"


def test_generated_data(tmp_path, monkeypatch, capsys):
    sheet = tmp_path / "sheet.png"
    said = run(monkeypatch, capsys, "--config", golden.ROOT / "configs" / "demo.yml", "--out", sheet, "--check")
    for expected in ("moving_mnist:", "10,000", "2,000", "ship with tfvp", "mnist_test_seq.npy", "32x32", "frames/s"):
        assert expected in said
    assert "nothing is stored that could be checked" in said
    image = np.asarray(Image.open(sheet))
    assert image.ndim == 3 and image[:, 100:].max() == 255 and (image == 0).mean() > 0.3


def test_files(tmp_path, monkeypatch, capsys):
    root = tmp_path / "videos"
    layouts.write_folder(root, [f"{i}.avi" for i in range(9)], frames=20)
    (root / "3.avi").write_bytes(b"broken")
    config = golden.ROOT / "configs" / "folder.yml"
    arguments = ("--config", config, "--set", f"data.root={root}", "train.seq_len=10", "--out", tmp_path / "s.png")
    said = run(monkeypatch, capsys, *arguments)
    assert "1 of 9 files of folder cannot be read" in said and "3.avi" in said and f"9 files in {root}" in said
    assert "2 files checked: all are as they were written" in run(monkeypatch, capsys, *arguments, "--check")
    shard = next(root.rglob("shard-*.npy"))
    content = bytearray(shard.read_bytes())
    content[-1] ^= 255
    shard.write_bytes(content)
    with pytest.raises(UserError, match="sha256"):
        run(monkeypatch, capsys, *arguments, "--check")


def test_the_contact_sheet_is_not_drawn_among_the_frames(tmp_path, monkeypatch, capsys):
    frames = layouts.marked_clip(0, 90)
    for i, frame in enumerate(frames):
        video_io.write_video(tmp_path / "videos" / f"{i}.png", frame[None])
    (tmp_path / "videos" / "deeper").mkdir()
    arguments = ["--config", golden.ROOT / "configs" / "folder.yml", "--set", "data.gap=0", "train.seq_len=4"]
    for place, root in (("videos", "."), ("videos/deeper", "..")):
        monkeypatch.chdir(tmp_path / place)
        said = run(monkeypatch, capsys, *arguments, f"data.root={root}")
        assert "1 film is cut by time into train, validation, test" in said
        assert (tmp_path / "videos" / ".tfvp" / "contact_sheet.png").is_file() and "contact sheet: " in said
        assert not list(tmp_path.glob("videos/contact*")) + list(tmp_path.glob("videos/deeper/*"))
        with pytest.raises(UserError, match=r"^my\.png lies in data\.root, .* in another folder with --out"):
            run(monkeypatch, capsys, *arguments, f"data.root={root}", "--out", "my.png")
    monkeypatch.chdir(tmp_path)
    assert "contact sheet: contact_sheet.png" in run(monkeypatch, capsys, *arguments, "data.root=videos")
    assert (tmp_path / "contact_sheet.png").is_file()


@pytest.mark.parametrize("setting", ["data.frame_stride=0", "train.batch_size=0", "train.seq_len=0"])
def test_numbers_that_training_refuses_are_refused(tmp_path, monkeypatch, capsys, setting):
    name, value = setting.split("=")
    with pytest.raises(UserError, match=rf"{name}={value} (must be greater than 0|is too short)"):
        run(monkeypatch, capsys, "--config", golden.ROOT / "configs" / "demo.yml", "--set", setting)


def test_clips_that_are_too_short(tmp_path, monkeypatch, capsys):
    layouts.write_folder(tmp_path / "videos", [f"{i}.npy" for i in range(4)], frames=6)
    config = write_config(tmp_path, f"data: {{name: folder, root: {tmp_path}/videos}}\ntrain: {{seq_len: 30}}\n")
    with pytest.raises(UserError, match="the longest has 9; lower train.seq_len"):
        run(monkeypatch, capsys, "--config", config, "--out", tmp_path / "s.png")


def test_a_config_with_a_wrong_option(tmp_path, monkeypatch, capsys):
    config = write_config(tmp_path, "data: {name: kth, resise: area}\n")
    with pytest.raises(UserError, match="did you mean 'data.resize'"):
        run(monkeypatch, capsys, "--config", config)
    config = write_config(tmp_path, "data: {name: kth, resize: crop}\n")
    with pytest.raises(UserError, match="'crop' is none of squash, area"):
        run(monkeypatch, capsys, "--config", config)


def test_the_command_fails_with_one_sentence(tmp_path):
    config = write_config(tmp_path, "data: {name: kth}\n")
    command = [sys.executable, str(golden.ROOT / "data_loader.py"), "--config", str(config)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "walking, jogging, running" in lines[0] and "data.root" in lines[0]
    assert "25 persons" in done.stdout and not list(tmp_path.glob("*.png"))
