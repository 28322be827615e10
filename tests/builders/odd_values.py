"""Mutations of documents, as by mistake or by an attacker: odd values, keys and nesting."""

import copy
import csv
import io
import json
import re
from random import Random
from typing import Any

DEEP = 3000
TRAP = "trapped.code"
"""A module whose import is detected."""


def _nested(kind: str, depth: int = DEEP) -> Any:
    found: Any = 1
    for _ in range(depth):
        found = [found] if kind == "list" else {"a": found}
    return found


def odd_value(rng: Random) -> Any:
    """Return a value that hardly any field expects."""
    values: tuple[Any, ...] = (
        *(None, True, False, 0, -1, 1, 2, 1e308, -1e308, 5e-324, 10**6, 10**12, 10**30, 0.5),
        *(float("nan"), float("inf"), "", "x", "1", "\0", "\ud800", "ä" * 1000, "../../etc"),
        *("emotion", "li2019", "nan", TRAP, "os.path", "__import__('os')", "/dev/zero", " "),
        *([], {}, [1], [[]], [None], ["a", "a"], ["a", "b"], {"name": TRAP}, {"": 1}, {"a": {}}),
        *(list(range(1000)), dict.fromkeys(map(str, range(100)))),
    )
    return rng.choice(values)


def odd_document(document: Any, rng: Random) -> Any:
    """Replace, remove, repeat or rename one or two fields of a JSON document."""
    whole = [copy.deepcopy(document)]
    for _ in range(rng.choice((1, 1, 2))):
        container, key = _place(whole, rng)
        _change(container, key, rng)
    return whole[0] if whole else None


def odd_json(document: Any, rng: Random) -> bytes:
    """Return the same as bytes; some are not valid JSON."""
    kind = rng.randrange(12)
    if kind < 2:
        return _deep(document, rng)
    text = json.dumps(odd_document(document, rng))
    if kind == 2:
        return text.replace(rng.choice(":,{["), rng.choice(("", "::", "[" * 9, "\0")), 2).encode()
    if kind == 3:
        return text.encode(rng.choice(("utf-16", "utf-32")))
    if kind == 4:
        return re.sub(
            r"\d+", rng.choice(("1" * 5000, "1e999", "-0", "NaN")), text, count=2
        ).encode()
    return text.encode()


def odd_lines(text: str, rng: Random) -> bytes:
    """Change some lines of TOML or CSV, or words in them."""
    lines = text.split("\n")
    for _ in range(rng.choice((1, 1, 2, 5))):
        number = rng.randrange(len(lines))
        lines[number] = _odd_line(lines[number], rng)
    if rng.random() < 0.2:
        rng.shuffle(lines)
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def odd_table(text: str, rng: Random) -> bytes:
    """Replace some cells of a CSV."""
    rows = list(csv.reader(io.StringIO(text)))
    for _ in range(rng.choice((1, 1, 2, 5))):
        row = rng.choice(rows)
        row[rng.randrange(len(row))] = str(odd_value(rng))
        if rng.random() < 0.1:
            row.append(str(odd_value(rng)))
    written = io.StringIO()
    csv.writer(written).writerows(rows)
    return written.getvalue().encode("utf-8", "surrogatepass")


def _place(whole: list[Any], rng: Random) -> tuple[Any, Any]:
    """Choose a container and a key in it, at any depth."""
    container: Any = whole
    key: Any = 0
    while isinstance(inner := container[key], dict | list) and inner and rng.random() < 0.85:
        container = inner
        key = rng.choice(list(inner)) if isinstance(inner, dict) else rng.randrange(len(inner))
    return container, key


def _change(container: Any, key: Any, rng: Random) -> None:
    kind = rng.randrange(6)
    if kind == 0 and (isinstance(container, dict) or len(container) > 1):
        del container[key]
    elif kind == 1 and isinstance(container, dict):
        container[str(odd_value(rng))] = container.pop(key)
    elif kind == 1:
        container.append(container[key])
    elif kind == 2:
        container[key] = [container[key]]
    else:
        container[key] = odd_value(rng)


def _deep(document: Any, rng: Random) -> bytes:
    """Nest a value more deeply than Python's recursion limit."""
    mark = "a mark that nothing else is"
    whole = [copy.deepcopy(document)]
    container, key = _place(whole, rng)
    container[key] = mark
    first, last = rng.choice((("[", "]"), ('{"a":', "}")))
    depth = rng.choice((30, 300, 900, DEEP, 100_000))
    closed = last * rng.choice((0, depth))
    return json.dumps(whole[0]).replace(f'"{mark}"', first * depth + "1" + closed).encode()


def _odd_line(line: str, rng: Random) -> str:
    name, equals, value = line.partition("=")
    odd = rng.choice(
        (
            *("", line + "\n" + line, "[" + line, line + "]", "[a.b.c]", "[[tasks]]", "\0"),
            *(f"{name}= {'[' * DEEP}", f"{name}= {'[' * 200}1{']' * 200}", f"{name}.a.b = 1"),
            *(f"{'a.' * DEEP}a = 1", f"{name}= {'9' * 5000}", f'{name}= "{TRAP}"'),
            *(f"{name}= {_toml(odd_value(rng))}" for _ in range(12)),
            *(f"{rng.choice(WORDS)} = {value}", f"{name}{equals} {value}{value}"),
        )
    )
    return str(odd)


WORDS = ("name", "extends", "training", "x", '""', "a b", "tasks.emotion", "model.name")


def _toml(value: Any) -> str:
    """Format a value as TOML, which is JSON except for tables and null."""
    if isinstance(value, dict):
        return "{ a = 1 }"
    return (
        "0x"
        if value is None
        else json.dumps(value).replace("NaN", "nan").replace("Infinity", "inf")
    )
