"""Open a local page that predicts futures of clips: trained models, your runs, your videos.

examples:
  tfvp studio
  tfvp studio --logdir ./logs --port 8000
  tfvp studio --root-path /studio --allow-host lab.example.org

The page is for this machine alone. To serve it to others, put a reverse proxy with a password before it.
"""

import importlib.util
import socket
import sys

from tfvp import quiet
from tfvp.errors import UserError
from tfvp.studio import LOOPBACK

PACKAGES = ("starlette", "uvicorn", "python_multipart")


def add_arguments(parser):
    parser.add_argument("--logdir", default="./logs", help="folder of runs that are offered beside the trained models")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at; default: this machine alone")
    parser.add_argument("--port", type=int, default=7860, help="port to listen at; 0 takes a free one")
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="name under which a reverse proxy, or the network, knows the server; may be given several times",
    )
    parser.add_argument("--root-path", default="", metavar="/PREFIX", help="prefix of all addresses behind a proxy")
    parser.add_argument("--open", action="store_true", help="open the page in the browser")


def run(options):
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f'the studio needs {", ".join(missing)}; pip install "tfvp[studio]"')
    prefix = "/" + options.root_path.strip("/") if options.root_path.strip("/") else ""
    listener = _listen(options.host, options.port)
    try:
        quiet.import_tensorflow()
        from tfvp.studio import serve

        port = listener.getsockname()[1]
        hosts = [*options.allow_host]
        if options.host not in LOOPBACK:
            hosts += [options.host, socket.gethostname(), socket.getfqdn()]
            print(
                f"listening at {options.host}: whoever reaches this port can use this machine to predict; put a reverse"
                " proxy with a password before it",
                file=sys.stderr,
            )
        shown = "localhost" if options.host in ("0.0.0.0", "::") else options.host
        address = f"http://[{shown}]:{port}{prefix}/" if ":" in shown else f"http://{shown}:{port}{prefix}/"
        serve.serve(listener, options.logdir, hosts, port, prefix, address, options.open)
    finally:
        listener.close()


def _listen(host, port):
    """A listening socket.

    Raises:
        UserError: the address is not this machine's, or the port is taken.
    """
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(
            f"cannot listen at {host}, port {port} ({reason}); choose another --port, or 0 for a free one"
        ) from None
    return listener
