"""The scripts' headers are a contract: they say what the bodies do, the Python enums and the key dictionary say the same."""

from __future__ import annotations

import ast
import inspect
import re
from enum import StrEnum
from pathlib import Path

import pytest

from flashsale import keys as keys_module
from flashsale import model
from flashsale.keys import DropKeys
from flashsale.resources import resource_dir
from flashsale.scripts import Script, read_script
from tests.lua import dump

LUA = resource_dir("lua")
PATHS = sorted(LUA.glob("*.lua"))
INCLUDES = sorted((LUA / "include").glob("*.lua"))
README = (LUA / "README.md").read_text(encoding="utf-8")

OUTCOMES: dict[str, type[StrEnum]] = {
    "open_drop": model.OpenDropOutcome,
    "join": model.JoinOutcome,
    "admit": model.AdmitOutcome,
    "leave": model.LeaveOutcome,
    "draw": model.DrawOutcome,
    "advance": model.AdvanceOutcome,
    "reserve": model.ReserveOutcome,
    "confirm": model.ConfirmOutcome,
    "release": model.ReleaseOutcome,
    "extend": model.ExtendOutcome,
    "expire": model.ExpireOutcome,
    "steer_drop": model.SteerOutcome,
    "close_drop": model.CloseDropOutcome,
    "adjust_stock": model.AdjustStockOutcome,
    "fence": model.FenceOutcome,
    "repair": model.RepairOutcome,
    "rebuild": model.RebuildOutcome,
    "restore": model.RestoreOutcome,
    "inspect": model.InspectOutcome,
}
FREES_ITSELF = {"confirm", "release", "expire", "steer_drop", "close_drop", "adjust_stock", "fence", "leave", "draw"}
"""Scripts a full store must still run; everything else takes."""
READING = {
    "HGET", "HGETALL", "HLEN", "HMGET", "TIME", "XINFO", "XLEN", "XPENDING", "XRANGE", "ZCARD", "ZCOUNT", "ZMSCORE", "ZRANGE",
    "ZRANGEBYSCORE",
}  # fmt: skip
WRITING = {"HDEL", "HINCRBY", "HSET", "UNLINK", "XADD", "ZADD", "ZREM", "ZREMRANGEBYSCORE"}
"""Every command a script may use. None of them walks over a whole drop."""
GONE_WORDS = {"left", "removed"}
"""Written into a ticket by leave, and answered from there by whoever asks for the ticket."""
NOT_FOR_SCRIPTS = re.compile(r"\b(?:math\.random\w*|loadstring|setfenv|redis\.sha1hex|redis\.setresp|redis\.breakpoint|print)\b")

_CALL = re.compile(r"redis\.p?call\(\s*(?P<command>[^,)]+)(?:,\s*(?:\"GROUPS\",\s*)?(?P<key>[^,)]+))?")
_KEY = re.compile(r"KEYS\[\d+\]|keys?(?:\.\w+)?|slots|returning|expiries|stats|journal|called")
_DEFINED = re.compile(r"^local (?:function )?(?P<name>\w+)", re.MULTILINE)


def code_of(path: Path) -> str:
    """A file without its comments."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return "\n".join(line.partition("--")[0] if not line.startswith("#!") else "" for line in lines)


def includes_of(script: Script, folder: Path) -> dict[str, str]:
    return {name: code_of(folder / "include" / f"{name}.lua") for name in script.includes}


def key_types() -> dict[str, str]:
    """Type of each key as its docstring in `flashsale/keys.py` says."""
    words = {"hash": "hash", "sorted set": "zset", "stream": "stream", "set": "set"}
    [definition] = [
        node for node in ast.parse(inspect.getsource(keys_module)).body if isinstance(node, ast.ClassDef) and node.name == DropKeys.__name__
    ]
    found: dict[str, str] = {}
    for field, text in zip(definition.body, definition.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            assert isinstance(text, ast.Expr)
            found[field.target.id] = words[ast.literal_eval(text.value).partition(":")[0]]
    return found


def problems_of(path: Path) -> list[str]:
    """Everything in which a script's body and header disagree, in words."""
    try:
        script = read_script(path)
    except (ValueError, FileNotFoundError) as error:
        return [f"unreadable: {error}"]
    code, included = code_of(path), includes_of(script, path.parent)
    return [
        *_placeholders(code, "KEYS", len(script.keys)),
        *_placeholders(code, "ARGV", len(script.arguments)),
        *_keys(script),
        *_outcomes(script, code, included),
        *_includes(code, included),
        *_commands(script, code),
        *_flags(script, code),
    ]


