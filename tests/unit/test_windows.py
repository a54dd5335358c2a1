"""Windows of long clips: in proportion to length, never twice in a pass, in little memory; published kinds as ever."""

import collections
import tracemalloc

import numpy as np
import pytest

from tests.unit.test_pipeline import Counting, parsed
from tfvp import config
from tfvp.evaluation import evaluator, selection
from tfvp.metrics import protocols
from tfvp.pipeline import batching, draws, windows

# (clip, first frame, mirrored) of two epochs of four, of clips of 9, 3, 30, 7 and 15 frames in windows of 5: the kinds
# that published configurations name draw what they always drew.
DRAWN = {
    ("random", False): "3/2 2/7m 4/0m 0/0m 0/1m 2/18m 4/5m 3/1",
    ("random", True): "13/1 12/21 10/0 14/5 15/0m 19/2 17/19 18/2",
    ("split", False): "2/5m 2/0m 2/20m 4/5 2/10 2/15m 2/25m 2/5",
    ("split", True): "7/5m 9/10 7/25m 7/0 5/0m 7/20 7/10m 9/0",
    ("first", False): "3/0m 2/0m 4/0 0/0m 0/0m 2/0 4/0m 3/0m",
    ("first", True): "13/0m 12/0 10/0m 14/0 15/0m 19/0 17/0 18/0m",
}


def drawn(lengths, window, epochs, examples, seed=7, span=5, endless=False):
    """[(clip, first frame)] of each of so many epochs."""
    found = windows.TrainingWindows(Counting({"train": lengths}, endless), "train", span, 1, window, seed, examples)
    epochs = [found.at(epoch, np.arange(examples)) for epoch in range(epochs)]
    return [list(zip(epoch.clips.tolist(), epoch.starts.tolist())) for epoch in epochs]


@pytest.mark.parametrize("window, endless", DRAWN)
def test_published_kinds_draw_the_windows_that_they_always_drew(window, endless):
    found = windows.TrainingWindows(
        Counting({"train": [9, 3, 30, 7, 15]}, endless), "train", 3, 2, window, 7, examples=8
    ).at(1, np.arange(8))
    rows = zip(found.clips, found.starts, found.mirrored)
    text = " ".join(f"{clip}/{start}{'m' if mirrored else ''}" for clip, start, mirrored in rows)
    assert text == DRAWN[window, endless]
    if (window, endless) == ("random", False):
        first = windows.TrainingWindows(Counting({"train": [9, 3, 30, 7, 15]}), "train", 3, 2, window, 7, 8)
        places = first.at(2, np.arange(8)).places
        np.testing.assert_allclose(places[3], [0.3610510014197539, 0.460160509187712], rtol=0)
        np.testing.assert_allclose(places.sum(), 7.968152246286581)


def test_a_long_film_counts_by_its_length():
    """A film of 9,000 frames beside ten clips of 100: nine tenths of what is drawn are the film's, not a tenth."""
    lengths = [100] * 10 + [9000]
    (found,) = drawn(lengths, "by_length", 1, 1000, span=20)
    assert collections.Counter(clip for clip, _ in found) == {**dict.fromkeys(range(10), 10), 10: 900}
    assert len(set(found[:500])) == len(set(found[500:])) == 500  # each pass has none of its windows twice
    assert sum(clip == 10 for clip, _ in found[:100]) > 80


def test_every_start_is_as_likely_as_any_other_and_each_pass_has_others():
    passes = drawn([23], "by_length", 3000, 4)
    assert all(len(set(one)) == 4 for one in passes)
    counts = np.bincount([start for one in passes for _, start in one], minlength=19)
    expected = 3000 * 4 / 19
    assert len(counts) == 19 and np.abs(counts / expected - 1).max() < 0.2  # five deviations
    assert len({tuple(sorted(one)) for one in passes}) > 1000


