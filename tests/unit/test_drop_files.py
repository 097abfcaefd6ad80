"""Drop files: what they mean, and that every problem is told at once, on its line."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashsale import drop_files
from flashsale.cli.drop import Example
from flashsale.drop_files import DropFileError, Problem, parse_drop
from flashsale.model import ALLOTMENT_MAX, QUANTITY_MAX, SKUS_PER_DROP_MAX, Drop, Group, Sku
from flashsale.toml_lines import line_index

EXAMPLES = sorted((Path(__file__).parents[2] / "config" / "drops").glob("*.toml"))
NOW_MS = 1_795_000_000_000  # 2026-11-18T11:06:40Z
OPENS_MS = 1_796_119_200_000  # 2026-12-01T10:00:00Z

GOOD = """\
id = "sneaker-x"
name = "Sneaker X"
currency = "EUR"
opens_at = 2026-12-01T10:00:00Z
limit_per_shopper = 2

[[sku]]
id = "sneaker-x-42"
allotment = 100
price_minor = 12900

[[sku]]
id = "sneaker-x-43"
allotment = 50
price_minor = 12900
"""


def parse(text: str) -> Drop:
    return parse_drop(text, source="drop.toml", now_ms=NOW_MS)


def problems(text: str) -> list[tuple[int, str]]:
    with pytest.raises(DropFileError) as caught:
        parse(text)
    assert all(problem.what and problem.todo for problem in caught.value.problems)
    return [(problem.line, problem.key) for problem in caught.value.problems]


def test_what_is_left_out_has_a_safe_default() -> None:
    assert parse(GOOD) == Drop(
        drop_id="sneaker-x",
        name="Sneaker X",
        currency="EUR",
        skus=(
            Sku("sneaker-x-42", "sneaker-x-42", allotment=100, price_minor=12900, limit_per_shopper=2),
            Sku("sneaker-x-43", "sneaker-x-43", allotment=50, price_minor=12900, limit_per_shopper=2),
        ),
        joins_at_ms=OPENS_MS - 30 * 60_000,
        opens_at_ms=OPENS_MS,
        closes_at_ms=OPENS_MS + 2 * 3_600_000,
        rate_per_min=600,
        capacity=200,
        claim_window_ms=60_000,
        reservation_ttl_ms=300_000,
        limit_per_shopper=2,
        durability="disk",
        order="draw",
    )


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_the_examples_are_good(path: Path) -> None:
    drop = parse(path.read_text(encoding="utf-8"))
    assert drop.drop_id == path.stem


def test_every_example_can_be_asked_for() -> None:
    assert {path.stem for path in EXAMPLES} == {example.value for example in Example}


@pytest.mark.parametrize(
    ("written", "opens_at_ms"),
    [
        ("2026-12-01T11:00:00+01:00", OPENS_MS),
        ('"2026-12-01T11:00:00+01:00"', OPENS_MS),
        ("2026-12-01 10:00:00Z", OPENS_MS),
        ('"in 30s"', NOW_MS + 30_000),
        ('"in 1h 30m"', NOW_MS + 5_400_000),
        ('"in 0s"', NOW_MS),
    ],
)
def test_times(written: str, opens_at_ms: int) -> None:
    assert parse(GOOD.replace("2026-12-01T10:00:00Z", written)).opens_at_ms == opens_at_ms


@pytest.mark.parametrize(
    ("written", "ttl_ms"), [("90s", 90_000), ("10m", 600_000), ("1m30s", 90_000), ("15000 ms", 15_000), ("1h", 3_600_000)]
)
def test_durations(written: str, ttl_ms: int) -> None:
    assert parse(f'reservation_ttl = "{written}"\n{GOOD}').reservation_ttl_ms == ttl_ms


def test_reservations_are_extended_only_where_the_file_says_so() -> None:
    assert parse(GOOD).extension_ms == 0
    assert parse(f'extension = "2m"\n{GOOD}').extension_ms == 120_000


@pytest.mark.parametrize(
    ("right", "wrong", "line", "key"),
    [
        ('id = "sneaker-x"\n', 'id = "Sneaker X"\n', 1, "id"),
        ('id = "sneaker-x"\n', "id = 7\n", 1, "id"),
        ('id = "sneaker-x"\n', f'id = "{"x" * 49}"\n', 1, "id"),
        ('id = "sneaker-x"\n', "\n", 1, "id"),
        ('name = "Sneaker X"', 'name = "  "', 2, "name"),
        ('name = "Sneaker X"', 'name = "a\\u202Eb"', 2, "name"),
        ('name = "Sneaker X"', f'name = "{"x" * 121}"', 2, "name"),
        ('"EUR"', '"eur"', 3, "currency"),
        ("2026-12-01T10:00:00Z", "2026-12-01T10:00:00", 4, "opens_at"),
        ("2026-12-01T10:00:00Z", "2026-12-01", 4, "opens_at"),
        ("2026-12-01T10:00:00Z", '"tomorrow"', 4, "opens_at"),
        ("2026-12-01T10:00:00Z", '"in a while"', 4, "opens_at"),
        ("2026-12-01T10:00:00Z", "2026-11-01T10:00:00Z", 4, "opens_at"),
        ("2026-12-01T10:00:00Z", "2028-12-01T10:00:00Z", 4, "opens_at"),
        ("limit_per_shopper = 2", "limit_per_shopper = 0", 5, "limit_per_shopper"),
        ("limit_per_shopper = 2", "limit_per_shopper = true", 5, "limit_per_shopper"),
        ("limit_per_shopper = 2", 'limit_per_shopper = "2"', 5, "limit_per_shopper"),
        ("limit_per_shopper = 2", f"limit_per_shopper = {QUANTITY_MAX + 1}", 5, "limit_per_shopper"),
        ("limit_per_shopper = 2", "capacity = 0", 5, "capacity"),
        ("limit_per_shopper = 2", "rate_per_min = 1_000_001", 5, "rate_per_min"),
        ("limit_per_shopper = 2", "claim_window = 60", 5, "claim_window"),
        ("limit_per_shopper = 2", 'claim_window = "1s"', 5, "claim_window"),
        ("limit_per_shopper = 2", 'reservation_ttl = "9s"', 5, "reservation_ttl"),
        ("limit_per_shopper = 2", 'reservation_ttl = "61m"', 5, "reservation_ttl"),
        ("limit_per_shopper = 2", 'extension = "9s"', 5, "extension"),
        ("limit_per_shopper = 2", "extension = 60", 5, "extension"),
        ("limit_per_shopper = 2", 'reservation_ttl = "5 minutes"', 5, "reservation_ttl"),
        ("limit_per_shopper = 2", "durability = 1", 5, "durability"),
        ("limit_per_shopper = 2", 'durability = "none"', 5, "durability"),
        ("limit_per_shopper = 2", "joins_at = 2026-12-01T10:00:01Z", 5, "joins_at"),
        ("limit_per_shopper = 2", "joins_at = 2026-11-20T10:00:00Z", 5, "joins_at"),
        ("limit_per_shopper = 2", "closes_at = 2026-12-01T10:00:00Z", 5, "closes_at"),
        ("limit_per_shopper = 2", "closes_at = 2026-12-08T10:00:01Z", 5, "closes_at"),
        ("limit_per_shopper = 2", "limit_per_shoper = 2", 5, "limit_per_shoper"),
        ('id = "sneaker-x-42"', 'id = "sneaker x"', 8, "sku[0].id"),
        ('id = "sneaker-x-42"', 'id = "SNEAKER-X-43"', 13, "sku[1].id"),
        ("allotment = 50", "allotment = 0", 14, "sku[1].allotment"),
        ("allotment = 50", f"allotment = {ALLOTMENT_MAX + 1}", 14, "sku[1].allotment"),
        ("allotment = 50", f"allotment = {ALLOTMENT_MAX}", 7, "sku"),
        ("allotment = 50\n", "", 12, "sku[1].allotment"),
        ("allotment = 50", "allotment = 50\nlimit_per_shopper = 3", 15, "sku[1].limit_per_shopper"),
        ("allotment = 50", "allotment = 50\nunits = 3", 15, "sku[1].units"),
        ("allotment = 50", 'allotment = 50\nmedia = "javascript:alert(1)"', 15, "sku[1].media"),
        ("allotment = 50\nprice_minor = 12900", "allotment = 50\nprice_minor = 129.00", 15, "sku[1].price_minor"),
        ("allotment = 50\nprice_minor = 12900", "allotment = 50\nprice_minor = -1", 15, "sku[1].price_minor"),
    ],
)
def test_a_problem_is_told_with_its_line(right: str, wrong: str, line: int, key: str) -> None:
    assert right in GOOD
    assert problems(GOOD.replace(right, wrong, 1)) == [(line, key)]


def test_all_problems_are_told_at_once_in_the_order_of_lines() -> None:
    text = GOOD.replace('"EUR"', '"euro"').replace("2026-12-01T10:00:00Z", "10").replace("allotment = 50", "alotment = 50")
    assert problems(text) == [(3, "currency"), (4, "opens_at"), (12, "sku[1].allotment"), (14, "sku[1].alotment")]


def test_an_empty_file_says_what_is_needed() -> None:
    assert {key for _, key in problems("")} == {"id", "name", "currency", "opens_at", "sku"}


def test_a_drop_has_one_to_fifty_skus() -> None:
    head = GOOD.partition("[[sku]]")[0]
    skus = "".join(f'[[sku]]\nid = "s{number}"\nallotment = 1\nprice_minor = 1\n' for number in range(SKUS_PER_DROP_MAX + 1))
    assert problems(head) == [(1, "sku")]
    assert problems(f'sku = "many"\n{head}') == [(1, "sku")]
    assert problems(head + skus) == [(7, "sku")]
    assert len(parse((head + skus).rpartition("[[sku]]")[0]).skus) == SKUS_PER_DROP_MAX


@pytest.mark.parametrize(("text", "line"), [('id = "x"\nname = \n', 2), ('id = "x"\nid = "y"\n', 2), ("a = 1\n\n[", 3)])
def test_what_is_not_toml_is_told_with_its_line(text: str, line: int) -> None:
    assert problems(text) == [(line, "")]


@pytest.mark.parametrize("value", ["[" * 5_000 + "]" * 5_000, "9" * 5_000], ids=["deep", "long"])
def test_what_the_parser_gives_up_on_is_a_problem_too(value: str) -> None:
    assert [key for _, key in problems(f"{GOOD}x = {value}\n")] == [""]


@pytest.mark.parametrize("written", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"])
def test_the_ends_of_time_are_refused(written: str) -> None:
    assert problems(GOOD.replace("2026-12-01T10:00:00Z", written)) == [(4, "opens_at")]


def test_a_huge_file_is_refused_unread() -> None:
    assert problems("#" * (drop_files.FILE_BYTES_MAX + 1)) == [(1, "")]


@pytest.mark.parametrize(
    ("written", "meant"), [("allotmen", "allotment"), ("units", "allotment"), ("price", "price_minor"), ("limit", "limit_per_shopper")]
)
def test_an_unknown_key_gets_the_nearest_one(written: str, meant: str) -> None:
    with pytest.raises(DropFileError) as caught:
        parse(f"{GOOD}{written} = 5\n")
    assert [problem.todo for problem in caught.value.problems] == [f"Did you mean {meant}?"]


def test_the_message_names_file_line_and_key() -> None:
    with pytest.raises(DropFileError, match=r"drop\.toml:3: currency: It has to be a currency code"):
        parse(GOOD.replace('"EUR"', '"euro"'))


# ------------------------------------------------------------------------------------------------------------------ lines


def paths(tree: Any, above: tuple[str | int, ...] = ()) -> set[tuple[str | int, ...]]:
    """Every path of a document that `tomllib` has read."""
    children = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return {path for key, value in children for path in ((*above, key), *paths(value, (*above, key)))}


TRICKY = '''\
# a comment with = and [brackets]
plain = 1 # and one behind
"quoted.key" = 'literal # not a comment'
dotted.key."with space" = true
many = """
id = "not a key"
ends with "quotes" """
literal = \'\'\'
[not.a.table]\'\'\'
array = [ 1, # one
  [2, 3], {inside = "]", more = {deep = 1}},
]
empty = []
nothing = {}
when = 2026-12-01 10:00:00.5+01:00
"\\u00e9" = 5
[table]
a = 1
[table.below]
b = 2
[[list]]
c = 3
[list.of]
d = 4
[[list.more]]
e = 5
[[list.more]]
e = 6
[[list]]
c = 7
'''


def test_every_key_of_a_tricky_document_has_its_line() -> None:
    lines = line_index(TRICKY)
    assert paths(tomllib.loads(TRICKY)) <= lines.keys()
    wanted = {
        ("quoted.key",): 3,
        ("dotted", "key", "with space"): 4,
        ("literal",): 8,
        ("array", 1, 0): 11,
        ("array", 2, "more", "deep"): 11,
        ("empty",): 13,
        ("é",): 16,
        ("table", "below", "b"): 20,
        ("list", 0, "of", "d"): 24,
        ("list", 0, "more", 1, "e"): 28,
        ("list", 1, "c"): 30,
    }
    assert {path: lines[path] for path in wanted} == wanted


def test_windows_line_ends_count_once() -> None:
    assert problems(GOOD.replace('"EUR"', '"euro"').replace("\n", "\r\n")) == [(3, "currency")]


@given(st.data())
def test_whatever_is_in_a_file_the_answer_is_a_drop_or_its_problems(data: st.DataObject) -> None:
    source = data.draw(st.sampled_from([GOOD, TRICKY]))
    start = data.draw(st.integers(0, len(source)))
    end = data.draw(st.integers(start, min(len(source), start + 30)))
    text = (
        source[:start]
        + data.draw(st.text(max_size=12) | st.sampled_from(['"', "[[sku]]", "{", "\n", "9" * 30, "= inf", '"""']))
        + source[end:]
    )
    found: tuple[Problem, ...] = ()
    try:
        parse(text)
    except DropFileError as error:
        found = error.problems
    assert all(1 <= problem.line <= text.count("\n") + 1 for problem in found)


