"""What an evaluation will do, as a value that processes can be handed."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from urllib.parse import quote

from serein import config, corpora, protocols, system, truth
from serein.augment.copies import Copy, copies
from serein.augment.settings import settings as augment_settings
from serein.contracts import FrontEnd
from serein.dataset import Frames, Side, extract, standardised
from serein.devices import device_of
from serein.errors import ConfigError, UnknownName
from serein.experiment import hearsay, words
from serein.experiment.facts import versions
from serein.experiment.labelling import classes_in, held_out_shares, labelled
from serein.features import normalise
from serein.precision import Numbers, settled
from serein.records import Corpus, Finding, Fold, Protocol, Recipe, Utterance
from serein.results import Mapping
from serein.training.settings import Settings
from serein.training.varied import varied


@dataclass(frozen=True)
class Plan:
    """Everything that a fold needs.

    Attributes:
        recipe: every setting.
        corpus: what is read.
        contents: for each utterance id, a hash of its audio.
        classes: of each task; none of a task of numbers.
        mapping: of each task, what became of the corpus's words.
        protocol: the folds.
        training: settings of the loop.
        seed: of weights, order and dropout.
        device: where to compute.
        folder: where the run keeps its state and results.
        leakage: what the leakage check found.
        copies: other forms of every utterance that training hears too.
    """

    recipe: Recipe
    corpus: Corpus
    contents: dict[str, str]
    classes: dict[str, tuple[str, ...]]
    mapping: dict[str, Mapping]
    protocol: Protocol
    training: Settings
    seed: int
    device: str
    folder: Path
    leakage: tuple[Finding, ...] = ()
    copies: tuple[Copy, ...] = ()

    def front_end(self) -> FrontEnd:
        """What makes frames of waveforms."""
        return system.front_end_of(self.recipe)

    def untrained(self, fold: Fold) -> "system.System":
        """The system of a fold before it is trained, its words those of the training side."""
        known = words.known(self.corpus.of(fold.train), self.recipe)
        return system.System(self.recipe, self.classes, known)

    def frames(self, copy: Copy | None = None) -> Frames:
        """The frames of the whole corpus, or of a copy of it, from the cache or else made now."""
        frames = extract(self.corpus.utterances, self.front_end(), self.contents, copy=copy)
        if self.statistics != "speaker":
            return frames
        speakers = {one.id: one.speaker or one.id for one in self.corpus.utterances}
        return standardised(frames, speakers)

    @property
    def numbers(self) -> Numbers:
        """What networks compute in here."""
        return settled(self.training.precision, self.device)

    @property
    def statistics(self) -> str:
        """What frames are standardised by."""
        return config.build(normalise.Config, self.recipe.normalise, "normalise").statistics

    def recognised(self) -> words.Texts:
        """What the recipe's recogniser hears in the corpus, from the cache or else made now."""
        return hearsay.recognised(self.recipe, self.corpus, self.contents)

    def side(
        self,
        ids: tuple[str, ...],
        frames: Frames,
        judge: "system.System",
        *,
        training: bool = False,
    ) -> Side:
        """One side of a fold, its targets by the classes of a system.

        Args:
            ids: of its utterances.
            frames: of the corpus.
            judge: the system.
            training: whether it trains, and reads what people wrote even where the other sides
                read what a recogniser did.
        """
        members, text = self.corpus.of(ids), judge.text
        as_written = text is None or (training and not text.config.trained)
        heard = {} if as_written else self.recognised()
        return Side(ids, frames, judge.targets(members), words.read(judge, members, heard))

    def varied(self, side: Side) -> Side:
        """A training side as its epochs hear it."""
        copies = [self.frames(copy) for copy in self.copies]
        hidden = system.masks_of(self.recipe, self.front_end())
        return varied(side, self.corpus.of(side.ids), self.training, copies, hidden)

    def state(self, fold: Fold) -> Path:
        """Where a fold's training keeps its state."""
        return self.folder / "folds" / f"{quote(fold.name, safe='')}.pt"


