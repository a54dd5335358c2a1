"""What a person's folder holds beside clips: thumbnails, links and formats that are not read."""

import os

from tests import layouts
from tfvp import config as configuration
from tfvp import files, registry, video_io
from tfvp import run as runs
from tfvp.datasets import base
from tfvp.pipeline import listing, survey


def write(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())


def clips(root, **folders):
    held = survey.survey(root, {split: root / name for split, name in (folders or {"": "."}).items()})
    return {split: list(paths) for split, paths in held.clips.items()}, held.notes()


def test_a_tree_of_clips_is_listed_as_ever(tmp_path):
    write(tmp_path, "b10.mp4", "b2.avi", ".hidden.mp4", "deep/er/c.npy", "frames/1.png", "frames/2.png", ".tfvp/x.npy")
    expected = ["b2.avi", "b10.mp4", "deep/er/c.npy", "frames"]
    assert clips(tmp_path) == ({"": expected}, [])
    assert [path.relative_to(tmp_path).as_posix() for path in listing.videos(tmp_path)] == expected


def test_thumbnails_are_no_clips(tmp_path):
    write(tmp_path, "a.mp4", "a.jpg", "b.npy", "gif/c.gif", "gif/c1.png", "gif/c2.png", "two/x.npy", "two/x.png")
    listed, notes = clips(tmp_path)
    assert listed == {"": ["a.mp4", "b.npy", "gif/c.gif", "two/x.npy"]}
    assert len(notes) == 1
    assert notes[0].startswith("4 images beside videos (a.jpg, gif/c1.png, gif/c2.png, ...) are not used")


def test_arrays_beside_frames_are_no_clips(tmp_path):
    write(tmp_path, "run/0.png", "run/1.png", "run/actions.npy")
    listed, notes = clips(tmp_path)
    assert listed == {"": ["run"]} and "1 array beside the frames of a clip (run/actions.npy) is not used" in notes[0]


def test_an_image_alone_is_no_clip(tmp_path):
    write(tmp_path, "cover.jpg", "one/a.mp4", "two/0.png", "two/1.png", "three/x.png")
    listed, notes = clips(tmp_path)
    assert listed == {"": ["one/a.mp4", "two"]}
    assert notes == [
        "2 images alone in a folder (cover.jpg, three/x.png) are not used; a clip is several images, of one frame each"
    ]


def test_contact_sheets_are_no_frames(tmp_path):
    write(tmp_path, "contact_sheet.png", "0.png", "1.png", "sub/a.mp4", "sub/contact_sheet.png")
    listed, notes = clips(tmp_path)
    assert listed == {"": [".", "sub/a.mp4"]} and video_io.list_images(tmp_path) == ["0.png", "1.png"]
    assert notes == ["2 contact sheets of `tfvp data` (contact_sheet.png, sub/contact_sheet.png) are not used"]


def test_nothing_that_tfvp_wrote_is_a_clip(tmp_path):
    """Except below the folder itself: whoever names a run as data.root wants what is in it."""
    run = runs.Run.start(tmp_path / "logs", configuration.from_dict({}, "demo"))
    run.record_environment([])
    cache = "cache/folder-64x64x1-0123456789"
    write(tmp_path, "a.mp4", "logs/demo/samples/1.gif", "logs/demo/backup/1.npz", f"{cache}/shard-0.npy")
    write(tmp_path, "logs/imported/config.yml", "logs/imported/model/status.json", "logs/imported/eval/x/1.gif")
    write(tmp_path, "zoo/m/config.yml", "zoo/m/card.yml", "zoo/m/model/best.weights.h5", "zoo/m/clip.gif")
    write(tmp_path, "cache/remote/0a/url.txt", "cache/remote/0a/objects.jsonl", "cache/remote/0a/raw/b.mp4")
    for folder, name, document in (
        ("scores/m/x", "metrics", {"protocol": {}}),
        ("comparison", "comparison", {"compares": ""}),
    ):
        write(tmp_path, f"{folder}/curves.csv", f"{folder}/report.html", f"{folder}/1.gif")
        files.write_json(tmp_path / folder / f"{name}.json", document)
    listed, notes = clips(tmp_path)
    assert listed == {"": ["a.mp4"]} and [path.name for path in listing.videos(tmp_path)] == ["a.mp4"]
    assert notes == [f"7 folders that tfvp wrote ({cache}, cache/remote/0a, comparison, ...) are not looked into"]
    assert clips(run.path)[0] == {"": ["backup/1.npz", "samples/1.gif"]}


def test_files_that_are_called_as_those_of_tfvp_do_not_hide_clips(tmp_path):
    write(tmp_path, "a/config.yml", "a/metrics.json", "a/a.mp4", "b/model/status.json", "b/comparison.json", "b/b.mp4")
    write(tmp_path, "c-64x64x1-0123456789/0.npy", "simulated/config.yml", "simulated/0.gif", "simulated/curves.csv")
    files.write_json(tmp_path / "simulated" / "environment.json", {"gravity": 9.81})
    files.write_json(tmp_path / "simulated" / "metrics.json", {"return": 1.0})
    assert clips(tmp_path)[0] == {"": ["a/a.mp4", "b/b.mp4", "c-64x64x1-0123456789/0.npy", "simulated/0.gif"]}


