"""On which line of a TOML document each key stands. `tomllib` does not tell, and people need it to find their mistake.

Give it only what `tomllib` has accepted: it follows the structure and checks nothing.
"""

from __future__ import annotations

import re
import tomllib

Path = tuple[str | int, ...]
"""Keys and array indexes from the top: `("sku", 0, "price_minor")`."""

_BLANK = re.compile(r"(?:[ \t]|\r?\n|#[^\n]*)*")
_KEY_PART = re.compile(r"""[ \t]*("(?:[^"\\\n]|\\.)*"|'[^'\n]*'|[A-Za-z0-9_-]+)[ \t]*""")
_STRING = re.compile(r'"""(?:[^\\]|\\.)*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'', re.DOTALL)
_SCALAR = re.compile(r"[^,\]}#\n]*")


def line_index(text: str) -> dict[Path, int]:
    """Lines, from 1, of every key, table and array element of `text`."""
    return _Reader(text).read()


class _Reader:
    """Walks over the text once."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._lines: dict[Path, int] = {}
        self._counts: dict[Path, int] = {}
        """elements so far of each array of tables"""

    def read(self) -> dict[Path, int]:
        table: Path = ()
        while self._skip_blank() < len(self._text):
            table = self._header() if self._text[self._at] == "[" else self._pair(table)
        return self._lines

    def _skip_blank(self) -> int:
        found = _BLANK.match(self._text, self._at)
        assert found is not None
        self._at = found.end()
        return self._at

    def _note(self, path: Path, at: int | None = None) -> None:
        self._lines.setdefault(path, self._text.count("\n", 0, self._at if at is None else at) + 1)

    def _header(self) -> Path:
        """`[table]` or `[[array of tables]]`; the path of what follows it."""
        is_array = self._text.startswith("[[", self._at)
        start = self._at
        self._at += 2 if is_array else 1
        path = self._inside(self._keys())
        self._at += 2 if is_array else 1
        if is_array:
            position = self._counts.get(path, 0)
            self._counts[path] = position + 1
            self._note(path, start)
            path = (*path, position)
        self._note(path, start)
        return path

    def _inside(self, keys: list[str]) -> Path:
        """A header's keys as a path: what lies below an array of tables belongs to its last element."""
        path: Path = ()
        for position, key in enumerate(keys):
            path = (*path, key)
            if path in self._counts and position < len(keys) - 1:
                path = (*path, self._counts[path] - 1)
        return path

    def _keys(self) -> list[str]:
        """A key with its dots."""
        keys: list[str] = []
        while found := _KEY_PART.match(self._text, self._at):
            self._at = found.end()
            keys.append(_unquoted(found[1]))
            if not self._text.startswith(".", self._at):
                break
            self._at += 1
        return keys

    def _pair(self, table: Path) -> Path:
        start = self._at
        path = (*table, *self._keys())
        for length in range(len(table) + 1, len(path) + 1):
            self._note(path[:length], start)
        self._at += 1  # the equals sign
        self._value(path)
        return table

    def _value(self, path: Path) -> None:
        while self._text[self._at] in " \t":
            self._at += 1
        match self._text[self._at]:
            case "[":
                self._elements(path)
            case "{":
                self._inline_table(path)
            case '"' | "'":
                found = _STRING.match(self._text, self._at)
                assert found is not None
                self._at = found.end()
            case _:
                found = _SCALAR.match(self._text, self._at)
                assert found is not None
                self._at = found.end()

    def _elements(self, path: Path) -> None:
        self._at += 1
        position = 0
        while self._text[self._skip_blank()] != "]":
            if self._text[self._at] == ",":
                self._at += 1
                continue
            self._note((*path, position))
            self._value((*path, position))
            position += 1
        self._at += 1

    def _inline_table(self, path: Path) -> None:
        self._at += 1
        while self._text[self._skip_blank()] != "}":
            if self._text[self._at] == ",":
                self._at += 1
                continue
            self._pair(path)
        self._at += 1


def _unquoted(key: str) -> str:
    """A key as its text, with escapes undone."""
    return next(iter(tomllib.loads(f"{key} = 0"))) if key[0] in "\"'" else key
