"""Speech emotion recognition, end to end and multitask.

>>> import serein
>>> serein.load_recipe("li2019").model["name"]
'li2019'

Public names are imported on first use, so that ``import serein`` takes almost no time.
"""

import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from serein.api import (
        compare,
        evaluate,
        load_corpus,
        load_results,
        plan,
        score_model,
        search,
        sweep,
        train,
    )
    from serein.bundle import Bundle, Card
    from serein.errors import (
        AudioError,
        BundleError,
        ConfigError,
        CorpusError,
        HubError,
        ProtocolError,
        SereinError,
        StorageError,
        UnknownName,
    )
    from serein.evaluation.audio_classifier import load_audio_classifier
    from serein.evaluation.evaluate import Run
    from serein.inference.explain import explain
    from serein.inference.long_form import join_shards
    from serein.inference.recognition import Recognition, Segment
    from serein.inference.recognizer import Recognizer
    from serein.inference.streaming import Stream, feed_streams
    from serein.recipes import load as load_recipe
    from serein.records import Corpus, Protocol, Recipe, Utterance
    from serein.results.evaluation import Results
    from serein.results.inference import Explanation

__all__ = [
    "AudioError",
    "Bundle",
    "BundleError",
    "Card",
    "ConfigError",
    "Corpus",
    "CorpusError",
    "Explanation",
    "HubError",
    "Protocol",
    "ProtocolError",
    "Recipe",
    "Recognition",
    "Recognizer",
    "Results",
    "Run",
    "Segment",
    "SereinError",
    "StorageError",
    "Stream",
    "UnknownName",
    "Utterance",
    "compare",
    "evaluate",
    "explain",
    "feed_streams",
    "join_shards",
    "load_audio_classifier",
    "load_corpus",
    "load_recipe",
    "load_results",
    "plan",
    "score_model",
    "search",
    "sweep",
    "train",
]

_MODULES = {
    "Bundle": "serein.bundle",
    "Card": "serein.bundle",
    "Corpus": "serein.records",
    "Explanation": "serein.results.inference",
    "Protocol": "serein.records",
    "Recipe": "serein.records",
    "Recognition": "serein.inference.recognition",
    "Recognizer": "serein.inference.recognizer",
    "Results": "serein.results.evaluation",
    "Run": "serein.evaluation.evaluate",
    "Segment": "serein.inference.recognition",
    "Stream": "serein.inference.streaming",
    "Utterance": "serein.records",
    "compare": "serein.api",
    "evaluate": "serein.api",
    "explain": "serein.inference.explain",
    "feed_streams": "serein.inference.streaming",
    "join_shards": "serein.inference.long_form",
    "load_audio_classifier": "serein.evaluation.audio_classifier",
    "load_corpus": "serein.api",
    "load_recipe": "serein.recipes",
    "load_results": "serein.api",
    "plan": "serein.api",
    "score_model": "serein.api",
    "search": "serein.api",
    "sweep": "serein.api",
    "train": "serein.api",
}
_ATTRIBUTES = {"load_recipe": "load"}
_DEPRECATED = {"judge": "score_model"}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("serein")
    if name in _DEPRECATED:
        new = _DEPRECATED[name]
        warnings.warn(f"serein.{name} is now serein.{new}", DeprecationWarning, stacklevel=2)
        return __getattr__(new)
    if name == "testing":
        return import_module("serein.testing")
    if name not in __all__:
        raise AttributeError(f"module 'serein' has no attribute {name!r}")
    try:
        module = import_module(_MODULES.get(name, "serein.errors"))
    except ModuleNotFoundError as error:
        from serein.errors import ConfigError, describe_missing_package

        message = describe_missing_package(error)
        if not message:
            raise
        raise ConfigError(f"serein.{name}: {message}") from error
    value = getattr(module, _ATTRIBUTES.get(name, name))
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
