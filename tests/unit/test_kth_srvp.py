"""SRVP's fixed test set of KTH."""

import numpy as np
import pytest

from tests import layouts
from tfvp import registry
from tfvp.datasets import base, kth
from tfvp.errors import UserError
from tfvp.pipeline import batching


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """All 120 test files of KTH and three others; a clip has 45 frames and as many more as its person's number."""
    root = tmp_path_factory.mktemp("kth")
    for action in kth.ACTIONS:
        for scenario in range(1, 5):
            written = layouts.write_kth(root, "folders", (21, 22, 23, 24, 25), action, frames=45 - 21, codec="mpeg4")
            for name in written:
                path = root / action / name
                path.rename(path.with_name(name.replace("_d1_", f"_d{scenario}_").replace("_uncomp", "_kept")))
        for path in (root / action).iterdir():
            path.rename(path.with_name(path.name.replace("_kept", "_uncomp")))
    layouts.write_kth(root, "folders", (1, 2, 17))
    dataset = registry.lookup("dataset", "kth")(base.Settings(root=str(root), image_size=(16, 16)))
    dataset.prepare(progress=False)
    return dataset


def test_windows_are_those_of_the_published_draw(whole):
    clips, starts = whole.evaluation_windows("srvp", 40)
    names = whole.store.clip_names("test")
    random = np.random.RandomState(42)
    for clip, start in zip(clips, starts):
        action = ["boxing", "handclapping", "handwaving", "jogging", "running", "walking"][random.randint(6)]
        person, scenario = random.randint(21, 26), random.randint(1, 5)
        assert names[clip] == f"person{person}_{action}_d{scenario}"
        frames = 45 - 21 + person
        assert start == random.randint(frames - 40 + 1)
    assert len(clips) == 1000 and starts.max() > 5


def test_batches_are_cut_from_these_windows(whole):
    windows = whole.evaluation_windows("srvp", 40)
    batches, count = batching.evaluation_batches(
        whole, "test", batch_size=4, length=40, num_examples=6, windows=windows
    )
    batches = list(batches)
    assert count == 6 and [int(i) for i in batches[0]["id"]] == [0, 1, 2, 3]
    for n in range(4):
        expected = whole.read("test", windows[0][n : n + 1], windows[1][n : n + 1], 40)["video"][0]
        np.testing.assert_allclose(batches[0]["video"][n], expected / np.float32(255))
    assert list(batches[1]["mask"][:, 0]) == [1, 1, 0, 0]


def test_missing_files_and_other_rules_are_named(tmp_path, whole):
    layouts.write_kth(tmp_path, "folders", (1, 2, 17, 21, 25))
    dataset = registry.lookup("dataset", "kth")(base.Settings(root=str(tmp_path), image_size=(16, 16)))
    dataset.prepare(progress=False)
    with pytest.raises(UserError, match="test set of SRVP needs person2"):
        dataset.evaluation_windows("srvp", 40)
    with pytest.raises(UserError, match="no test windows called 'other'"):
        whole.evaluation_windows("other", 40)


def test_all_twenty_persons_train_where_none_is_held_out(tmp_path):
    folder = tmp_path / "walking"
    folder.mkdir()
    names = [f"person{person:02d}_walking_d{scenario}" for person in range(1, 26) for scenario in range(1, 5)]
    for name in names:
        (folder / f"{name}_uncomp.avi").touch()
    settings = base.Settings(root=str(tmp_path), image_size=(16, 16))
    sources = registry.lookup("dataset", "kth")(settings, validation_persons=[]).sources()
    splits = {split: {s.name for s in sources if s.split == split} for split in ("train", "validation", "test")}
    assert {name[6:8] for name in splits["train"]} == {f"{person:02d}" for person in range(1, 21)}
    assert 1 <= len(splits["validation"]) <= 8 and not splits["validation"] & splits["test"]
    assert splits["test"] == {name for name in names if int(name[6:8]) > 20}
    default = registry.lookup("dataset", "kth")(settings).sources()
    assert {s.name[6:8] for s in default if s.split == "validation"} == {"17", "18", "19", "20"}
