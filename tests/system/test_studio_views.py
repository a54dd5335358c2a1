"""What the studio's page shows once its controls, or its address, have moved on."""

import shutil
import urllib.parse

import pytest

from tests.system import studio_page
from tests.system.studio_page import HORIZON, MODEL, Page
from tfvp.prediction import forecast
from tfvp.zoo import shelf

OTHER, LABELS, DAMAGED = "zoo/simvp-mmnist-32", "zoo/hierarchical-shapes-32", "run/damaged"

pytestmark = [pytest.mark.current_stack, studio_page.needs_browser, studio_page.current]

address, film = studio_page.address, studio_page.film
another_browser, browser = studio_page.another_browser, studio_page.browser


@pytest.fixture(scope="module", autouse=True)
def quick():
    """LPIPS costs seconds and has its own tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forecast, "METRICS", ("psnr",))
        yield


@pytest.fixture(scope="module")
def logdir(tmp_path_factory):
    """A run whose weights cannot be read."""
    run = tmp_path_factory.mktemp("runs") / "damaged"
    shutil.copytree(shelf.SHIPPED / "convlstm-mmnist-32", run, ignore=shutil.ignore_patterns(shelf.CARD, *shelf.CLIPS))
    (run / shelf.WEIGHTS).write_bytes(b"no weights")
    return run.parent


def title(page, model):
    """The title on a model's card."""
    return page.run("return document.querySelector(arguments[0]).textContent", f".card:has([value='{model}']) .title")


def choose(page, *models):
    """Chooses models, one right after the other, and waits until the page has the last one."""
    page.run(
        """for (const model of arguments[0]) {
            const input = document.querySelector(`#models [value='${model}']`);
            input.checked = true;
            input.dispatchEvent(new Event('change', { bubbles: true }));
        }""",
        models,
    )
    page.until(lambda: f"model={models[-1]}" in page.run("return location.hash"))


def given(page, **view):
    """Puts an address into the open tab."""
    page.run("location.hash = arguments[0]", urllib.parse.urlencode(view, safe="/"))


def shown(page):
    """Title, name and summary of every result."""
    return page.run(
        """return [...document.querySelectorAll('.side')].map(side =>
            [side.querySelector('h2').textContent, side.ariaLabel, side.querySelector('p.muted').textContent])"""
    )


def test_a_result_keeps_its_title_and_its_settings(browser, address):
    page = Page(browser, address, compare=OTHER)
    page.predict(results=2)
    before, results = shown(page), page.run("return location.hash").partition("shown=")[2]
    titles = [title(page, model) for model in (MODEL, OTHER)]
    assert [side[:2] for side in before] == [[name, name] for name in titles]
    assert all(f"{HORIZON} predicted" in side[2] for side in before)
    for view in ({"model": OTHER, "compare": MODEL, "horizon": 40}, {"model": OTHER, "observed": 12}):
        page = Page(browser, address, **view, shown=results)
        page.finished(2)
        assert shown(page) == before


def test_uploads_stay_whatever_model_is_chosen(browser, address, film):
    page = Page(browser, address)
    page.one("#upload").send_keys(str(film))
    page.until(lambda: "square.mp4" in page.said(".clip-card"))
    choose(page, LABELS)
    assert "square.mp4" not in page.said(".clip-card"), "which takes no videos"
    choose(page, MODEL)
    page.until(lambda: "square.mp4" in page.said(".clip-card"))
    choose(page, OTHER, MODEL)
    page.until(lambda: "square.mp4" in page.said(".clip-card"))
    assert len(page.all(".clip-card")) == 2 and not page.said("#clip-message")


def test_one_that_fails_leaves_the_other_whole(browser, address):
    page = Page(browser, address, compare=DAMAGED)
    page.click("#predict")
    page.until(lambda: page.said("#jobs .message") and page.all(".files .command"))
    page.run("const f = document.getElementById('frame'); f.value = f.max; f.dispatchEvent(new Event('input'))")
    assert page.frame == 10 + HORIZON - 1
    page.click("#play")
    page.until(lambda: page.frame < 10)


def test_an_address_of_a_model_that_is_not_here_says_so(browser, address):
    page = Page(browser, address, model="run/of-a-colleague")
    assert "run/of-a-colleague of this address is not here" in page.said("#model-message")
    choose(page, MODEL)
    assert not page.said("#model-message")


def test_an_address_without_a_second_model_compares_none(browser, address):
    page = Page(browser, address, compare=OTHER)
    assert f"compare={OTHER}" in page.run("return location.hash")
    given(page, model=MODEL, horizon=HORIZON + 1)
    page.until(lambda: page.one("#horizon-number").get_attribute("value") == str(HORIZON + 1))
    assert page.one("#compare").get_attribute("value") == ""
