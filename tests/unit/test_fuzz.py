"""400 malformed configurations and 200 malformed media files: each gets a sentence or works, none hangs."""

import pathlib
import random
import shutil
import time

import numpy as np
import pytest
import yaml

from tests.golden import ROOT
from tfvp import config, video_io
from tfvp.datasets.build import build_dataset
from tfvp.errors import UserError
from tfvp.models.build import make_model
from tfvp.training import checks

CONFIGS, PARTS, FILES = 400, 2, 200
# Seconds to make, and like shapes_image otherwise.
LARGE = ("kitti_image", "kitti_256_image", "cityscapes_image", "pose_image")
SLOWEST = 10.0  # seconds of this thread, whatever else the machine is doing
CHARACTERS = " \t\n:-[]{}#&*!|>'\"%@`,?0aé\x00\x07\ud83d"
# Sizes stay small: whether 10**9 channels fit into memory is not what is asked here.
VALUES = [None, True, -1, 0, 1, 2, 3, 7, 0.5, -0.1, float("nan"), float("inf"), "", "x", "3", [], [0], [3, 4], ["a"]]
VALUES += [{}, {"a": 1}, [[1]], [-1, 8], [8, 8, 8], "../..", 2**40, -(2**70), "2026-11-21", [None], {"name": "svg"}]
MODEL_VALUES = [value for value in VALUES if value != 2**40]


def mangled_text(text, pick):
    """A configuration file as bytes, damaged in one to six places."""
    data = list(text)
    for _ in range(pick.randint(1, 6)):
        at = pick.randrange(len(data))
        kind = pick.randrange(4)
        if kind == 0:
            data[at] = pick.choice(CHARACTERS)
        elif kind == 1:
            data.insert(at, pick.choice(CHARACTERS))
        elif kind == 2:
            del data[at : at + pick.randint(1, 30)]
        else:
            data[at:at] = data[max(0, at - 40) : at]
        data = data or [" "]
    return "".join(data).encode("utf-8", "surrogatepass")


def mangled_values(values, pick):
    """A configuration with one to three keys or values that are others."""
    for _ in range(pick.randint(1, 3)):
        section = pick.choice(list(values))
        options = values[section]
        if not isinstance(options, dict) or not options:
            continue
        key = pick.choice([k for k in options if k != "name"] or list(options))
        kind = pick.randrange(5)
        if kind == 0:
            options[key[:-1] + pick.choice("xyz")] = options.pop(key)
        elif kind == 1:
            values[section] = pick.choice(VALUES)
        elif kind == 2:
            other = pick.choice(["model", "data", "train", "eval", "trian"])
            values[other] = {**values[other], key: options[key]} if isinstance(values.get(other), dict) else options
        else:
            options[key] = pick.choice(MODEL_VALUES if section == "model" else VALUES)
        values = {k: v for k, v in values.items() if isinstance(v, dict)} if pick.random() < 0.7 else values
        if not values:
            break
    return yaml.safe_dump(values).encode()


def everything_before_training(path):
    """What `train.py` does with a configuration before it builds weights and looks for files."""
    loaded = config.load(path)
    checks.check(loaded, 1)
    build_dataset(loaded)
    make_model(loaded, (64, 64, loaded.data.channels))


@pytest.mark.parametrize("part", range(PARTS))
def test_malformed_configurations_get_a_sentence(tmp_path, part):
    pick, good = random.Random(part), [p for p in sorted((ROOT / "configs").glob("**/*.yml")) if p.stem not in LARGE]
    sentences, path = [], tmp_path / "config.yml"
    for number in range(CONFIGS // PARTS):
        source = pick.choice(good)
        text = source.read_text(encoding="utf-8")
        data = mangled_text(text, pick) if number % 3 == 0 else mangled_values(yaml.safe_load(text), pick)
        path.write_bytes(data)
        began = time.thread_time()
        try:
            everything_before_training(path)
        except UserError as error:
            sentences.append(str(error))
        except Exception as error:
            pytest.fail(f"{source.name}: {type(error).__name__}: {error}\n{data.decode('utf-8', 'replace')}")
        assert time.thread_time() - began < SLOWEST, data
    assert len(sentences) > CONFIGS // PARTS // 2, "most of them were not malformed"
    assert all(sentence.strip() and "Traceback" not in sentence for sentence in sentences)


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    """A good file of every kind."""
    folder = tmp_path_factory.mktemp("media")
    video = np.random.default_rng(0).integers(0, 255, (12, 32, 32, 3), dtype=np.uint8)
    for suffix in (".mp4", ".avi", ".gif"):
        video_io.write_video(folder / f"good{suffix}", video, 8)
    np.save(folder / "good.npy", video)
    np.savez_compressed(folder / "good.npz", video=video)
    return sorted(folder.iterdir())


def mangled_file(data, pick):
    data = bytearray(data)
    kind = pick.randrange(5)
    if kind == 0:
        return bytes(data[: pick.randrange(len(data))])
    if kind == 1:
        for _ in range(pick.randint(1, 200)):
            data[pick.randrange(len(data))] = pick.randrange(256)
    elif kind == 2:
        for at in range(pick.randint(4, 64)):  # headers
            data[at] = pick.randrange(256)
    elif kind == 3:
        at = pick.randrange(len(data))
        del data[at : at + pick.randint(1, len(data) // 2)]
    else:
        at = pick.randrange(len(data))
        data[at:at] = pick.randbytes(pick.randint(1, 5000))
    return bytes(data)


@pytest.mark.current_stack
def test_malformed_media_get_a_sentence(tmp_path, media):
    pick, refused = random.Random(6), 0
    for number in range(FILES):
        source = pick.choice(media)
        path = tmp_path / f"{number}{source.suffix}"
        path.write_bytes(mangled_file(source.read_bytes(), pick))
        began = time.thread_time()
        try:
            video = video_io.read_video(path, (16, 16), 3)
            assert video.dtype == np.uint8 and video.shape[1:] == (16, 16, 3) and len(video)
        except UserError as error:
            assert path.name in str(error)
            refused += 1
        except Exception as error:
            kept = shutil.copy(path, pathlib.Path(tmp_path).parent / path.name)
            pytest.fail(f"{kept} ({source.suffix}): {type(error).__name__}: {error}")
        assert time.thread_time() - began < SLOWEST, path
    assert refused > FILES // 4
