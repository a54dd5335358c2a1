"""Tables in every format, curves, and the pages of evaluations and comparisons."""

import base64
import html.parser
import io
import json
import re
import shutil
import subprocess
import types

import numpy as np
import pytest
from PIL import Image

from tests.golden import ROOT
from tfvp.evaluation import comparison_report, curves, examples, facts, pages, player, tables, vector

VOID = {"meta", "input", "br", "img", "hr", "link"}
SHAPES = {"line", "polyline", "polygon", "circle"}  # written with a slash


def summary(mean, curve=(), **more):
    return {"mean": mean, "interval": [mean - 0.1, mean + 0.2], "curve": list(curve), "curve_std": None, **more}


def document():
    """Contents of a metrics.json with everything that a page shows."""
    extremes = {"samples": 5, "best": {"mean": 31.0, "interval": [30.9, 31.1]}, "worst": {"mean": 21.0, "ci95": 0.25}}
    return {
        "format": 2,
        "protocol": {
            "name": "svg_smmnist",
            "source": "Denton & Fergus <2018>",
            "split": "test",
            "context": 5,
            "seq_len": 15,
            "samples": 5,
            "clips": 24,
            "mode": "open_loop",
        },
        "modified": {"samples": {"protocol": 100, "used": 5}},
        "tag": "few",
        "model": {
            "psnr": summary(26.0, unit="dB", convention="range 1", **extremes),
            "mse": summary(0.5),
            "psnr_uint8_wrap": summary(99.0, broken="it wraps"),
        },
        "copy_last": {"psnr": summary(20.0), "mse": summary(0.25), "psnr_uint8_wrap": summary(5.0)},
        "notes": ["lpips is left out"],
        "data": {"name": "stochastic_mnist", "image_size": [64, 64], "channels": 1, "clips_sha256": "c0ffee" * 10},
        "networks": [{"name": "alexnet", "file": "a.npz", "sha256": "beef"}],
        "run": {
            "model": "svg",
            "parameters": 12_345_678,
            "weights": "best",
            "epoch": 7,
            "weights_sha256": "ab12cd34ef56" * 5,
            "precision": "float32",
            "tf32": False,
            "device": "GPU:0 (H100)",
            "commit": "abc123",
            "started": "2026-11-25T03:59:54+0000",
        },
    }


def two_curves():
    line = np.array([26.0, 25.0, np.nan, 23.0])
    panels = {
        "psnr": [curves.Series("model", line, line - 1, line + 1), curves.Series("copy_last", line - 5, colour=1)]
    }
    return curves.Curves(panels, {"psnr": tables.Heading("psnr", "dB", 1)}, curves.axis_label(5))


def moving_videos():
    """Two videos of three clips; every frame differs."""
    grey = np.arange(60, dtype=np.uint8)[None, :, None, None, None] * 4
    video = np.broadcast_to(grey, (3, 60, 16, 16, 1)).copy()
    return {"truth": video, "one": 255 - video}


def clips():
    videos = moving_videos()
    panels = [player.Panel("truth", videos["truth"][0], truth=True), player.Panel("prediction", videos["one"][0])]
    return [player.Clip("Best clip by psnr: 31", "walking/<b>.avi@120", panels, (0, 1))]


class Reader(html.parser.HTMLParser):
    """Collects what a page holds, and fails where elements are not closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.count, self.cells, self.text = [], {}, [], []
        self.addresses, self.unnamed = [], []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.count[tag] = self.count.get(tag, 0) + 1
        self.addresses += [attributes[key] for key in ("src", "href") if key in attributes]
        named = any(key in attributes for key in ("aria-label", "aria-hidden", "alt"))
        if tag in ("canvas", "img", "svg") and not named:
            self.unnamed.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        assert tag in SHAPES, tag

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, (tag, self.open)

    def handle_data(self, data):
        if "td" in self.open or "th" in self.open:
            self.cells[-1] += data
        if not {"script", "style"} & set(self.open):
            self.text.append(data)


def read(page):
    """A page's `Reader`, after the checks that every page must pass."""
    reader = Reader(page)
    assert all(address.startswith(("#", "data:")) for address in reader.addresses)
    assert not re.search(r"https?://|url\(|@import|\bfetch\(|//[a-z]+\.", page)
    assert "prefers-color-scheme: dark" in page and 'name="viewport"' in page
    assert not reader.unnamed
    return reader


