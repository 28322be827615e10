"""Documents as a slip of the pen or an enemy would leave them: one place holds something odd."""

import copy
import csv
import io
import json
import re
from random import Random
from typing import Any

DEEP = 3000
TRAP = "trapped.code"
"""A module whose import leaves a trace."""


def _nested(kind: str, depth: int = DEEP) -> Any:
    found: Any = 1
    for _ in range(depth):
        found = [found] if kind == "list" else {"a": found}
    return found


def odd_value(chance: Random) -> Any:
    """Something that hardly any place expects."""
    values: tuple[Any, ...] = (
        *(None, True, False, 0, -1, 1, 2, 1e308, -1e308, 5e-324, 10**6, 10**12, 10**30, 0.5),
        *(float("nan"), float("inf"), "", "x", "1", "\0", "\ud800", "ä" * 1000, "../../etc"),
        *("emotion", "li2019", "nan", TRAP, "os.path", "__import__('os')", "/dev/zero", " "),
        *([], {}, [1], [[]], [None], ["a", "a"], ["a", "b"], {"name": TRAP}, {"": 1}, {"a": {}}),
        *(list(range(1000)), dict.fromkeys(map(str, range(100)))),
    )
    return chance.choice(values)


def odd_document(document: Any, chance: Random) -> Any:
    """One or two places of a JSON document are odd, gone, doubled or called otherwise."""
    whole = [copy.deepcopy(document)]
    for _ in range(chance.choice((1, 1, 2))):
        holder, key = _place(whole, chance)
        _change(holder, key, chance)
    return whole[0] if whole else None


def odd_json(document: Any, chance: Random) -> bytes:
    """The same as bytes; now and then as no JSON writer would put them."""
    kind = chance.randrange(12)
    if kind < 2:
        return _deep(document, chance)
    text = json.dumps(odd_document(document, chance))
    if kind == 2:
        return text.replace(
            chance.choice(":,{["), chance.choice(("", "::", "[" * 9, "\0")), 2
        ).encode()
    if kind == 3:
        return text.encode(chance.choice(("utf-16", "utf-32")))
    if kind == 4:
        return re.sub(
            r"\d+", chance.choice(("1" * 5000, "1e999", "-0", "NaN")), text, count=2
        ).encode()
    return text.encode()


def odd_lines(text: str, chance: Random) -> bytes:
    """TOML or CSV of which some lines, or words in them, are odd."""
    lines = text.split("\n")
    for _ in range(chance.choice((1, 1, 2, 5))):
        number = chance.randrange(len(lines))
        lines[number] = _odd_line(lines[number], chance)
    if chance.random() < 0.2:
        chance.shuffle(lines)
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def odd_table(text: str, chance: Random) -> bytes:
    """A CSV of which some cells are odd."""
    rows = list(csv.reader(io.StringIO(text)))
    for _ in range(chance.choice((1, 1, 2, 5))):
        row = chance.choice(rows)
        row[chance.randrange(len(row))] = str(odd_value(chance))
        if chance.random() < 0.1:
            row.append(str(odd_value(chance)))
    written = io.StringIO()
    csv.writer(written).writerows(rows)
    return written.getvalue().encode("utf-8", "surrogatepass")


def _place(whole: list[Any], chance: Random) -> tuple[Any, Any]:
    """A holder and a key in it, any depth alike."""
    holder: Any = whole
    key: Any = 0
    while isinstance(inner := holder[key], dict | list) and inner and chance.random() < 0.85:
        holder = inner
        key = (
            chance.choice(list(inner)) if isinstance(inner, dict) else chance.randrange(len(inner))
        )
    return holder, key


def _change(holder: Any, key: Any, chance: Random) -> None:
    kind = chance.randrange(6)
    if kind == 0 and (isinstance(holder, dict) or len(holder) > 1):
        del holder[key]
    elif kind == 1 and isinstance(holder, dict):
        holder[str(odd_value(chance))] = holder.pop(key)
    elif kind == 1:
        holder.append(holder[key])
    elif kind == 2:
        holder[key] = [holder[key]]
    else:
        holder[key] = odd_value(chance)


def _deep(document: Any, chance: Random) -> bytes:
    """Some place is nested more deeply than Python recurses."""
    mark = "a mark that nothing else is"
    whole = [copy.deepcopy(document)]
    holder, key = _place(whole, chance)
    holder[key] = mark
    first, last = chance.choice((("[", "]"), ('{"a":', "}")))
    depth = chance.choice((30, 300, 900, DEEP, 100_000))
    closed = last * chance.choice((0, depth))
    return json.dumps(whole[0]).replace(f'"{mark}"', first * depth + "1" + closed).encode()


def _odd_line(line: str, chance: Random) -> str:
    name, equals, value = line.partition("=")
    odd = chance.choice(
        (
            *("", line + "\n" + line, "[" + line, line + "]", "[a.b.c]", "[[tasks]]", "\0"),
            *(f"{name}= {'[' * DEEP}", f"{name}= {'[' * 200}1{']' * 200}", f"{name}.a.b = 1"),
            *(f"{'a.' * DEEP}a = 1", f"{name}= {'9' * 5000}", f'{name}= "{TRAP}"'),
            *(f"{name}= {_toml(odd_value(chance))}" for _ in range(12)),
            *(f"{chance.choice(WORDS)} = {value}", f"{name}{equals} {value}{value}"),
        )
    )
    return str(odd)


WORDS = ("name", "extends", "training", "x", '""', "a b", "tasks.emotion", "model.name")


def _toml(value: Any) -> str:
    """JSON is TOML but for tables and null."""
    if isinstance(value, dict):
        return "{ a = 1 }"
    return (
        "0x"
        if value is None
        else json.dumps(value).replace("NaN", "nan").replace("Infinity", "inf")
    )
