"""tfvp data --cache: what is listed of decoded frames, and that nothing else is ever removed."""

import datetime
import json
import os
import sys

import numpy as np
import pytest

from tests.unit.test_shard_cache import as_format_1
from tests.unit.test_shards import SHAPE, decode, raw_files
from tfvp import cli, files, locks
from tfvp.errors import UserError
from tfvp.pipeline import caches, shards

YEAR_AGO = (datetime.datetime.now() - datetime.timedelta(days=365)).timestamp()


def prepared(place, name, raw, **more):
    settings = {"dataset": name, "image_size": [6, 8], "channels": 1, "fps": 5.0}
    store = shards.Store(place / f"{name}-6x8x1", settings, {"video": (np.uint8, SHAPE)}, root=raw, **more)
    sources = raw_files(raw, 2)
    store.prepare(sources, decode, progress=False)
    return store, sources


@pytest.fixture
def cache(tmp_path):
    """A cache with folders of every state: {state: path}."""
    place = tmp_path / "cache"
    old_place = place / "0123abcd"
    old_place.mkdir(parents=True)
    paths = {}
    paths["current"] = prepared(place, "toy", tmp_path / "raw", view="0123abcd")[0].folder
    store, sources = prepared(place, "old", tmp_path / "raw")
    paths["format 1"] = as_format_1(store, sources, {"fraction": 0.1}, old_place)
    paths["damaged"] = prepared(place, "hurt", tmp_path / "raw")[0].folder
    next(paths["damaged"].glob("shard-*.npy")).write_bytes(b"")
    paths["incomplete"] = prepared(place, "half", tmp_path / "raw")[0].folder
    (paths["incomplete"] / "manifest.json").unlink()
    os.utime(paths["incomplete"] / ".used", (YEAR_AGO, YEAR_AGO))
    (place / "not-ours-1x1x1").mkdir()
    return paths


def run(capsys, *arguments):
    cli.execute(["data", *map(str, arguments)])
    return capsys.readouterr().out


def test_every_state_is_told(cache, tmp_path):
    listed = {one.state: one for one in caches.listed([tmp_path / "cache"])}
    assert {state: one.path for state, one in listed.items()} == {state: str(path) for state, path in cache.items()}
    one = listed["current"]
    assert (one.dataset, one.settings["fps"], one.roots, one.current) == ("toy", 5.0, [str(tmp_path / "raw")], True)
    assert one.bytes == sum(p.stat().st_size for p in cache["current"].iterdir()) and one.age() < 1
    assert listed["incomplete"].dataset == "half" and 364 < listed["incomplete"].age() < 366
    assert not any(listed[state].current for state in ("incomplete", "damaged", "format 1"))


def test_the_command_lists_as_text_and_as_json(cache, tmp_path, capsys, monkeypatch):
    text = run(capsys, "--cache", tmp_path / "cache")
    for part in ("toy-6x8x1-", "current, last used 20", f"decoded from {tmp_path}/raw", "fps=5.0", "4 folders, "):
        assert part in text
    (tmp_path / "raw").rename(tmp_path / "elsewhere")
    assert f"{tmp_path}/raw (gone)" in run(capsys, "--cache", tmp_path / "cache")
    monkeypatch.setenv("TFVP_CACHE", str(tmp_path / "cache"))
    shown = json.loads(run(capsys, "--cache", "--json"))
    assert sorted(one["state"] for one in shown) == sorted(cache) and sum(one["current"] for one in shown) == 1
    monkeypatch.setenv("TFVP_CACHE", str(tmp_path / "nothing"))
    assert "no decoded frames" in run(capsys, "--cache") and json.loads(run(capsys, "--cache", "--json")) == []


def test_named_ones_are_removed_and_nothing_else(cache, tmp_path, capsys):
    before = caches.listed([tmp_path / "cache"])
    (cache["damaged"] / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="no folder of decoded frames is called toy"):
        run(capsys, "--cache", tmp_path / "cache", "--remove", "toy", "--yes")
    with pytest.raises(UserError, match="nothing is removed; --yes"):
        run(capsys, "--cache", tmp_path / "cache", "--remove", cache["current"].name)
    assert caches.listed([tmp_path / "cache"])[0].bytes == before[0].bytes and cache["current"].is_dir()
    names = cache["current"].name, str(cache["damaged"])
    assert "removed" in run(capsys, "--cache", tmp_path / "cache", "--remove", *names, "--yes")
    assert not cache["current"].exists() and cache["format 1"].is_dir() and cache["incomplete"].is_dir()
    assert [path.name for path in cache["damaged"].iterdir()] == ["notes.txt"] and (tmp_path / "raw" / "0.avi").exists()


@pytest.mark.parametrize("answer", ["y\n", "\n"])
def test_it_asks_first(cache, tmp_path, capsys, monkeypatch, answer):
    class Terminal:
        def isatty(self):
            return True

        def readline(self):
            return answer

    monkeypatch.setattr(sys, "stdin", Terminal())
    arguments = ("--cache", tmp_path / "cache", "--remove", cache["current"].name)
    if answer == "\n":
        with pytest.raises(UserError, match="nothing is removed"):
            run(capsys, *arguments)
    else:
        run(capsys, *arguments)
    assert cache["current"].exists() == (answer == "\n")


def test_old_ones_are_removed(cache, tmp_path, capsys):
    removed = json.loads(run(capsys, "--cache", tmp_path / "cache", "--remove-old", "30", "--yes", "--json"))
    assert sorted(one["state"] for one in removed) == ["format 1", "incomplete"]
    assert not cache["format 1"].parent.exists() and cache["damaged"].is_dir() and cache["current"].is_dir()
    assert json.loads(run(capsys, "--cache", tmp_path / "cache", "--remove-old", "30", "--json")) == []


def test_what_another_process_fills_is_not_removed(cache, tmp_path, capsys):
    with locks.locked(cache["current"]), pytest.raises(UserError, match="is decoding into .* it is not removed"):
        run(capsys, "--cache", tmp_path / "cache", "--remove", cache["current"].name, "--yes")
    assert len(list(cache["current"].glob("shard-*"))) > 1


def test_flags_that_go_together(capsys):
    with pytest.raises(UserError, match="go with --cache"):
        run(capsys, "--remove", "x")
    with pytest.raises(UserError, match="which data set"):
        run(capsys)


@pytest.mark.parametrize(
    "count, text", [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (123_456, "123 kB"), (999_960_000, "1.0 GB")]
)
def test_sizes_in_words(count, text):
    assert files.readable_size(count) == text and files.readable_size(147e12) == "147.0 TB"
