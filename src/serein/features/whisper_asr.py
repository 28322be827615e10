"""Whisper as the speech recogniser inside: states of its encoder, and of its decoder beside them.

Feng et al. 2020 (section 4.1) put the decoder states of a recogniser, trained on 960 hours, beside
acoustic frames. Here the recogniser is Whisper (Radford et al. 2023), which stays frozen. A row has
the outputs of chosen layers of its encoder, and then the state of its decoder that predicts the
token that is spoken there: the state repeats over all rows of a token. The model ``feng2020`` with
``text = "frames"`` takes the repetitions out again.

Tokens are found by greedy search, with Whisper's own rules: no symbols, no commands, no timestamps,
a language that is given or detected, and no token at all where "no speech" is probable and the
tokens are not. The state after the last token, which predicts the end, belongs to the last rows.

Rows and tokens are aligned by the decoder's attention over the encoder's frames: that of the heads
that generation_config.json names, else of all heads of the upper half of the layers, as in
Whisper's timing of words; standardized over tokens, averaged over heads; and the best monotonic
path on which every token has a row (Kim et al. 2020: Glow-TTS, algorithm 1).

The level and an offset of a recording have no effect, as in the front end ``whisper``.

B = batch, S = samples, T = frames of 20 ms, R = rows, D = channels, N = layers of the decoder,
H = heads, K = chosen heads, L = tokens and the end, F = values of a row.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Le
from torch import Tensor, nn

from serein.errors import ConfigError, EncoderError
from serein.features import whisper
from serein.labels.whisper_tokens import START, TOKENIZER_FILE, WhisperTokens
from serein.layers import ssl_encoder
from serein.layers.whisper_decoder import load_decoder, read_decoder_config

SOURCES = (
    "features/logmel.py",
    "features/whisper.py",
    "labels/whisper_tokens.py",
    "layers/whisper_decoder.py",
    "layers/whisper_encoder.py",
)
"""Other files of this package that the numbers depend on."""
NOTE = "Whisper (OpenAI, MIT licence), encoder and decoder; its training data are unknown"
"""Note for users of its features."""
HEADS_FILE = "generation_config.json"
FRAME_SAMPLES, FRAME_SECONDS, MAX_SECONDS = 320, 0.02, 30
"""Samples and seconds from frame to frame of the encoder, and longest recording."""
NO_SPEECH_PROBABILITY, MIN_LOG_PROBABILITY = 0.6, -1.0
"""No token is kept if "no speech" is more probable than the first, and the tokens less, on average,
than the second; as in Whisper."""


@dataclass(frozen=True)
class Config:
    """Choice of the recogniser, and of its states.

    Attributes:
        encoder: folder of a whole Whisper, encoder, decoder and tokenizer, or its name in the
            folder that the variable SEREIN_ENCODERS names.
        sha256: expected SHA-256 of its files, set in saved models.
        layers: layers of the encoder whose output is in a row, counted from 1.
        pool: neighbouring frames of 20 ms that are averaged to a row.
        language: code of the spoken language, such as "de"; empty detects it in each recording.
        padding: input of the encoder: "max_length" pads with silence to ``seconds``; "do_not_pad"
            takes the recording's own length.
        seconds: longest utterance; the rest is cut. Whisper was trained on 30 s; padding to 15
            takes half the time.
    """

    encoder: str = ""
    sha256: str = ""
    layers: tuple[Annotated[int, Ge(1), Le(64)], ...] = (3,)
    pool: Annotated[int, Ge(1), Le(50)] = 2
    language: str = ""
    padding: Literal["max_length", "do_not_pad"] = "max_length"
    seconds: Annotated[float, Gt(0), Le(30)] = 30.0


class FrontEnd(nn.Module):
    """Waveforms to rows of states; the recogniser is loaded on first use, and is no submodule.

    Attributes:
        pinned: settings that identify the recogniser, for saved models.
        given: settings of a model that depend on this front end.
    """

    def __init__(self, config: Config) -> None:
        """Find the recogniser.

        Raises:
            EncoderError: it is not on this machine, is another one, or has no decoder.
            ConfigError: no layer is named, or the language is unknown.
        """
        super().__init__()
        if not config.layers:
            raise ConfigError("features.layers is empty; name a layer, such as 3")
        self._folder = find_recognizer(config.encoder)
        sha256 = verify_recognizer(config.encoder, self._folder, config.sha256)
        document = ssl_encoder.read_encoder_config(self._folder)
        sizes = read_decoder_config(document)
        if max(config.layers) > int(document.get("encoder_layers") or 0):
            raise ConfigError(
                f"features.layers = {list(config.layers)}; the encoder has layers 1 to "
                f"{document.get('encoder_layers')}"
            )
        check_language(self._folder, config.language)
        self.config = replace(config, encoder="", sha256=sha256)
        self.pinned = {"sha256": sha256}
        self.given = {"decoder_channels": sizes.d_model}
        self.rate = ssl_encoder.SAMPLE_RATE
        self.hop = FRAME_SAMPLES * config.pool / self.rate
        self.width = (len(config.layers) + 1) * sizes.d_model
        self.max_seconds = config.seconds

    def forward(self, wave_bs: Tensor, length_b: Tensor) -> tuple[Tensor, Tensor]:
        """Waveforms (B, S) and their lengths in samples -> rows (B, R, F) and mask (B, R)."""
        recognizer = load_recognizer(self._folder, self.config.sha256)
        length_b = length_b.clamp(max=round(self.max_seconds * self.rate))
        pairs = zip(wave_bs, length_b.tolist(), strict=True)
        rows = [self._compute_rows(recognizer, wave_s[:length]) for wave_s, length in pairs]
        x_brf = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        count_b = torch.tensor([len(x_rf) for x_rf in rows], device=x_brf.device)
        row_r = torch.arange(x_brf.shape[1], device=x_brf.device)
        return x_brf, row_r < count_b[:, None]

    def _compute_rows(self, recognizer: "WhisperRecognizer", wave_s: Tensor) -> Tensor:
        """Waveform (S,) -> rows (R, F)."""
        config = self.config
        seconds = config.seconds if config.padding == "max_length" else 0
        transcript = recognizer(
            wave_s, language=config.language, padded_seconds=seconds, pool=config.pool
        )
        layers = [transcript.layers[layer - 1] for layer in config.layers]
        pooled = [mean_pool(x_td, config.pool) for x_td in layers]
        return torch.cat([*pooled, transcript.state_ld[transcript.token_r]], dim=1)


class WhisperTranscript(NamedTuple):
    """What Whisper made of a recording.

    Attributes:
        ids: of its tokens, without commands.
        text: of the tokens, as Whisper writes it, with capitals and punctuation.
        spans: for each token group that a space begins: its text, and the numbers of its first
            token and of the one after its last.
        language: code of the language; empty for a model of one language.
        score: sum of the log-probabilities of tokens and end.
        ended: whether the end was found before the search had to stop.
        layers: output of each layer of the encoder over the recording, (T, D).
        state_ld: states (L, D) that predict each token, and the end or what else would follow.
        token_r: number of the token, or of the end, that each row belongs to, (R,).
    """

    ids: list[int]
    text: str
    spans: list[tuple[str, int, int]]
    language: str
    score: float
    ended: bool
    layers: list[Tensor]
    state_ld: Tensor
    token_r: Tensor


class WhisperRecognizer:
    """A whole Whisper: encoder, decoder and tokens."""

    def __init__(self, folder: Path) -> None:
        """Load the weights.

        Raises:
            EncoderError: they are incomplete, or are not Whisper's.
        """
        document = ssl_encoder.read_encoder_config(folder)
        weights = _read_weights(folder)
        self.tokens = WhisperTokens.read(folder)
        self.decoder = load_decoder(weights, read_decoder_config(document))
        self.layers = int(document["encoder_layers"])
        settings = whisper.Config(encoder=str(folder), layers=(self.layers,))
        self._front_end = whisper.FrontEnd(settings)
        self._norm = _load_final_norm(weights, self.decoder.config.d_model)
        count = self.decoder.config.vocab_size
        self._suppressed = self.tokens.list_suppressed(count)
        self._is_multilingual = max(self.tokens.languages.values(), default=count) < count
        self._heads = read_alignment_heads(folder, self.decoder.config.decoder_layers)

    def recognize_parts(self, wave_s: Tensor, language: str = "") -> list["WhisperTranscript"]:
        """Recognise a recording of any length, in parts of 30 s.

        Args:
            wave_s: samples (S,) at 16 kHz.
            language: as for one recording; empty detects that of each part.
        """
        size = MAX_SECONDS * ssl_encoder.SAMPLE_RATE
        starts = range(0, max(1, len(wave_s)), size)
        return [self(wave_s[start : start + size], language=language) for start in starts]

    @torch.inference_mode()
    def __call__(
        self,
        wave_s: Tensor,
        *,
        language: str = "",
        padded_seconds: float = MAX_SECONDS,
        pool: int = 1,
    ) -> WhisperTranscript:
        """Recognise a recording of at most 30 s.

        Args:
            wave_s: samples (S,) at 16 kHz.
            language: its language; empty detects it.
            padded_seconds: length to which silence pads the encoder's input; a longer recording
                keeps its own.
            pool: frames of a row.
        """
        device = wave_s.device
        self.decoder.to(device)
        layers, encoded_td, frames = self._encode(wave_s, padded_seconds)
        rows = -(-frames // pool)
        cache = self.decoder.start(encoded_td)
        state_ld, _, cache = self.decoder([self.tokens.special[START]], cache)
        logits_v = self.decoder.compute_logits(state_ld[-1])
        no_speech = self._get_no_speech_probability(logits_v)
        code, language_id = self._choose_language(language, logits_v)
        ids, states, weights, scores = list[int](), list[Tensor](), list[Tensor](), list[float]()
        read = self.tokens.build_prompt(language_id)
        limit = min(rows, self.decoder.config.max_target_positions - len(read) - 1)
        while True:
            state_ld, weight_nhlt, cache = self.decoder(read, cache)
            states.append(state_ld[-1])
            weights.append(self._select_heads(weight_nhlt[:, :, -1, :frames]))
            id_, score = self._choose_token(state_ld[-1], is_first=not ids)
            scores.append(score)
            if id_ == self.tokens.end or len(states) >= limit:
                break
            ids.append(id_)
            read = [id_]
        ended = id_ == self.tokens.end
        if no_speech > NO_SPEECH_PROBABILITY and np.mean(scores) < MIN_LOG_PROBABILITY:
            ids, states, weights, ended = [], states[:1], weights[:1], True
        weight_klt = torch.stack(weights, dim=1)
        return WhisperTranscript(
            ids=ids,
            text=self.tokens.decode(ids).strip(),
            spans=self._list_spans(ids),
            language=code,
            score=float(np.sum(scores)),
            ended=ended,
            layers=layers,
            state_ld=torch.stack(states),
            token_r=align_rows(weight_klt, rows, pool).to(device),
        )

    def _encode(self, wave_s: Tensor, padded_seconds: float) -> tuple[list[Tensor], Tensor, int]:
        """Return the output of each layer over the recording, the normalized last, and T."""
        wave_1s = whisper.subtract_offset(wave_s[None])
        frames = max(whisper.MIN_SAMPLES, wave_1s.shape[1]) // whisper.HOP
        frames = -(-frames * whisper.HOP // FRAME_SAMPLES)
        padded = round(padded_seconds * ssl_encoder.SAMPLE_RATE)
        wave_1s = F.pad(wave_1s, (0, max(0, padded - wave_1s.shape[1])))
        bands_1mt = self._front_end.to(wave_s.device).compute_log_mel(wave_1s)
        outputs = self._front_end.get_encoder(wave_s.device)(bands_1mt)
        encoded_td = self._norm.to(wave_s.device)(outputs[-1][0])
        return [x_1td[0, :frames] for x_1td in outputs], encoded_td, frames

    def _get_no_speech_probability(self, logits_v: Tensor) -> float:
        """Return the probability of the token for "no speech"; 0 without one."""
        id_ = self.tokens.no_speech
        return 0.0 if id_ is None else float(logits_v.softmax(dim=0)[id_])

    def _choose_language(self, language: str, logits_v: Tensor) -> tuple[str, int | None]:
        """Return code and id of the language: that which is given, or the most probable one."""
        if not self._is_multilingual:
            return "", None
        languages = self.tokens.languages
        code = language or max(languages, key=lambda code: float(logits_v[languages[code]]))
        return code, languages[code]

    def _choose_token(self, state_d: Tensor, *, is_first: bool) -> tuple[int, float]:
        """Return the most probable token, and the log-probability of it."""
        logits_v = self.decoder.compute_logits(state_d)
        logits_v[self._suppressed] = -torch.inf
        if is_first:
            logits_v[self.tokens.blank] = -torch.inf
        log_v = logits_v.log_softmax(dim=0)
        id_ = int(log_v.argmax())
        return id_, float(log_v[id_])

    def _select_heads(self, weight_nht: Tensor) -> Tensor:
        """Weights of all heads over the recording (N, H, T) -> those of the chosen ones (K, T)."""
        if self._heads is None:
            return weight_nht[len(weight_nht) // 2 :].flatten(0, 1)
        layers, heads = zip(*self._heads, strict=True)
        return weight_nht[list(layers), list(heads)]

    def _list_spans(self, ids: Sequence[int]) -> list[tuple[str, int, int]]:
        """Return text, first token, and token after the last, of each group after a space."""
        numbers = self.tokens.split_words(ids)
        starts = [i for i, number in enumerate(numbers) if not i or number != numbers[i - 1]]
        ends = [*starts, len(ids)][1:]
        pairs = zip(starts, ends, strict=True)
        return [(self.tokens.decode(ids[start:end]), start, end) for start, end in pairs]


def align_rows(weight_klt: Tensor, rows: int, pool: int) -> Tensor:
    """Return the token of each row: the best path that never goes back and skips no token.

    Args:
        weight_klt: attention (K, L, T) of each token over the frames of a recording.
        rows: R, at least as many as tokens.
        pool: frames of a row.

    Returns:
        The number of the token of each row, (R,).
    """
    weight_klt = weight_klt / weight_klt.sum(dim=2, keepdim=True).clamp(min=1e-12)
    weight_klr = F.avg_pool1d(weight_klt, pool, ceil_mode=True)
    centred_klr = weight_klr - weight_klr.mean(dim=1, keepdim=True)
    deviation_k1r = centred_klr.square().mean(dim=1, keepdim=True).sqrt()
    score_lr = (centred_klr / deviation_k1r.clamp(min=1e-6)).mean(dim=0).double().cpu().numpy()
    return torch.from_numpy(find_monotonic_path(score_lr[:, :rows]))


def find_monotonic_path(score_lr: np.ndarray) -> np.ndarray:
    """Return the token of each row on the path of the largest sum of scores (L, R)."""
    tokens, rows = score_lr.shape
    best_l = np.full(tokens, -np.inf)
    best_l[0] = score_lr[0, 0]
    moved_rl = np.zeros((rows, tokens), bool)
    for row in range(1, rows):
        before_l = np.concatenate([[-np.inf], best_l[:-1]])
        moved_rl[row] = before_l > best_l
        best_l = np.maximum(before_l, best_l) + score_lr[:, row]
    path, token = np.empty(rows, np.int64), tokens - 1
    for row in reversed(range(rows)):
        path[row] = token
        token -= bool(moved_rl[row, token])
    return path


def mean_pool(x_td: Tensor, pool: int) -> Tensor:
    """Average every ``pool`` frames (T, D) to a row (R, D); the last row has those left over."""
    return F.avg_pool1d(x_td.T[None], pool, ceil_mode=True)[0].T


def read_alignment_heads(folder: Path, layers: int) -> list[tuple[int, int]] | None:
    """Return layer and head of each attention that a model's settings name for timing, or None.

    Raises:
        EncoderError: the file of the settings is no JSON, or names other layers.
    """
    file = folder / HEADS_FILE
    if not file.is_file():
        return None
    try:
        pairs = json.loads(file.read_text(encoding="utf-8")).get("alignment_heads")
        heads = [(int(layer), int(head)) for layer, head in pairs or ()]
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise EncoderError(f"{file} is not the settings of a recogniser: {error}") from error
    if any(layer >= layers for layer, _ in heads):
        raise EncoderError(f"alignment_heads of {file} names a layer that its decoder lacks")
    return heads or None


def is_recognizer(name: str) -> bool:
    """Return whether a name is that of a folder with a pretrained model, here Whisper.

    Args:
        name: a folder, or a name in the folder that the variable SEREIN_ENCODERS names.
    """
    shared = os.environ.get(ssl_encoder.ENCODER_FOLDER_VARIABLE)
    path = Path(name).expanduser()
    folders = [path, *([Path(shared) / path.name] if shared and name else [])]
    return any(
        (folder / "config.json").is_file() or (folder / TOKENIZER_FILE).is_file()
        for folder in folders
    )


def find_recognizer(name: str) -> Path:
    """Return the folder of a whole Whisper.

    Args:
        name: its folder, or its name in the folder that the variable SEREIN_ENCODERS names.

    Raises:
        EncoderError: it is not on this machine, or has no tokenizer.
    """
    if not name:
        raise EncoderError(
            "no recogniser is named; give the folder of a whole Whisper with --set "
            f"features.encoder=FOLDER: config.json, model.safetensors and {TOKENIZER_FILE}"
        )
    folder = ssl_encoder.find_encoder(name)
    if not (folder / TOKENIZER_FILE).is_file():
        raise EncoderError(
            f"{folder} holds no {TOKENIZER_FILE}, without which tokens are no words; get the whole "
            "model, with the file of its tokenizer"
        )
    return folder


def verify_recognizer(name: str, folder: Path, sha256: str) -> str:
    """Return the SHA-256 of a recogniser's files; compare it with the expected one, if any.

    Raises:
        EncoderError: they differ.
    """
    digest = hashlib.sha256(ssl_encoder.hash_encoder(folder).encode())
    for file in (TOKENIZER_FILE, HEADS_FILE):
        if (folder / file).is_file():
            digest.update(file.encode() + (folder / file).read_bytes())
    if sha256 and digest.hexdigest() != sha256:
        raise EncoderError(
            f"the recogniser {name} in {folder} is another one: its SHA-256 is "
            f"{digest.hexdigest()[:16]}..., expected {sha256[:16]}.... Get the one that the model "
            "was trained with, or train the model anew"
        )
    return digest.hexdigest()


def check_language(folder: Path, language: str) -> None:
    """Check that a recogniser knows a language.

    Raises:
        ConfigError: it does not.
    """
    languages = WhisperTokens.read(folder).languages if language else {}
    if language and language not in languages:
        raise ConfigError(
            f"the language {language!r} is none of {len(languages)} of the recogniser in {folder}; "
            'expected a code such as "de", or an empty one, which detects the language'
        )


@lru_cache(maxsize=1)
def load_recognizer(folder: Path, sha256: str) -> WhisperRecognizer:
    """Return a recogniser, loaded once a process.

    Args:
        folder: of its files.
        sha256: of their content, so that changed content is loaded again.
    """
    with torch.inference_mode(False):  # weights that were read in it could not become parameters
        return WhisperRecognizer(folder)


def _read_weights(folder: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    weights: dict[str, Tensor] = {}
    try:
        for file in ssl_encoder.find_weight_files(folder):
            weights |= load_file(file)
    except (SafetensorError, OSError) as error:
        raise EncoderError(f"the weights in {folder} cannot be read: {error}") from error
    return weights


def _load_final_norm(weights: Mapping[str, Tensor], width: int) -> nn.LayerNorm:
    """Return the normalization after the last layer of the encoder."""
    norm = nn.LayerNorm(width)
    for part in ("weight", "bias"):
        name = f"encoder.layer_norm.{part}"
        weight = weights.get(name, weights.get(f"model.{name}"))
        if weight is None or weight.shape != (width,):
            raise EncoderError(f"the weights lack {name} of {width} values; get the whole model")
        norm.get_parameter(part).data = weight.float().clone()
    return norm.eval().requires_grad_(False)


def contents(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return hashes of the data that a recipe's numbers depend on: that of its recogniser.

    Raises:
        EncoderError: it is not on this machine.
    """
    if sha256 := settings.get("sha256"):
        return {"recogniser": str(sha256)}
    name = str(settings.get("encoder", ""))
    return {"recogniser": verify_recognizer(name, find_recognizer(name), "")}
