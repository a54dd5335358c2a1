"""A studio of this process and its page in a browser, Chromium driven by Selenium: fixtures and what a user does."""

import shutil
import socket
import sys
import threading
import urllib.parse
import urllib.request

import numpy as np
import pytest

from tfvp import video_io
from tfvp.studio import limits

pytest.importorskip("starlette", reason="the studio's packages are not installed")
Studio = pytest.importorskip("tfvp.studio.server").Studio
webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
ui = pytest.importorskip("selenium.webdriver.support.ui")
By = pytest.importorskip("selenium.webdriver.common.by").By
Keys = pytest.importorskip("selenium.webdriver.common.keys").Keys
TimeoutException = pytest.importorskip("selenium.common.exceptions").TimeoutException

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
MODEL = "zoo/convlstm-mmnist-32"
HORIZON = 6
FRAMES = 16  # of an upload that are read, here
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--window-size=1280,1000",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
)

needs_browser = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no Chromium, or no chromedriver, is installed")
# The page is the same on both stacks.
current = pytest.mark.skipif(sys.version_info < (3, 12), reason="tried on the current stack")


@pytest.fixture(scope="module")
def logdir(tmp_path_factory):
    """The folder of runs, without any."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def address(logdir, tmp_path_factory):
    """Where a studio of this process answers."""
    import uvicorn

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "UPLOAD_FRAMES", FRAMES)
        patch.setattr(limits, "UPLOAD_SECONDS", 2)  # of which the webcam makes use
        patch.setenv("TFVP_ZOO", str(tmp_path_factory.mktemp("zoo")))
        listener = socket.create_server(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        studio = Studio(logdir, port=port)
        server = uvicorn.Server(uvicorn.Config(studio.app, lifespan="on", log_level="error"))
        thread = threading.Thread(target=server.run, args=[[listener]], daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{port}/"
        studio.close()
        server.should_exit = True
        thread.join(20)
        listener.close()
        assert not thread.is_alive()


@pytest.fixture(scope="module")
def another_browser(tmp_path_factory):
    """Starts browsers that find no other host, and that have a made-up webcam."""
    drivers = []

    def start():
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for flag in FLAGS + (f"--user-data-dir={tmp_path_factory.mktemp('profile')}",):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
        drivers.append(webdriver.Chrome(options, webdriver.ChromeService(DRIVER)))
        return drivers[-1]

    yield start
    for driver in drivers:
        driver.quit()


@pytest.fixture(scope="module")
def browser(another_browser):
    """The browser of most tests."""
    return another_browser()


class Page:
    """The studio in a browser."""

    def __init__(self, driver, address, **view):
        self.driver = driver
        driver.get("about:blank")
        view = {"model": MODEL, "horizon": HORIZON, **view}
        driver.get(address + "#" + urllib.parse.urlencode(view, safe="/"))
        self.until(lambda: self.one("#predict").is_enabled())

    def all(self, selector):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector):
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def until(self, condition, seconds=100):
        try:
            return ui.WebDriverWait(self.driver, seconds, 0.05).until(lambda driver: condition())
        except TimeoutException:
            said = [entry["message"] for entry in self.driver.get_log("browser")]
            raise AssertionError(f"{self.one('body').text}\n{said}") from None

    def click(self, selector):
        self.run("arguments[0].click()", self.one(selector))

    def predict(self, results=1):
        self.click("#predict")
        self.finished(results)

    def finished(self, results=1):
        self.until(lambda: len(self.all(".files .command")) == results or self.said("#jobs .message"))
        assert not self.said("#jobs .message")

    def said(self, selector):
        texts = self.run("return [...document.querySelectorAll(arguments[0])].map(e => e.textContent)", selector)
        return " ".join(texts).strip()

    @property
    def frame(self):
        return int(self.run("return document.body.dataset.frame"))

    def titles(self):
        return [caption.text for caption in self.all(".side figcaption")]

    def get(self, selector):
        """The file that a link leads to, as this browser gets it."""
        cookies = "; ".join(f"{one['name']}={one['value']}" for one in self.driver.get_cookies())
        request = urllib.request.Request(self.one(selector).get_attribute("href"), headers={"Cookie": cookies})
        with urllib.request.urlopen(request) as answer:
            return answer.read()


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """An mp4 of 40 frames, 8 a second, of a square that moves."""
    video = np.full((40, 48, 48, 3), 20, np.uint8)
    for t in range(40):
        video[t, 16:32, t // 2 : t // 2 + 12] = 230
    path = tmp_path_factory.mktemp("film") / "square.mp4"
    video_io.write_video(path, video, 8)
    return path
