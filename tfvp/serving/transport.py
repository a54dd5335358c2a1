"""How a client reaches TF Serving: REST or gRPC, with TLS, headers, time limits and retries.

What it does was tested against stand-ins that speak the documented forms, not against the real server.
"""

import collections.abc
import dataclasses
import http.client
import json
import os
import pathlib
import random
import re
import ssl
import time
import typing
import urllib.error
import urllib.parse
import urllib.request

import numpy as np

from tfvp.errors import UserError

FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0  # seconds before the first retry, doubled up to the longest
BUSY = (429, 502, 503, 504)  # statuses of servers that may answer a little later
_REST = re.compile(r"(?P<scheme>https?)://(?P<host>[^/?#]+)(?P<path>/[^?#]*)?")
_MODEL = re.compile(r".*/models/(?P<name>[^/:]+)(/versions/(?P<version>\d+))?")
_HERE = ("localhost", "127.0.0.1", "::1")


@dataclasses.dataclass(frozen=True)
class Access:
    """What a server asks of its clients, and how long they wait for it.

    Attributes:
        headers: {name: value} sent with every request, over gRPC as metadata.
        token: sent as "Authorization: Bearer <token>"; "" = none. Neither it nor the headers are ever printed.
        tls: whether gRPC is encrypted. REST is where the address says https.
        ca: file of the certificates (PEM) that the server's is checked against; "" = those of this machine.
        timeout: seconds for one attempt.
        retries: further attempts where the server is busy or away for a moment.
    """

    headers: collections.abc.Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False)
    token: str = dataclasses.field(default="", repr=False)
    tls: bool = False
    ca: str = ""
    timeout: float = 60.0
    retries: int = 4

    def __post_init__(self):
        if not self.timeout > 0 or self.retries < 0:
            raise UserError(f"--timeout={self.timeout:g} must be more than 0 and --retries={self.retries} at least 0")
        if self.ca and not pathlib.Path(self.ca).is_file():
            raise UserError(f"--ca {self.ca} does not exist")
        for name, value in self.headers.items():
            if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name) or re.search(r"[\r\n\0]", value):
                raise UserError(f"--header {name}: names are letters, digits and -, and values one line")
        if re.search(r"[^\x21-\x7e]", self.token):
            raise UserError("the token has spaces, line breaks or letters beyond ASCII, which no header can hold")

    @property
    def all_headers(self) -> dict[str, str]:
        """The headers, the token's among them."""
        return {**self.headers, **({"Authorization": f"Bearer {self.token}"} if self.token else {})}

    def without_secrets(self, text: str) -> str:
        """`text` of a server with the values of all headers struck out that are long enough to be secrets."""
        for value in sorted({self.token, *self.headers.values()}, key=len, reverse=True):
            text = text.replace(value, "***") if len(value) > 3 else text
        return text


