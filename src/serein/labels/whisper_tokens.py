"""Tokens of Whisper: from its tokenizer.json, without ``transformers`` and ``tokenizers``.

A token is a sequence of bytes of UTF-8. The file writes each byte as one printable character, as
GPT-2 does. Tokens such as ``<|de|>`` are commands to the decoder: start, language, task, end.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from serein.errors import EncoderError

TOKENIZER_FILE = "tokenizer.json"
START, END, TRANSCRIBE = "<|startoftranscript|>", "<|endoftext|>", "<|transcribe|>"
NO_TIMESTAMPS, NO_SPEECH = "<|notimestamps|>", ("<|nospeech|>", "<|nocaptions|>")
"""Commands; the second name of "no speech" is that of the first models."""
MAX_LANGUAGE_LETTERS = 3
SYMBOLS = (
    *"\"#()*+/:;<=>@[\\]^_`{|}~「」『』♩♪♫♬♭♮♯-'",
    *[
        "<<",
        ">>",
        "<<<",
        ">>>",
        "--",
        "---",
        "-(",
        "-[",
        "('",
        '("',
        "((",
        "))",
        "(((",
        ")))",
        "[[",
        "]]",
        "{{",
        "}}",
        "♪♪",
        "♪♪♪",
    ],
)
"""What annotates sounds and speakers, and is no speech; Whisper itself suppresses these, too."""
KEPT_SYMBOLS = ("-", "'")
"""Symbols within words, which are suppressed only after a space."""


@dataclass(frozen=True)
class WhisperTokens:
    """The tokens of a model.

    Attributes:
        ids: id of each token, its bytes as printable characters.
        special: ids of commands by their text.
    """

    ids: dict[str, int]
    special: dict[str, int]

    @classmethod
    def read(cls, folder: Path) -> "WhisperTokens":
        """Read the tokens of a model's folder.

        Raises:
            EncoderError: there is no tokenizer.json, or it is not Whisper's.
        """
        file = folder / TOKENIZER_FILE
        try:
            document = json.loads(file.read_text(encoding="utf-8"))
            ids = {str(token): int(id_) for token, id_ in document["model"]["vocab"].items()}
            special = {str(x["content"]): int(x["id"]) for x in document["added_tokens"]}
        except OSError as error:
            raise EncoderError(
                f"{folder} holds no {TOKENIZER_FILE} ({error.strerror}), without which tokens are "
                "no words; get the whole model, with the files of its tokenizer"
            ) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise EncoderError(f"{file} is not the tokenizer of Whisper: {error!r}") from error
        if missing := [name for name in (START, END, NO_TIMESTAMPS) if name not in special]:
            raise EncoderError(f"{file} is not the tokenizer of Whisper: no token {missing[0]}")
        return cls({token: id_ for token, id_ in ids.items() if token not in special}, special)

    @cached_property
    def languages(self) -> dict[str, int]:
        """Ids of the languages by their codes, such as "de"."""
        codes = {name[2:-2]: id_ for name, id_ in self.special.items()}
        return {
            code: id_
            for code, id_ in codes.items()
            if len(code) <= MAX_LANGUAGE_LETTERS and code.isalpha()
        }

    @property
    def end(self) -> int:
        """Id of the end of a transcript."""
        return self.special[END]

    @property
    def no_speech(self) -> int | None:
        """Id of the token for a recording without speech."""
        return next((self.special[name] for name in NO_SPEECH if name in self.special), None)

    def build_prompt(self, language: int | None) -> list[int]:
        """Return the commands after the start; None is a model of one language."""
        task = [] if language is None else [language, self.special[TRANSCRIBE]]
        return [*task, self.special[NO_TIMESTAMPS]]

    def list_suppressed(self, count: int) -> list[int]:
        """Return ids that are never part of a transcript.

        Args:
            count: number of ids of the model, which may have times after the tokens of the file.
        """
        written = [_to_characters(x) for x in (*SYMBOLS, *(f" {symbol}" for symbol in SYMBOLS))]
        kept = {*KEPT_SYMBOLS}
        symbols = {self.ids[text] for text in written if text in self.ids and text not in kept}
        commands = {id_ for id_ in range(min(self.special.values()), count) if id_ != self.end}
        return sorted(symbols | commands)

    @cached_property
    def blank(self) -> list[int]:
        """Ids that may not be the first of a transcript: a space, and the end."""
        space = self.ids.get(_to_characters(" "))
        return [self.end, *([] if space is None else [space])]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of tokens; bytes that are no UTF-8 become U+FFFD."""
        content = b"".join(self._bytes.get(id_, b"") for id_ in ids)
        return content.decode("utf-8", errors="replace")

    def split_words(self, ids: Sequence[int]) -> list[int]:
        """Return for each token the number of its word, from 0; a space begins a word."""
        numbers = list[int]()
        for id_ in ids:
            begins = self._bytes.get(id_, b"").startswith(b" ") and bool(numbers)
            numbers.append((numbers[-1] if numbers else 0) + begins)
        return numbers

    @cached_property
    def _bytes(self) -> dict[int, bytes]:
        return {
            id_: bytes(BYTES[character] for character in token)
            for token, id_ in self.ids.items()
            if all(character in BYTES for character in token)
        }


def _list_characters() -> list[str]:
    """Return the printable character of each byte: itself, or the next one from U+0100 on."""
    own = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return [chr(byte if byte in own else next(others)) for byte in range(256)]


CHARACTERS = _list_characters()
BYTES = {character: byte for byte, character in enumerate(CHARACTERS)}


def _to_characters(text: str) -> str:
    return "".join(CHARACTERS[byte] for byte in text.encode())