def test_a_run_called_train_is_no_split(tmp_path):
    write(tmp_path, "train/config.yml", "train/model/status.json", "deep/train/a.mp4", "test/b.mp4")
    assert listing.find_folder(tmp_path, "train") == tmp_path / "deep" / "train"
    assert listing.find_folder(tmp_path, "train", depth=1) is None
    assert listing.find_folder(tmp_path, "test") == tmp_path / "test"


def test_links_into_a_folder_around_them_are_not_followed(tmp_path):
    write(tmp_path, "a.mp4", "b.mp4", "deep/c.mp4")
    (tmp_path / "self").symlink_to(".")
    (tmp_path / "deep" / "up").symlink_to("..")
    assert len(listing.videos(tmp_path)) < 10  # 123 and more where links are followed to the system's limit
    listed, notes = clips(tmp_path)
    assert listed == {"": ["a.mp4", "b.mp4", "deep/c.mp4"]}
    assert any("links into a folder around it (" in note for note in notes)


def test_links_to_other_folders_are_followed(tmp_path):
    write(tmp_path, "elsewhere/a.mp4", "elsewhere/deep/b.mp4")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "train").symlink_to(tmp_path / "elsewhere")
    names = ["train/a.mp4", "train/deep/b.mp4"]
    assert [path.relative_to(tmp_path / "root").as_posix() for path in listing.videos(tmp_path / "root")] == names
    assert clips(tmp_path / "root") == ({"": names}, [])


def test_a_file_is_one_clip(tmp_path):
    write(tmp_path, "m.mp4", "folder/n.avi", "frames/1.png", "frames/2.png")
    (tmp_path / "a link.mp4").symlink_to("m.mp4")
    (tmp_path / "all").symlink_to("folder")
    (tmp_path / "again").symlink_to("frames")
    os.link(tmp_path / "m.mp4", tmp_path / "z.mp4")
    (tmp_path / "gone.mp4").symlink_to("nowhere")
    listed, notes = clips(tmp_path)
    assert listed == {"": ["folder/n.avi", "frames", "m.mp4"]}
    assert notes[0].startswith("4 links to a video that is here already (") and "a link.mp4 is m.mp4" in notes[0]
    assert notes[1] == "1 entry that cannot be opened (gone.mp4) is left out"


def test_a_file_is_in_one_split(tmp_path):
    write(tmp_path, "train/a.mp4", "test/b.mp4", "old/c.mp4", "d.mp4")
    os.link(tmp_path / "test" / "b.mp4", tmp_path / "train" / "b.mp4")
    (tmp_path / "train" / "everything").symlink_to(tmp_path)
    (tmp_path / "test" / "a.mp4").symlink_to("../train/a.mp4")
    listed, notes = clips(tmp_path, test="test", train="train")
    assert listed["test"] == ["test/a.mp4", "test/b.mp4"]
    assert listed["train"] == ["train/everything/d.mp4", "train/everything/old/c.mp4"]
    assert "train/a.mp4 is test/a.mp4" in notes[0]
    assert notes[-1].startswith("2 videos outside of the folders train, validation and test (d.mp4, old/c.mp4) are not")


def test_formats_that_are_not_read_are_counted(tmp_path):
    write(tmp_path, "a.mp4", "b.TS", "c.ts", "d.wmv", "notes.txt", "LICENSE")
    listed, (note,) = clips(tmp_path)
    assert listed == {"": ["a.mp4"]}
    kinds = "2 .ts, 1 .wmv, 1 no suffix, 1 .txt (b.TS, c.ts, d.wmv)"
    assert note.startswith(f"5 files in formats that are not read: {kinds}; ")
    assert note.endswith("ffmpeg -i b.TS video.mp4")


def test_folders_that_may_not_be_read(tmp_path, monkeypatch):
    write(tmp_path, "a.mp4", "lost+found/b.mp4")
    scandir = os.scandir

    def refusing(folder):
        if os.path.basename(folder) == "lost+found":
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refusing)
    assert clips(tmp_path) == ({"": ["a.mp4"]}, ["1 entry that cannot be opened (lost+found) is left out"])
    assert listing.find_folder(tmp_path, "train") is None


def test_it_is_said_before_decoding_and_by_notes(tmp_path, capsys):
    base._printed.clear()
    layouts.write_folder(tmp_path, ["a.npy", "b.npy", "c.npy"])
    write(tmp_path, "a.jpg", "x.mpg")
    (tmp_path / "again.npy").symlink_to("a.npy")
    dataset = registry.lookup("dataset", "folder")(base.Settings(root=str(tmp_path), image_size=(16, 16)))
    dataset.prepare(progress=False)
    assert [len(dataset.clip_lengths(split)) for split in dataset.splits] == [1, 1, 1]
    for sentence in ("1 image beside", "again.npy is a.npy", "1 .mpg (x.mpg)"):
        assert any(sentence in note for note in dataset.notes())
    said = capsys.readouterr().out
    assert said.count("again.npy is a.npy") == 1 and "ffmpeg -i x.mpg" in said
