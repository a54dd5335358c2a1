"""The future of one video: which frames are observed, what is drawn, what is scored."""

import numpy as np
import pytest

from tests import layouts
from tests.unit.test_preprocessing import disc, extent
from tfvp import cli, video_io
from tfvp import config as configuration
from tfvp import run as runs
from tfvp.errors import UserError
from tfvp.models.baselines import CopyLast
from tfvp.prediction import clips, forecast, publish

CONTEXT, HORIZON = 4, 6


@pytest.fixture
def run_on(tmp_path, monkeypatch):
    """Options of the data set `folder` -> a run on it, whose model repeats the last frame that it observes."""

    def make(**data):
        eval_ = {"open_loop_ctx": CONTEXT, "eval_seq_len": CONTEXT + HORIZON}
        values = {"data": {"name": "folder", "root": "", "image_size": 32, "channels": 1, **data}, "eval": eval_}
        run = runs.Run.start(tmp_path / "logs", configuration.from_dict(values, "repeats"))
        model = CopyLast(run.config.frame_shape)
        monkeypatch.setattr(forecast, "load_run", lambda path, weights: model)
        # LPIPS costs seconds and has its own tests.
        monkeypatch.setattr(forecast, "METRICS", ("psnr", "ssim"))
        return run.path

    return make


@pytest.fixture
def clip(tmp_path):
    """A video of twenty frames, each of which shows its number."""
    video_io.write_video(tmp_path / "clip.avi", layouts.marked_clip(1, 20, 48, 64), 10, "ffv1")
    return tmp_path / "clip.avi"


def panels(path, frames, size=32):
    """Frames and borders of a .png: (uint8 [panels, frames, size, size, 3], border colours [panels, frames, 3])."""
    picture = video_io.read_image(path)
    videos = np.stack(np.split(picture, frames, axis=1))
    count = videos.shape[2] // (size + 2)
    videos = np.stack(np.split(videos, count, axis=2))
    return videos[:, :, 1:-1, 1:-1], videos[:, :, 0, 0]


def test_the_last_frames_are_observed(run_on, clip, tmp_path):
    run = run_on()
    result = forecast.forecast(run, clip, out=tmp_path / "future.npy")
    predicted = np.load(result.path)
    assert predicted.shape == (HORIZON, 32, 32, 1) and predicted.dtype == np.uint8
    assert layouts.marks(predicted)[1].tolist() == [19] * HORIZON
    assert result.scores == {} and result.notes == [] and result.observed is None
    drawn, borders = panels(forecast.forecast(run, clip, out=tmp_path / "future.png").path, CONTEXT + HORIZON)
    assert layouts.marks(drawn[0])[1].tolist() == [16, 17, 18, 19] + [19] * HORIZON and len(drawn) == 1
    assert borders[0].argmax(axis=-1).tolist() == [1] * CONTEXT + [0] * HORIZON


def test_the_stride_of_training_ends_at_the_last_frame(run_on, clip, tmp_path):
    result = forecast.forecast(run_on(frame_stride=3), clip, out=tmp_path / "future.png")
    drawn, _ = panels(result.path, CONTEXT + HORIZON)
    assert layouts.marks(drawn[0])[1].tolist() == [10, 13, 16, 19] + [19] * HORIZON


def test_a_video_goes_in_as_training_read_it(run_on, tmp_path):
    video_io.write_video(tmp_path / "disc.avi", disc(), 10, "ffv1")
    result = forecast.forecast(run_on(image_size=64), tmp_path / "disc.avi", out=tmp_path / "future.npy")
    assert extent(np.load(result.path)[0]) == (49, 49), "the disc was squeezed"


def test_from_a_start_on_the_truth_is_drawn_and_scored(run_on, clip, tmp_path):
    run = run_on()
    result = forecast.forecast(run, clip, out=tmp_path / "future.png", start=3)
    drawn, borders = panels(result.path, CONTEXT + HORIZON)
    assert layouts.marks(drawn[0])[1].tolist() == list(range(3, 13))
    assert layouts.marks(drawn[1])[1].tolist() == [3, 4, 5, 6] + [6] * HORIZON
    assert borders.argmax(axis=-1).tolist() == [[1] * 10, [1] * CONTEXT + [0] * HORIZON]
    assert result.observed == (3, 6) and result.scored == HORIZON and result.notes == []
    true, predicted = (drawn[i][CONTEXT:, ..., 0] / 255.0 for i in (0, 1))
    expected = np.mean(-10 * np.log10(np.mean((true - predicted) ** 2, axis=(1, 2))))
    for predictor in ("model", "copy_last"):
        assert result.scores[predictor]["psnr"]["mean"] == pytest.approx(expected, rel=1e-4)
        assert 0 < result.scores[predictor]["ssim"]["mean"] < 1


