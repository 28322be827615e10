"""Sphinx extension: fills the pages of docs/reference that are computed from the source.

A comment of a page, such as ``<!-- generated: commands -->``, is replaced by Markdown: the commands
from their ``--help``, the settings of recipes from their types, the error messages from the
statements that raise them, and directives for every public name of the Python API.
"""

import ast
import dataclasses
import inspect
import json
import re
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx

import serein
from serein import cli, registry

PACKAGE = Path(serein.__file__).parent
PLACEHOLDER = re.compile(r"^<!-- generated: (\w+) -->$", re.MULTILINE)
LINK = re.compile(r"\]\((?!\w+:)([^)#]+\.md)(#[^)]*)?\)")

API_GROUPS = {
    "Recognize": ("Recognizer", "Recognition", "Segment", "Stream", "explain", "Explanation"),
    "Evaluate and train": ("evaluate", "Run", "Results", "score_model", "search", "train"),
    "Corpora": ("load_corpus", "Corpus", "Utterance", "Protocol"),
    "Recipes and saved models": ("load_recipe", "Recipe", "Bundle", "Card"),
}
"""Public names by subject; those that are not named here follow under further headings."""
API_MODULES = ("interfaces", "testing")
"""Modules whose names are documented for authors of models, front ends and corpora."""


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.connect("source-read", fill_page)
    app.add_lexer("csv", TextLexer)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def fill_page(app: Sphinx, docname: str, content: list[str]) -> None:
    """Replace comments by what they name, and links to files without a page by downloads."""
    if app.env.doc2path(docname).suffix == ".ipynb":
        content[0] = "\n".join(render_notebook(json.loads(content[0])))
    text = PLACEHOLDER.sub(lambda match: "\n".join(GENERATORS[match[1]]()), content[0])
    folder = (Path(app.srcdir) / docname).parent

    def link(match: re.Match[str]) -> str:
        path = (folder / match[1]).resolve()
        name = path.relative_to(Path(app.srcdir).resolve()).with_suffix("").as_posix()
        is_page = name in app.env.found_docs or not path.is_file()
        return match[0] if is_page else f"](path:{match[1]})"

    content[0] = LINK.sub(link, text)


def render_notebook(notebook: dict[str, Any]) -> Iterator[str]:
    """Yield a notebook as Markdown: its texts, its code, and the outputs that were saved in it."""
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            yield from (source, "")
            continue
        yield from ("```python", source, "```", "")
        for output in cell["outputs"]:
            data = output.get("data", {"text/plain": output.get("text", [])})
            kind, fence = (
                ("text/html", "{raw} html") if "text/html" in data else ("text/plain", "text")
            )
            yield from (f"```{fence}", "".join(data[kind]).rstrip(), "```", "")


def describe_commands() -> Iterator[str]:
    """Yield Markdown of every command: usage, description, arguments and options."""
    group = typer.main.get_command(cli.app)
    yield from _describe_group(group, "serein")


def _describe_group(group: Any, path: str) -> Iterator[str]:
    context = group.context_class(group, info_name=path)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command.hidden:
            continue
        if hasattr(command, "list_commands"):
            yield from _describe_group(command, f"{path} {name}")
            continue
        yield from ("", f"## {path} {name}", "")
        own = command.context_class(command, info_name=f"{path} {name}")
        words = " ".join(map(simplify_usage, command.collect_usage_pieces(own)))
        yield from ("```text", f"{path} {name} {words}", "```", "")
        yield from (escape(inspect.cleandoc(command.help or "")), "")
        for parameter in command.get_params(own):
            if not getattr(parameter, "hidden", False) and parameter.name != "help":
                yield _describe_parameter(parameter, own)


def _describe_parameter(parameter: Any, context: Any) -> str:
    """Return an item of a list: names, type, help, and the default if there is one."""
    record = parameter.get_help_record(context)
    names = record[0].strip() if record else parameter.make_metavar(context)
    text = parameter.help or ""
    default = parameter.default
    has_default = not callable(default) and default not in (None, "", False, ()) and names[0] == "-"
    shown = f" Default: `{default}`." if has_default and not isinstance(default, bool) else ""
    return f"- `{names}`: {escape(text)}{shown}"


def simplify_usage(piece: str) -> str:
    """Return an argument of a usage line without Typer's braces.

    >>> [simplify_usage(piece) for piece in ("{FILE...}...", "[[FILE]...]...", "[OPTIONS]")]
    ['FILE...', '[FILE...]', '[OPTIONS]']
    """
    piece = re.sub(r"^\{(.*)\}(?:\.\.\.)?$", r"\1", piece)
    return re.sub(r"^\[\[(.*)\]\.\.\.\](?:\.\.\.)?$", r"[\1...]", piece)


def escape(text: str) -> str:
    """Keep angle and square brackets of a plain text from being read as HTML or links."""
    return text.replace("<", "&lt;").replace("[", "\\[")


def describe_settings() -> Iterator[str]:
    """Yield Markdown of every table of a recipe: settings with type, default and meaning."""
    from serein.augment.config import AugmentConfig
    from serein.features import normalization
    from serein.labels.vocabulary import VocabularyConfig
    from serein.protocols.settings import SplitConfig
    from serein.training.config import TrainingConfig

    tables: list[tuple[str, str, Any]] = [("training", "", TrainingConfig)]
    tables += [("protocol", "", SplitConfig), ("normalise", "", normalization.Config)]
    tables += [("augment", "", AugmentConfig), ("text", "", VocabularyConfig)]
    for table, package in (("features", "features"), ("model", "models"), ("tasks.NAME", "tasks")):
        for name in registry.list_names(package):
            tables.append((table, name, import_module(f"serein.{package}.{name}").Config))
    for table, name, config in tables:
        yield from ("", f"## {table}: {name}" if name else f"## {table}", "")
        yield f"`[{table}]`" + (f' with `name = "{name}"`' if name else "") + " of a recipe."
        yield ""
        yield from describe_fields(config)


