"""The studio's web server: its page, and the addresses that the page asks."""

import asyncio
import contextlib
import json
import pathlib
import secrets
import urllib.parse

import tensorflow as tf
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

import tfvp
from tfvp.errors import UserError
from tfvp.studio import asking, clips, limits, models, prediction, results
from tfvp.studio.guard import Guard
from tfvp.studio.sessions import Sessions
from tfvp.zoo import shelf

PAGE = pathlib.Path(__file__).resolve().parent / "page"
# Of the pages that evaluations write: one look, and one clock for all players.
SHARED = {
    "look.css": PAGE.parents[1] / "evaluation" / "page.css",
    "clock.js": PAGE.parents[1] / "evaluation" / "clock.js",
}
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
}
FILE_TYPES = {"mp4": "video/mp4", "gif": "image/gif", "npz": "application/octet-stream"}
KEPT_ALIVE = 15  # seconds of silence after which an event stream says that it is still there
EXPIRY_SECONDS = 30


class NotFound(Exception):
    """There is nothing at an address, or not for this session."""


class Studio:
    """The application.

    Args:
        logdir: a folder of runs, or a run.
        hosts: names by which it may be asked for; see `Guard`.
        port: where it listens; part of the cookie's name, as browsers keep one jar for all ports of a host.
        prefix: of all paths, "" or such as "/studio".
    """

    def __init__(self, logdir, hosts=(), port=7860, prefix=""):
        self.models, self.frames = models.Models(logdir), clips.Frames()
        self.line = prediction.Line(self.models, self.frames)
        self.sessions = Sessions(self.line, self.frames)
        self.closing, self._streams = False, set()
        files = {path.relative_to(PAGE).as_posix(): path for path in sorted(PAGE.rglob("*")) if path.is_file()}
        self.files = {**files, **SHARED}
        routes = [
            Route("/", self.index),
            Route("/api/about", self.about),
            Route("/api/models", self.list_models, methods=["GET"]),
            Route("/api/models", self.expect, methods=["POST"]),
            Route("/api/picture", self.picture),
            Route("/api/clips", self.get_clip, methods=["GET"]),
            Route("/api/clips", self.add_clip, methods=["POST"]),
            Route("/api/predictions", self.predict, methods=["POST"]),
            Route("/api/predictions/{identity}", self.progress, methods=["GET"]),
            Route("/api/predictions/{identity}", self.cancel, methods=["DELETE"]),
            Route("/api/predictions/{identity}/events", self.events),
            Route("/api/predictions/{identity}/result", self.result),
            Route("/api/predictions/{identity}/download.{suffix}", self.download),
            Route("/api/predictions/{identity}/{picture}.png", self.frames_of),
            Route("/{name:path}", self.file),
        ]
        handlers = {
            UserError: lambda request, error: JSONResponse({"error": prediction.sentence(error)}, 400),
            NotFound: lambda request, error: JSONResponse({"error": str(error)}, 404),
            asking.TooLarge: lambda request, error: JSONResponse({"error": str(error)}, 413),
            404: lambda request, error: JSONResponse({"error": "There is nothing at this address."}, 404),
            405: lambda request, error: JSONResponse({"error": "This address does not take such requests."}, 405),
            500: lambda request, error: JSONResponse({"error": prediction.DEFECT}, 500),
        }
        app = Starlette(routes=routes, exception_handlers=handlers, lifespan=self.lifespan)
        self.app = Guard(app, self.sessions, tuple(hosts), f"tfvp_session_{port}", prefix)

    @contextlib.asynccontextmanager
    async def lifespan(self, app):
        """While the server runs: lets sessions expire; in the end, deletes everything."""

        async def expire():
            while True:
                await asyncio.sleep(EXPIRY_SECONDS)
                self.sessions.expire()

        expiring = asyncio.create_task(expire())
        # The first request for the list would wait for it otherwise.
        looking = asyncio.create_task(run_in_threadpool(self.models.offers))
        try:
            yield
        finally:
            expiring.cancel()
            looking.cancel()
            self.close()

    def close(self):
        """Stops predictions, ends event streams, and deletes all uploads."""
        self.stop()
        self.sessions.close()

    def stop(self):
        """Stops predictions and ends event streams."""
        self.closing = True
        self.line.close()
        for wake in list(self._streams):
            wake()

    # The page.

    async def index(self, request):
        return self._file("index.html")

    async def file(self, request):
        return self._file(request.path_params["name"])

    def _file(self, name):
        if name not in self.files or not self.files[name].is_file():
            raise NotFound("There is nothing at this address.")
        path = self.files[name]
        kind = TYPES.get(path.suffix, "application/octet-stream")
        return FileResponse(path, media_type=kind, headers={"Cache-Control": "no-cache"})

    async def about(self, request):
        limited = {
            "upload_bytes": limits.UPLOAD_BYTES,
            "upload_seconds": limits.UPLOAD_SECONDS,
            "horizon": limits.HORIZON,
            "futures": limits.FUTURES,
        }
        return JSONResponse({"version": tfvp.__version__, "tensorflow": tf.__version__, "limits": limited})

    # Models and clips.

    async def list_models(self, request):
        return JSONResponse({"models": await run_in_threadpool(self._models)})

    def _models(self):
        return [_described(identity, offer) for identity, offer in self.models.offers().items()]

    async def expect(self, request):
        """Loads a model that was chosen, while nothing else is to be done."""
        asked = await asking.json_of(request)
        self.line.expect(await run_in_threadpool(self.models.find, asked.get("model")))
        return JSONResponse({}, 202)

    async def picture(self, request):
        """The picture of a model, or of one of its clips."""
        query = request.query_params

        def read():
            offer = self.models.find(query.get("model"))
            if "clip" not in query:
                path = models.picture(offer)
                if path is None:
                    raise NotFound("This model has no picture.")
                return path.read_bytes()
            clip = self._clip(request.state.session, query["clip"], offer)
            return clips.thumbnail(self.frames.of(clip, offer)[0], offer.fps)

        headers = {"Cache-Control": "private, max-age=300"}
        return Response(await run_in_threadpool(read), media_type="image/gif", headers=headers)

    def _clip(self, session, named, owner):
        """The clip that a request names: "example/N", "draw/SEED", {"draw": SEED} or "upload/...".

        Raises:
            NotFound: there is none in this session.
            UserError: the model has no such clips.
        """
        if isinstance(named, dict) and set(named) == {"draw"}:
            named = f"draw/{asking.integer(named, 'draw', 0)}"
        kind, _, rest = named.partition("/") if isinstance(named, str) else ("", "", "")
        if kind == "upload" and session is not None and named in session.uploads:
            return session.uploads[named]
        if kind == "draw" and rest.isascii() and rest.isdecimal() and len(rest) < 16:
            return clips.drawn(owner, int(rest))
        for clip in clips.examples(owner) if kind == "example" else ():
            if clip.identity == named:
                return clip
        raise NotFound("There is no such clip any more; choose another one, or upload it again.")

    async def get_clip(self, request):
        query = request.query_params

        def read():
            offer = self.models.find(query.get("model"))
            return self._described_clip(self._clip(request.state.session, query.get("id"), offer), offer)

        return JSONResponse(await run_in_threadpool(read))

    def _described_clip(self, clip, offer):
        frames, notes = self.frames.of(clip, offer)
        return {
            "id": clip.identity,
            "title": clip.title,
            "frames": len(frames),
            "picture": _picture(offer, clip),
            "notes": notes,
        }

    async def add_clip(self, request):
        if request.headers.get("content-type", "").startswith("application/json"):
            asked = await asking.json_of(request)

            def draw():
                offer = self.models.find(asked.get("model"))
                return self._described_clip(self._clip(None, {"draw": asked.get("draw")}, offer), offer)

            return JSONResponse(await run_in_threadpool(draw), 201)
        form = await asking.form_of(request)
        file, session = form.get("file"), request.state.session
        if file is None or isinstance(file, str):
            raise UserError("no file arrived; choose a video")

        def read():
            offer = self.models.find(form.get("model"))
            upload = clips.Upload(f"upload/{secrets.token_urlsafe(9)}", file.filename or "clip", file.file)
            described = self._described_clip(upload, offer)
            self.sessions.add_upload(session, upload)
            return described

        try:
            described = await run_in_threadpool(read)
        except BaseException:
            await file.close()
            raise
        return JSONResponse(described, 201)

    # Predictions.

    async def predict(self, request):
        asked, session = await asking.json_of(request), request.state.session

        def prepare():
            offer = self.models.find(asked.get("model"))
            owner = self.models.find(asked.get("clip_model") or asked.get("model"))
            start = None if asked.get("start") is None else asking.integer(asked, "start", 0)
            wanted = prediction.Request(
                offer,
                self._clip(session, asked.get("clip"), owner),
                start,
                asking.integer(asked, "observed", 1),
                asking.integer(asked, "horizon", 1),
                asking.integer(asked, "futures", 1, 1),
                asking.integer(asked, "seed", 0, 0),
            )
            wanted.check()
            made = prediction.Prediction(wanted)
            self.sessions.add_prediction(session, made)
            return made

        made = await run_in_threadpool(prepare)
        return JSONResponse({"id": made.identity, "asked": made.request.describe()}, 202)

    def _prediction(self, request):
        session = request.state.session
        made = session and session.predictions.get(request.path_params["identity"])
        if made is None:
            raise NotFound("There is no such prediction any more; predict again.")
        return made

    async def progress(self, request):
        made = self._prediction(request)
        return JSONResponse({**made.progress(), "id": made.identity, "asked": made.request.describe()})

    async def cancel(self, request):
        made = self._prediction(request)
        self.line.cancel(made)
        return JSONResponse(made.progress())

    async def events(self, request):
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(
            self._events(self._prediction(request)), media_type="text/event-stream", headers=headers
        )

    async def _events(self, made):
        loop, changed = asyncio.get_running_loop(), asyncio.Event()

        def listener():
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(changed.set)

        made.listen(listener)
        self._streams.add(listener)
        try:
            sent, last = 0, None
            while not self.closing:
                changed.clear()
                ended, progress = made.ended, made.progress()
                for name, contents in made.events[sent:]:
                    sent += 1
                    yield _event(name, contents)
                if progress != last:
                    last = progress
                    yield _event("progress", progress)
                if ended:
                    return
                try:
                    await asyncio.wait_for(changed.wait(), KEPT_ALIVE)
                except asyncio.TimeoutError:
                    yield ": waiting\n\n"
        finally:
            made.unlisten(listener)
            self._streams.discard(listener)

    async def result(self, request):
        made = self._prediction(request)
        if made.result is None:
            raise NotFound("This prediction is not finished.")
        return JSONResponse(made.result)

    async def frames_of(self, request):
        picture = self._prediction(request).pictures.get(request.path_params["picture"])
        if picture is None:
            raise NotFound("There is no such picture.")
        return Response(picture, media_type="image/png", headers={"Cache-Control": "private, max-age=3600, immutable"})

    async def download(self, request):
        made, suffix = self._prediction(request), request.path_params["suffix"]
        if made.outcome is None or suffix not in results.FILES:
            raise NotFound("This prediction has no such file.")
        contents = await run_in_threadpool(made.outcome.file, suffix)
        safe = "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "-" for c in made.request.offer.name)
        headers = {"Content-Disposition": f'attachment; filename="{safe}-seed{made.request.seed}.{suffix}"'}
        return Response(contents, media_type=FILE_TYPES[suffix], headers=headers)