def test_the_truth_goes_as_far_as_the_video(run_on, clip, tmp_path):
    run = run_on()
    result = forecast.forecast(run, clip, out=tmp_path / "future.png", start=14)
    drawn, borders = panels(result.path, CONTEXT + HORIZON)
    assert layouts.marks(drawn[0][:6])[1].tolist() == list(range(14, 20)) and drawn[0][6:].max() == 0
    assert borders[0].max(axis=-1).astype(bool).tolist() == [True] * 6 + [False] * 4
    assert result.scored == 2 and "ends 2 frames after the observed ones, so 2 of the 6" in result.notes[0]
    whole = forecast.forecast(run, clip, horizon=2, out=tmp_path / "short.npy", start=14)
    assert whole.scores["model"]["psnr"]["mean"] == pytest.approx(result.scores["model"]["psnr"]["mean"])
    result = forecast.forecast(run, clip, out=tmp_path / "future.npy", start=16)
    assert result.scores == {} and "ends with the observed frames, so none of the 6" in result.notes[0]


def test_a_clip_of_the_data_set_takes_the_place_of_a_video(run_on, clip, tmp_path):
    run = run_on(name="moving_mnist", frame_stride=2)
    result = forecast.forecast(run, None, clip=7, start=3, horizon=30, out=tmp_path / "future.npy")
    frames = clips.test_clip(runs.find(run).config, 7, 40)
    assert frames.shape == (40, 32, 32, 1) and result.scored == 30 and result.observed == (3, 9)
    whole = clips.test_clip(runs.find(run).config, 7, CONTEXT, start=3)
    np.testing.assert_array_equal(np.load(result.path), np.repeat(whole[-1:], 30, axis=0))
    assert forecast.forecast(run, None, clip=7, horizon=2, out=tmp_path / "future.npy").observed == (0, 6)
    with pytest.raises(UserError, match="has clips 0 to 9999, and no clip 10000"):
        forecast.forecast(run, None, clip=10_000)
    with pytest.raises(UserError, match="give one of them"):
        cli.execute(["predict", "--logdir", str(run), "--video", str(clip), "--test-clip", "0"])


def test_metrics_that_do_not_fit_are_said(run_on, clip, tmp_path, monkeypatch):
    run = run_on(image_size=16)
    monkeypatch.setattr(forecast, "METRICS", ("psnr", "lpips"))
    result = forecast.forecast(run, clip, out=tmp_path / "future.npy", start=0)
    assert set(result.scores["model"]) == {"psnr"} and result.notes[0].startswith("lpips is left out")


def test_what_the_command_says(run_on, clip, tmp_path, capsys):
    run, out = str(run_on()), str(tmp_path / "future.gif")
    cli.execute(["predict", "--logdir", run, "--video", str(clip), "--start", "14", "--out", out])
    said = capsys.readouterr().out
    assert "2 true frames follow frame 17" in said and "psnr" in said and "copy_last" in said
    assert "so 2 of the 6 predicted ones can be scored" in said and f"written: {out}" in said
    cli.execute(["predict", "--logdir", run, "--video", str(clip), "--out", out])
    assert capsys.readouterr().out == f"written: {out}\n"


def test_wrong_places_get_a_sentence(run_on, clip, tmp_path):
    run = run_on(frame_stride=3, fps=5.0)
    for options, sentence in (
        ({"start": -1}, "--start=-1 must be a frame of the video"),
        ({"start": 30}, "has 0 frames from frame 30 on .*5 frames per second, one frame in 3.*or --start"),
        ({"context": 9}, "fewer than the 9 to observe; lower --open-loop-ctx$"),
        ({"context": 0}, "--open-loop-ctx, --horizon and --num-samples must be at least 1"),
        ({"horizon": 0}, "--open-loop-ctx, --horizon and --num-samples must be at least 1"),
        ({"seed": 2**63}, "--seed=9223372036854775808 must be from -9223372036854775808 to 9223372036854775807"),
        ({"out": "future.doc"}, "suffix must be"),
    ):
        with pytest.raises(UserError, match=sentence):
            forecast.forecast(run, clip, **options)