def describe_fields(config: Any) -> Iterator[str]:
    """Yield a list of the fields of a dataclass: type with bounds, default, and meaning."""
    meanings = read_attributes(config)
    hints = _get_annotations(config)
    for field in dataclasses.fields(config):
        default: Any = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        shown = "required" if default is dataclasses.MISSING else f"default `{default!r}`"
        kind = describe_type(hints.get(field.name, field.type))
        yield f"- **`{field.name}`** ({kind}; {shown}): {meanings.get(field.name, '')}"
    if not dataclasses.fields(config):
        yield "No settings."


def _get_annotations(config: Any) -> dict[str, Any]:
    hints: dict[str, Any] = {}
    for base in reversed(config.__mro__):
        hints |= inspect.get_annotations(base)
    return hints


def read_attributes(config: Any) -> dict[str, str]:
    """Return the entries under ``Attributes:`` in the docstrings of a class and its bases."""
    meanings: dict[str, str] = {}
    for base in reversed(config.__mro__):
        _, _, block = inspect.cleandoc(base.__doc__ or "").partition("Attributes:\n")
        block = block.split("\n\n")[0]
        entries = re.split(r"^    (?=\w+: )", block, flags=re.MULTILINE)
        for entry in entries[1:]:
            name, _, meaning = entry.partition(": ")
            meanings[name] = " ".join(meaning.split())
    return meanings


def describe_type(hint: Any) -> str:
    """Return a type as words, such as "int, at least 1" for ``Annotated[int, Ge(1)]``."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        bounds = [_describe_bound(one) for one in arguments[1:]]
        return ", ".join([describe_type(arguments[0]), *filter(None, bounds)])
    if origin is Literal:
        return " or ".join(f"`{value!r}`" for value in arguments)
    if origin in (Union, UnionType):
        return " or ".join(describe_type(one) for one in arguments)
    if origin is tuple:
        return f"list of {describe_type(arguments[0])}"
    if origin is not None:
        inner = ", ".join(describe_type(one) for one in arguments)
        return f"{origin.__name__.lower()} of {inner}"
    return "none" if hint is type(None) else getattr(hint, "__name__", str(hint))


BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below", "min_length": "length"}


def _describe_bound(bound: Any) -> str:
    parts = [
        f"{words} {getattr(bound, key):g}"
        for key, words in BOUNDS.items()
        if isinstance(getattr(bound, key, None), int | float)
    ]
    return ", ".join(parts)


def describe_errors() -> Iterator[str]:
    """Yield Markdown of every error message, by class and file, with ... for what varies."""
    found: dict[str, dict[str, list[str]]] = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        where = file.relative_to(PACKAGE).as_posix()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Raise) or not isinstance(node.exc, ast.Call):
                continue
            name = getattr(node.exc.func, "id", "")
            message = read_message(node.exc.args[0]) if node.exc.args else ""
            if name in serein.__all__ and name != "UnknownName" and len(message) > 12:
                messages = found.setdefault(name, {}).setdefault(where, [])
                messages += [message] * (message not in messages)
    for name in sorted(found):
        summary = inspect.cleandoc(getattr(serein, name).__doc__ or "").splitlines()[0]
        yield from ("", f"## {name}", "", summary, "")
        for where, messages in found[name].items():
            yield from ("", f"*{where}*", "")
            yield from (f"- `{message}`" for message in messages)


def read_message(node: ast.expr) -> str:
    """Return the text of a message; expressions in it become "...".

    >>> read_message(ast.parse('f"{path} has no speaker"', mode="eval").body)
    '... has no speaker'
    """
    if isinstance(node, ast.Constant):
        text = str(node.value)
    elif isinstance(node, ast.JoinedStr):
        parts = (str(one.value) if isinstance(one, ast.Constant) else "..." for one in node.values)
        text = "".join(parts)
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        text = read_message(node.left) + read_message(node.right)
    else:
        text = "..."
    return " ".join(text.replace("`", "'").split())


def describe_api() -> Iterator[str]:
    """Yield directives for every public name, by subject, and for the interfaces."""
    named = {name for names in API_GROUPS.values() for name in names}
    rest = [name for name in serein.__all__ if name not in named]
    errors = [name for name in rest if is_error(name)]
    groups: dict[str, Any] = {
        **API_GROUPS,
        "Further names": [name for name in rest if name not in errors],
        "Errors": errors,
    }
    for title, names in groups.items():
        yield from ("", f"## {title}", "", "```{eval-rst}")
        for name in names:
            if name in serein.__all__:
                yield from _document(name)
        yield "```"
    for name in API_MODULES:
        if any(PACKAGE.glob(f"{name}*")):
            yield from ("", f"## serein.{name}", "", "```{eval-rst}")
            yield from (f".. automodule:: serein.{name}", "   :members:", "```")


def is_error(name: str) -> bool:
    """Return whether a public name is an exception."""
    value = getattr(serein, name)
    return isinstance(value, type) and issubclass(value, Exception)


def _document(name: str) -> Iterator[str]:
    value = getattr(serein, name)
    kind = "exception" if is_error(name) else "class" if isinstance(value, type) else "function"
    yield f".. auto{kind}:: serein.{name}"
    if kind == "class":
        yield "   :members:"
        yield "   :inherited-members:"
    yield ""


GENERATORS: dict[str, Callable[[], Iterator[str]]] = {
    "api": describe_api,
    "commands": describe_commands,
    "errors": describe_errors,
    "settings": describe_settings,
}
