"""Endpoints that tell of the service: its model, its health, its numbers."""

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import PlainTextResponse

from serein.inference.formats import as_card
from serein.inference.recognizer import Recognizer
from serein.service.engine import Engine
from serein.service.problems import Problem, describe_responses
from serein.service.schemas import Health, Model


class PrometheusResponse(PlainTextResponse):
    """Prometheus's text."""

    media_type = "text/plain; version=0.0.4"


def model_routes(engine: Engine) -> APIRouter:
    """What can be known of the models."""
    routes = APIRouter(tags=["model"])
    known = {name: _describe_model(one, engine) for name, one in engine.recognizers.items()}

    @routes.get("/v1/model", summary="What answers", responses=describe_responses(400))
    async def _model(
        model: Annotated[str | None, Query(description="its name; the first if not given")] = None,
    ) -> Model:
        """Labels, limits, and the card: data, licence, scores, use and misuse."""
        return known[engine.select_recognizer(model).name]

    @routes.get("/v1/models", summary="All that answer")
    async def _models() -> list[Model]:
        """The first is asked where a request names none."""
        return list(known.values())

    return routes


def _describe_model(recognizer: Recognizer, engine: Engine) -> Model:
    settings = engine.config
    return Model(
        name=recognizer.name,
        classes={task: list(names) for task, names in recognizer.classes.items()},
        rate=recognizer.rate,
        window=recognizer.window,
        thresholds=recognizer.thresholds,
        max_seconds=settings.max_seconds,
        max_bytes=settings.max_bytes,
        card=as_card(recognizer.bundle),
    )


def metrics_routes(engine: Engine) -> APIRouter:
    """What a monitor reads."""
    routes = APIRouter(tags=["operation"])

    @routes.get("/metrics", summary="For Prometheus", response_class=PrometheusResponse)
    async def _metrics() -> PrometheusResponse:
        return PrometheusResponse(engine.metrics.render())

    return routes


def health_routes(engine: Engine) -> APIRouter:
    """What a supervisor asks, without a key."""
    routes = APIRouter(tags=["operation"])

    @routes.get("/healthz", summary="Is the process there?")
    async def _healthz() -> Health:
        return Health(status="ok")

    @routes.get(
        "/readyz", summary="Would a request be answered?", responses=describe_responses(503)
    )
    async def _readyz() -> Health:
        if not engine.is_ready():
            raise Problem(503, "not ready: it is ending, or the model is gone")
        return Health(status="ready")

    return routes
