"""The studio's clips: which there are, which of their frames a model takes, and what a command calls them."""

import io
import pathlib

import numpy as np
import pytest

pytest.importorskip("starlette", reason='pip install "tfvp[studio]"')

from tests import layouts
from tfvp import config as configuration
from tfvp import run as runs
from tfvp import video_io
from tfvp.prediction import publish
from tfvp.prediction.clips import test_clip
from tfvp.studio import clips, limits, models, prediction, results


@pytest.fixture
def offer(tmp_path, monkeypatch):
    """(name, options of the data set) -> a model on it."""
    monkeypatch.setattr(limits, "DRAWN_FRAMES", 20)

    def make(called, card=None, **data):
        values = {
            "model": {"name": "convlstm_openstl", "hidden": [4], "patch": 4},
            "data": {"name": "moving_mnist", "image_size": 16, **data},
            "eval": {"open_loop_ctx": 4, "eval_seq_len": 12},
        }
        run = runs.Run.start(tmp_path / "logs", configuration.from_dict(values, called))
        (run.path / "model").mkdir(exist_ok=True)
        (run.path / "model" / "best.weights.h5").write_bytes(b"weights")
        return models.Offer(f"{'zoo' if card else 'run'}/{called}", run.path, card)

    return make


def words_of(clip, offer, first):
    """The command line for frames of a clip from one on."""
    request = prediction.Request(offer, clip, first, 4, 8, 1, 0)
    observed = np.zeros((4, 16, 16, 1), np.uint8)
    return results.Outcome(request, observed, observed, first, []).command


def test_a_shipped_clip_has_the_frames_that_its_model_takes(offer):
    owner = offer("strided", {"title": "Strided"}, frame_stride=2)
    publish._save_clip(owner.path, owner.config)
    (clip,) = clips.examples(owner)
    frames, _ = clip.read(owner)
    np.testing.assert_array_equal(frames, test_clip(owner.config, 0, 12))
    assert "--model strided --start 3 --open" in words_of(clip, owner, 3)
    # Others take them as far apart as they can be had.
    for stride, left_out in ((1, 1), (2, 1), (4, 2)):
        other = offer(f"stride{stride}", frame_stride=stride)
        np.testing.assert_array_equal(clip.read(other)[0], frames[::left_out])
    assert words_of(clip, other, 3) is None, "as the command would thin it by 4"
    slow = offer("slow", frame_stride=1)
    assert f"--video {clip.path} --start 3" in words_of(clip, slow, 3)


def test_two_models_take_the_same_frames_of_a_test_clip(offer, tmp_path):
    owner = offer("owner", frame_stride=2)
    clip = clips.examples(owner)[0]
    frames, _ = clip.read(owner)
    assert len(frames) == limits.DRAWN_FRAMES
    same, closer = offer("same", frame_stride=2, cache=str(tmp_path)), offer("closer", frame_stride=1)
    assert same.config.data.to_dict() != owner.config.data.to_dict()
    np.testing.assert_array_equal(clip.read(same)[0], frames)
    np.testing.assert_array_equal(clip.read(closer)[0][::2], frames[: limits.DRAWN_FRAMES // 2])
    assert "--test-clip 0 --start 6" in words_of(clip, owner, 3)


def test_only_clips_that_exist_are_offered(offer, tmp_path):
    for split in ("train", "validation"):
        video_io.write_video(tmp_path / "own" / split / "a.avi", layouts.marked_clip(1, 12, 48, 64), 10, "ffv1")
    own = {"name": "folder", "root": str(tmp_path / "own"), "cache": str(tmp_path / "cache"), "channels": 1}
    model = offer("own", **own)
    assert len(clips.examples(model)) == clips.EXAMPLES, "as nothing is decoded yet"
    clips.build_dataset(model.config).prepare(progress=False)
    assert clips.examples(model) == []
    video_io.write_video(tmp_path / "own" / "test" / "a.avi", layouts.marked_clip(2, 12, 48, 64), 10, "ffv1")
    clips.build_dataset(model.config).prepare(progress=False)
    assert [clip.identity for clip in clips.examples(model)] == ["example/0"]


@pytest.mark.parametrize("name, word", [("it's, me & you.npy", "'it'\"'\"'s, me & you.npy'"), ("-x.npy", "./-x.npy")])
def test_the_command_calls_a_file_what_its_user_does(offer, name, word):
    file = io.BytesIO()
    np.save(file, np.zeros((12, 16, 16), np.uint8))
    upload = clips.Upload("upload/1", f"C:\\films\\{name}", file)
    assert f"--video {word} --start 3" in words_of(upload, offer("any"), 3)
    assert pathlib.PurePath(upload.title).suffix == ".npy" and "'" not in upload.title


def test_a_test_clip_is_counted_in_frames_that_its_data_set_keeps(offer):
    """Human3.6M keeps one frame in five."""
    model = offer("poses", name="human36m", step=5, frame_stride=2, channels=3)
    assert model.description.frame_stride == 10
    assert "--test-clip 1 --start 6" in words_of(clips.FromData(model, 1, "example/1", "Test clip 1"), model, 3)