def test_a_page_says_what_was_evaluated_and_how_well():
    page = pages.evaluation(document(), two_curves(), clips(), 20, 8.0)
    reader, said = read(page), " ".join("".join(read(page).text).split())
    for words in (
        "Open-loop evaluation of svg on stochastic_mnist",
        "samples 5 instead of 100",
        "svg_smmnist, modified, few",
        "stochastic_mnist, 64×64, grey",
        "24 of the test split, list c0ffeec0ffee",
        "svg, 12.35 M parameters",
        "best, epoch 7, SHA-256 ab12cd34ef56",
        "float32, TF32 off",
        "GPU:0 (H100)",
        "commit abc123",
        "2026-11-25 03:59 +0000",
        "lpips is left out",
        "psnr_uint8_wrap is a broken convention: it wraps",
        "Bands: 95 % interval of the mean over clips.",
        "walking/<b>.avi@120",
        "difference: truth − prediction",
    ):
        assert words in said, words
    cells = [" ".join(cell.split()) for cell in reader.cells]
    assert "26.00[25.90, 26.20]" in cells and "psnr (dB) ↑" in cells and "psnr_uint8_wrap (dB) ↑ broken" in cells
    assert "31.00[30.90, 31.10]" in cells and "21.00[20.75, 21.25]" in cells
    assert re.findall(r'<td class="best"><strong>(\S+)</strong>', page) == ["26.00", "0.2500"]
    assert reader.count["table"] == 1 and reader.count["canvas"] == 3 and page.count('class="panel"') == 1
    teacher_forced = document()
    teacher_forced["protocol"]["mode"] = "teacher_forced"
    assert facts.mode(teacher_forced) == "Teacher-forced" and "each of 15 frames" in tables.describe(teacher_forced)


def test_a_page_does_with_what_an_old_document_says():
    old = {key: document()[key] for key in ("protocol", "model", "copy_last")}
    read(pages.evaluation(old, curves.Curves({}, {}, ""), [], 5, 8.0))


def test_tables_mark_the_best_and_show_intervals():
    table = tables.of_evaluation(document())
    text = tables.text(table)
    assert re.search(r"26\.00 ± 0\.15\*", text) and re.search(r"0\.2500 ± 0\.1500\*", text) and "* best" in text
    assert "psnr_uint8_wrap (dB) (broken)" in text and "99.00 ± 0.15*" not in text
    assert "  model, best of 5" in text and len({len(line) for line in text.splitlines()[1:2]}) == 1
    markdown = tables.markdown(table).splitlines()
    assert markdown[0].startswith("| predictor | psnr (dB) ↑ | mse ↓ | psnr\\_uint8\\_wrap (dB) ↑ (broken) |")
    assert markdown[2].startswith(r"| model | **26.00** \[25.90, 26.20\] | 0.5000 ")
    assert {line.count(" | ") for line in markdown[:1] + markdown[2:6]} == {3} and "Modified: samples 5" in markdown[-1]
    latex = tables.latex(table)
    assert r"\textbf{26.00} {\scriptsize [25.90, 26.20]}" in latex and r"psnr (dB) $\uparrow$" in latex
    assert r"Protocol svg\_smmnist" in latex and r"95 \% intervals" in latex
    body = latex[latex.index(r"\toprule") : latex.index(r"\bottomrule")]
    assert {line.count("&") for line in body.splitlines() if line.endswith(r"\\")} == {3}
    assert latex.count("{") == latex.count("}")


def test_a_table_of_many_metrics_has_a_row_for_each():
    described = document()
    extremes = {"samples": 5, "best": {"mean": 3.0}, "worst": {"mean": 1.0}}
    metrics = ["psnr", "ssim", "ssim_finn", "mse", "mae", *(f"other_{i}" for i in range(6))]
    described["model"] = {metric: summary(2.0, **extremes) for metric in metrics}
    described["copy_last"] = {metric: summary(2.5) for metric in metrics}
    table = tables.of_evaluation(described)
    expected = ["model", "model, best of 5", "model, worst of 5", "copy_last", "reported by"]
    assert [column.name for column in table.columns] == expected and len(table.rows) == len(metrics)
    assert re.search(r"ssim_finn +2\.000 ± 0\.150 +3\.000 +1\.000 +2\.500 ± 0\.150\* +svg_smmnist", tables.text(table))
    assert [cell.best for cell in table.rows[3].cells] == [True, False, False, False, False]
    read(pages.evaluation(described, two_curves(), [], 5, 8.0))


def test_numbers_keep_their_digits():
    assert [tables.format_number(v) for v in (None, 0.5, 27.1, 999.96, 123456.7, 1e-7)] == [
        "-",
        "0.5000",
        "27.10",
        "1000",
        "123456.7",
        "1.000e-07",
    ]
    row = tables.Row(tables.Heading("a"), [tables.Cell(2e-5, (1e-5, 3e-5))])
    assert "2.000e-05 ± 1.000e-05" in tables.text(tables.Table("", [tables.Heading("b")], [row], "", ""))


