"""KITTI, Cityscapes, Caltech, SEVIR, Human3.6M, TaxiBJ: splits, exclusions, crops, damaged files."""

import numpy as np
import pytest
from PIL import Image

from tests import layouts
from tfvp import config, registry
from tfvp.datasets import base, driving, kitti, kitti_caltech
from tfvp.errors import UserError
from tfvp.frames import Converter, centre
from tfvp.metrics import protocols
from tfvp.models.base import VideoModel
from tfvp.training.validation import make_validation


def make(name, root, channels=1, **options):
    dataset = registry.lookup("dataset", name)(base.Settings(root=str(root), channels=channels), **options)
    dataset.prepare(progress=False)
    return dataset


def test_kitti_leaves_the_right_recordings_out():
    left_out = [n for n in range(300) if kitti.excluded(f"2011_09_28_drive_{n:04d}_sync")]
    assert left_out == list(range(54, 221))
    assert kitti.excluded("2011_09_29_drive_0108_sync") and not kitti.excluded("2011_09_29_drive_0026_sync")
    assert not kitti.excluded("2011_09_26_drive_0104_sync")


def test_kitti_reads_labels_beside_their_frames(tmp_path):
    layouts.write_kitti(tmp_path)
    dataset = make("kitti", tmp_path, labels="disk")
    for split, numbers in (("train", {0, 1}), ("validation", {2}), ("test", {3})):
        found = set()
        for clip, length in enumerate(dataset.clip_lengths(split)):
            both = dataset.read(split, np.array([clip]), np.array([0]), int(length))
            clips, frames = layouts.marks(both["video"][0])
            assert length in (9, 10) and np.all(np.diff(frames) == 1), "a clip runs over the missing frame"
            assert np.all(both["labels"] == clips[0]) and both["labels"].shape == (1, length, 64, 64)
            found.add(int(clips[0]))
        assert found == numbers
    (
        tmp_path / "2011_09_26" / "2011_09_26_drive_0001_sync" / "image_03" / "data" / "color_mask_0000000003.png"
    ).unlink()
    dataset = registry.lookup("dataset", "kitti")(base.Settings(root=str(tmp_path)), labels="disk")
    dataset.prepare(progress=False)
    assert sorted(dataset.clip_lengths("train")) == [3, 5, 9, 10, 10]


def test_kitti_is_tested_and_validated_in_windows_that_start_every_fifth_frame(monkeypatch):
    dataset = registry.lookup("dataset", "kitti")(base.Settings(root="."))
    lengths = {"test": np.array([312, 100, 420]), "validation": np.array([154])}
    monkeypatch.setattr(dataset, "clip_lengths", lambda split: lengths[split])
    for name, windows in (("hierarchical_kitti_40", 121), ("hierarchical_kitti", 104)):
        protocol = protocols.get(name)
        length, stride = protocol.seq_len, protocol.frame_stride
        clips, starts = dataset.evaluation_windows(protocol.windows, length, stride)
        assert len(clips) == len(starts) == windows and not np.any(starts % 5)
        assert np.all(starts + (length - 1) * stride < lengths["test"][clips])
        assert len(set(zip(clips.tolist(), starts.tolist()))) == windows
    clips, starts = dataset.validation_windows(20, 2)
    assert clips.tolist() == [0] * 24 and starts.tolist() == list(range(0, 120, 5))
    with pytest.raises(UserError, match="no test windows called 'other'"):
        dataset.evaluation_windows("other", 40, 2)


