"""The application: settings in, an ASGI application out."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from anyio import create_task_group, to_thread
from fastapi import FastAPI

from service.api import openapi, problems
from service.api.context import close_context, open_context
from service.api.observe import Observer
from service.api.routes import cohorts, events, features, health, models, pages
from service.config import Settings

TAGS = [
    {"name": "features", "description": "Cases in, features and predictions out."},
    {"name": "cohorts", "description": "Many cases in, one table out."},
    {"name": "models", "description": "The installed model bundles."},
    {"name": "operation", "description": "Health and numbers."},
]


def create_app(settings: Settings) -> FastAPI:
    """Build the application; the ledger is opened, and migrated, at once.

    No CORS headers are ever sent: other sites' pages have no business here.
    """
    context = open_context(settings)

    @asynccontextmanager
    async def live(_app: FastAPI) -> AsyncIterator[None]:
        async with create_task_group() as background:
            background.start_soon(context.endings.listen)
            background.start_soon(context.sent.mark_on)
            background.start_soon(context.changes.look_on)
            yield
            background.cancel_scope.cancel()
        await to_thread.run_sync(close_context, context)

    app = FastAPI(
        title="Radfuse",
        version=version("radfuse"),
        lifespan=live,
        openapi_tags=TAGS,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.context = context
    app.add_middleware(Observer, metrics=context.metrics)
    for resource in (features, events, cohorts, models, health, pages):
        app.include_router(resource.router)
    problems.install_handlers(app)
    openapi.install_document(app)
    return app
