"""One user of the studio, without a browser."""

import http.client
import io
import json

import numpy as np
from PIL import Image

ZOO = "zoo/convlstm-mmnist-32"


class Browser:
    """What one user's browser sends."""

    def __init__(self, studio):
        self.port, self.cookie = studio.port, None

    def ask(self, method, path, body=None, **headers):
        """(status, headers, body) of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=180)
        headers = {key.replace("_", "-"): value for key, value in headers.items()}
        if isinstance(body, dict):
            body, headers = json.dumps(body), {"Content-Type": "application/json", **headers}
        if self.cookie:
            headers["Cookie"] = self.cookie
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        found = {key.lower(): value for key, value in answer.getheaders()}
        if "set-cookie" in found:
            self.cookie = found["set-cookie"].split(";")[0]
        contents = answer.read()
        connection.close()
        return answer.status, found, contents

    def json(self, method, path, body=None, status=200, **headers):
        """The JSON of an answer of that status."""
        given, _, contents = self.ask(method, path, body, **headers)
        assert given == status, contents
        return json.loads(contents)

    def upload(self, name, contents, model=ZOO, status=201):
        """What is said of a file."""
        mark = b"----a-boundary"
        parts = [
            b'Content-Disposition: form-data; name="model"\r\n\r\n' + model.encode(),
            f'Content-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'.encode() + contents,
        ]
        body = b"".join(b"--" + mark + b"\r\n" + part + b"\r\n" for part in parts) + b"--" + mark + b"--\r\n"
        kind = f"multipart/form-data; boundary={mark.decode()}"
        return self.json("POST", "/api/clips", body, status, Content_Type=kind)

    def predict(self, status=202, **asked):
        """The address of a prediction, or the sentence that refuses it."""
        asked = {"model": ZOO, "clip": "example/0", "start": 0, "observed": 10, "horizon": 4, "futures": 1, **asked}
        said = self.json("POST", "/api/predictions", asked, status)
        return f"/api/predictions/{said['id']}" if status == 202 else said["error"]

    def events(self, address):
        """All (event, contents) of a prediction."""
        _, headers, contents = self.ask("GET", f"{address}/events")
        assert headers["content-type"].startswith("text/event-stream") and headers["x-accel-buffering"] == "no"
        blocks = [block.split("\n") for block in contents.decode().strip().split("\n\n") if not block.startswith(":")]
        return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in blocks]

    def result(self, address):
        """The result of a prediction that ends well."""
        name, last = self.events(address)[-1]
        told = self.json("GET", address)
        assert name == "progress" and last.items() <= told.items() and told["state"] == "done", told
        return self.json("GET", f"{address}/result")

    def frames(self, strip):
        """The frames of a strip, uint8 [T, h, w, ...]."""
        status, headers, contents = self.ask("GET", f"/{strip['url']}")
        assert status == 200 and headers["content-type"] == "image/png"
        picture = np.asarray(Image.open(io.BytesIO(contents)))
        rows = -(-strip["frames"] // strip["columns"])
        lines = np.split(picture, rows)
        return np.concatenate([np.stack(np.split(line, strip["columns"], axis=1)) for line in lines])[: strip["frames"]]