def test_the_folder_one_stands_in_is_a_video(run_on, tmp_path, monkeypatch):
    run, frames = run_on(), tmp_path / "frames"
    (frames / "inner").mkdir(parents=True)
    for i, frame in enumerate(layouts.marked_clip(1, 6)):
        video_io.write_video(frames / f"{i}.png", frame[None])
    for place, video in ((frames, "."), (frames / "inner", ".."), (frames, "inner/..")):
        monkeypatch.chdir(place)
        result = forecast.forecast(run, video)
        assert result.path == tmp_path / "frames_future.mp4" and result.path.is_file()
        result.path.unlink()


def test_nothing_is_written_among_the_videos_of_the_run(run_on, clip, tmp_path, monkeypatch, capsys):
    own = tmp_path / "own"
    own.mkdir()
    clip = clip.rename(own / "a b.avi")
    predict = ["predict", "--logdir", str(run_on(root=str(own))), "--video"]
    monkeypatch.chdir(tmp_path)
    cli.execute([*predict, str(clip)])
    assert capsys.readouterr().out == "written: a b_future.mp4\n" and (tmp_path / "a b_future.mp4").is_file()
    sentence = r"lies in data\.root, where it would be taken for .*; name a file in another folder with --out"
    with pytest.raises(UserError, match=f"^own/deep/x.npy {sentence}"):
        cli.execute([*predict, str(clip), "--out", "own/deep/x.npy"])
    monkeypatch.chdir(own)
    with pytest.raises(UserError, match=f"^a b_future.mp4 {sentence}"):
        cli.execute([*predict, clip.name])
    assert [path.name for path in own.iterdir()] == ["a b.avi"]
    cli.execute([*predict, clip.name, "--out", "../future.npy"])
    assert (tmp_path / "future.npy").is_file()


def test_the_clip_of_a_trained_model_is_not_thinned_again(run_on, tmp_path):
    run = run_on(name="moving_mnist", frame_stride=2)
    config = runs.find(run).config
    publish._save_clip(run, config)
    whole = clips.test_clip(config, 0, CONTEXT + HORIZON)
    result = forecast.forecast(run, run / "clip.gif", horizon=4, start=2, out=tmp_path / "future.png")
    drawn, _ = panels(result.path, CONTEXT + 4)
    np.testing.assert_array_equal(drawn[0, ..., :1], whole[2 : CONTEXT + 6])
    assert result.observed == (2, 5) and result.scored == 4
    # Elsewhere the same file is a video like any other.
    (tmp_path / "clip.gif").write_bytes((run / "clip.gif").read_bytes())
    assert forecast.forecast(run, tmp_path / "clip.gif", start=2, horizon=4, out=result.path).observed == (2, 8)


def test_the_data_set_of_a_test_clip_may_lie_elsewhere(run_on, tmp_path):
    for split in ("train", "validation", "test"):
        video_io.write_video(tmp_path / "own" / split / "a.avi", layouts.marked_clip(1, 12, 48, 64), 10, "ffv1")
    run, out = str(run_on(cache=str(tmp_path / "cache"))), str(tmp_path / "future.npy")
    with pytest.raises(UserError, match="folder is read from files, .* name their folder with --datadir"):
        cli.execute(["predict", "--logdir", run, "--test-clip", "0"])
    cli.execute(["predict", "--logdir", run, "--datadir", str(tmp_path / "own"), "--out", out])
    assert layouts.marks(np.load(out))[1].tolist() == [CONTEXT - 1] * HORIZON
    with pytest.raises(UserError, match="--video and --datadir both name"):
        cli.execute(["predict", "--logdir", run, "--datadir", "own", "--video", "a.avi"])


def test_a_test_split_without_clips_gets_a_sentence(run_on, tmp_path):
    for split in ("train", "validation"):
        video_io.write_video(tmp_path / "own" / split / "a.avi", layouts.marked_clip(1, 12, 48, 64), 10, "ffv1")
    run = run_on(root=str(tmp_path / "own"), cache=str(tmp_path / "cache"))
    with pytest.raises(UserError, match="the test split of folder is empty"):
        forecast.forecast(run, None, clip=0)