def test_kitti_validates_on_more_than_one_clip(tmp_path):
    layouts.write_kitti(tmp_path)
    values = {
        "model": {"name": "convlstm_openstl"},
        "data": {"name": "kitti", "root": str(tmp_path), "frame_stride": 2},
        "train": {"seq_len": 3},
        "eval": {"open_loop_ctx": 1, "batch_size": 2},
    }
    dataset = make("kitti", tmp_path)
    model = VideoModel((64, 64, 1))
    clips, _ = make_validation(config.from_dict(values), model, dataset).sets.values()
    assert clips.count == 3  # clips of 9 and 10 frames, windows of 5: at 0, and at 0 and 5
    frames = np.concatenate([layouts.marks(np.round(255 * batch["video"]))[1] for batch in clips.batches])[
        : clips.count
    ]
    assert frames.tolist() == [[0, 2, 4], [10, 12, 14], [15, 17, 19]]


def test_coloured_label_maps_are_refused(tmp_path):
    layouts.write_kitti(tmp_path, ("2011_09_26_drive_0001_sync",), frames=4, gap=-1)
    folder = tmp_path / "2011_09_26" / "2011_09_26_drive_0001_sync" / "image_03" / "data"
    Image.new("RGB", (156, 48)).save(folder / "color_mask_0000000002.png")
    with pytest.raises(UserError, match="not class numbers"):
        make("kitti", tmp_path, labels="disk")


def test_the_crop_of_kitti():
    frame = np.zeros((375, 1242, 3), np.uint8)
    frame[:, 621 - 150 : 621 + 150] = 200
    cut = Converter((128, 160), None, "kitti")(frame)
    assert cut.shape == (128, 160, 3) and abs(float((cut[64, :, 0] > 100).sum()) - 300 * 128 / 375) <= 2
    classes = np.arange(375 * 1242).reshape(375, 1242).astype(np.uint8) % 19
    labels = centre(classes, (128, 160), driving.nearest)
    assert labels.shape == (128, 160) and labels.max() < 19


def test_cityscapes_tells_snippets_apart(tmp_path):
    layouts.write_cityscapes(tmp_path)
    dataset = make("cityscapes", tmp_path)
    lengths = np.concatenate([dataset.clip_lengths(split) for split in dataset.splits])
    assert sorted(lengths) == [30, 30, 30, 30]
    assert set(layouts.marks(dataset.read("test", np.array([0]), np.array([0]), 30)["video"][0])[0]) == {2}
    protocol = protocols.get("hierarchical_cityscapes")
    clips, starts = dataset.evaluation_windows(protocol.windows, protocol.seq_len, protocol.frame_stride)
    video = dataset.read("test", clips, starts, protocol.seq_len, protocol.frame_stride)["video"]
    assert layouts.marks(video)[1].tolist() == [list(range(1, 29, 3))]  # entry 4 + 2 is frame 19, the annotated one
    with pytest.raises(UserError, match="holds 11 frames that are 3 apart"):
        dataset.evaluation_windows(protocol.windows, 11, 3)


