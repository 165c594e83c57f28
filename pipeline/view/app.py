"""The viewer's pages and answers over HTTP: everything below one secret path, for this machine's browser alone.

Starlette, which Prefect's own server stands on: routes and responses, without a framework's magic.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from typing import Any

import duckdb
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from surd.pipeline.build.folder import Build
from surd.pipeline.view.borderline import COLUMNS, borderline, kept_at, kept_exactly, thresholds
from surd.pipeline.view.clusters import clusters
from surd.pipeline.view.fields import FACETS, FIELDS, STORED
from surd.pipeline.view.live_decisions import LiveDecisions
from surd.pipeline.view.loading import Loading
from surd.pipeline.view.pictures import MEDIA, PictureCache
from surd.pipeline.view.queries import PAGE, Queries
from surd.pipeline.view.suggestions import suggestions
from surd.schemas import BuildConfig, BuildRecord, Reason, SurdError

#: Nothing but this server's own files runs or loads, and nothing leaves.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none';"
    " form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}
_STATIC = {
    "": ("static/view.html", "text/html; charset=utf-8"),
    "icon.svg": ("static/icon.svg", "image/svg+xml"),
    "view.css": ("static/view.css", "text/css; charset=utf-8"),
    "report.css": ("templates/report.css.jinja", "text/css; charset=utf-8"),
}
_SCRIPTS = "text/javascript; charset=utf-8"
_LONG = "private, max-age=3600"
_MOST_BODY = 64 << 10  # bytes of a decision


class Gate:
    """Lets in requests that know the token and name this server as their host.

    The host is checked because a page elsewhere can point a name of its own at 127.0.0.1; a decision's origin, because
    a page elsewhere can post.
    """

    def __init__(self, app: ASGIApp, hosts: set[str]) -> None:
        self._app, self._hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        origin = headers.get("origin")
        if headers.get("host") not in self._hosts or origin not in (None, *(f"http://{host}" for host in self._hosts)):
            await Response("Not found", 404)(scope, receive, send)
            return

        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                present = {name.lower() for name, _ in message["headers"]}
                message["headers"] += [
                    (name.lower().encode(), value.encode())
                    for name, value in HEADERS.items()
                    if name.lower().encode() not in present
                ]
            await send(message)

        await self._app(scope, receive, send_with_headers)


@dataclass
class View:
    """What the routes answer from."""

    build: Build
    record: BuildRecord
    config: BuildConfig
    loading: Loading
    beside: str | None = None

    def __post_init__(self) -> None:
        from surd.pipeline.view.points import EmbeddingMap

        self.pictures = PictureCache(self.build)
        self.decisions = LiveDecisions(self.build)
        self.map = EmbeddingMap()
        self._queries: Queries | None = None
        self._lock = threading.Lock()

    @property
    def queries(self) -> Queries:
        """Over the records as they were last read."""
        records = self.loading.records
        with self._lock:
            if self._queries is None or self._queries.records is not records:
                self.decisions.fill(records)
                self.pictures = PictureCache(self.build)  # the tars may be others
                self._queries = Queries(records)
            return self._queries


def make_app(view: View, token: str, hosts: set[str]) -> Starlette:
    """The application; everything else than paths below ``/token/`` is not found."""
    answers: dict[str, Callable[[View, Request], Any]] = {
        "build": _build, "page": _page, "facets": _facets, "record": _record, "cards": _cards, "histogram": _histogram,
        "ranking": _ranking, "suggestions": lambda view, request: suggestions(view.queries), "borderline": _borderline,
        "kept": _kept, "clusters": _clusters, "corrections": _corrections, "comparison": _comparison, "state": _state,
        "map": _map,
    }  # fmt: skip
    routes = [
        *(Route(f"/api/{name}", _answering(view, answer)) for name, answer in answers.items()),
        Route("/api/points", _catching(lambda request: _points(view, request))),
        Route("/api/reload", _answering(view, _reload), methods=["POST"]),
        Route("/api/decide", _deciding(view), methods=["POST"]),
        Route("/thumbnail/{key}", _catching(lambda request: _thumbnail(view, request))),
        Route("/picture/{key}", _catching(lambda request: _picture(view, request))),
        Route("/{name:path}", _file),
    ]

    return Starlette(routes=[Mount(f"/{token}", routes=routes)], middleware=[Middleware(Gate, hosts=hosts)])


def _answering(view: View, answer: Callable[[View, Request], Any]) -> Callable[[Request], Response]:
    return _catching(lambda request: _json(answer(view, request)))


def _catching(answer: Callable[[Request], Response]) -> Callable[[Request], Response]:
    """A user error is an answer of one sentence."""

    def respond(request: Request) -> Response:
        try:
            return answer(request)
        except SurdError as error:
            return _json({"error": str(error)}, 400)
        except duckdb.Error as error:
            return _json({"error": f"the rows cannot be read ({str(error).splitlines()[0]}); search for less"}, 500)

    return respond


def _json(document: Any, status: int = 200) -> Response:
    try:
        text = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except ValueError:  # a score that is not a number
        text = json.dumps(_finite(document), ensure_ascii=False, separators=(",", ":"))
    headers = {"Cache-Control": "no-store"}
    return Response(text.encode("utf-8", "replace"), status, headers, media_type="application/json")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _text(request: Request, name: str = "q", default: str = "") -> str:
    return request.query_params.get(name, default)


def _number(request: Request, name: str, default: int, most: int) -> int:
    try:
        return max(0, min(most, int(request.query_params.get(name, default))))
    except ValueError:
        raise SurdError(f"{name} is {request.query_params[name]!r}: not a whole number; leave it out") from None


def _build(view: View, request: Request) -> Any:
    """What the page has to know once."""
    from surd.pipeline.view import umap_plane

    queries = view.queries
    fields = [
        {"name": field.name, "kind": field.kind, "title": field.title, "stored": field.relation not in ("record",)}
        for field in (*FIELDS, *STORED)
    ]
    return {
        "name": view.build.name, "root": view.build.root, "count": queries.records.count,
        "stages": queries.records.stages, "funnel": queries.funnel(), "fields": fields, "facets": list(FACETS),
        "reasons": {reason.value: reason.meaning for reason in Reason}, "beside": view.beside,
        "source": str(view.record.config.get("source", "")), "models": view.record.models,
        "thresholds": thresholds(view.build, view.config), "decisions": len(view.decisions.decisions),
        "exact": view.config.select.max_similarity is None
        and not (view.config.select.filters or view.config.select.picture),
        "max_nsfw": view.config.safety.max_image, "umap": umap_plane.is_installed(),
    }  # fmt: skip


def _state(view: View, request: Request) -> Any:
    """Whether the build has grown since its rows were read."""
    return {"grown": view.loading.grown()}


def _reload(view: View, request: Request) -> Any:
    view.loading.reload()
    return _build(view, request)


def _page(view: View, request: Request) -> Any:
    """Cards of a result; the first page also says how many there are."""
    query, sort = _text(request), _text(request, "sort")
    start, count = _number(request, "start", 0, 1 << 40), _number(request, "count", 60, PAGE)
    cards = view.queries.page(query, sort, start, count)
    return {"total": len(view.queries.order(query, sort)), "start": start, "cards": _decided(view, cards)}


def _decided(view: View, cards: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**card, "decision": view.decisions.of(card["key"])} for card in cards]


def _cards(view: View, request: Request) -> Any:
    """Cards by place, or by key."""
    places = [int(place) for place in _text(request, "places").split(",") if place.isascii() and place.isdigit()]
    found = [view.queries.find(key) for key in _text(request, "keys").split(",") if key][:PAGE]
    places = [place for place in places if place < view.queries.records.count][:PAGE]
    return _decided(view, view.queries.cards([*places, *(one["place"] for one in found if one)]))


def _facets(view: View, request: Request) -> Any:
    return view.queries.facets(_text(request))


def _record(view: View, request: Request) -> Any:
    from surd.pipeline.view.record import record_of

    key = _text(request, "key")
    found = record_of(view.queries, key)
    if found is None:
        raise SurdError(f"key is {key!r}: no record of this build has it; search for it")
    return {**found, "decision": view.decisions.of(key)}


def _histogram(view: View, request: Request) -> Any:
    return view.queries.histogram(_text(request, "field"), _text(request))


def _ranking(view: View, request: Request) -> Any:
    return view.queries.ranking(_text(request, "field"), _text(request), _number(request, "count", 12, 100))


def _least(view: View, request: Request) -> dict[str, float]:
    least = thresholds(view.build, view.config)
    for name in COLUMNS:
        try:
            least[name] = float(request.query_params.get(name, least[name]))
        except ValueError:
            raise SurdError(f"{name} is {request.query_params[name]!r}: not a number; write one like 0.25") from None
    return least


def _borderline(view: View, request: Request) -> Any:
    least = _least(view, request)
    found = borderline(view.queries, least, _text(request, "by", "simple"), _number(request, "count", 12, PAGE))
    sides = {side: _decided(view, found[side]) for side in ("above", "below")}
    return {**found, **sides, "kept": kept_at(view.queries, least), "least": least}


def _kept(view: View, request: Request) -> Any:
    least = _least(view, request)
    if request.query_params.get("exactly") == "yes":
        return {"kept": kept_exactly(view.build, view.config, least, view.record.models.get("clip", ""))}
    return {"kept": kept_at(view.queries, least)}


def _clusters(view: View, request: Request) -> Any:
    start, count = _number(request, "start", 0, 1 << 40), _number(request, "count", 12, 50)
    found = clusters(view.queries, _text(request, "kind", "image"), _text(request), start, count)
    for one in found["clusters"]:
        one["cards"] = _decided(view, one["cards"])
    return found


def _corrections(view: View, request: Request) -> Any:
    from surd.pipeline.view.corrections import corrections, repaired_kinds

    start, count = _number(request, "start", 0, 1 << 40), _number(request, "count", 24, 50)
    found = corrections(view.queries, _text(request), start, count)
    for entry in found["entries"]:
        entry["card"] = _decided(view, [entry["card"]])[0]
    return {**found, "kinds": repaired_kinds(view.queries) if not start else []}


def _comparison(view: View, request: Request) -> Any:
    from surd.pipeline.view.comparison import comparison

    return comparison(view.queries)


def _map(view: View, request: Request) -> Any:
    """Whether the points of a map are known; if not, they are being computed from now on."""
    return {"ready": view.map.is_ready(view.queries, _text(request, "by", "pca"))}


def _points(view: View, request: Request) -> Response:
    from surd.pipeline.view.points import scatter

    query, of = _text(request), _text(request, "of")
    if of == "map":
        data = view.map.points(view.queries, query, _text(request, "by", "pca"))
    else:
        data = scatter(view.queries, _text(request, "x", "score.simple"), _text(request, "y", "score.complex"), query)
    return Response(data, headers={"Cache-Control": "no-store"}, media_type="application/octet-stream")


def _deciding(view: View) -> Callable[[Request], Any]:
    async def decide(request: Request) -> Response:
        if request.headers.get("content-type") != "application/json":
            return _json({"error": "a decision is sent as JSON"}, 400)
        body = b""
        async for piece in request.stream():
            body += piece
            if len(body) > _MOST_BODY:
                return _json({"error": "the decision is too long; write less"}, 400)
        return await run_in_threadpool(_decide, view, body)

    return decide


def _decide(view: View, body: bytes) -> Response:
    try:
        given = json.loads(body)
        if not isinstance(given, dict):
            raise ValueError
    except ValueError:
        return _json({"error": "the decision is not a JSON object; decide again"}, 400)
    try:
        key = view.decisions.undo() if given.get("undo") is True else view.decisions.decide(given).key
    except SurdError as error:
        return _json({"error": str(error)}, 400)
    if key is not None:
        view.decisions.store(view.queries.records, key)
        view.queries.forget_results()
    decision = view.decisions.of(key) if key else None
    return _json({"key": key, "decision": decision, "decisions": len(view.decisions.decisions)})


def _shown_picture(view: View, request: Request) -> dict[str, Any] | None:
    """Where the picture lies, if the record has one that decodes. One that is veiled is sent only when asked for."""
    where = view.queries.find(request.path_params["key"])
    if where is None or not where["picture"] or where["ext"] not in MEDIA:
        return None
    return None if where["veiled"] and request.query_params.get("unveil") != "yes" else where


def _thumbnail(view: View, request: Request) -> Response:
    where = _shown_picture(view, request)
    if where is None:
        return Response("No picture", 404)
    return _sent(request, where, "thumbnail", lambda: view.pictures.thumbnail(request.path_params["key"], where))


def _picture(view: View, request: Request) -> Response:
    where = _shown_picture(view, request)
    if where is None:
        return Response("No picture", 404)
    return _sent(request, where, "picture", lambda: view.pictures.original(request.path_params["key"], where))


def _sent(request: Request, where: dict[str, Any], what: str, data: Callable[[], bytes | None]) -> Response:
    tag = f'"{what}-{where["sha256"]}"'
    # One that is veiled is not cached: the browser would show it again unasked.
    headers = {"ETag": tag, "Cache-Control": "no-store" if where["veiled"] or where["nsfw"] is None else _LONG}
    if request.headers.get("if-none-match") == tag:
        return Response(None, 304, headers)
    bytes_ = data()
    if bytes_ is None:
        return Response("No picture", 404)
    kind = "image/webp" if what == "thumbnail" else MEDIA[where["ext"]]
    return Response(bytes_, headers=headers, media_type=kind)


def _file(request: Request) -> Response:
    """The page, its style and its scripts; they ship with the package."""
    name = request.path_params["name"]
    file, kind = _STATIC.get(name, (f"static/{name}", _SCRIPTS))
    if name not in _STATIC and name not in _scripts():
        return Response("Not found", 404)
    room = "surd.pipeline.report" if name == "report.css" else "surd.pipeline.view"
    data = resources.files(room).joinpath(file).read_bytes()
    return Response(data, headers={"Cache-Control": "no-cache"}, media_type=kind)


def _scripts() -> set[str]:
    folder = resources.files("surd.pipeline.view").joinpath("static")
    return {file.name for file in folder.iterdir() if file.name.endswith(".js")}