# -------------------------------------------------------------------------------------------------------------- the line

GROUPS = """
[[group]]
id = "vip"
name = "Members"
share = 0.2

[[group]]
id = "press"
share = 0.05
"""


def test_who_may_have_a_place_and_when_is_said_in_the_file() -> None:
    drop = parse(f'order = "arrival"\ninvites = "required"\nidentity = "accepted"\n{GOOD}{GROUPS}')
    assert (drop.order, drop.beacon, drop.invites, drop.identity) == ("arrival", "none", "required", "accepted")
    assert drop.groups == (Group("vip", "Members", 200), Group("press", "press", 50))
    assert parse(f'beacon = "drand"\n{GOOD}').beacon == "drand"
    assert (parse(GOOD).groups, parse(GOOD).invites, parse(GOOD).identity) == ((), "none", "none")


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ('order = "random"', "order"),
        ("order = true", "order"),
        ('order = ["draw"]', "order"),
        ('beacon = "dice"', "beacon"),
        ('invites = "yes"', "invites"),
        ("invites = true", "invites"),
        ('identity = "maybe"', "identity"),
        ('group = "vip"', "group"),
        ("group = [1]", "group"),
    ],
)
def test_rules_of_the_line_are_words(line: str, key: str) -> None:
    assert problems(f"{line}\n{GOOD}") == [(1, key)]