def test_a_million_windows_take_no_memory():
    data = Counting({"train": [20_000_000, 20, 40]})
    tracemalloc.start()
    try:
        found = windows.TrainingWindows(data, "train", 20, 1, "by_length", 1, 1 << 20)
        assert found.windows == 1_000_003
        some = [found.at(0, np.arange(first, first + 64)) for first in (0, 999_970, 10**6)]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10**6
    assert all((0 <= w.starts).all() and (w.starts <= data.lengths["train"][w.clips] - 20).all() for w in some)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 64, 1000, 4097])
def test_shuffled_places_are_an_order(n):
    whole = draws.shuffled(np.arange(n), n, "key", 3)
    assert sorted(whole.tolist()) == list(range(n))
    some = np.arange(n)[:: max(1, n // 7)]
    np.testing.assert_array_equal(draws.shuffled(some, n, "key", 3), whole[some])
    if n > 3:
        assert whole.tolist() != draws.shuffled(np.arange(n), n, "key", 4).tolist()


def test_shuffled_places_are_all_equally_likely():
    counts = np.zeros((5, 5))
    for key in range(2000):
        counts[np.arange(5), draws.shuffled(np.arange(5), 5, key)] += 1
    assert np.abs(counts / 400 - 1).max() < 0.25  # five deviations


def rows(columns):
    return list(zip(*(column.tolist() for column in columns)))


def test_a_sample_is_of_all_clips_and_not_of_the_first_names():
    """As Human3.6M's: 60 clips of each of 40 films, whose first 64 names are of two films."""
    data = Counting({"validation": [8] * 60 * 40})
    clips, starts, ids = windows.sample(data, "validation", 8, count=64)
    assert len(set(clips // 60)) == 40 and len(set(clips)) == 64 and not starts.any()
    np.testing.assert_array_equal(ids, clips)


def test_validation_is_a_sample_unless_the_data_set_lists_its_windows():
    data = Counting({"train": [8] * 2000, "validation": [8] * 2000})
    for split in ("train", "validation"):
        found = windows.validation(data, split, 8, count=64)
        assert rows(found) == rows(windows.sample(data, split, 8, count=64)) and max(found[0]) > 1000
    data.validation_windows = lambda length, stride: (np.array([3, 3, 4]), np.array([0, 5, 0]))
    assert rows(windows.validation(data, "validation", 3, count=2)) == [(3, 0, 0), (3, 5, 1)]
    assert rows(windows.validation(data, "train", 8, count=2)) == rows(windows.sample(data, "train", 8, count=2))


def test_a_long_clip_is_many_windows():
    """As KITTI's three test recordings, of which 20 frames each were tested."""
    data = Counting({"test": [314, 100, 420, 19]})
    found = rows(windows.sample(data, "test", 10, 2))
    assert [(clip, start) for clip, start, _ in found] == [
        (clip, start) for clip, frames in ((0, 314), (1, 100), (2, 420), (3, 19)) for start in range(0, frames - 18, 19)
    ]
    assert len({name for _, _, name in found}) == len(found) == 16 + 5 + 22 + 1
    assert all(name == clip for clip, start, name in found if not start)
    some = rows(windows.sample(data, "test", 10, 2, 30))
    assert set(some) < set(found) and len(set(some)) == 30 and max(start for _, start, _ in some) > 300
    assert some[:12] == rows(windows.sample(data, "test", 10, 2, 12))
    two = Counting({"test": [18, 18]})
    assert {clip for clip, _, _ in rows(windows.sample(two, "test", 6, count=3))} == {0, 1}


@pytest.mark.parametrize("total", [2, 3, 4, 6, 30, 64, 97, 1000])
def test_every_beginning_of_a_sample_is_spread_evenly_and_has_no_window_twice(total):
    data = Counting({"test": [5 * total]})
    for count in (1, 2, total // 2, total - 1):
        places = np.sort(windows.sample(data, "test", 5, count=count)[1] // 5)
        assert len(set(places)) == count
        gaps = np.diff([*places, places[0] + total])
        assert gaps.max() <= max(2, 2 + 2 * total / count)  # at random, five times the mean is common


def test_clips_of_one_window_each_are_taken_as_ever_where_all_are_taken():
    data = Counting({"test": [20, 25, 39, 3, 30]})
    for count in (0, 4, 100):
        found = windows.sample(data, "test", 20, count=count)
        assert rows(found) == rows(batching.evaluation_windows(data, "test", 20, count))
    drawn = Counting({"test": [50] * 9}, endless=True)  # computed clips are a random draw as they are
    assert rows(windows.sample(drawn, "test", 20, count=4)) == [(n, 0, n) for n in range(4)]


def test_a_sample_is_read_where_it_says():
    data = Counting({"test": [50, 9, 31]})
    chosen = windows.sample(data, "test", 4, 2, 5)
    batches, count = batching.evaluation_batches(data, "test", batch_size=2, length=4, stride=2, windows=chosen)
    read = [parsed(batch) for batch in batches]
    first = [(clip[0], frame[0]) for _, clips, frames, _ in read for clip, frame in zip(clips, frames)]
    assert count == 5 and first[:5] == [(clip, start) for clip, start, _ in rows(chosen)]
    assert [i for batch in batches for i in batch["id"].numpy().tolist()][:5] == chosen[2].tolist()


@pytest.fixture
def selected(monkeypatch):
    """A function from options of a configuration and a protocol to the `Selection`, of nine long clips."""

    def select(name=None, **options):
        loaded = config.from_dict({"data": {"name": "kth", "root": "."}, "eval": options})
        data = Counting({"test": [400 + 100 * n for n in range(9)]})
        monkeypatch.setattr(selection, "build_dataset", lambda config: data)
        return selection.Selection(loaded, evaluator.choose_protocol(loaded, name))

    return select


def test_published_protocols_take_the_windows_that_they_always_took(selected):
    rules = {name: protocol.windows for name, protocol in protocols.PROTOCOLS.items() if protocol.windows}
    lee = ("hierarchical_kitti", "hierarchical_kitti_40", "hierarchical_pose")
    published = {"openstl_kitti_caltech": "back_to_back", "srvp_kth": "srvp", "hierarchical_cityscapes": "annotated"}
    assert rules == {**published, **dict.fromkeys(lee, "every_fifth")}
    for name in ("htsr_264", "svg_kth", "next_frame_tf"):
        found = selected(name)
        assert found.clips.ids == [f"drawn:test:{n}" for n in range(9)] and not found.clips.starts.any()


def test_the_default_protocol_takes_a_recorded_sample(selected):
    found = selected(num_examples=20)
    described = found.describe()
    assert found.protocol.windows == windows.SAMPLE and described["sample_seed"] == windows.SAMPLE_SEED
    chosen = windows.sample(found.dataset, "test", 20, 1, 20)
    assert described["windows"] == [[f"drawn:test:{clip}", start] for clip, start, _ in rows(chosen)]
    assert len({clip for clip, _ in described["windows"]}) > 5 and found.clips.starts.max() > 200
    (batch,) = found._read(batch_size=20)
    np.testing.assert_array_equal(parsed(batch)[2][:, 0], found.clips.starts)
    again, other = (selected(num_examples=n).clips.digests() for n in (20, 19))
    assert found.clips.digests() == again != other
    as_before = selected(num_examples=5, windows="first")
    assert as_before.describe()["windows"] == [[f"drawn:test:{n}", 0] for n in range(5)]
    assert as_before.protocol.windows == "" and "sample_seed" not in as_before.describe()


def test_drawn_clips_are_tested_in_their_order():
    assert protocols.from_config(config.from_dict({"data": {"name": "stochastic_mnist"}})).windows == ""
    assert protocols.from_config(config.from_dict({"data": {"name": "folder"}})).windows == windows.SAMPLE
