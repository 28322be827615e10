"""SAVEE and EMO-DB in miniature, read as one: two languages, with other classes in each."""

from pathlib import Path

from builders.corpus_layouts import write_emodb, write_savee
from builders.small_systems import QUICK

from serein import corpora
from serein.records import Corpus

ONCE = (*QUICK, "training.epochs=1")
CROSSED = (*ONCE, "protocol.main=savee")
SPOKEN = ("tasks.gender=remove", "tasks.speaker.weight=1")


def crossed(folder: Path) -> Corpus:
    """Both corpora; their words are silence of some tenths of a second, or one made-up word."""
    write_savee(folder / "savee", utterances=32, words=1)
    write_emodb(folder / "emodb", utterances=40, words=1)
    return corpora.as_corpus(
        [f"savee={folder / 'savee'}", f"emodb={folder / 'emodb'}"], partial=True
    )
