"""Endpoints that tell of the service: its model, its health, its numbers."""

from importlib.metadata import version

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse

from serein.inference.formats import as_card
from serein.service.engine import Engine
from serein.service.problems import Problem, documented
from serein.service.schemas import Health, Model


class Exposition(PlainTextResponse):
    """Prometheus's text."""

    media_type = "text/plain; version=0.0.4"


def model(engine: Engine) -> APIRouter:
    """What can be known of the model."""
    routes = APIRouter(tags=["model"])
    recognizer, settings = engine.recognizer, engine.settings
    about = Model(
        name=recognizer.name,
        classes={task: list(names) for task, names in recognizer.classes.items()},
        rate=recognizer.rate,
        window=recognizer.window,
        thresholds=recognizer.thresholds,
        max_seconds=settings.max_seconds,
        max_bytes=settings.max_bytes,
        card=as_card(recognizer.bundle),
    )

    @routes.get("/v1/model", summary="What answers")
    async def _model() -> Model:
        """Labels, limits, and the card: data, licence, scores, use and misuse."""
        return about

    return routes


def numbers(engine: Engine) -> APIRouter:
    """What a monitor reads."""
    routes = APIRouter(tags=["operation"])

    @routes.get("/metrics", summary="For Prometheus", response_class=Exposition)
    async def _metrics() -> Exposition:
        return Exposition(engine.metrics.text())

    return routes


def health(engine: Engine) -> APIRouter:
    """What a supervisor asks, without a key."""
    routes = APIRouter(tags=["operation"])

    @routes.get("/", include_in_schema=False)
    async def _root() -> dict[str, str]:
        return {"service": "serein", "version": version("serein"), "docs": "/docs"}

    @routes.get("/healthz", summary="Is the process there?")
    async def _healthz() -> Health:
        return Health(status="ok")

    @routes.get("/readyz", summary="Would a request be answered?", responses=documented(503))
    async def _readyz() -> Health:
        if not engine.ready():
            raise Problem(503, "not ready: it is ending, or the model is gone")
        return Health(status="ready")

    return routes
