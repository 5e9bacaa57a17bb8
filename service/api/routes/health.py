"""`/livez`, `/readyz`, `/metrics`: what an operator, or a container engine, asks."""

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Depends, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST
from sqlalchemy.exc import SQLAlchemyError

from service import broker
from service.api import openapi
from service.api.auth import Admin
from service.api.context import Context, ContextOf
from service.api.schemas import Check, Liveness, Readiness
from service.errors import BundleDamaged

router = APIRouter(tags=["operation"])


@router.get("/livez", response_model=Liveness)
async def report_liveness() -> Liveness:
    """Say that the process answers. Needs no key."""
    return Liveness(status="alive")


def check_everything(context: ContextOf) -> Readiness:
    """Look at everything a case needs on its way through."""
    checks = {name: check(context) for name, check in CHECKS.items()}
    return Readiness(ready=all(check.ok for check in checks.values()), checks=checks)


@router.get(
    "/readyz",
    response_model=Readiness,
    responses={503: {"model": Readiness, "description": "Something that a case needs is missing."}},
)
def report_readiness(readiness: Annotated[Readiness, Depends(check_everything)]) -> Response:
    """Say whether a case would get through: ledger, broker, disk, models, dispatcher, workers and their device.

    Needs no key. A device is named once a worker's first case has shown what the encoder really runs on.
    """
    return JSONResponse(readiness.model_dump(), status_code=200 if readiness.ready else 503)


@router.get("/metrics", response_class=Response, **openapi.METRICS)
def report_metrics(context: ContextOf, _caller: Admin) -> Response:
    """Give Prometheus its numbers: requests by route and status, jobs by state. Needs the scope `admin`."""
    return Response(context.metrics.render(), media_type=CONTENT_TYPE_LATEST)


def _check_ledger(context: Context) -> Check:
    try:
        context.ledger.ping()
    except SQLAlchemyError as error:
        return Check(ok=False, detail=type(error).__name__)
    return Check(ok=True, detail="answers")


def _check_broker(context: Context) -> Check:
    ok = broker.ping(context.broker)
    return Check(ok=ok, detail="answers" if ok else "does not answer; accepted jobs wait in the ledger")


def _check_disk(context: Context) -> Check:
    free, least = context.storage.free_bytes(), context.settings.min_free_bytes
    return Check(ok=free >= least, detail=f"{free} bytes free, at least {least} must be")


def _check_models(context: Context) -> Check:
    try:
        models = context.catalogue.read()
    except BundleDamaged:
        return Check(ok=False, detail="a bundle is damaged; the log says which")
    return Check(ok=bool(models), detail=", ".join(each.manifest.reference for each in models.values()) or "none")


def _check_dispatcher(context: Context) -> Check:
    return _check_processes(context, "dispatcher")


def _check_workers(context: Context) -> Check:
    return _check_processes(context, "worker")


def _check_processes(context: Context, kind: str) -> Check:
    """Look for heartbeats in the ledger."""
    within = context.settings.alive_seconds
    try:
        alive = [process for process in context.ledger.list_processes(within) if process.kind == kind]
    except SQLAlchemyError as error:
        return Check(ok=False, detail=type(error).__name__)
    devices = sorted({process.device for process in alive if process.device})
    on = f" on {', '.join(devices)}" if devices else ""
    return Check(ok=bool(alive), detail=f"{len(alive)} alive{on}")


CHECKS: dict[str, Callable[[Context], Check]] = {
    "ledger": _check_ledger,
    "broker": _check_broker,
    "disk": _check_disk,
    "models": _check_models,
    "dispatcher": _check_dispatcher,
    "workers": _check_workers,
}
