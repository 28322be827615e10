"""Settings of streams, and how the service and the command line take them over."""

from typing import Any

import pytest
from pydantic import ValidationError

from serein.config import build_config
from serein.errors import ConfigError
from serein.inference.stream_config import STREAM_FIELDS, StreamConfig
from serein.service.routes import RecognizeQuery
from serein.service.schemas import StartMessage


@pytest.mark.parametrize(
    ("options", "config"),
    [
        ({}, None),
        (dict.fromkeys(STREAM_FIELDS), None),
        ({"hop": None, "speech": False}, StreamConfig(speech=False)),
        ({"window": 2.0, "smooth": 3}, StreamConfig(window=2.0, smooth=3)),
    ],
)
def test_from_options_leaves_out_none(options: dict[str, Any], config: StreamConfig | None) -> None:
    assert StreamConfig.from_options(options) == config


def test_query_and_message_have_all_fields_with_the_same_defaults() -> None:
    assert set(STREAM_FIELDS) <= set(RecognizeQuery.model_fields)
    message = StartMessage(type="start", rate=16_000)
    assert StreamConfig(**message.stream_options()) == StreamConfig()
    assert RecognizeQuery().to_stream_config() is None
    assert RecognizeQuery(format="rttm").to_stream_config() == StreamConfig()
    assert RecognizeQuery(hop=0.5).to_stream_config() == StreamConfig(hop=0.5)


@pytest.mark.parametrize("value", [float("inf"), float("nan"), 1e308, 61.0, 0.0, -1.0])
@pytest.mark.parametrize("name", ["window", "hop"])
def test_bounds_are_the_same_everywhere(name: str, value: float) -> None:
    options = {name: value}
    with pytest.raises(ConfigError, match=name):
        build_config(StreamConfig, options, "stream")
    with pytest.raises(ValidationError, match=name):
        RecognizeQuery.model_validate(options)
    with pytest.raises(ValidationError, match=name):
        StartMessage.model_validate({"type": "start", "rate": 16_000, **options})
    good: dict[str, Any] = {"window": 60.0, "hop": 0.25}
    assert build_config(StreamConfig, good, "stream") == StreamConfig(**good)
    assert RecognizeQuery.model_validate(good).to_stream_config() == StreamConfig(**good)


def test_help_ends_with_the_default() -> None:
    defaults = [StreamConfig.help(name).split("default: ")[1] for name in STREAM_FIELDS]
    assert defaults == ["4", "1", "1", "true", "true"]
