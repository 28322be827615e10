"""Speech emotion recognition, end to end and multitask.

>>> import serein
>>> serein.load_recipe("li2019").model["name"]
'li2019'

The public names are loaded on first use: ``import serein`` costs next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from serein.bundle import Bundle, Card
    from serein.corpora import load as load_corpus
    from serein.errors import (
        AudioError,
        BundleError,
        ConfigError,
        CorpusError,
        ProtocolError,
        SereinError,
        StorageError,
        UnknownName,
    )
    from serein.experiment.evaluate import Run, evaluate
    from serein.experiment.judge import judge
    from serein.experiment.search import search
    from serein.experiment.train import train
    from serein.explanations import Explanation
    from serein.inference.explain import explain
    from serein.inference.recognition import Recognition, Segment
    from serein.inference.recognizer import Recognizer
    from serein.inference.stream import Stream
    from serein.recipes import load as load_recipe
    from serein.records import Corpus, Protocol, Recipe, Utterance
    from serein.results import Results
    from serein.store import load as load_results

__all__ = [
    "AudioError",
    "Bundle",
    "BundleError",
    "Card",
    "ConfigError",
    "Corpus",
    "CorpusError",
    "Explanation",
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
    "evaluate",
    "explain",
    "judge",
    "load_corpus",
    "load_recipe",
    "load_results",
    "search",
    "train",
]

_HOMES = {
    "Bundle": "bundle",
    "Card": "bundle",
    "Corpus": "records",
    "Explanation": "explanations",
    "Protocol": "records",
    "Recipe": "records",
    "Recognition": "inference.recognition",
    "Recognizer": "inference.recognizer",
    "Results": "results",
    "Run": "experiment.evaluate",
    "Segment": "inference.recognition",
    "Stream": "inference.stream",
    "Utterance": "records",
    "evaluate": "experiment.evaluate",
    "explain": "inference.explain",
    "judge": "experiment.judge",
    "load_corpus": "corpora",
    "load_recipe": "recipes",
    "load_results": "store",
    "search": "experiment.search",
    "train": "experiment.train",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("serein")
    if name not in __all__:
        raise AttributeError(f"module 'serein' has no attribute {name!r}")
    home = import_module(f"serein.{_HOMES.get(name, 'errors')}")
    value = getattr(home, "load" if name.startswith("load_") else name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
