"""Run the experiments of a paper, or find them finished; speech recognisers are trained or found.

A run that fails or lacks something has the reason as its outcome, and the others go on.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from serein import bundle, config, corpora, recipes, system
from serein.errors import ConfigError, SereinError
from serein.evaluation import transcripts
from serein.evaluation.engines import Engine
from serein.evaluation.evaluate import OpenProgress, run_plan
from serein.evaluation.paper_rows import Job, PaperCorpora, get_maker, list_model_files
from serein.evaluation.plan import Plan, build_plan, is_finished
from serein.evaluation.provenance import hash_dependencies, package_versions
from serein.evaluation.train import OpenProgress as OpenTraining
from serein.evaluation.train import train
from serein.evaluation.training_overlap import check_training_overlap
from serein.evaluation.utterance_filter import select_for_transcription, select_utterances
from serein.metrics.word_error_rate import compute_word_scores, count_unknown_words
from serein.records import Recipe
from serein.results import io
from serein.results.evaluation import Results
from serein.results.inference import WordScores
from serein.results.reproduction import FAILED, FINISHED, MISSING, UNFINISHED

ASR_CORPUS = "librispeech"
"""The corpus that speech recognisers are trained on."""
NOT_FOR_ASR = ("protocol", "tasks")
"""Tables of settings that are not applied to the training of a speech recogniser."""
MODEL_SUFFIX = ".safetensors"


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How to run experiments.

    Attributes:
        settings: changes of every run.
        seed: the first seed.
        seeds: number of seeds.
        device: "cpu", "cuda" or "auto".
        runs: the folder of the run folders.
        asr: a saved speech recogniser for all rows that need one; None trains one on LibriSpeech.
        only_finished: train nothing, and take what there is.
        open_progress: opens a progress display for an evaluation.
        open_training: opens a progress display for the training of a speech recogniser.
    """

    settings: tuple[str, ...]
    seed: int
    seeds: int
    device: str
    runs: Path
    asr: Path | None
    only_finished: bool
    open_progress: OpenProgress
    open_training: OpenTraining


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of an experiment.

    Attributes:
        state: "finished", "unfinished", "missing" or "failed".
        reason: why it has no figures, in one line.
        results: of each seed that is finished.
        words: the word error rate of an experiment that only transcribes.
        notes: what a reader must know, a sentence each.
        foreign: names of runs that other versions or other source code made.
    """

    state: str
    reason: str = ""
    results: tuple[Results, ...] = ()
    words: WordScores | None = None
    notes: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()


class _Lacking(ConfigError):
    """An experiment lacks a speech recogniser or the transcripts of another one."""


class _Unfinished(ConfigError):
    """A run that is only looked for was not run to its end."""


STATES: dict[type[SereinError], str] = {_Lacking: MISSING, _Unfinished: UNFINISHED}
"""State of an experiment by its error; "failed" for all others."""


class RunIndex:
    """The finished runs in a folder, found by what they ran instead of by their name.

    Attributes:
        faults: files that could not be read, a sentence each.
    """

    def __init__(self, runs: Path) -> None:
        """Nothing is read before the first search."""
        self.faults: list[str] = []
        self._runs = runs
        self._files: dict[str, Path] | None = None
        self._names: dict[str, str] = {}

    def find(self, plan: Plan) -> tuple[Results, Path] | None:
        """Find a run with the recipe, corpus, folds and seed of a plan, whatever code made it."""
        fingerprint = corpora.fingerprint(plan.corpus, plan.content_hashes)
        key = _run_key(asdict(plan.recipe), fingerprint, plan.protocol.hash, plan.seed)
        file = self._index().get(key)
        return None if file is None else (io.load_results(file), file)

    def find_other(self, plan: Plan) -> str:
        """Return the name of a run of this recipe and seed on other data or folds, or nothing."""
        self._index()
        return self._names.get(_run_key(asdict(plan.recipe), "", "", plan.seed), "")

    def _index(self) -> dict[str, Path]:
        if self._files is None:
            self._files = {}
            files = [*self._runs.glob(f"*/{io.RESULTS_FILE}"), *self._runs.glob("*.json*")]
            for file in sorted(files):
                try:
                    results = io.load_results(file)
                except SereinError as error:
                    if file.name == io.RESULTS_FILE:
                        self.faults.append(str(error))
                    continue
                if not results.repeats and not results.optimistic_variants:
                    self._add(results, file)
        return self._files

    def _add(self, results: Results, file: Path) -> None:
        assert self._files is not None
        seed = results.environment.get("seed")
        hashes = str(results.corpus.get("hash", "")), str(results.protocol.get("hash", ""))
        self._files[_run_key(results.recipe, *hashes, seed)] = file
        self._names[_run_key(results.recipe, "", "", seed)] = results.name


def _run_key(recipe: dict[str, Any], corpus: str, protocol: str, seed: object) -> str:
    settings = {"text": {}, "augment": {}, **recipe, "about": {}}
    # Runs of earlier versions do not have the setting, and did not complete validation subsets.
    split = dict(recipe.get("protocol", {}))
    if split.get("complete_validation") is False:
        del split["complete_validation"]
    settings["protocol"] = split
    parts = io.to_builtin([settings, corpus, protocol, seed])
    return hash_dependencies(parts)


class PaperRuns:
    """Runs the experiments of a paper.

    Attributes:
        outcomes: of every experiment that was run or looked for.
    """

    def __init__(self, given: PaperCorpora, options: RunOptions, engine: Engine) -> None:
        """Nothing is run yet."""
        self.outcomes: dict[Job, Outcome] = {}
        self._given, self._options, self._engine = given, options, engine
        self._index = RunIndex(options.runs)
        self._folders: dict[tuple[Job, int], Path] = {}
        self._models: dict[str, Path | SereinError] = {}
        self._foreign: set[str] = set()

    @property
    def faults(self) -> list[str]:
        """Files of runs that could not be read, a sentence each."""
        return self._index.faults

    def run(self, jobs: Iterable[Job]) -> None:
        """Run experiments; those that read the transcripts of others come after them."""
        jobs = list(dict.fromkeys(jobs))
        for job in jobs:
            if job.transcribes:
                self.outcomes[job] = self._transcribe(job)
        sources = {job: self._find_source(job) for job in jobs if not job.transcribes}
        readers = [job for job, source in sources.items() if source is not None]
        others = [job for job, source in sources.items() if source is None]
        found = [source for source in sources.values() if source is not None]
        self._evaluate(list(dict.fromkeys([*others, *found])))
        self._evaluate(readers)

    def _find_source(self, job: Job) -> Job | None:
        """Return the experiment whose transcripts another one reads; None if it reads none."""
        try:
            files = list_model_files(job.load_recipe()).values()
        except SereinError:
            return None
        for file in files:
            maker, is_evaluation = get_maker(file)
            if is_evaluation and not Path(file).exists() and maker in recipes.list_recipes():
                return replace(job, recipe=maker)
        return None

    def _evaluate(self, jobs: Sequence[Job]) -> None:
        """Evaluate experiments with every seed; an engine with room starts the later ones ahead."""
        faults: dict[Job, Outcome] = {}
        plans: list[tuple[Job, Plan]] = []
        for job in jobs:
            try:
                plans += [(job, plan) for plan in self._build_plans(job)]
            except SereinError as error:
                faults[job] = _describe_fault(error)
        finished: dict[Job, list[Results]] = {job: [] for job in jobs}
        for index, (job, plan) in enumerate(plans):
            self._submit_ahead([later for _, later in plans[index:]])
            try:
                finished[job].append(self._finish(job, plan))
            except SereinError as error:
                faults[job] = _describe_fault(error)
        for job in jobs:
            outcome = _combine(finished[job], faults.get(job))
            names = [one.name for one in finished[job] if one.name in self._foreign]
            self.outcomes[job] = replace(outcome, foreign=tuple(names))

    def _submit_ahead(self, plans: Sequence[Plan]) -> None:
        """Start evaluations while the engine has room; errors are raised when they run."""
        if self._options.only_finished:
            return
        for plan in {plan.folder: plan for plan in plans}.values():
            if self._engine.has_room():
                with suppress(SereinError):
                    self._engine.submit(plan, False)

    def _build_plans(self, job: Job) -> list[Plan]:
        """Build the plan of every seed.

        Raises:
            SereinError: the experiment lacks something, or a setting has a fault.
        """
        options, recipe = self._options, job.load_recipe()
        corpus = self._given.load(job.corpora)
        plans = []
        for seed in range(options.seed, options.seed + options.seeds):
            found = self._find_models(job, recipe, seed)
            settings = [config.format_setting(name, str(path)) for name, path in found.items()]
            plans.append(
                build_plan(
                    recipes.with_settings(recipe, settings) if settings else recipe,
                    corpus,
                    seed=seed,
                    device=options.device,
                    runs=options.runs,
                )
            )
        return plans

    def _finish(self, job: Job, plan: Plan) -> Results:
        """Run a plan, or find it finished.

        Raises:
            SereinError: it cannot be run, or was not run to its end and is only looked for.
        """
        folder = plan.folder
        if not self._options.only_finished:
            run = run_plan(plan, self._engine, open_progress=self._options.open_progress)
            results = run.results
        elif is_finished(plan):
            results = io.load_results(plan.folder)
        elif found := self._index.find(plan):
            results, folder = found
            self._foreign.add(results.name)
        else:
            begun = sum(plan.checkpoint_path(fold).is_file() for fold in plan.protocol.folds)
            folds = f"; {begun} of {len(plan.protocol.folds)} folds were begun" if begun else ""
            name = self._index.find_other(plan)
            other = f"; {name} has other labels, recordings or folds" if name else ""
            raise _Unfinished(f"seed {plan.seed} was not run to its end{folds}{other}")
        self._folders[job, plan.seed] = folder
        return results

    def _find_models(self, job: Job, recipe: Recipe, seed: int) -> dict[str, Path]:
        """Find the models and runs that a recipe names by the recipe that makes them, by setting.

        Raises:
            SereinError: there is none.
        """
        given = {setting.partition("=")[0].strip() for setting in job.settings}
        found = {}
        for setting, file in list_model_files(recipe).items():
            maker, is_evaluation = get_maker(file)
            if setting in given or (is_evaluation and Path(file).exists()):
                continue
            found[setting] = (
                self._find_run(replace(job, recipe=maker), seed)
                if is_evaluation
                else self._find_asr(maker)
            )
        return found

    def _find_run(self, source: Job, seed: int) -> Path:
        """Return the run whose transcripts an experiment reads."""
        outcome = self.outcomes.get(source)
        if outcome is None or outcome.state != FINISHED:
            reason = f": {outcome.reason}" if outcome else ""
            raise _Lacking(f"needs the transcripts of {source.recipe}{reason}")
        return self._folders[source, seed]

    def _find_asr(self, maker: str) -> Path:
        """Return the speech recogniser of a recipe: the given one, or one that is trained here.

        Raises:
            SereinError: there is none, and none can be trained.
        """
        if maker not in self._models:
            try:
                self._models[maker] = self._prepare_asr(maker)
            except SereinError as error:
                self._models[maker] = error
        model = self._models[maker]
        if isinstance(model, SereinError):
            raise model
        return model

    def _prepare_asr(self, maker: str) -> Path:
        options, file = self._options, Path(f"{maker}{MODEL_SUFFIX}")
        if options.asr is not None:
            if not options.asr.is_file():
                raise _Lacking(f"the speech recogniser {options.asr} does not exist")
            return options.asr
        if file.is_file():
            return file
        name = self._given.assigned.get(ASR_CORPUS)
        if name is None:
            raise _Lacking(
                "needs a speech recogniser: give one with --asr MODEL, or the corpus to train it "
                f"on with --corpus {ASR_CORPUS}=FOLDER"
            )
        settings = [s for s in options.settings if s.partition(".")[0].strip() not in NOT_FOR_ASR]
        recipe, corpus = recipes.load(maker, settings), self._given.load((name,))
        selected = select_utterances(corpus, recipe).corpus
        dependencies = [
            asdict(replace(recipe, about={})),
            corpora.fingerprint(selected),
            system.hash_recipe_sources(recipe),
            options.seed,
            options.device,
            package_versions() | system.collect_packages(recipe),
        ]
        digest = hash_dependencies(dependencies)[:8]
        file = options.runs / f"{maker}-{corpus.name}-seed{options.seed}-{digest}{MODEL_SUFFIX}"
        if file.is_file():
            return file
        if options.only_finished:
            raise _Lacking(f"needs the speech recogniser {maker}, which was not trained to its end")
        file.parent.mkdir(parents=True, exist_ok=True)
        train(
            recipe,
            corpus,
            file,
            seed=options.seed,
            device=options.device,
            open_progress=options.open_training,
        )
        return file

    def _transcribe(self, job: Job) -> Outcome:
        """Score a speech recogniser on the utterances that a row tests."""
        try:
            path = self._find_asr(job.recipe)
            model = bundle.load(path)
            corpus = select_for_transcription(
                self._given.load(job.corpora), model.system.recipe, job.settings
            ).corpus
            content_hashes = corpora.hash_contents(corpus.utterances)
            reader = replace(model.system.recipe, text={"transcripts_from": str(path)})
            texts = transcripts.load_asr_transcripts(reader, corpus, content_hashes)
            overlap = check_training_overlap(model.card, corpus, content_hashes)
        except SereinError as error:
            return _describe_fault(error)
        scored = [utterance for utterance in corpus.utterances if utterance.text is not None]
        if not scored:
            return Outcome(state=FAILED, reason=f"no utterance of {corpus.name} has a transcript")
        references = [str(utterance.text) for utterance in scored]
        words = compute_word_scores(
            references,
            [texts[utterance.id] or "" for utterance in scored],
            [utterance.speaker for utterance in scored],
            unknown=count_unknown_words(references, set(model.system.words)),
        )
        warnings = [finding.description for finding in overlap if finding.verdict != "clean"]
        return Outcome(
            state=FINISHED,
            words=words,
            notes=tuple(f"{path.name} on {corpus.name}: {warning}" for warning in warnings),
        )


def _describe_fault(error: SereinError) -> Outcome:
    reason = " ".join(str(error).split())
    return Outcome(state=STATES.get(type(error), FAILED), reason=reason)


def _combine(results: list[Results], fault: Outcome | None) -> Outcome:
    """Combine the seeds of an experiment; without a finished one, the reason stays."""
    if not results:
        return fault or Outcome(state=UNFINISHED, reason="nothing was run")
    notes = (f"{results[0].recipe['name']}: {fault.reason}",) if fault else ()
    return Outcome(state=FINISHED, results=tuple(results), notes=notes)