def test_a_beacon_needs_a_draw() -> None:
    assert problems(f'order = "arrival"\nbeacon = "drand"\n{GOOD}') == [(2, "beacon")]


def groups_of(*shares: str, ids: list[str] | None = None) -> str:
    tables = "".join(f'[[group]]\nid = "{(ids or [f"g{i}" for i in range(99)])[i]}"\nshare = {share}\n' for i, share in enumerate(shares))
    return f'invites = "accepted"\n{GOOD}{tables}'


@pytest.mark.parametrize("share", ["0", "1", "1.0", "-0.1", "0.0001", "0.12345", '"0.2"', "true", "nan", "inf", "200"])
def test_a_share_is_a_part_of_one(share: str) -> None:
    assert problems(groups_of(share)) == [(19, "group[0].share")]


@given(st.integers(1, 900))
def test_every_share_of_three_decimals_is_exact(permille: int) -> None:
    assert parse(groups_of(str(permille / 1000))).groups[0].share_permille == permille


def test_groups_leave_something_for_everybody_else() -> None:
    assert parse(groups_of("0.6", "0.3")).groups[1].share_permille == 300
    assert problems(groups_of("0.6", "0.301")) == [(17, "group")]


def test_a_drop_has_at_most_seven_groups_each_with_an_id_of_its_own() -> None:
    assert len(parse(groups_of(*["0.1"] * 7)).groups) == 7
    assert problems(groups_of(*["0.1"] * 8)) == [(17, "group")]
    assert problems(groups_of("0.1", "0.1", ids=["vip", "vip"])) == [(21, "group[1].id")]


