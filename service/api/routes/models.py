"""`/models`: the installed bundles, what they need and what they predict."""

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse, PlainTextResponse

from service.api import openapi
from service.api.auth import Reader
from service.api.context import ContextOf
from service.api.schemas import ModelDetail, ModelDocument
from service.api.views import view_model

router = APIRouter(tags=["models"])


@router.get("/models", response_model=list[ModelDocument], **openapi.MODELS)
def list_models(context: ContextOf, _caller: Reader) -> Response:
    """List the installed model bundles."""
    return JSONResponse([view_model(listed) for listed in context.catalogue.read().values()])


@router.get("/models/{name}", response_model=ModelDetail, **openapi.MODEL)
def fetch_model(context: ContextOf, _caller: Reader, name: str) -> Response:
    """Describe one bundle: channels, targets, the names of its features in order, its card."""
    listed = context.catalogue.find(name)
    more = {"feature_names": listed.manifest.feature_names, "card_text": context.catalogue.card(name)}
    return JSONResponse(view_model(listed) | more)


@router.get("/models/{name}/card", response_class=PlainTextResponse, **openapi.CARD)
def fetch_card(context: ContextOf, _caller: Reader, name: str) -> Response:
    """Fetch the bundle's card: what it is for, how it was made and tested, where it fails."""
    return Response(context.catalogue.card(name), media_type="text/markdown; charset=utf-8")
