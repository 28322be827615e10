"""What the web page shows of a recording, in one answer to one upload."""

from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect

from serein.errors import ConfigError
from serein.inference.formats import format_answers
from serein.inference.long_form import join_segments, merge_hops
from serein.inference.predictor import Predictor
from serein.inference.recognition import LongRecognition, Recognition
from serein.inference.recognizer import Recognizer
from serein.inference.stream_config import StreamConfig
from serein.inference.streaming import Stream
from serein.service.engine import Engine
from serein.service.routes import (
    RecognizeQuery,
    disconnected_problem,
    find_owner,
    parse_query,
    wait_unless_disconnected,
)
from serein.service.schemas import Problem
from serein.service.uploads import read_upload

FILES = ("csv", "vtt")
"""Formats of the downloads, besides JSON."""


def overview_routes(engine: Engine) -> APIRouter:
    """Build the route of the web page."""
    router = APIRouter(include_in_schema=False)

    @router.post("/page/overview")
    async def get_overview(
        request: Request, query: Annotated[RecognizeQuery, Depends(parse_query)]
    ) -> JSONResponse:
        """Answer with the whole recording, its hops, its segments, and the downloads."""
        recognizer = query.select_recognizer(engine)
        stream_config = query.to_stream_config() or StreamConfig()
        try:
            recognizer.check_words(None)
        except ConfigError as error:
            raise Problem(400, str(error)) from None
        query.check_compatible(recognizer, stream_config)
        owner = find_owner(request)
        with engine.hold_slot(owner):
            try:
                name, body, _ = await read_upload(request, engine.config)
                request.state.bytes = len(body)
                whole, hops = await wait_unless_disconnected(
                    request,
                    engine.recognize_overview(name, body, recognizer, stream_config, owner),
                )
            except ClientDisconnect:
                raise disconnected_problem() from None
        request.state.seconds = round(whole.end - whole.start, 3)
        return JSONResponse(build_overview(recognizer, whole, hops))

    return router


def build_overview(recognizer: Recognizer, whole: Recognition, hops: Recognition) -> dict[str, Any]:
    """Build the document of the page.

    Args:
        recognizer: the model.
        whole: the one answer for the recording, as of ``serein recognize``; the headline of a
            long recording has the shares of its classes.
        hops: its timeline without merging.
    """
    whole, summary = replace(whole, source=hops.source), summarize_hops(recognizer, hops)
    if not isinstance(whole, LongRecognition):
        summary["headlines"] = {}
    segments = merge_hops(recognizer, hops).segments
    summary["timeline"] = replace(whole, segments=segments, attention={}).to_dict()
    return {
        "whole": whole.to_dict(),
        "hops": [hop.to_dict() for hop in hops.segments or []],
        **summary,
    }


def summarize_hops(predictor: Predictor, hops: Recognition) -> dict[str, Any]:
    """Return the merged timeline of hops, its headline for each task, and the downloads."""
    timeline = merge_hops(predictor, hops)
    return {
        "timeline": timeline.to_dict(),
        "headlines": timeline.headlines,
        "files": {name: format_answers(name, [timeline], {}) for name in FILES},
    }


def summarize_stream(stream: Stream, name: str, seconds: float) -> dict[str, Any]:
    """Return what ``summarize_hops`` returns, for a stream that has ended.

    Args:
        stream: it kept its spans.
        name: of the recording.
        seconds: duration of its audio.
    """
    hops = [stream.to_segment(span) for span in stream.spans]
    return summarize_hops(stream.predictor, join_segments(stream.predictor, name, hops, seconds))