@pytest.mark.parametrize("name", ["VIP", "", "v" * 33, "-vip", "vip club"])
def test_a_groups_id_is_short_and_plain(name: str) -> None:
    assert problems(groups_of("0.1", ids=[name])) == [(18, "group[0].id")]


def test_a_group_that_nothing_leads_to_is_told() -> None:
    assert problems(GOOD + GROUPS) == [(17, "group")]


def test_a_group_needs_an_id_and_a_share_and_nothing_else() -> None:
    assert problems(f'identity = "accepted"\n{GOOD}[[group]]\nweight = 2\n') == [
        (17, "group[0].id"),
        (17, "group[0].share"),
        (18, "group[0].weight"),
    ]


# -------------------------------------------------------------------------------------------------------- the storefront


def storefront(*lines: str) -> str:
    return "\n".join([GOOD, "[storefront]", *lines, ""])


def test_a_storefront_says_where_it_is_and_where_shoppers_go_back_to() -> None:
    drop = parse(storefront('origins = ["https://shop.example", "http://localhost:3000"]', 'return_urls = ["https://shop.example/launch"]'))
    assert (drop.origins, drop.return_urls) == (("https://shop.example", "http://localhost:3000"), ("https://shop.example/launch",))
    assert (parse(GOOD).origins, parse(GOOD).return_urls) == ((), ())


