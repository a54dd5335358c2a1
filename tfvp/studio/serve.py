"""Runs the studio until it is told to stop."""

import threading
import webbrowser

import uvicorn

from tfvp.studio.server import Studio


class Server(uvicorn.Server):
    """Ends event streams as soon as it is told to stop, as they would keep it alive."""

    def __init__(self, config, studio, started):
        super().__init__(config)
        self.studio, self.begun = studio, started

    async def startup(self, sockets=None):
        await super().startup(sockets)
        if self.started:
            self.begun()

    def handle_exit(self, sig, frame):
        self.studio.stop()
        super().handle_exit(sig, frame)


def serve(listener, logdir, hosts, port, prefix, address, browse):
    """Serves until Ctrl-C or a signal to stop.

    Args:
        listener: a bound socket.
        logdir, hosts, port, prefix: as `Studio` takes them.
        address: of the page; printed once it can be opened.
        browse: whether to open it in the browser.
    """
    studio = Studio(logdir, hosts, port, prefix)

    def started():
        print(f"the studio is at {address} (Ctrl-C ends it)", flush=True)
        if browse:
            threading.Thread(target=webbrowser.open, args=[address], daemon=True).start()

    options = {"log_level": "warning", "access_log": False, "server_header": False, "timeout_graceful_shutdown": 3}
    config = uvicorn.Config(studio.app, lifespan="on", **options)
    Server(config, studio, started).run([listener])
