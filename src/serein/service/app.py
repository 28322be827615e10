"""The service as one ASGI app; a new endpoint is a file with a router, and a line here."""

from importlib.metadata import version
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request, params
from fastapi.middleware.cors import CORSMiddleware
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from serein.service import about, page, problems, routes, websocket
from serein.service.auth import ApiKeys
from serein.service.engine import Engine
from serein.service.observability import ObservabilityMiddleware
from serein.service.problems import Problem, describe_responses

DESCRIPTION = """Speech emotion recognition. Nothing that is sent is stored.

An answer is what listeners would likely call the sound of a voice, not what a person feels. Do not
use it to decide about people. The European Union's AI Act forbids inferring emotions at work and in
education, and holds other uses to strict rules."""


def create_app(engine: Engine, keys: ApiKeys | None = None) -> ObservabilityMiddleware:
    """Make the app.

    Args:
        engine: answers; not closed as long as the app is used.
        keys: who may call; without any, everybody who reaches it.
    """
    app = FastAPI(
        title="serein", version=version("serein"), description=DESCRIPTION, redoc_url=None
    )
    problems.install_handlers(app)
    closed: dict[str, Any] = {}
    if keys is not None:
        closed = {"dependencies": [_require_key(keys)], "responses": describe_responses(401)}
    app.include_router(routes.recognize_routes(engine), **closed)
    app.include_router(websocket.stream_routes(engine, keys))
    app.include_router(about.model_routes(engine), **closed)
    app.include_router(about.metrics_routes(engine), **closed)
    app.include_router(about.health_routes(engine))
    app.include_router(page.page_routes())
    if engine.config.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(engine.config.origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type"],
        )
    return ObservabilityMiddleware(app, engine.metrics)


def _require_key(keys: ApiKeys) -> params.Depends:
    bearer = HTTPBearer(auto_error=False, description="A key that `serein serve --new-key` made.")

    async def holder(
        request: Request, given: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]
    ) -> None:
        name = keys.holder(given.credentials) if given else None
        if name is None:
            found = "an unknown key" if given else "no key"
            raise Problem(
                401,
                f"{found}; expected the header `Authorization: Bearer KEY`. Ask who runs this "
                "service for a key.",
                WWW_Authenticate="Bearer",
                Connection="close",
            )
        request.state.key = name

    needed: params.Depends = Depends(holder)
    return needed