def _placeholders(code: str, kind: str, declared: int) -> list[str]:
    used = {int(number) for number in re.findall(kind + r"\[(\d+)\]", code)}
    wanted = set(range(1, declared + 1))
    computed = [f"{kind} is indexed by more than a number"] if re.search(kind + r"(?!\[\d+\])", code) else []
    return [
        *computed,
        *(f"{kind}[{number}] is used and not declared" for number in sorted(used - wanted)),
        *(f"{kind}[{number}] is declared and not used" for number in sorted(wanted - used)),
    ]


def _keys(script: Script) -> list[str]:
    types = key_types()
    return [
        f"{key} is declared as {kind} and is {types.get(key, 'no key of a drop')}"
        for key, kind in zip(script.keys, script.key_types, strict=True)
        if types.get(key) != kind
    ]


def _outcomes(script: Script, code: str, included: dict[str, str]) -> list[str]:
    words = set(re.findall(r'"([a-z_]+)"', "\n".join([code, *included.values()])))
    words |= GONE_WORDS if "ticket_of(" in code else set()
    known = {outcome.value for outcome in OUTCOMES[script.name]} if script.name in OUTCOMES else set()
    return [
        *(f"outcome {word} is declared twice" for word in script.outcomes if script.outcomes.count(word) > 1),
        *(f"outcome {word} is not in Python" for word in sorted(set(script.outcomes) - known)),
        *(f"outcome {word} is only in Python" for word in sorted(known - set(script.outcomes))),
        *(f"outcome {word} is never answered" for word in script.outcomes if word not in words),
    ]


def _includes(code: str, included: dict[str, str]) -> list[str]:
    """An include is there because the body, or a later include, uses a name it defines."""
    texts = [*included.items(), ("the body", code)]
    found = []
    for index, (name, text) in enumerate(texts[:-1]):
        later = "\n".join(other for _, other in texts[index + 1 :])
        if not any(re.search(rf"\b{defined}\b", later) for defined in _DEFINED.findall(text)):
            found.append(f"include {name} is not used")
    everything = {defined for path in INCLUDES for defined in _DEFINED.findall(code_of(path))}
    earlier: set[str] = set()
    for name, text in texts:
        earlier |= set(_DEFINED.findall(text))
        used = {word for word in re.findall(r"\b(\w+)\(", text) if word in everything}
        found += [f"{name} uses {word}, which is not included before it" for word in sorted(used - earlier)]
    return found


def _commands(script: Script, code: str) -> list[str]:
    found = []
    for match in _CALL.finditer(code):
        command, key = match["command"].strip(), (match["key"] or "").strip()
        if command.strip('"') not in READING | WRITING or not command.startswith('"'):
            found.append(f"{command} is not a command for scripts")
        elif key and not _KEY.fullmatch(key):
            found.append(f"{command} takes the key {key}, which is not one of KEYS")
        if "no-writes" in script.flags and command.strip('"') in WRITING:
            found.append(f"{command} writes in a script that says it does not")
    if re.search(r'"fs:|"\{"\s*\.\.', code):
        found.append("it builds a key")
    if forbidden := NOT_FOR_SCRIPTS.search(code):
        found.append(f"{forbidden[0]} has no place in a script")
    return found


