"""The studio's page in a browser."""

import json
import time

import pytest

from tests.system import studio_page
from tests.system.studio_page import FRAMES, HORIZON, MODEL, Keys, Page, current, ui
from tfvp import video_io
from tfvp.studio import limits

SIGNED_IN = "alice:secret@"  # in an address

pytestmark = [pytest.mark.current_stack, studio_page.needs_browser]

logdir, address, film = studio_page.logdir, studio_page.address, studio_page.film
another_browser, browser = studio_page.another_browser, studio_page.browser


@pytest.fixture(scope="module")
def predicted(browser, address):
    """The page after its first prediction."""
    page = Page(browser, address)
    page.predict()
    return page


def test_the_first_click_predicts_plays_and_scores(predicted, tmp_path):
    page = predicted
    assert page.titles()[:2] == ["Truth", "Prediction"]
    curves = page.run(
        "return [...document.querySelectorAll('.panel')].map(panel =>"
        " [...panel.querySelectorAll('polyline')].map(line => line.points.numberOfItems))"
    )
    assert len(curves) >= 2 and all(len(lines) >= 2 for lines in curves)
    assert {count for lines in curves for count in lines} == {HORIZON}
    # The first prediction plays by itself; all its frames are observed or predicted ones.
    first = page.frame
    page.until(lambda: page.frame != first)
    page.click("#play")
    stopped = page.frame
    time.sleep(0.4)
    assert page.frame == stopped and page.one("#play").text == "Play"
    page.one("body").send_keys(Keys.ARROW_RIGHT)
    assert page.frame == (stopped + 1) % (10 + HORIZON)
    path = tmp_path / "future.mp4"
    path.write_bytes(page.get(".files a[href$='.mp4']"))
    assert len(video_io.read_video(path)) == 10 + HORIZON
    assert page.said(".command code").startswith("tfvp predict --model convlstm-mmnist-32")


@current
def test_the_values_are_a_table_and_follow_the_frame(predicted):
    page = predicted
    page.click("#values summary")
    page.until(lambda: page.all("#values tbody tr"))
    assert len(page.all("#values tbody tr")) == HORIZON
    psnr = page.one("#values tbody tr:nth-child(2) td").text
    page.run("const f = document.getElementById('frame'); f.value = 11; f.dispatchEvent(new Event('input'))")
    assert "at predicted frame 2" in page.said(".metric p")
    assert page.one(".metric .values .value").text == psnr and float(psnr) > 5
    border = page.run("return document.querySelectorAll('.side canvas.predicted').length")
    assert border == len(page.titles()) - 1, "the truth keeps its green border"


@current
def test_a_command_is_copied_or_marked(predicted):
    page = predicted
    page.run("navigator.clipboard.writeText = () => Promise.reject(new Error('refused'))")
    page.click(".command button")
    page.until(lambda: "marked" in page.said(".command [role=status]"))
    assert page.run("return getSelection().toString()") == page.one(".command code").text


@current
def test_a_view_survives_a_reload(predicted):
    page = predicted
    shown = page.run("return location.hash")
    page.driver.refresh()
    page.finished()
    assert page.run("return location.hash") == shown and "shown=" in shown


@current
def test_one_of_two_results_that_is_gone_leaves_the_other(predicted):
    page = predicted
    shown = page.run("return location.hash")
    page.run("location.hash = arguments[0]", shown.replace("shown=", "shown=gone,"))
    page.until(lambda: "One of the results" in page.said("#predict-message"))
    page.finished()
    assert page.run("return location.hash") == shown
    page.run("document.querySelector('#predict-message').replaceChildren()")