@pytest.mark.parametrize("extra", [8, 16])
def test_sequences_of_jpegs(tmp_path, extra):
    clip, path = layouts.marked_clip(3, 7, 48, 64), tmp_path / "V000.seq"
    layouts.write_seq(path, clip, extra)
    frames = list(kitti_caltech.read_seq(path))
    assert len(frames) == 7 and layouts.marks(np.stack(frames))[1].tolist() == list(range(7))
    content = path.read_bytes()
    for cut in (100, 1024, len(content) // 2):
        path.write_bytes(content[:cut])
        with pytest.raises(UserError, match="V000.seq"):
            list(kitti_caltech.read_seq(path))
    other = bytearray(content)
    other[564:568] = (1).to_bytes(4, "little")
    path.write_bytes(bytes(other))
    with pytest.raises(UserError, match="format 1"):
        list(kitti_caltech.read_seq(path))


def test_every_third_frame_of_caltech(tmp_path):
    layouts.write_kitti_caltech(tmp_path)
    dataset = make("kitti_caltech", tmp_path)
    assert dataset.clip_lengths("test").tolist() == [12, 12, 12]
    for clip in range(3):
        frames = layouts.marks(dataset.read("test", np.array([clip]), np.array([0]), 12)["video"][0])[1]
        assert frames.tolist() == list(range(2, 36, 3))


def test_caltech_is_left_out_where_labels_are_asked_for(tmp_path):
    layouts.write_kitti_caltech(tmp_path)
    dataset = make("kitti_caltech", tmp_path, labels="disk")
    lengths = {split: dataset.clip_lengths(split).tolist() for split in dataset.splits}
    assert lengths["test"] == [] and lengths["train"] and lengths["validation"]
    assert any("3 of 5 files of kitti_caltech are skipped" in note for note in dataset.notes())
    both = dataset.read("train", np.array([0]), np.array([0]), 3)
    assert both["labels"].shape == (1, 3, 64, 64)


def test_caltech_is_tested_in_windows_from_the_end_of_each_recording(monkeypatch):
    dataset = registry.lookup("dataset", "kitti_caltech")(base.Settings(root=".", channels=3))
    lengths, protocol = np.array([36, 11, 7, 50]), protocols.get("openstl_kitti_caltech")
    monkeypatch.setattr(dataset, "clip_lengths", lambda split: lengths)
    clips, starts = dataset.evaluation_windows(protocol.windows, protocol.seq_len, protocol.frame_stride)
    # The loader goes through all frames from the last one backwards, and takes each window that lies in one recording.
    recording = np.repeat(np.arange(4), lengths)
    first_frames, index, expected = np.cumsum([0, *lengths]), len(recording) - 1, []
    while index >= protocol.seq_len - 1:
        begin = index - protocol.seq_len + 1
        if recording[begin] == recording[index]:
            expected.append((recording[begin], begin - first_frames[recording[begin]]))
            index = begin
        index -= 1
    assert list(zip(clips, starts)) == sorted(expected)
    with pytest.raises(UserError, match="no test windows called 'other'"):
        dataset.evaluation_windows("other", 11, 1)


def test_sevir_is_split_by_date(tmp_path):
    layouts.write_sevir(tmp_path)
    dataset = make("sevir", tmp_path)
    numbers = {}
    for split in dataset.splits:
        video = dataset.read(split, np.arange(2), np.zeros(2, int), 49)["video"]
        numbers[split] = set(layouts.marks(video)[0].ravel())
    assert numbers["validation"] == {4, 5} and numbers["test"] == {6, 7} and numbers["train"] <= {0, 1, 2, 3}
    (tmp_path / "data" / "vil" / "2019" / "SEVIR_VIL_STORMEVENTS_2019-08-01.h5").write_bytes(b"no HDF5")
    dataset = registry.lookup("dataset", "sevir")(base.Settings(root=str(tmp_path)))
    dataset.prepare(progress=False)
    assert len(dataset.clip_lengths("test")) == 0 and any("2 of 8 files" in note for note in dataset.notes())
    (tmp_path / "CATALOG.csv").write_text("id,file_name\n")
    with pytest.raises(UserError, match="no column file_index"):
        dataset.sources()


def test_human36m_takes_every_fifth_frame(tmp_path):
    layouts.write_human36m(tmp_path)
    dataset = make("human36m", tmp_path, channels=3)
    assert dataset.clip_lengths("test").tolist() == [8] * 4
    frames = [
        layouts.marks(dataset.read("test", np.array([c]), np.array([0]), 8)["video"][0])[1].tolist() for c in range(4)
    ]
    assert sorted(frames) == [list(range(8))] * 2 + [list(range(8, 16))] * 2
    (tmp_path / "human" / "train.txt").write_text("nonsense\n")
    with pytest.raises(UserError, match="'nonsense' is not"):
        dataset.sources()


def test_human36m_knows_every_frame_of_a_clip(tmp_path, capsys):
    base._printed.clear()
    layouts.write_human36m(tmp_path)
    images = tmp_path / "human" / "images"
    away, other = images / "S1_Walking.00000000_000016.jpg", images / "S1_Sitting.00000001_000021.jpg"
    content = away.read_bytes()
    away.unlink()
    fifteen = make("human36m", tmp_path, channels=3)
    assert f"1 of 12 clips of human36m are skipped: {away} is missing" in " ".join(capsys.readouterr().out.split())
    assert sum(len(fifteen.clip_lengths(split)) for split in fifteen.splits) == 11
    away.write_bytes(content)
    other.write_bytes(content)
    whole = make("human36m", tmp_path, channels=3)
    shown = {}
    for split in whole.splits:
        for clip, name in enumerate(whole.store.clip_names(split)):
            shown[name] = layouts.marks(whole.read(split, np.array([clip]), np.array([0]), 8)["video"][0])
    assert len(shown) == 12 and not whole.store.lost
    assert shown["train:images/S1_Walking.00000000_000001"][1].tolist() == list(range(8))
    assert shown["train:images/S1_Sitting.00000001_000001"][0].tolist() == [1, 1, 1, 1, 0, 1, 1, 1]
    away.unlink()  # once they are decoded, the frames outlive any of their files
    after = make("human36m", tmp_path, channels=3)
    assert after.store.lost == ["train:images/S1_Walking.00000000_000001"] and len(after.clip_lengths("test")) == 4


def test_taxibj_is_kept_exactly(tmp_path):
    layouts.write_taxibj(tmp_path)
    cls = registry.lookup("dataset", "taxibj")
    dataset = cls(base.Settings(root=str(tmp_path), image_size=(32, 32), channels=2))
    dataset.prepare(progress=False)
    video = dataset.read("test", np.array([1]), np.array([0]), 8)["video"][0]
    expected = ((61 / 100 + np.arange(8) / 1000 - 0.9) + 1) / 2
    np.testing.assert_allclose(video[:, 5, 7, 1], expected, atol=1e-7)
    with pytest.raises(UserError, match="must be 2 for taxibj"):
        cls(base.Settings(root=str(tmp_path), image_size=(32, 32)))
    with pytest.raises(UserError, match="must be 32"):
        cls(base.Settings(root=str(tmp_path), channels=2))
    with pytest.raises(UserError, match="data.crop_margin must be 0 for taxibj"):
        cls(base.Settings(root=str(tmp_path), image_size=(40, 40), channels=2, margin=8))


@pytest.mark.parametrize(
    "name", ["kitti", "cityscapes", "kitti_caltech", "sevir", "human36m", "taxibj", "bair", "mazes", "minerl"]
)
def test_missing_files_are_named(tmp_path, name):
    cls = registry.lookup("dataset", name)
    settings = base.Settings(root=str(tmp_path), channels=cls.channels[0], image_size=(32, 32))
    with pytest.raises(UserError, match="contains nothing that"):
        cls(settings).prepare(progress=False)
    with pytest.raises(UserError, match="needs data.root"):
        cls(base.Settings(channels=cls.channels[0], image_size=(32, 32))).prepare(progress=False)


def test_cifar_backgrounds_stay_behind_white_digits(tmp_path):
    layouts.write_cifar(tmp_path)
    dataset = registry.lookup("dataset", "mnist_cifar")(
        base.Settings(root=str(tmp_path), channels=3), digits="embedded"
    )
    dataset.prepare(progress=False)
    video = dataset.read("test", np.arange(4), np.zeros(4, int), 5)["video"]
    for clip in video:
        values = set(np.unique(clip))
        assert 255 in values and len(values) == 2 and min(values) % 3 == 1
    (tmp_path / "cifar-10-batches-bin" / "test_batch.bin").write_bytes(b"short")
    other = registry.lookup("dataset", "mnist_cifar")(base.Settings(root=str(tmp_path), channels=3), digits="embedded")
    with pytest.raises(UserError, match="not a multiple of 3073"):
        other.prepare(progress=False)
