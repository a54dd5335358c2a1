"""data.storage: compressed frames behind the same `read`."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf

from benchmarks import storage
from tests import layouts
from tests.unit.test_shard_cache import decoded_by
from tests.unit.test_shards import sources_of
from tests.unit.test_video_parts import write_film
from tfvp import changes, cli, registry, video_io
from tfvp import config as configuration
from tfvp.datasets import base
from tfvp.datasets.build import build_dataset
from tfvp.errors import UserError
from tfvp.evaluation import provenance
from tfvp.evaluation.selection import Selection, data_config
from tfvp.metrics.published import PROTOCOLS
from tfvp.pipeline import batching, decoding, frame_codecs, shards

SHAPE = (40, 56, 3)


def scene(number, frames):
    """uint8 [frames, *SHAPE]: smooth colours that move, as those of real video, and noise on them."""
    rng = np.random.default_rng(number)
    y, x, t = np.mgrid[:40, :56, :frames].astype(np.float32)
    waves = [np.sin((a * x + b * y + t) / 9 + c) for a, b, c in rng.uniform(-1, 1, (3, 3)) * (1, 1, 9)]
    video = np.stack(waves, axis=-1).transpose(2, 0, 1, 3) * 90 + 128 + rng.normal(0, 2, (frames, *SHAPE))
    return video.clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    root = tmp_path_factory.mktemp("raw")
    for n in range(3):
        video_io.write_video(root / f"{n}.avi", scene(n, 12 + n), 25, "ffv1")
    return root


def decode(source):
    video = scene(int(source.name[0]), 12 + int(source.name[0]))
    for first in range(0, len(video), 5):
        piece = video[first : first + 5]
        labels = piece[..., 0] // 32
        yield (
            source.name,
            {
                "video": piece,
                "labels": labels,
                "actions": piece[:, 0, 0].astype(np.float32) / 7,
                "depth": piece[..., :1].astype(np.float32),
            },
        )


def store_in(folder, storage, raw, shape=SHAPE):
    arrays = {
        "video": (np.uint8, shape),
        "labels": (np.uint8, shape[:2]),
        "actions": (np.float32, (3,)),
        "depth": (np.float32, (*shape[:2], 1)),
    }
    store = shards.Store(folder / "s", {"dataset": "toy"}, arrays, storage=storage)
    store.prepare(sources_of(raw), decode, progress=False)
    return store


@pytest.fixture(scope="module")
def stores(raw, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores")
    return {kind: store_in(folder, kind, raw) for kind in frame_codecs.KINDS}


def windows(store):
    rows = np.array([1, 0, 1, 0])
    return store.read("train", rows, np.array([0, 3, 7, 6]), 3, stride=2)


def bytes_of(store, key):
    listed = [f for shard in store.manifest["shards"] for name, f in shard["files"].items() if name.startswith(key)]
    return sum((store.folder / f["name"]).stat().st_size for f in listed)


def test_lossless_frames_are_equal_and_smaller(stores):
    expected, actual = windows(stores["raw"]), windows(stores["lossless"])
    np.testing.assert_array_equal(expected["video"][0, 1], scene(1, 13)[2])
    for key in expected:
        assert actual[key].dtype == expected[key].dtype
        np.testing.assert_array_equal(actual[key], expected[key])
    assert bytes_of(stores["lossless"], "video") < 0.8 * bytes_of(stores["raw"], "video")
    assert bytes_of(stores["lossless"], "labels") < 0.3 * bytes_of(stores["raw"], "labels")
    assert stores["lossless"].check(progress=False) > stores["raw"].check(progress=False)


def test_jpeg_loses_little_and_of_the_video_alone(stores):
    expected, actual = windows(stores["raw"]), windows(stores["jpeg"])
    error = np.square(expected["video"].astype(float) - actual["video"]).mean()
    assert 0 < error < 255**2 / 10**3.8, "PSNR below 38 dB"
    for key in ("labels", "actions", "depth"):
        np.testing.assert_array_equal(actual[key], expected[key])
    assert bytes_of(stores["jpeg"], "video") < 0.5 * bytes_of(stores["raw"], "video")


@pytest.mark.parametrize("kind", ["lossless", "jpeg"])
@pytest.mark.parametrize("channels", [1, 3])
def test_colours_and_extreme_frames_come_back(kind, channels):
    codec = frame_codecs.codec_of(kind, "video", np.uint8, (5, 7, channels))
    frames = [np.zeros((5, 7, channels), np.uint8), np.full((5, 7, channels), 255, np.uint8)]
    frames += [np.full((5, 7, channels), [200, 60, 20][:channels], np.uint8)]
    for frame in frames:
        back = codec.decode(np.frombuffer(codec.encode(frame), np.uint8))
        assert back.shape == frame.shape
        np.testing.assert_allclose(back, frame, atol=0 if kind == "lossless" else 2)


def test_lossless_is_lossless_on_noise():
    rng = np.random.default_rng(0)
    for shape in ((16, 9), (16, 9, 1), (16, 9, 3)):
        codec = frame_codecs.codec_of("jpeg" if len(shape) == 2 else "lossless", "labels", np.uint8, shape)
        frame = rng.integers(0, 256, shape, dtype=np.uint8)
        np.testing.assert_array_equal(codec.decode(np.frombuffer(codec.encode(frame), np.uint8)), frame)


def test_what_is_no_image_of_bytes_stays_as_it_is():
    for dtype, shape in ((np.float32, (8, 8, 3)), (np.uint8, (8, 8, 2)), (np.uint8, (4,)), (np.uint8, (20000, 8, 3))):
        assert frame_codecs.codec_of("lossless", "video", dtype, shape) is None
    assert frame_codecs.codec_of("raw", "video", np.uint8, (8, 8, 3)) is None


def test_an_interrupted_file_leaves_nothing_behind(raw, tmp_path, monkeypatch, stores):
    monkeypatch.setattr(decoding.os, "cpu_count", lambda: 1)

    def broken(source):
        pieces = decode(source)
        yield next(pieces)
        if source.name == "1.avi":
            raise UserError("1.avi is damaged")
        yield from pieces

    store = shards.Store(tmp_path / "s", {"dataset": "toy"}, stores["raw"].arrays, storage="lossless")
    store.prepare(sources_of(raw), broken, progress=False)
    assert store.clip_names("train") == ["0.avi"] and store.clip_names("test") == ["2.avi"]
    whole = store.read("test", np.array([0]), np.array([0]), 14)["video"][0]
    np.testing.assert_array_equal(whole, scene(2, 14))


def test_a_damaged_image_is_a_sentence(raw, tmp_path):
    store = store_in(tmp_path, "lossless", raw)
    for path in store.folder.glob("*.webp"):
        path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(UserError, match="stored frame is damaged; `tfvp data --check`"):
        windows(shards.Store(tmp_path / "s", {"dataset": "toy"}, store.arrays, storage="lossless"))
    with pytest.raises(UserError, match="sha256"):
        store.check(progress=False)


def config_of(tmp_path, storage, **data):
    return configuration.from_dict({"data": {"name": "folder", "root": str(tmp_path), "storage": storage, **data}})


@pytest.mark.parametrize("in_graph", [False, True])
def test_a_damaged_image_ends_a_command_with_a_sentence(tmp_path, capsys, in_graph):
    layouts.write_folder(tmp_path, [f"{n}.npy" for n in range(4)])
    build_dataset(config_of(tmp_path, "lossless", channels=3)).prepare(progress=False)
    for path in tmp_path.rglob("shard-*.webp"):
        path.write_bytes(bytes(path.stat().st_size))
    dataset = build_dataset(config_of(tmp_path, "lossless", channels=3))
    batches = batching.training_batches(dataset, batch_size=2, length=4, steps_per_epoch=1, seed=1)
    step = (lambda iterator: next(iterator)["video"] + 1) if in_graph else next
    with pytest.raises(SystemExit) as ended:
        cli.run(lambda: (tf.function(step) if in_graph else step)(iter(batches)))
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: a stored frame is damaged; `tfvp data --check` says in which file\n"
    with pytest.raises(tf.errors.InvalidArgumentError):  # a defect keeps its stack trace
        cli.run(lambda: tf.reshape(tf.zeros(3), [2]))


def test_the_option_reaches_the_frames(tmp_path, monkeypatch, capsys):
    base._printed.clear()
    layouts.write_folder(tmp_path, [f"{n}.npy" for n in range(4)])
    folders, read = set(), {}
    for kind in frame_codecs.KINDS:
        dataset = build_dataset(config_of(tmp_path, kind))
        assert len(decoded_by(dataset, monkeypatch)) == 4
        folders.add(dataset.store.folder)
        read[kind] = dataset.read("train", np.array([0, 1]), np.array([0, 2]), 6)["video"].astype(int)
        assert any("kept as JPEG" in note for note in dataset.notes()) == (kind == "jpeg")
    assert len(folders) == 3 and (read["raw"] == read["lossless"]).all()
    assert np.abs(read["raw"] - read["jpeg"]).max() < 20
    assert "kept as JPEG" in capsys.readouterr().out
    assert decoded_by(build_dataset(config_of(tmp_path, "raw")), monkeypatch) == []


def test_a_film_in_parts_is_compressed_too(tmp_path, monkeypatch):
    monkeypatch.setattr(decoding, "PART_FRAMES", 20)
    monkeypatch.setattr(decoding, "SHARD_BYTES", 20 * 64 * 64 * 3)
    for n in range(3):
        write_film(tmp_path / f"{n}.mp4")
    read = {}
    for kind in ("raw", "lossless"):
        dataset = build_dataset(config_of(tmp_path, kind, channels=3))
        dataset.prepare(progress=False)
        assert kind != "raw" or all(len(clip["pieces"]) > 1 for clip in dataset.store.manifest["clips"])
        read[kind] = dataset.read("train", np.array([0, 0]), np.array([15, 1]), 23, stride=3)["video"]
    np.testing.assert_array_equal(read["raw"], read["lossless"])
    assert len(np.unique(read["raw"][0], axis=0)) == 23


def test_what_cannot_be_compressed_is_refused(tmp_path):
    settings = base.Settings(root=str(tmp_path), image_size=(32, 32), channels=2, storage="jpeg")
    with pytest.raises(UserError, match="taxibj has 2 channels of float32; set data.storage=raw"):
        registry.lookup("dataset", "taxibj")(settings).prepare(progress=False)
    with pytest.raises(UserError, match="'zip' is none of raw, lossless, jpeg"):
        config_of(tmp_path, "zip")


@pytest.mark.parametrize("channels", [1, 3])
def test_the_benchmark_measures_what_is_stored(channels):
    video = np.ascontiguousarray(scene(0, 24)[..., :channels])
    rows = {name: storage.measured(video, codec, 0.01) for name, codec in storage.kinds(video.shape[1:]).items()}
    assert set(frame_codecs.KINDS) < set(rows) and rows["raw"]["bytes"] == pytest.approx(video[0].nbytes, rel=0.01)
    assert rows["jpeg"]["bytes"] < rows["lossless"]["bytes"] < rows["raw"]["bytes"]
    assert 38 < rows["jpeg"]["psnr"] < 60 and all(np.isinf(row["psnr"]) for name, row in rows.items() if name != "jpeg")
    assert all(row["read"] > 0 and row["written"] > 0 for row in rows.values())


def test_results_say_that_frames_lost_something(tmp_path):
    layouts.write_folder(tmp_path, [f"{n}.npy" for n in range(4)])
    for kind in ("jpeg", "lossless"):
        config = config_of(tmp_path, kind)
        dataset = build_dataset(config)
        dataset.prepare(progress=False)
        clips = provenance.describe_clips(dataset, "test", np.array([0]), np.array([0]), 5, ["0" * 64])
        section = provenance.describe_data(config, dataset, "test", 1, clips)
        assert section["storage"] == kind and ("kept as JPEG" in " ".join(section["notes"])) == (kind == "jpeg")


def test_a_published_protocol_decodes_without_losses(tmp_path):
    layouts.write_kth(tmp_path, "folders", persons=(1, 17, 21), frames=30)
    data = {"name": "kth", "root": str(tmp_path), "storage": "jpeg", "image_size": 16}
    config, protocol = configuration.from_dict({"data": data}), PROTOCOLS["svg_kth"]
    for name, suffix in (("svg_kth", "png"), ("default", "jpg")):
        selection = Selection(config, dataclasses.replace(protocol, name=name, num_examples=1))
        assert list(selection.dataset.store.folder.glob(f"shard-*.{suffix}"))


def test_published_protocols_score_the_frames_of_the_files(tmp_path):
    jpeg, lossless = config_of(tmp_path, "jpeg"), config_of(tmp_path, "lossless")
    assert data_config(jpeg).data.storage == "jpeg"
    assert data_config(jpeg, published=True).data.storage == data_config(lossless).data.storage == "lossless"
    assert data_config(config_of(tmp_path, "raw"), published=True).data.storage == "raw"


def test_a_resumed_run_may_change_bytes_but_not_pixels(tmp_path):
    raw, lossless, jpeg = (config_of(tmp_path, kind) for kind in frame_codecs.KINDS)
    assert changes.resumable(raw, lossless) == ([], ["data.storage: 'raw' -> 'lossless'"])
    assert changes.resumable(raw, jpeg) == (["data.storage: 'raw' -> 'jpeg'"], [])
    saved = json.loads(json.dumps(raw.to_dict()))
    del saved["data"]["storage"]
    assert changes.resumable(configuration.from_dict(saved), raw) == ([], [])
