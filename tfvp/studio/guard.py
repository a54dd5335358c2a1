"""What every answer goes through: whose host it is asked for, from which page, and in which session."""

import http.cookies
import ipaddress
import urllib.parse

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, RedirectResponse

from tfvp.studio import LOOPBACK
from tfvp.studio.sessions import Sessions

SAFE = ("GET", "HEAD", "OPTIONS")
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; object-src 'none'; base-uri 'none';"
        " form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Guard:
    """Refuses what another site's page asks for, and gives browsers their session.

    A page of another site may send requests to this server from a user's browser. Those that change something carry
    that page's origin, or the browser's word that they cross sites; and those of a site whose name was pointed at
    this machine carry its name as their host (DNS rebinding).

    Args:
        app: an ASGI application; it finds the session, or None, as "session" in the state of a request.
        sessions: the `Sessions`.
        hosts: names by which the server may be asked for, beside addresses and those of the loopback.
        cookie: name of the cookie.
        prefix: of all paths, as a reverse proxy may have it: "" or "/studio".
    """

    def __init__(self, app, sessions: Sessions, hosts: tuple[str, ...], cookie: str, prefix: str = ""):
        self.app, self.sessions, self.cookie, self.prefix = app, sessions, cookie, prefix
        self.hosts = {host.lower() for host in (*LOOPBACK, *hosts)}

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path, headers = scope["path"], Headers(scope=scope)
        if self.prefix and path == self.prefix:
            await RedirectResponse(f"{self.prefix}/")(scope, receive, send)
            return
        if self.prefix and path.startswith(f"{self.prefix}/"):
            path = path.removeprefix(self.prefix)
        scope = {**scope, "path": path, "root_path": ""}
        new = None
        refusal = self._refusal(scope["method"], headers)
        if refusal is None:
            session = self.sessions.find(_cookie(headers, self.cookie))
            if session is None and (path == "/" or scope["method"] not in SAFE):
                session = new = self.sessions.begin()
            scope["state"] = {**scope.get("state", {}), "session": session}

        async def answer(message):
            if message["type"] == "http.response.start":
                sent = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    sent.setdefault(name, value)
                if new is not None:
                    secure = "; Secure" if scope["scheme"] == "https" else ""
                    # Not Strict: who follows a link of another site to this page keeps what is here. A browser
                    # sends the cookie along then, and with nothing else that another site asks for.
                    value = f"{self.cookie}={new.identity}; Path={self.prefix or '/'}; HttpOnly; SameSite=Lax{secure}"
                    sent.append("Set-Cookie", value)
            await send(message)

        app = self.app if refusal is None else JSONResponse({"error": refusal}, 403)
        await app(scope, receive, answer)

    def _refusal(self, method, headers):
        """Why a request is refused, or None."""
        host = _host_of(headers.get("host", ""))
        if not self._known(host):
            return f"this server does not answer for {host or 'no host'}; start it with --allow-host {host or 'NAME'}"
        if method in SAFE:
            return None
        origin = headers.get("origin")
        if origin is not None:
            place = urllib.parse.urlsplit(origin).netloc
            if place != headers.get("host") and _host_of(place) not in self.hosts - set(LOOPBACK):
                return "a page of another site cannot ask for this; open the studio's own page"
        elif headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return "a page of another site cannot ask for this; open the studio's own page"
        return None

    def _known(self, host):
        if host in self.hosts:
            return True
        try:  # no site can give itself an address as its name
            ipaddress.ip_address(host)
        except ValueError:
            return False
        return True


def _host_of(place):
    """The name in "name:port", in lower case."""
    try:
        return (urllib.parse.urlsplit(f"//{place}").hostname or "").lower()
    except ValueError:
        return ""


def _cookie(headers, name):
    jar = http.cookies.SimpleCookie()
    try:
        jar.load(headers.get("cookie", ""))
    except http.cookies.CookieError:
        return None
    return jar[name].value if name in jar else None
