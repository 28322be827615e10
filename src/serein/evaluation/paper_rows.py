"""The runs that the rows of a paper's tables need: recipe, settings, corpora, speech recogniser.

A corpus of the paper may be replaced by another one, and the recipes by their twins for other
corpora: with the suffix "emodb", li2019-single-task becomes li2019-emodb-single-task.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from serein import corpora, recipes, registry
from serein.errors import ConfigError, SereinError
from serein.published import OWN_VARIANT, Paper, PublishedResult, Variant
from serein.records import Corpus, Recipe
from serein.results.io import GZIP_SUFFIX
from serein.synthetic.iemocap import GENERATED_TEXT

ABBREVIATION = re.compile(r"\(([A-Z][A-Z-]+)\)")
"""An abbreviation in the title of a corpus."""
MODEL_SETTINGS = ("training.init", "text.transcripts_from")
"""Settings that name a speech recogniser, or an evaluation whose transcripts are read."""


@dataclass(frozen=True)
class Job:
    """An experiment of a paper; several rows may show it.

    Attributes:
        recipe: the recipe.
        settings: its changes.
        corpora: names of the corpora, the tested one first.
        transcribes: whether a speech recogniser is scored, and nothing is evaluated by folds.
    """

    recipe: str
    settings: tuple[str, ...]
    corpora: tuple[str, ...]
    transcribes: bool = False

    def load_recipe(self) -> Recipe:
        """Load the recipe; its main corpus is the job's first one.

        Raises:
            ConfigError: there is no such recipe or setting.
        """
        recipe = recipes.load(self.recipe, self.settings)
        main = recipe.protocol.get("main")
        if main == self.corpora[0] or (not main and len(self.corpora) == 1):
            return recipe
        return recipes.load(self.recipe, [*self.settings, f"protocol.main={self.corpora[0]}"])


@dataclass
class PaperCorpora:
    """The corpora that were given for those of a paper.

    Attributes:
        assigned: for each corpus of the paper that was given, the name of the one to use.
        specs: the specification of each given corpus.
        partial: accept incomplete copies; None is the saved choice of each corpus.
    """

    assigned: dict[str, str]
    specs: dict[str, str]
    partial: bool | None = None
    _loaded: dict[tuple[str, ...], Corpus | SereinError] = field(default_factory=dict)

    def load(self, names: tuple[str, ...]) -> Corpus:
        """Load corpora as one; each is read once.

        Raises:
            SereinError: a corpus cannot be read.
        """
        if names not in self._loaded:
            specs = [self.specs[name] for name in names]
            try:
                self._loaded[names] = corpora.load_many(specs, partial=self.partial)
            except SereinError as error:
                self._loaded[names] = error
        loaded = self._loaded[names]
        if isinstance(loaded, SereinError):
            raise loaded
        return loaded

    def describe(self) -> dict[str, str]:
        """Return the titles of the given corpora by those of the paper's, once they were read."""
        return {
            get_corpus_title(theirs): self._get_title(ours)
            for theirs, ours in self.assigned.items()
        }

    def _get_title(self, name: str) -> str:
        loaded = self._loaded.get((name,))
        is_generated = isinstance(loaded, Corpus) and GENERATED_TEXT in loaded.notes
        return f"{'a generated copy of ' * is_generated}{get_corpus_title(name)}"

    def list_notes(self) -> list[str]:
        """Return the notes of the corpora that were read."""
        loaded = [corpus for corpus in self._loaded.values() if isinstance(corpus, Corpus)]
        return list(dict.fromkeys(note for corpus in loaded for note in corpus.notes))


def assign_corpora(
    theirs: Sequence[str], given: Sequence[str], *, in_order: bool = False
) -> dict[str, str]:
    """Assign the given corpora to those of a paper.

    A corpus of a paper's name is that corpus; others take the place of those that are not given, in
    their order.

    Args:
        theirs: names of the paper's corpora, the main one first.
        given: names of the given corpora.
        in_order: assign all by their order, as for recipes that are made for other corpora.

    >>> assign_corpora(["savee", "emodb"], ["emodb"])
    {'emodb': 'emodb'}
    >>> assign_corpora(["savee", "emodb"], ["emodb", "ravdess"])
    {'savee': 'ravdess', 'emodb': 'emodb'}
    >>> assign_corpora(["savee", "emodb"], ["emodb", "ravdess"], in_order=True)
    {'savee': 'emodb', 'emodb': 'ravdess'}

    Raises:
        ConfigError: there are more corpora than the paper has, or one is given twice.
    """
    if len(set(given)) < len(given) or len(given) > len(theirs):
        raise ConfigError(
            f"the corpora {', '.join(given)} are given for {', '.join(theirs)}; give each once, "
            "and no more than the paper has"
        )
    if in_order:
        return dict(zip(theirs, given, strict=False))
    assigned = {name: name for name in theirs if name in given}
    free = [name for name in theirs if name not in given]
    others = [name for name in given if name not in theirs]
    assigned |= dict(zip(free, others, strict=False))
    return {name: assigned[name] for name in theirs if name in assigned}