@current
@pytest.mark.parametrize(
    "width, scheme, ground", [(390, "dark", "rgb(20, 23, 28)"), (1280, "light", "rgb(255, 255, 255)")]
)
def test_it_fits_the_screen_and_its_colours(predicted, width, scheme, ground):
    page, command = predicted, predicted.driver.execute_cdp_cmd
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    command("Emulation.setDeviceMetricsOverride", size)
    command("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
    colour = "return getComputedStyle(document.body).backgroundColor"
    assert page.run("return document.documentElement.scrollWidth") <= width and page.run(colour) == ground
    other = "light" if scheme == "dark" else "dark"
    ui.Select(page.one("#theme")).select_by_value(other)
    assert page.run(colour) != ground
    ui.Select(page.one("#theme")).select_by_value("auto")
    assert page.run(colour) == ground
    command("Emulation.clearDeviceMetricsOverride", {})


@current
def test_an_uploaded_clip_is_predicted(browser, address, film):
    page = Page(browser, address)
    page.one("#upload").send_keys(str(film))
    page.until(lambda: "square.mp4" in page.said(".clip-card:has(:checked)"))
    # No more than the first frames are read, and the page says so.
    assert int(page.one("#start").get_attribute("max")) == FRAMES - 10 and page.said("#clip-notes")
    page.run("const f = document.getElementById('start'); f.value = f.max; f.dispatchEvent(new Event('input'))")
    page.predict()
    assert page.titles() == ["Prediction"] and not page.one("#curves").is_displayed(), "nobody knows what follows"
    assert "clip=upload/" in page.run("return location.hash")


@current
def test_what_is_no_video_gets_a_sentence(browser, address, tmp_path):
    page = Page(browser, address)
    (tmp_path / "notes.txt").write_text("not a video")
    page.one("#upload").send_keys(str(tmp_path / "notes.txt"))
    page.until(lambda: "notes.txt" in page.said("#clip-message"))
    assert "{" not in page.said("#clip-message") and len(page.all(".clip-card")) == 1
    drop = """const data = new DataTransfer(), [name, size] = arguments;
        data.items.add(new File([new Uint8Array(size)], name));
        document.dispatchEvent(new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true }));"""
    page.run(drop, "dropped.mp4", 100)
    page.until(lambda: "dropped.mp4" in page.said("#clip-message"))
    page.run(drop, "large.mp4", limits.UPLOAD_BYTES + 1)
    page.until(lambda: "64 MB" in page.said("#clip-message"))


@current
def test_the_webcam_gives_a_clip(browser, address):
    page = Page(browser, address)
    page.click("#webcam")
    page.until(lambda: page.all("#recorder button"))
    page.click("#recorder button")
    page.until(lambda: page.said(".clip-card:has(:checked)").startswith("webcam") or page.said("#clip-message"))
    assert not page.said("#clip-message") and not page.one("#recorder").is_displayed()


@current
def test_clips_are_drawn_anew_and_models_compared(browser, address):
    page = Page(browser, address, compare="zoo/simvp-mmnist-32")
    page.click("#draw")
    page.until(lambda: "seed 0" in page.said(".clip-card:has(:checked)"))
    page.predict(results=2)
    assert [side.text for side in page.all(".side h2")] == [
        page.one(f".card:has([value='{model}']) .title").text for model in (MODEL, "zoo/simvp-mmnist-32")
    ]
    assert page.titles().count("Prediction") == 2
    lines = page.run(
        "return [...document.querySelector('.metric').querySelectorAll('.values li')].map(e => e.textContent)"
    )
    assert sum("prediction" in line for line in lines) == 2
    drawn = "return [...document.querySelectorAll('.side')].map(side => side.querySelector('canvas').toDataURL())"
    truths = page.run(drawn)
    assert truths[0] == truths[1], "both predict the same clip, in step"


@current
def test_futures_are_compared_and_chosen(browser, address):
    page = Page(browser, address, model="zoo/cwvae-long-mmnist-64", futures=3, horizon=4)
    page.predict()
    assert len(page.all(".side .pick")) == 3 and {"best", "worst"} <= set(page.said(".side .tag").split())
    assert {"Mean", "Deviation"} <= {title.split()[0] for title in page.titles()}
    page.click("#play")
    page.run("const f = document.getElementById('frame'); f.value = f.max; f.dispatchEvent(new Event('input'))")
    difference = "return document.querySelector('figure[data-key^=difference] canvas').toDataURL()"
    before = page.run(difference)
    page.click("figure[data-key='future/2'] .pick")
    assert page.run(difference) != before
    assert "future 3" in page.run(
        "return document.querySelector('.values li').textContent + document.querySelector('.metric').textContent"
    )


@current
def test_a_prediction_is_cancelled(browser, address):
    page = Page(browser, address, horizon=300)
    page.click("#predict")
    page.until(lambda: page.all(".job button"))
    page.click(".job button")
    page.until(lambda: "Cancelled" in page.said("#jobs .message"))


@current
def test_two_browsers_get_their_own_results(browser, another_browser, address):
    page = Page(browser, address)
    page.predict()
    mine = page.run("return location.hash")
    other = Page(another_browser(), address, shown=mine.partition("shown=")[2])
    other.until(lambda: "not kept" in other.said("#predict-message"))
    assert not other.all(".side")
    other.click("#predict")
    page.click("#predict")
    other.finished()
    page.until(lambda: page.run("return location.hash") != mine)
    page.finished()
    shown = {one.run("return location.hash").partition("shown=")[2] for one in (page, other)}
    assert len(shown) == 2 and all(one.get(".files a[href$='.gif']")[:4] == b"GIF8" for one in (page, other))


@current
def test_a_server_that_is_gone_gets_a_sentence_and_another_try(browser, address):
    page = Page(browser, address)
    browser.set_network_conditions(offline=True, latency=0, throughput=10**6)
    page.click("#predict")
    page.until(lambda: "does not answer" in page.said("#predict-message"))
    browser.delete_network_conditions()
    page.click("#predict-message button")
    page.finished()
    assert not page.said("#predict-message")


@current
def test_an_address_may_hold_a_name_and_a_password(browser, address):
    """As those of a proxy do; a browser's `fetch` takes no such address."""
    Page(browser, address.replace("//", f"//{SIGNED_IN}")).predict()


def test_no_other_host_is_asked(browser, predicted, address):
    """Of all that the pages of this module asked for; the last test of it."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [
        e["params"]["request"]["url"].replace(SIGNED_IN, "")
        for e in events
        if e["method"] == "Network.requestWillBeSent"
    ]
    assert len(asked) > 10
    others = [url for url in asked if not url.startswith((address, "data:", "blob:", "about:", "chrome:"))]
    assert not others
    wrong = [entry["message"] for entry in browser.get_log("browser") if "Content Security Policy" in entry["message"]]
    assert not wrong
