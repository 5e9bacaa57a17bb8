"""`/docs`, `/openapi.json` and `/problems`: the documentation, without a byte from any other host.

Swagger UI's assets come with the package `fastapi-offline`; hospital networks seldom reach a CDN.
"""

from functools import lru_cache
from html import escape
from importlib import resources
from typing import Final

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse

from service.api.auth import refuse_while_locked
from service.api.problems import ProblemType, list_problem_types
from service.errors import NotFound

ASSETS: Final = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css"}
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
START_SCRIPT: Final = """\
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#docs",
  deepLinking: true,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
  tryItOutEnabled: true,
  validatorUrl: null,
});
"""
DOCS: Final = """\
<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Radfuse: API</title><link rel="stylesheet" href="docs/swagger-ui.css"></head>
<body><div id="docs"></div><noscript>This page needs JavaScript; the same is in <a href="openapi.json">openapi.json</a>
and <a href="problems">problems</a>.</noscript>
<script src="docs/swagger-ui-bundle.js"></script><script src="docs/start.js"></script></body>
</html>
"""
_STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:2rem auto;padding:0 1rem}"
    "code{background:#eee;padding:0 .25rem}dt{margin-top:1rem;font-weight:600}@media(prefers-color-scheme:dark)"
    "{body{background:#111;color:#ddd}code{background:#333}a{color:#8cf}}"
)
router = APIRouter(dependencies=[Depends(refuse_while_locked)], include_in_schema=False)


@router.get("/openapi.json")
def show_document(request: Request) -> Response:
    """Return the OpenAPI document."""
    return JSONResponse(request.app.openapi())


@router.get("/docs")
def show_docs() -> Response:
    """Show the documentation."""
    return HTMLResponse(DOCS, headers={"Content-Security-Policy": POLICY})


@router.get("/docs/start.js")
def show_start_script() -> Response:
    """Return the few lines that start Swagger UI (the page's policy forbids inline scripts)."""
    return Response(START_SCRIPT, media_type="text/javascript")


@router.get("/docs/{asset}")
def show_asset(asset: str) -> Response:
    """Return one of Swagger UI's two files."""
    if asset not in ASSETS:
        raise NotFound("no such file")
    return Response(_read_asset(asset), media_type=ASSETS[asset], headers={"Cache-Control": "public, max-age=86400"})


@router.get("/problems")
def show_problems() -> Response:
    """List every problem type."""
    entries = "".join(
        f'<dt><a href="problems/{slug}"><code>{slug}</code></a> {escape(kind.title)}</dt><dd>{_meanings(kind)}</dd>'
        for slug, kind in list_problem_types().items()
    )
    return _page("Problems", f"<p>Every refusal of Radfuse, by its <code>type</code>.</p><dl>{entries}</dl>")


@router.get("/problems/{slug}")
def show_problem(slug: str) -> Response:
    """Explain one problem type."""
    kind = list_problem_types().get(slug)
    if kind is None:
        raise NotFound("no such problem type; GET /problems lists them")
    where = " and ".join(
        place
        for place, applies in (
            ("a request's answer", not kind.in_jobs or 413 in kind.statuses),
            ("a job's `problem`", kind.in_jobs),
        )
        if applies
    )
    statuses = ", ".join(map(str, kind.statuses))
    return _page(
        kind.title,
        f"<p><code>{kind.type}</code>, status {statuses}, in {escape(where)}.</p><p>{_meanings(kind)}</p>"
        '<p><a href="../problems">All problems</a></p>',
    )


def _meanings(kind: ProblemType) -> str:
    return "<br>".join(escape(meaning) for meaning in kind.meanings)


def _page(title: str, body: str) -> Response:
    html = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Radfuse: {escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{escape(title)}</h1>{body}</body></html>"
    )
    return HTMLResponse(html, headers={"Content-Security-Policy": POLICY})


@lru_cache(maxsize=len(ASSETS))
def _read_asset(name: str) -> bytes:
    return resources.files("fastapi_offline").joinpath("static", name).read_bytes()
