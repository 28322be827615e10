"""The pages of the documentation site: navigation, generated pages, blocks that are not run."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin

import pytest
import typer.main

from serein import cli

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
INDEX = DOCS / "index.md"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
RESULT_PAGES = sorted((ROOT / "results").glob("*.md"))
FENCED = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"(?<!`)`(serein [^`]+)`(?!`)")
NOT_RUN = re.compile(r"<!-- not run: \S.* -->\n+$")
RUN_OR_OUTPUT = ("console", "python", "text", "csv", "toml", "json", "")
"""Kinds of blocks that are run, or that are data and output."""
SITE_FOLDER = DOCS / "site"
BUILT_SITE = ROOT / "build" / "site"
LOOKED_FOR = {
    "leakage": ("leak", "docs/protocols.html#the-leakage-check"),
    "a front end of one's own": ("front end", "docs/own-parts.html#a-front-end"),
    "a service behind a proxy": ("proxy", "docs/service.html#behind-a-proxy"),
    "the recogniser of Feng et al.": (
        "Feng",
        "docs/words.html#transcription-the-systems-of-feng-et-al-2020",
    ),
}
"""What a reader looks for: a word that must stand at the first link, and the section."""


@pytest.fixture
def generated_pages(monkeypatch: pytest.MonkeyPatch) -> Any:
    pytest.importorskip("sphinx", reason="needs sphinx: pip install 'serein[dev]'")
    monkeypatch.syspath_prepend(str(SITE_FOLDER))
    return __import__("generated_pages")


def navigation() -> list[Path]:
    """Return the pages of all toctrees of the index, without suffix."""
    blocks = [text for kind, text in FENCED.findall(INDEX.read_text("utf-8")) if "toctree" in kind]
    lines = [line for block in blocks for line in block.splitlines()]
    return [(DOCS / line).resolve() for line in lines if line and not line.startswith(":")]


def test_every_page_is_in_the_navigation() -> None:
    pages = [
        page
        for page in [*DOCS.rglob("*.md"), *DOCS.rglob("*.ipynb"), *RESULT_PAGES]
        if page != INDEX
    ]
    missing = {page.with_suffix("") for page in pages} - set(navigation())
    assert not missing, (
        f"{sorted(str(page.relative_to(ROOT)) for page in missing)} cannot be reached in the site; "
        "add a line to a toctree at the end of docs/index.md, under the door to which it belongs"
    )


def test_every_entry_of_the_navigation_is_a_page() -> None:
    entries = navigation()
    dangling = [
        str(entry.relative_to(ROOT))
        for entry in entries
        if not any(entry.with_name(entry.name + end).is_file() for end in (".md", ".ipynb"))
    ]
    assert not dangling, f"{dangling} do not exist; remove them from docs/index.md, or write them"
    assert len(entries) == len(set(entries)), "a page is in docs/index.md twice"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_blocks_that_are_not_run_say_why(page: Path) -> None:
    text = page.read_text("utf-8")
    silent = []
    for block in FENCED.finditer(text):
        kind = block[1].strip()
        is_run = kind in RUN_OR_OUTPUT or kind.startswith("{")
        if not is_run and not NOT_RUN.search(text[: block.start()]):
            silent.append(f"line {text[: block.start()].count(chr(10)) + 1} ({kind})")
    for line in re.finditer(r"\n\n    (?=serein |python |pip )", FENCED.sub(_blank, text)):
        if not NOT_RUN.search(text[: line.start() + 2]):
            silent.append(f"line {text[: line.end()].count(chr(10)) + 1} (indented)")
    assert not silent, (
        f"{page.name}: {silent} is not run and does not say why. Use ```console or ```python, or "
        "put a line <!-- not run: REASON --> before it"
    )


def _blank(match: re.Match[str]) -> str:
    return re.sub(r"[^\n]", " ", match[0])


def find_commands(text: str) -> Iterator[str]:
    """Yield the commands of serein in blocks and in code within sentences."""
    fenced = FENCED.sub(_blank, text)
    for command in INLINE.findall(fenced):
        yield " ".join(command.split())
    indented = "\n".join(re.findall(r"^    (serein .*)$", fenced, re.MULTILINE))
    blocks = [block for kind, block in FENCED.findall(text) if kind in ("console", "sh")]
    for block in [indented, *blocks]:
        joined = re.sub(r"\s*\\\n\s*", " ", block)
        yield from re.findall(r"(?:^|[$ ])(serein [a-z][^\n#|]*)", joined)


def list_options(words: list[str]) -> set[str] | None:
    """Return the options of the command that begins with these words; None if there is none."""
    command: Any = typer.main.get_command(cli.app)
    for word in words:
        if not hasattr(command, "commands"):
            break
        if word not in command.commands:
            return {"--help"} if command.name == "corpora" else None
        command = command.commands[word]
    names = {name for one in command.params for name in [*one.opts, *one.secondary_opts]}
    return names | {"--help"}


@pytest.mark.parametrize("page", [*PAGES, *RESULT_PAGES], ids=lambda page: page.name)
def test_commands_and_options_exist(page: Path) -> None:
    unknown = []
    for command in find_commands(page.read_text("utf-8")):
        words = re.findall(r"^serein ([a-z]+)(?: ([a-z]+))?", command)
        if not words:
            continue
        known = list_options([word for word in words[0] if word])
        if known is None:
            unknown.append(command)
            continue
        options = re.findall(r"(?<![\w-])--[a-z][a-z-]*", command.split("torchrun")[0])
        unknown += [f"{option} of: {command}" for option in options if option not in known]
    assert not unknown, f"{page.name} names what does not exist: {unknown}"


def test_generated_pages_are_complete(generated_pages: Any) -> None:
    commands = "\n".join(generated_pages.describe_commands())
    assert {"## serein recognize", "## serein corpora check"} <= set(commands.splitlines())
    assert "`-o, --output" in commands
    settings = "\n".join(generated_pages.describe_settings())
    assert "**`epochs`** (int, at least 1; default `100`): passes over" in settings
    assert "## model: li2019" in settings.splitlines()
    undocumented = re.findall(r"^- (\*\*.*?\)): *$", settings, re.MULTILINE)
    assert not undocumented, f"settings without a line under Attributes: {undocumented}"


def test_every_public_name_and_error_is_documented(generated_pages: Any) -> None:
    api = "\n".join(generated_pages.describe_api())
    named = re.findall(r"^\.\. auto\w+:: serein\.(\w+)$", api, re.MULTILINE)
    import serein

    assert sorted({*named} & set(serein.__all__)) == sorted(serein.__all__)
    errors = "\n".join(generated_pages.describe_errors())
    assert "... does not exist; expected an audio file. Check the path." in errors


def test_types_are_words(generated_pages: Any) -> None:
    from typing import Annotated, Literal

    from annotated_types import Ge, Lt

    describe = generated_pages.describe_type
    assert describe(Annotated[float, Ge(0), Lt(1)]) == "float, at least 0, below 1"
    assert describe(Literal["a"] | None) == "`'a'` or none"
    assert describe(tuple[str, ...]) == "list of str"
    assert describe(dict[str, float]) == "dict of str, float"


def test_a_notebook_becomes_a_page(generated_pages: Any) -> None:
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "text"]},
        {
            "cell_type": "code",
            "source": "1 + 1",
            "outputs": [{"output_type": "execute_result", "data": {"text/plain": ["2"]}}],
        },
    ]
    page = "\n".join(generated_pages.render_notebook({"cells": cells}))
    assert page.startswith("# Title\ntext\n\n```python\n1 + 1\n```\n")
    assert "```text\n2\n```" in page


class PageLinks(HTMLParser):
    """The links in the text of a built page, each with the paragraph, item or row around it.

    Attributes:
        links: pairs of address and text.
        sections: names to which a link may point.
        next_page: where the page forwards to; empty if it does not.
    """

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.links: list[tuple[str, str]] = []
        self.sections: set[str] = set()
        self.next_page = ""
        self._blocks: list[tuple[list[str], list[str]]] = []
        self._is_text = False
        self.feed(page.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if values.get("id"):
            self.sections.add(str(values["id"]))
        if tag == "meta" and values.get("http-equiv") == "refresh":
            self.next_page = str(values["content"]).partition("url=")[2]
        self._is_text |= tag == "article"
        if tag in ("p", "li", "tr", "section"):
            self._blocks.append(([], []))
        if tag == "a" and self._is_text and self._blocks and values.get("href"):
            for addresses, _ in self._blocks[-2:]:  # a cell has paragraphs: the row counts, too
                addresses.append(str(values["href"]))

    def handle_data(self, data: str) -> None:
        for _, words in self._blocks[-2:]:
            words.append(data)

    def handle_endtag(self, tag: str) -> None:
        self._is_text &= tag != "article"
        if tag in ("p", "li", "tr", "section") and self._blocks:
            addresses, words = self._blocks.pop()
            text = " ".join("".join(words).split())
            if tag != "section":
                self.links += [(address, text) for address in addresses]


def follow(page: str, address: str) -> str:
    """Return the page and section of a link; empty if it leaves the site."""
    target = unquote(urljoin(page, address))
    is_page = (BUILT_SITE / target.partition("#")[0]).suffix == ".html"
    return target if is_page and "://" not in target else ""


@pytest.mark.parametrize("what", LOOKED_FOR)
def test_two_clicks_from_the_front_page(what: str) -> None:
    if not (BUILT_SITE / "index.html").is_file():
        pytest.skip("the site is not built: make docs")
    word, section = LOOKED_FOR[what]
    front = PageLinks(BUILT_SITE / "index.html").next_page or "index.html"
    first = [
        follow(front, address)
        for address, text in PageLinks(BUILT_SITE / front).links
        if word.lower() in text.lower()
    ]
    assert first, f"no link of the front page has the word {word!r} beside it"
    wanted, anchor = section.split("#")
    reached = {page.partition("#")[0] for page in first if page}
    if wanted not in reached:
        second = {
            follow(page, address).partition("#")[0]
            for page in reached
            for address, _ in PageLinks(BUILT_SITE / page).links
        }
        assert wanted in second, f"{what}: {wanted} is more than two clicks away"
        reached |= second
    assert anchor in PageLinks(BUILT_SITE / wanted).sections, f"{wanted} has no section {anchor}"