def _flags(script: Script, code: str) -> list[str]:
    writes = any(match["command"].strip('" ') in WRITING for match in _CALL.finditer(code)) or "ledger_write(" in code
    wanted = ("allow-oom",) if script.name in FREES_ITSELF else () if writes else ("no-writes",)
    found = [] if script.flags == wanted else [f"flags are {script.flags} and should be {wanted}"]
    if "give_back(" in code and "allow-oom" not in script.flags:
        found.append("it gives units back and must run when memory is full")
    return found


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_header_and_body_agree(path: Path) -> None:
    assert problems_of(path) == []


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_nothing_is_read_once_writing_has_begun(path: Path) -> None:
    """Read, decide, write: the only reads after the first write are those of the final picture."""
    begun = False
    for match in _CALL.finditer(code_of(path)):
        command = match["command"].strip('" ')
        begun = begun or command in WRITING
        assert not (begun and command in READING), f"{command} after the first write"


def test_every_outcome_enum_belongs_to_a_script() -> None:
    enums = {value for name, value in vars(model).items() if name.endswith("Outcome")}
    assert enums == set(OUTCOMES.values())
    assert OUTCOMES.keys() == {path.stem for path in PATHS}


def test_every_key_is_of_a_known_type() -> None:
    assert key_types().keys() == set(DropKeys.__dataclass_fields__)


@pytest.mark.parametrize("path", INCLUDES, ids=lambda path: path.stem)
def test_includes_name_no_key_and_are_included(path: Path) -> None:
    code = code_of(path)
    assert "KEYS" not in code
    assert "ARGV" not in code
    assert not path.read_text(encoding="utf-8").startswith("#!")
    assert any(path.stem in read_script(script).includes for script in PATHS)
    for match in _CALL.finditer(code):
        assert match["command"].strip('"') in READING | WRITING
        assert match["key"] is None or _KEY.fullmatch(match["key"].strip())


# --------------------------------------------------------------------------------------- the checks above can fail


@pytest.mark.parametrize(
    ("script", "old", "new", "problem"),
    [
        ("join", "#!lua\n", "", "unreadable"),
        ("join", "#!lua\n", "#!lua flags=allow-oom\n", "flags are"),
        ("expire", "#!lua flags=allow-oom\n", "#!lua\n", "it gives units back"),
        ("inspect", "#!lua flags=no-writes\n", "#!lua\n", "flags are"),
        ("inspect", '"HGETALL", KEYS[8]', '"HSET", KEYS[8], 1, 1', "writes in a script that says"),
        ("join", "-- KEYS[3] tickets", "-- KEYS[4] tickets", "unreadable"),
        ("join", "-- KEYS[3] tickets hash", "-- KEYS[3] tickets zset", "tickets is declared as zset"),
        ("join", "-- KEYS[3] tickets hash", "-- KEYS[3] people hash", "people is declared as hash and is no key"),
        ("join", "KEYS[3], wanted", "KEYS[8], wanted", "KEYS[8] is used and not declared"),
        ("close_drop", "XLEN", "SCAN", "is not a command for scripts"),
        ("close_drop", 'redis.call("XLEN", KEYS[2])', 'redis.call("XLEN", KEYS[1] .. "x")', "is not one of KEYS"),
        ("close_drop", 'redis.call("XLEN", KEYS[2])', 'local other = "fs:{" .. drop.id', "it builds a key"),
        ("close_drop", "-- INCLUDE arguments drop", "-- INCLUDE arguments drop places", "include places is not used"),
        ("close_drop", "-- INCLUDE arguments drop", "-- INCLUDE drop arguments", "drop uses"),
        ("close_drop", "-- INCLUDE arguments drop", "-- INCLUDE arguments missing", "unreadable"),
        ("close_drop", "-- OUTCOMES closed", "-- OUTCOMES closed sealed", "outcome sealed is not in Python"),
        ("close_drop", "-- OUTCOMES closed replayed", "-- OUTCOMES closed", "outcome replayed is only in Python"),
        ("close_drop", 'done(drop, {"replayed",', 'done(drop, {"again",', "outcome replayed is never answered"),
        ("close_drop", "-- OUTCOMES", "-- OUTCOME", "unreadable"),
        ("close_drop", "-- COST O(1)\n", "", "unreadable"),
        ("expire", "ARGV[2])", "ARGV[1 + 1])", "ARGV is indexed by more than a number"),
        ("expire", "ARGV[2])", "100)", "ARGV[2] is declared and not used"),
        ("expire", "local ended = 0", "local ended = math.random(9)", "has no place in a script"),
    ],
)
def test_a_broken_contract_is_found(tmp_path: Path, script: str, old: str, new: str, problem: str) -> None:
    (tmp_path / "include").mkdir()
    for path in INCLUDES:
        (tmp_path / "include" / path.name).write_bytes(path.read_bytes())
    text = (LUA / f"{script}.lua").read_text(encoding="utf-8")
    assert old in text
    broken = tmp_path / f"{script}.lua"
    broken.write_text(text.replace(old, new, 1), encoding="utf-8")
    assert [found for found in problems_of(broken) if problem in found], problems_of(broken)