def test_a_predictor_without_a_metric_has_a_row():
    described = {"model": {"miou": summary(0.5)}, "blank": {}}
    assert re.search(r"^blank +-$", tables.text(tables.of_evaluation(described)), re.MULTILINE)


def test_curves_break_where_a_mean_is_unknown():
    drawn = vector.panels(two_curves())["psnr"]
    lines = re.findall(r'<polyline class="curve s0 main" points="([^"]*)"', drawn)
    assert [len(line.split()) for line in lines] == [2, 1]
    assert drawn.count('class="band') == 2 and "nan" not in drawn
    assert "model from 26 to 23" in drawn
    assert vector.ticks(0.02, 0.09) == pytest.approx([0.02, 0.04, 0.06, 0.08])
    assert vector.frame_ticks(10) == [1, 4, 6, 8, 10] and vector.frame_ticks(1) == [1]
    assert vector.frame_ticks(300)[-1] == 300 and len(vector.frame_ticks(300)) < 9


def test_bands_take_clips_of_one_film_together():
    random = np.random.default_rng(0)
    values = (random.normal(size=(4, 1, 1, 1)) + 0.01 * random.normal(size=(4, 5, 3, 6))).reshape(20, 3, 6)
    values[0, :, 5] = np.nan
    curve = list(values.mean(axis=(0, 1)))
    result = types.SimpleNamespace(summaries={"mse": summary(0.0, curve)}, values={"mse": values})
    result.summaries["mse"]["curve_std"] = [1.0] * 6
    films = np.repeat(["a", "b", "c", "d"], 5)
    widths = []
    for sources in (np.arange(20), films):
        figure = curves.of_scores({"model": result}, "frame", list(sources))
        (one,) = figure.panels["mse"]
        widths.append((one.high - one.low)[:5])
        assert np.isnan(one.low[5]) and np.isnan(one.high[5]), "a band around a mean that is not known"
        assert ("films" in figure.band) == (sources is films)
    # Four films of five equal clips: sqrt(5) less independent numbers, and a wider quantile (3.18 against 2.09).
    assert np.all((2.5 < widths[1] / widths[0]) & (widths[1] / widths[0] < 4.5))
    result.values["mse"][:] = np.nan
    assert curves.of_scores({"model": result}, "frame", list(films)).panels["mse"][0].low is None


def test_shown_clips_are_the_best_the_median_and_the_worst():
    random = np.random.default_rng(0)
    values = random.uniform(size=(9, 4, 6)).astype(np.float32)
    means = values.mean(axis=(1, 2))
    order = np.argsort(means)
    for metric, expected in (("mse", order), ("psnr", order[::-1]), ("psnr_pooled", order)):
        shown = examples.choose(types.SimpleNamespace(values={metric: values}), ("fvd", metric))
        assert [e.rank for e in shown] == ["best", "median", "worst"]
        assert [e.clip for e in shown] == [expected[0], expected[4], expected[-1]]
        mean = means[shown[0].clip]
        assert shown[0].value == pytest.approx(-10 * np.log10(mean) if metric == "psnr_pooled" else mean, rel=1e-5)
        by_sample = values[shown[1].clip].mean(axis=1)
        best, worst = (
            (by_sample.argmax(), by_sample.argmin()) if metric == "psnr" else (by_sample.argmin(), by_sample.argmax())
        )
        assert list(shown[1].samples.values()) == [0, best, worst]
    few = examples.choose(types.SimpleNamespace(values={"mse": values[:2, :1]}), ("mse",))
    assert [e.rank for e in few] == ["best", "worst"] and list(few[0].samples) == ["prediction"]
    values[order[0], 0, -1] = np.nan
    for metric in ("mse", "psnr"):
        worst = examples.choose(types.SimpleNamespace(values={metric: values}), (metric,))[-1]
        assert worst.clip == order[0] and list(worst.samples.values())[2] == 0 != list(worst.samples.values())[1]