def plan(recipe: Recipe, corpus: Corpus, *, seed: int, device: str, runs: Path) -> Plan:
    """Check every setting, split the corpus, and name the run after all that it depends on.

    Raises:
        ConfigError: a setting is unknown or out of range, or the corpus lacks a task's labels.
        ProtocolError: the corpus cannot be split that way, or the split leaks.
    """
    device = device_of(device)
    if not recipe.tasks:
        raise ConfigError(
            f"recipe {recipe.name} only transcribes, and folds are judged by a task of classes or "
            "values: train it with `serein train`, and score it with `serein transcribe --corpus`"
        )
    system.check(recipe)
    training = training_of(recipe)
    how = config.build(protocols.Settings, recipe.protocol, "protocol")
    everybody = {one.id for one in corpus.utterances}
    corpus, mapping = labelled(corpus, recipe)
    classes = classes_in(corpus, recipe)
    forms = copies_of(recipe, system.front_end_of(recipe))
    left_out = everybody - {one.id for one in corpus.utterances}
    protocol = protocols.split(corpus.utterances, how, left_out)
    contents = corpora.contents(corpus.utterances)
    leakage = _leakage(recipe, corpus, tuple(classes), protocol, contents, how)
    facts = [
        asdict(replace(recipe, about={})),
        list(recipe.tasks),
        protocol.hash,
        corpora.fingerprint(corpus, contents),
        system.source_of(recipe),
        [form.key for form in forms],
        seed,
        device,
        settled(training.precision, device),
        versions() | system.packages_of(recipe),
        hearsay.marks(recipe),
    ]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:8]
    name = quote(f"{recipe.name}-{corpus.name}-seed{seed}-{digest}", safe="")
    return Plan(
        recipe=recipe,
        corpus=corpus,
        contents=contents,
        classes=classes,
        mapping=mapping,
        protocol=protocols.cautioned(protocol, leakage),
        training=training,
        seed=seed,
        device=device,
        folder=runs / name,
        leakage=leakage,
        copies=forms,
    )


def copies_of(recipe: Recipe, front_end: FrontEnd) -> tuple[Copy, ...]:
    """Every form of an utterance that a recipe's training hears beside the recording.

    Raises:
        ConfigError: a folder of noises or rooms is none, or empty.
        AudioError: a file in it cannot be read.
    """
    return copies(augment_settings(recipe.augment), front_end.rate)


def training_of(recipe: Recipe) -> Settings:
    """The settings of the loop; an estimator is fitted once.

    Raises:
        ConfigError: a setting is unknown or out of range, or of no use to an estimator.
    """
    how = config.build(Settings, recipe.training, "training")
    if not system.is_fitted(recipe):
        return how
    if how.balance != "none":
        raise ConfigError(
            f"training.balance = {how.balance!r} draws epochs, and {recipe.model['name']} is "
            "fitted at once; weigh classes with tasks.<name>.class_weights = 'balanced' instead"
        )
    return replace(how, epochs=1, patience=0)


def split(
    corpus: str | Sequence[str] | Corpus, settings: Sequence[str] = ()
) -> tuple[Corpus, Protocol, tuple[Finding, ...]]:
    """Split a corpus and look for leaks, as an evaluation does before it trains.

    Args:
        corpus: ``NAME``, ``NAME=PATH``, several of them to be read as one, or a corpus.
        settings: of the protocol, such as ``"protocol.name=speaker-k-fold"``.

    Returns:
        The corpus, its folds, and what was found; leaks are told of and not refused.

    Raises:
        ConfigError: a setting is unknown or out of range.
        CorpusError: the corpus cannot be read.
        ProtocolError: it cannot be split that way.
    """
    table = config.overridden({"protocol": {}}, settings)
    for name in table:
        if name != "protocol":
            raise UnknownName("table of a split", name, ("protocol",))
    how = config.build(protocols.Settings, table["protocol"], "protocol")
    read = corpora.read(corpus)
    made = protocols.split(read.utterances, how)
    contents = corpora.contents(read.utterances)
    samples = protocols.heard(read.utterances)
    found = protocols.findings(made, read.utterances, contents, samples=samples, allow=how.allow)
    return read, made, found


def _leakage(
    recipe: Recipe,
    corpus: Corpus,
    tasks: tuple[str, ...],
    protocol: Protocol,
    contents: dict[str, str],
    how: protocols.Settings,
) -> tuple[Finding, ...]:
    """What the check found; nothing that the user has not allowed by name.

    Classes that only training speakers have, such as their names, are not looked for on other
    sides.
    """
    own = held_out_shares(recipe)
    found = hearsay.pretrained(recipe, protocol, corpus, contents) + protocols.findings(
        protocol,
        corpus.utterances,
        contents,
        samples=protocols.heard(corpus.utterances),
        statistics=str(recipe.normalise.get("statistics", "training")),
        targets={
            task: {one.id: _kind(one, task, recipe) for one in corpus.utterances}
            for task in tasks
            if task not in own
        },
        allow=how.allow,
    )
    protocols.refuse(found)
    return found


def _kind(utterance: Utterance, task: str, recipe: Recipe) -> str | None:
    """The class of an utterance; all values are of one kind, which no side may lack."""
    label = truth.label_of(utterance, task, recipe)
    return "a value" if isinstance(label, float) else label