class Rest:
    """A model behind TF Serving's REST interface.

    Args:
        url: http(s)://host:port/v1/models/NAME, with /versions/N for one of its versions.
        access: an `Access`.
    """

    def __init__(self, url: str, access: Access):
        match = _REST.fullmatch(url.rstrip("/"))
        if match and "@" in match["host"]:
            raise UserError("--url holds a user name or password; send them with --header or --token")
        if not match:
            raise UserError(f"--url {url} must be http://HOST:PORT/v1/models/NAME or https://...")
        try:
            parts = urllib.parse.urlsplit(url)
            _ = parts.port
        except ValueError as error:
            raise UserError(f"--url {url} is no address ({error})") from None
        self.url, self.access = url.rstrip("/"), access
        self.exposed = match["scheme"] == "http" and parts.hostname not in _HERE
        handlers = [_NoRedirects()]
        if match["scheme"] == "https":
            handlers.append(urllib.request.HTTPSHandler(context=_tls_context(access.ca)))
        self._opener = urllib.request.build_opener(*handlers)

    def inputs(self) -> dict[str, dict[str, list[int]]]:
        """{signature: {input: its shape, -1 where a size is free}}."""
        answer = self._ask("/metadata")
        try:
            signatures = answer["metadata"]["signature_def"]["signature_def"]
            return {
                name: {
                    key: [int(dim["size"]) for dim in (value["tensor_shape"].get("dim") or [])]
                    for key, value in signature.get("inputs", {}).items()
                }
                for name, signature in signatures.items()
            }
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"{self.url} serves no model that tfvp exported: its metadata has no {error}") from None

    def predict(self, signature: str, inputs: collections.abc.Mapping[str, object]) -> dict[str, object]:
        """{output: nested lists}; `inputs` are arrays or nested lists."""
        plain = {key: value.tolist() if hasattr(value, "tolist") else value for key, value in inputs.items()}
        answer = self._ask(":predict", {"signature_name": signature, "inputs": plain})
        outputs = answer.get("outputs") if isinstance(answer, dict) else None
        if outputs is None:
            raise UserError(f"{self.url} answered without outputs; is TF Serving running there?")
        return outputs if isinstance(outputs, dict) else {"": outputs}

    def _ask(self, place, body=None):
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", **self.access.all_headers}
        request = urllib.request.Request(self.url + place, data, headers)
        return retrying(lambda: self._once(request), self.access.retries)

    def _once(self, request):
        try:
            with self._opener.open(request, timeout=self.access.timeout) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            if 300 <= error.code < 400:
                target = error.headers.get("Location", "another address")
                raise UserError(f"{self.url} redirects to {target}; give that address") from None
            text = self.access.without_secrets(" ".join(_body(error).decode(errors="replace").split()))[:300]
            sentence = f"{self.url} refuses with status {error.code}: {text}"
            if error.code in BUSY:
                raise Busy(sentence, _seconds(error.headers.get("Retry-After"))) from None
            raise UserError(sentence) from None
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise self._failure(getattr(error, "reason", error)) from None

    def _failure(self, reason):
        if isinstance(reason, ssl.SSLCertVerificationError):
            return UserError(
                f"{self.url} has a certificate that is not trusted ({reason.verify_message}); name its authority's"
                " with --ca"
            )
        if isinstance(reason, TimeoutError):
            return UserError(f"{self.url} did not answer within {self.access.timeout:g} s; raise --timeout")
        if isinstance(reason, http.client.IncompleteRead):
            return Busy(f"{self.url} broke off its answer; is the server being stopped?")
        if isinstance(reason, http.client.BadStatusLine) and not isinstance(reason, ConnectionError):
            return UserError(f"{self.url} does not answer in HTTP; give the port of the REST interface, or --grpc")
        sentence = (
            f"{self.url} cannot be asked ({self.access.without_secrets(str(reason))}); is TF Serving running there?"
        )
        return (Busy if isinstance(reason, ConnectionError) else UserError)(sentence)