def test_a_video_comes_back_from_its_picture():
    video = np.random.default_rng(0).integers(0, 256, (50, 12, 100, 3)).astype(np.uint8)
    for clip in (video, video[..., :1]):
        sheet = player._sheet(clip, exact=True)
        picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(sheet["source"].split(",")[1]))))
        frames = [
            picture[t // sheet["columns"] * 12 :, t % sheet["columns"] * 100 :][:12, :100].reshape(12, 100, -1)
            for t in range(50)
        ]
        np.testing.assert_array_equal(np.stack(frames), clip)


def comparison_document():
    difference = {"mean": 1.5, "interval": [1.0, 2.0], "p": 0.0123, "p_holm": 0.0005, "p_floor": 0.0005}
    metrics = [{"psnr": summary(26.0)}, {"psnr": summary(27.5, difference=difference)}]
    runs = {name: {"path": f"logs/{name}", "metrics": m} for name, m in zip(("one", "two"), metrics)}
    return {
        "protocol": document()["protocol"],
        "confidence": 95.0,
        "compares": "checkpoints",
        "statistics": ["Trained checkpoints are compared."],
        "runs": runs,
    }


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """The folder of a comparison of moving videos."""
    folder, line = tmp_path_factory.mktemp("comparison"), np.linspace(30.0, 20.0, 40)
    bands = {"psnr": {"one": (line, line - 1, line + 1), "two": (line + 1, line, line + 2)}}
    described = comparison_document()
    comparison_report.write(folder, described, bands, moving_videos(), ["drawn:test:3", "drawn:test:8"], 20)
    return folder


def test_a_comparison_is_a_page_and_tables(compared):
    reader = read((compared / "report.html").read_text(encoding="utf-8"))
    cells = [" ".join(cell.split()) for cell in reader.cells]
    assert "27.50[27.40, 27.70]" in cells and "1.500[1.000, 2.000]" in cells and ".0123" in cells
    said = "".join(reader.text)
    assert "2 runs compared under protocol svg_smmnist" in said and "Trained checkpoints are compared." in said
    assert "drawn:test:8" in said and reader.count["canvas"] == 6
    assert ".0123" in (compared / "table.md").read_text(encoding="utf-8")
    assert r"\textbf{27.50}" in (compared / "table.tex").read_text(encoding="utf-8")
    assert json.loads((compared / "comparison.json").read_text())["confidence"] == 95.0


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """The beginning of a command that opens a page in Chromium."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium is installed")
    profile = tmp_path_factory.mktemp("profile")
    common = [program, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
    return [*common, "--disable-background-networking", "--disable-sync", "--no-first-run", "--window-size=900,1900"]


WRAPPER = """<!doctype html><body><iframe src="report.html" style="border:0;width:390px;height:2000px"></iframe><script>
onload = () => {
  const page = document.querySelector('iframe').contentDocument, root = page.documentElement;
  document.body.dataset.width = root.scrollWidth;
  document.body.dataset.ground = page.defaultView.getComputedStyle(page.body).backgroundColor;
};</script></body>"""


@pytest.mark.parametrize("scheme, ground", [("1", "rgb(255, 255, 255)"), ("0", "rgb(20, 23, 28)")])
def test_a_page_fits_a_phone_and_follows_the_scheme(browser, compared, scheme, ground):
    (compared / "wrapper.html").write_text(WRAPPER)
    options = ["--allow-file-access-from-files", f"--blink-settings=preferredColorScheme={scheme}", "--dump-dom"]
    call = [*browser, *options, "--virtual-time-budget=500", f"file://{compared / 'wrapper.html'}"]
    text = subprocess.run(call, timeout=50, check=True, capture_output=True, text=True).stdout
    assert int(re.search(r'data-width="(\d+)"', text)[1]) <= 390 and f'data-ground="{ground}"' in text


def test_videos_play_in_a_browser(browser, compared, tmp_path):
    common = browser
    address, shots = f"file://{compared / 'report.html'}", []
    for budget in (400, 4000):
        picture = tmp_path / f"{budget}.png"
        options = [f"--virtual-time-budget={budget}", f"--screenshot={picture}"]
        subprocess.run([*common, *options, address], timeout=50, check=True, cwd=ROOT)
        shots.append(np.asarray(Image.open(picture).convert("L"), np.int16))
    assert np.mean(np.abs(shots[0] - shots[1]) > 20) > 0.02, "the canvases show the same frame at both times"
    dump = [*common, "--virtual-time-budget=4000", "--dump-dom", address]
    for _ in range(3):  # on a busy machine the page's virtual time may be over before its pictures are decoded
        text = subprocess.run(dump, timeout=50, check=True, capture_output=True, text=True).stdout
        frame, drawn = (int(re.search(rf'data-{key}="(\d+)"', text)[1]) for key in ("frame", "drawn"))
        if frame:
            break
    assert 20 < frame < 60 and drawn % 6 == 0 and drawn > 6
    assert f"frame {frame + 1} of 60, predicted" in text and text.count('class="predicted"') == 3
    assert "visibility: visible" in text, "the curves' cursor does not follow the videos"