def test_what_is_said_twice_counts_once() -> None:
    assert parse(storefront('origins = ["https://shop.example", "https://shop.example"]')).origins == ("https://shop.example",)


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ('origins = "https://shop.example"', "storefront.origins"),
        ("origins = [1]", "storefront.origins"),
        ('origins = ["*"]', "storefront.origins"),
        ('origins = ["https://shop.example/"]', "storefront.origins"),
        ('origins = ["https://shop.example:443"]', "storefront.origins"),
        ('origins = ["https://Shop.example"]', "storefront.origins"),
        ('origins = ["http://shop.example"]', "storefront.origins"),
        ('origins = ["null"]', "storefront.origins"),
        (f"origins = {[f'https://s{n}.example' for n in range(21)]}", "storefront.origins"),
        ('return_urls = ["https://me@shop.example/"]', "storefront.return_urls"),
        ('return_urls = ["https://shop.example/?a=b"]', "storefront.return_urls"),
        ('return_urls = ["https://shop.example/#a"]', "storefront.return_urls"),
        ('return_urls = ["javascript:alert(1)"]', "storefront.return_urls"),
        ('return_urls = ["http\u017f://shop.example/"]', "storefront.return_urls"),
        ('origins = ["https://\u212a.example"]', "storefront.origins"),
        ('cors_origins = ["https://shop.example"]', "storefront.cors_origins"),
    ],
)
def test_a_storefronts_addresses_are_exact(line: str, key: str) -> None:
    text = storefront(line)
    assert problems(text) == [(text.splitlines().index(line) + 1, key)]


def test_a_storefront_is_a_table() -> None:
    assert problems(f'storefront = "https://shop.example"\n{GOOD}') == [(1, "storefront")]
