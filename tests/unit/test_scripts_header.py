"""Reading a script's header: what it tells, and what is refused at start rather than in the middle of a drop."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from flashsale.scripts import read_script, read_scripts

GOOD = """#!lua flags=allow-oom
-- Does one thing
-- and says so.
-- KEYS[1] drop hash: state
-- KEYS[2] slots zset: numbers
-- ARGV[1] envelope msgpack: {epoch, clock_ms, sequence}
-- RETURNS msgpack {"done"},
--         on two lines
-- OUTCOMES done refused
-- COST O(1)
-- INCLUDE one two

local x = KEYS[1]
-- KEYS[3] is only a comment in the body
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "include").mkdir()
    for name in ("one", "two"):
        (tmp_path / "include" / f"{name}.lua").write_text(f"local {name} = 1\n", encoding="utf-8")
    return tmp_path


def written(folder: Path, text: str) -> Path:
    path = folder / "thing.lua"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_header_is_read_whole(folder: Path) -> None:
    script = read_script(written(folder, GOOD))
    assert script.name == "thing"
    assert script.flags == ("allow-oom",)
    assert script.purpose == "Does one thing and says so."
    assert script.keys == ("drop", "slots")
    assert script.key_types == ("hash", "zset")
    assert script.arguments == ("envelope",)
    assert script.outcomes == ("done", "refused")
    assert script.includes == ("one", "two")


def test_includes_stand_between_the_first_line_and_the_body(folder: Path) -> None:
    script = read_script(written(folder, GOOD))
    lines = script.body.splitlines()
    assert lines[0] == "#!lua flags=allow-oom"
    assert lines.index("local one = 1") < lines.index("local two = 1") < lines.index("local x = KEYS[1]")
    assert script.sha == hashlib.sha1(script.body.encode(), usedforsecurity=False).hexdigest()


def test_a_script_without_flags_has_none(folder: Path) -> None:
    assert read_script(written(folder, GOOD.replace(" flags=allow-oom", ""))).flags == ()


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("#!lua flags=allow-oom\n", "", "the first line must be #!lua"),
        ("-- Does one thing\n-- and says so.\n", "", "needs a purpose"),
        ("-- OUTCOMES done refused\n", "", "OUTCOMES"),
        ("-- RETURNS msgpack", "-- RETURN msgpack", "RETURNS"),
        ("-- COST O(1)\n", "", "COST"),
        ("-- KEYS[2] slots", "-- KEYS[3] slots", "KEYS must be numbered from 1 without gaps"),
        ("-- ARGV[1] envelope", "-- ARGV[2] envelope", "ARGV must be numbered from 1 without gaps"),
    ],
)
def test_a_broken_header_is_refused_by_name(folder: Path, old: str, new: str, why: str) -> None:
    assert old in GOOD
    with pytest.raises(ValueError, match=r"thing\.lua") as error:
        read_script(written(folder, GOOD.replace(old, new, 1)))
    assert why in str(error.value)


def test_a_missing_include_is_refused(folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match="three"):
        read_script(written(folder, GOOD.replace("INCLUDE one two", "INCLUDE one three")))


def test_a_folder_is_read_without_its_includes(folder: Path) -> None:
    written(folder, GOOD)
    assert list(read_scripts(folder)) == ["thing"]
