"""Named SQL: every statement stands in a file, with a name and its purpose."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_QUERY_START = re.compile(r"^-- name: *(?P<name>\S*)\s*$", re.MULTILINE)
_QUERY_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Query:
    """One named statement."""

    name: str
    purpose: str
    sql: str
    """what is sent; its first line is a comment with the name, so that logs and statistics show it"""


def load_queries(folder: Path) -> dict[str, Query]:
    """Every query of `folder/*.sql`, by name.

    A block begins with `-- name: some_name`, then at least one comment line with its purpose, then one statement.

    Raises:
        ValueError: a block breaks that form, or two have one name; says which file and query.
    """
    queries: dict[str, Query] = {}
    for path in sorted(folder.glob("*.sql")):
        for query in _queries_of(path):
            if query.name in queries:
                raise ValueError(f"{path.name}: there are two queries named {query.name}")
            queries[query.name] = query
    return queries


def _queries_of(path: Path) -> Iterator[Query]:
    text = path.read_text(encoding="utf-8")
    starts = list(_QUERY_START.finditer(text))
    if not starts:
        raise ValueError(f"{path.name}: it has no block that begins with '-- name: some_name'")
    ends = [*(start.start() for start in starts[1:]), len(text)]
    for start, end in zip(starts, ends, strict=True):
        name = start["name"]
        if not _QUERY_NAME.fullmatch(name):
            raise ValueError(f"{path.name}: {name!r} is not a query name (lower case, digits, underscores)")
        lines = text[start.end() : end].strip().splitlines()
        purpose = []
        while lines and lines[0].startswith("--"):
            purpose.append(lines.pop(0).removeprefix("--").strip())
        sql = "\n".join(lines).strip().removesuffix(";").rstrip()
        if not purpose or not sql:
            raise ValueError(f"{path.name}: {name} needs a comment line with its purpose, then a statement")
        yield Query(name, " ".join(purpose), f"-- {name}\n{sql}")