class Grpc:
    """A model behind TF Serving's gRPC interface.

    Args:
        address: host:port.
        name: of the model.
        access: an `Access`.
        version: of the model, or None for the one that is served.

    Raises:
        UserError: tensorflow-serving-api is not installed.
    """

    def __init__(self, address: str, name: str, access: Access, version: int | None = None):
        try:
            import grpc
            from tensorflow_serving.apis import prediction_service_pb2_grpc
        except ImportError as error:
            raise UserError(f"--grpc needs tensorflow-serving-api ({error}); install it, or use --url") from None
        self.url, self.access, self._spec = address, access, {"name": name, "version": version}
        tls = access.tls or bool(access.ca)
        self.exposed = not tls and address.rsplit(":", 1)[0].strip("[]") not in _HERE
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        # An attempt after a failed one shall try to connect, too, and not wait for the channel's own next try.
        options += [(f"grpc.{which}_reconnect_backoff_ms", 100) for which in ("initial", "min", "max")]
        if tls:
            roots = pathlib.Path(access.ca).read_bytes() if access.ca else None
            channel = grpc.secure_channel(address, grpc.ssl_channel_credentials(roots), options)
        else:
            channel = grpc.insecure_channel(address, options)
        self._grpc, self._stub = grpc, prediction_service_pb2_grpc.PredictionServiceStub(channel)

    def inputs(self) -> dict[str, dict[str, list[int]]]:
        """As `Rest.inputs`."""
        from tensorflow_serving.apis import get_model_metadata_pb2

        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        answer = self._ask(self._stub.GetModelMetadata, request)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        if not answer.metadata["signature_def"].Unpack(signatures):
            raise UserError(f"{self.url} serves no model that tfvp exported: its metadata has no signature_def")
        return {
            name: {key: [dim.size for dim in value.tensor_shape.dim] for key, value in signature.inputs.items()}
            for name, signature in signatures.signature_def.items()
        }

    def predict(self, signature: str, inputs: collections.abc.Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """{output: array}."""
        import tensorflow as tf
        from tensorflow_serving.apis import predict_pb2

        request = predict_pb2.PredictRequest()
        request.model_spec.signature_name = signature
        for key, value in inputs.items():
            request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
        answer = self._ask(self._stub.Predict, request)
        return {key: tf.make_ndarray(value) for key, value in answer.outputs.items()}

    def _ask(self, call, request):
        request.model_spec.name = self._spec["name"]
        if self._spec["version"] is not None:
            request.model_spec.version.value = self._spec["version"]
        metadata = [(key.lower(), value) for key, value in self.access.all_headers.items()]
        return retrying(lambda: self._once(call, request, metadata), self.access.retries)

    def _once(self, call, request, metadata):
        try:
            return call(request, self.access.timeout, metadata=metadata)
        except self._grpc.RpcError as error:
            code = error.code()
            if code == self._grpc.StatusCode.DEADLINE_EXCEEDED:
                raise UserError(
                    f"{self.url} did not answer within {self.access.timeout:g} s; raise --timeout"
                ) from None
            sentence = f"{self.url} refuses: {self.access.without_secrets(error.details() or '')} ({code.name})"
            raise (Busy if code == self._grpc.StatusCode.UNAVAILABLE else UserError)(sentence) from None


class Busy(Exception):
    """An attempt failed, and another may not; `wait` is the server's wish, in seconds."""

    def __init__(self, sentence: str, wait: float = 0.0):
        super().__init__(sentence)
        self.wait = wait


def retrying(attempt: typing.Callable[[], object], retries: int) -> object:
    """What `attempt` returns, tried again after waits that double, each cut at random to between half and whole.

    Raises:
        UserError: from the attempt, or when all of them were in vain.
    """
    for number in range(retries + 1):
        try:
            return attempt()
        except Busy as error:
            if number == retries:
                tried = f"; tried {retries + 1} times" if retries else ""
                raise UserError(f"{error}{tried}") from None
            wait = min(LONGEST_WAIT, FIRST_WAIT * 2**number) * random.uniform(0.5, 1.0)
            time.sleep(max(wait, min(error.wait, LONGEST_WAIT)))
    raise AssertionError("unreachable")


def secret(source: str, option: str) -> str:
    """A value that is not written on the command line, where every user of the machine can see it.

    Args:
        source: "env:NAME" or "file:PATH".
        option: its name, for the message.

    Raises:
        UserError: it is neither, or there is no such variable or file.
    """
    kind, _, name = source.partition(":")
    if kind not in ("env", "file") or not name:
        raise UserError(f"{option} takes env:NAME or file:PATH, so that it does not show in the list of processes")
    try:
        value = os.environ.get(name, "") if kind == "env" else pathlib.Path(name).expanduser().read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{option}: {name} cannot be read ({getattr(error, 'strerror', 0) or 'not text'})") from None
    if not value.strip():
        raise UserError(
            f"{option}: the {'environment variable' if kind == 'env' else 'file'} {name} is not set or empty"
        )
    return value.strip()


def model_of(url: str) -> tuple[str, int | None]:
    """(name, version or None) of the model in a REST address.

    Raises:
        UserError: there is none.
    """
    match = _MODEL.fullmatch(url.rstrip("/"))
    if not match:
        raise UserError(f"--url {url} names no model: it must end in /v1/models/NAME")
    return match["name"], match["version"] and int(match["version"])


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect would take the token to another server."""

    def redirect_request(self, *arguments):
        return None


def _body(error):
    """What came of the answer that refuses, bytes."""
    try:
        return error.read()
    except http.client.IncompleteRead as cut:
        return cut.partial
    except (OSError, http.client.HTTPException):
        return b""


def _tls_context(ca):
    try:
        return ssl.create_default_context(cafile=ca or None)
    except (OSError, ssl.SSLError) as error:
        raise UserError(f"--ca {ca} holds no certificates ({error})") from None


def _seconds(text):
    return float(text) if text and re.fullmatch(r"\d+(\.\d+)?", text) else 0.0