def _described(identity, offer):
    """A model as the page reads it."""
    if isinstance(offer, str):
        kind, _, name = identity.partition("/")
        return {"id": identity, "title": name, "source": kind, "problem": prediction.sentence(offer)}
    config, traits = offer.config, offer.traits
    fewest, multiple, context = traits["fewest"], traits["multiple"], config.eval.open_loop_ctx
    shown, protocol = models.numbers(offer)
    return {
        "id": identity,
        "title": offer.title,
        "system": config.model.name,
        "data": config.data.name,
        "source": identity.partition("/")[0],
        "shipped": shelf.SHIPPED in offer.path.parents,
        "picture": _picture(offer) if models.picture(offer) else None,
        "numbers": shown,
        "protocol": protocol,
        "limits": (offer.card or {}).get("limits", ""),
        "image_size": list(config.frame_shape[:2]),
        "channels": config.frame_shape[2],
        "context": max(fewest, round(context / multiple) * multiple),
        "context_step": multiple,
        "context_min": fewest,
        "horizon": min(limits.HORIZON, max(1, config.eval.eval_seq_len - context)),
        "stochastic": traits["stochastic"],
        "labels": "labels" in offer.needs,
        "observes_labels": "labels" in offer.needs,
        "fps": offer.fps,
        "clips": [{"id": c.identity, "title": c.title, "picture": _picture(offer, c)} for c in clips.examples(offer)],
        "draws": offer.drawn,
    }


def _picture(offer, clip=None):
    parts = {"model": offer.identity, **({"clip": clip.identity} if clip else {})}
    return "api/picture?" + "&".join(f"{key}={urllib.parse.quote(value, safe='')}" for key, value in parts.items())


def _event(name, contents):
    return f"event: {name}\ndata: {json.dumps(contents)}\n\n"