def build_corpora(
    paper: Paper, given: Sequence[str], *, in_order: bool, partial: bool | None
) -> PaperCorpora:
    """Assign the corpora of specifications to those of a paper; nothing is read.

    Raises:
        ConfigError: as ``assign_corpora``.
    """
    specs = {corpora.parse_spec(spec)[0]: spec for spec in given}
    names = [corpora.parse_spec(spec)[0] for spec in given]
    return PaperCorpora(assign_corpora(paper.corpora, names, in_order=in_order), specs, partial)


def get_corpus_title(name: str) -> str:
    """Return the usual abbreviation of a corpus, or its name.

    >>> get_corpus_title("emodb"), get_corpus_title("mine")
    ('EMO-DB', 'mine')
    """
    if name not in registry.list_names("corpora"):
        return name
    title = registry.load_module("corpora", name).ABOUT.title
    found = ABBREVIATION.search(title)
    return found.group(1) if found else str(title.partition(",")[0])


def select_tables(paper: Paper, wanted: Sequence[str]) -> list[str]:
    """Return the names of all tables of a paper, or of those given; "2" is "Table 2".

    Raises:
        ConfigError: the paper has no such table of results.
    """
    known = paper.list_tables()
    if not wanted:
        return known
    selected = []
    for name in wanted:
        found = [
            table
            for table in known
            if name.lower() in (table.lower(), table.lower().partition(" ")[2])
        ]
        if not found:
            raise ConfigError(
                f"{paper.name} has no table {name!r} of results; it has {', '.join(known)}"
            )
        selected += found
    return [table for table in known if table in selected]


def select_rows(paper: Paper, tables: Iterable[str]) -> list[PublishedResult]:
    """Return the rows of tables, and the rows of the systems of their confusion matrices."""
    tables = set(tables)
    recipes_of_matrices = {m.recipe for m in paper.matrices if m.table in tables}
    first_of_matrices = [
        next(row for row in paper.rows if row.recipe == recipe) for recipe in recipes_of_matrices
    ]
    return [row for row in paper.rows if row.table in tables or row in first_of_matrices]


def select_variants(paper: Paper, names: Sequence[str]) -> list[Variant]:
    """Return the variants to run; without names, only the paper's own.

    Raises:
        ConfigError: the paper has no variant of that name.
    """
    own = Variant(name=OWN_VARIANT, description="as the recipes have it", settings=[])
    known = {variant.name: variant for variant in [own, *paper.variants]}
    for name in names:
        if name not in known:
            raise ConfigError(
                f"{paper.name} has no variant {name!r}; it has "
                + ", ".join(f"{v.name} ({v.description})" for v in known.values())
            )
    return [known[name] for name in dict.fromkeys(names or [OWN_VARIANT])]


def add_suffix(recipe: str, paper: str, suffix: str) -> str:
    """Return the name of a recipe's twin for another corpus.

    >>> add_suffix("fu2020-single-task", "fu2020", "emodb")
    'fu2020-emodb-single-task'
    """
    return f"{paper}-{suffix}{recipe.removeprefix(paper)}" if suffix else recipe


def build_job(
    paper: Paper,
    row: PublishedResult,
    variant: Variant,
    given: PaperCorpora,
    suffix: str,
    settings: Sequence[str],
) -> Job | str:
    """Build the experiment of a row; or return what it lacks, in one line.

    Args:
        paper: the paper.
        row: of one of its own systems.
        variant: whose settings change the row's.
        given: the given corpora.
        suffix: of twins of the recipes; empty takes the paper's.
        settings: changes of every run, which are applied last.
    """
    recipe = add_suffix(str(row.recipe), paper.name, suffix)
    if recipe not in recipes.list_recipes():
        return f"there is no recipe {recipe}"
    needed = row.corpora or paper.corpora[:1]
    lacking = [name for name in needed if name not in given.assigned]
    if lacking:
        options = " ".join(f"--corpus {name}=FOLDER" for name in lacking)
        titles = ", ".join(map(get_corpus_title, lacking))
        return f"needs {titles}: give it with {options}"
    names = tuple(given.assigned[name] for name in needed)
    if row.transcribes:
        return Job(recipe, tuple(row.settings), names, transcribes=True)
    return Job(recipe, (*row.settings, *variant.settings, *settings), names)


def list_model_files(recipe: Recipe) -> dict[str, str]:
    """Return the saved models and evaluations that a recipe names, by setting."""
    tables: Mapping[str, Mapping[str, Any]] = {"training": recipe.training, "text": recipe.text}
    found = {}
    for setting in MODEL_SETTINGS:
        table, _, name = setting.partition(".")
        if value := tables[table].get(name):
            found[setting] = str(value)
    return found


def get_maker(file: str) -> tuple[str, bool]:
    """Return the recipe that makes a model or an evaluation, and whether it is an evaluation.

    A recipe names the file after the recipe that makes it.

    >>> get_maker("feng2020-asr.safetensors"), get_maker("feng2020-emodb.json")
    (('feng2020-asr', False), ('feng2020-emodb', True))
    """
    path = Path(file.removesuffix(GZIP_SUFFIX))
    return path.stem, path.suffix == ".json"