# ------------------------------------------------------------------------------------------------------- the dictionary


@pytest.mark.parametrize(("key", "kind"), key_types().items())
def test_readme_describes_each_key(key: str, kind: str) -> None:
    assert re.search(rf"^\| `{key}` \| {kind} \|", README, re.MULTILINE), f"lua/README.md has no row for {key} ({kind})"


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_readme_describes_each_outcome_of_each_script(path: Path) -> None:
    _, found, section = README.partition(f"\n### {path.stem}\n")
    assert found, f"lua/README.md has no section about {path.stem}"
    rows = re.findall(r"^\| `(\w+)` \|", section.partition("\n### ")[0].partition("\n## ")[0], re.MULTILINE)
    # recovering changes nothing and means the same everywhere, so it has one sentence for all scripts.
    assert sorted(set(rows)) == sorted(set(read_script(path).outcomes) - {"recovering"})


@pytest.mark.parametrize(("record", "names"), [("TICKET", dump.TICKET), ("RESERVATION", dump.RESERVATION)])
def test_readme_and_tests_know_each_position_of_a_record(record: str, names: tuple[str, ...]) -> None:
    ledger = code_of(LUA / "include" / "ledger.lua")
    positions: dict[str, int] = {}
    for left, right in re.findall(rf"^local ({record}_[\w, ]+) = ([\d, ]+)$", ledger, re.MULTILINE):
        for name, number in zip(left.split(", "), right.split(", "), strict=True):
            positions[name.removeprefix(f"{record}_").lower()] = int(number)
    assert positions == {name: number for number, name in enumerate(names, 1)}
    for name, number in positions.items():
        assert f"| {number} | `{name}` |" in README


@pytest.mark.parametrize("names", [dump.TRANSITION, dump.STOCK_CHANGE, dump.ADJUSTMENT], ids=["transition", "stock change", "adjustment"])
def test_readme_names_each_field_of_what_is_packed(names: tuple[str, ...]) -> None:
    for number, name in enumerate(names, 1):
        assert f"| {number} | `{name}` |" in README


def test_readme_names_each_kind_of_transition() -> None:
    [row] = re.findall(r"^\| 1 \| `kind` \| (.*) \|$", README, re.MULTILINE)
    assert re.findall(r"[a-z_]+", row.replace(" or ", ", ")) == [kind.value for kind in model.Transition]


def test_readme_names_each_field_of_a_sku() -> None:
    [row] = re.findall(r"^\| `stock` \|.*$", README, re.MULTILINE)
    fields = set(re.findall(r'"(\w+:)" \.\. sku', code_of(LUA / "include" / "ledger.lua")))
    assert fields == set(re.findall(r"`(\w+:)`", row))


def test_readme_names_each_field_of_the_drop() -> None:
    code = code_of(LUA / "include" / "drop.lua")
    [fields] = re.findall(r"DROP_FIELDS = \{(.*?)\}", code, re.DOTALL)
    for name in re.findall(r'"(\w+)"', fields):
        assert f"`{name}`" in README
