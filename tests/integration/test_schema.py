"""The schema refuses what must not be, roles may do what they need and no more, hot queries use their indexes."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import pytest

from flashsale.errors import ConfigurationError, DatabaseUnavailable
from reconciler.migrations import migrate, pending, read_migrations
from reconciler.orders import RANK_OF, STATE_OF, Batch, OrderRecorder
from tests.integration.reconciler_stage import DROP, make_drop, query, reservation_id, transition, typed

if TYPE_CHECKING:
    from flashsale.connections.database import Database
    from flashsale.embedded.stores import EmbeddedStores

ALL = [migration.name for migration in read_migrations()]

GOOD: dict[str, object] = {
    "reservation_id": reservation_id(1),
    "drop_id": DROP,
    "ticket_id": "t",
    "queue_number": 0,
    "state": "paid",
    "units_counted": True,
    "amount_minor": 1500,
    "currency": "EUR",
    "payment_reference": "pay",
    "reserved_at": 0,
    "expires_at": 60,
    "paid_at": 30,
    "finished_at": 30,
    "reason": "",
    "request_id": "r",
}
TIMES = {"reserved_at", "expires_at", "paid_at", "finished_at"}


async def insert_order(database: Database, **changes: object) -> None:
    row = {**GOOD, **changes}
    values = ", ".join(f"to_timestamp(${i})" if name in TIMES else f"${i}" for i, name in enumerate(row, 1))
    await query(database, f"INSERT INTO orders ({', '.join(row)}) VALUES ({values})", *row.values())


@pytest.fixture
async def with_drop(database: Database) -> Database:
    await make_drop(database)
    return database


# ----------------------------------------------------------------------------------------------------------- impossible rows


async def test_the_good_row_the_others_are_made_from_is_accepted(with_drop: Database) -> None:
    await insert_order(with_drop)
    await insert_order(with_drop, reservation_id=reservation_id(2))  # the same payment may cover two reservations
    assert [tuple(row) for row in await with_drop.fetch("duplicate_orders", DROP)] == [
        ("pay", sorted([reservation_id(1), reservation_id(2)]))
    ]


UNPAID: dict[str, object] = {"units_counted": False, "payment_reference": None, "paid_at": None}


@pytest.mark.parametrize(
    ("constraint", "changes"),
    [
        ("orders_state_known", {"state": "shipped"}),
        ("orders_amount_natural", {"amount_minor": -1}),
        ("orders_queue_number_natural", {"queue_number": -1}),
        ("orders_currency_form", {"currency": "EURO"}),
        ("orders_payment_reference_length", {"payment_reference": ""}),
        ("orders_payment_reference_length", {"payment_reference": "x" * 129}),
        ("orders_id_of_drop", {"reservation_id": reservation_id(1, "other")}),
        ("orders_expires_after_reserved", {"expires_at": -1}),
        ("orders_payment_iff_paid", {"payment_reference": None}),
        ("orders_payment_iff_paid", {"paid_at": None}),
        ("orders_payment_iff_paid", {"state": "expired", "units_counted": False, "paid_at": None}),
        ("orders_payment_iff_paid", {"state": "pending", "units_counted": False, "payment_reference": None, "finished_at": None}),
        ("orders_payment_iff_paid", {"state": "refund_due", "reason": "late", "payment_reference": None}),
        ("orders_finished_unless_pending", {"finished_at": None}),
        ("orders_finished_unless_pending", {"state": "pending", **UNPAID}),
        ("orders_units_counted_when_paid", {"units_counted": False}),
        ("orders_units_counted_when_paid", {"state": "cancelled", **UNPAID, "units_counted": True}),
        ("orders_refund_has_reason", {"state": "refund_due"}),
        ("orders_refund_has_reason", {"state": "refunded"}),
        ("orders_have_drops", {"drop_id": "other", "reservation_id": reservation_id(1, "other")}),
    ],
)
async def test_an_impossible_order_is_refused(with_drop: Database, constraint: str, changes: dict[str, object]) -> None:
    with pytest.raises(asyncpg.IntegrityConstraintViolationError) as refusal:
        await insert_order(with_drop, **changes)
    assert refusal.value.constraint_name == constraint


ITEM = f"INSERT INTO order_items VALUES ('{reservation_id(1)}', '{DROP}', 'shirt', 1)"
DEFINE = "INSERT INTO drops (drop_id, tenant, name, definition, joins_at, opens_at, closes_at) VALUES "
KEY = "INSERT INTO api_keys (key_id, tenant, secret_hash, scopes) VALUES "


@pytest.mark.parametrize(
    ("constraint", "statement"),
    [
        ("order_items_quantity_positive", ITEM.replace("1)", "0)")),
        ("order_items_have_skus", ITEM.replace("shirt", "hat")),
        ("order_items_of_drop", ITEM.replace(f"'{DROP}'", "'other'")),
        ("order_items_have_orders", ITEM.replace(reservation_id(1), reservation_id(2))),
        ("order_items_pkey", f"{ITEM}; {ITEM}"),
        ("drop_skus_sold_within_allotment", "UPDATE drop_skus SET sold = 1001 WHERE sku = 'cap'"),
        ("drop_skus_sold_within_allotment", "UPDATE drop_skus SET sold = -1 WHERE sku = 'cap'"),
        ("drop_skus_drop_id_fkey", "INSERT INTO drop_skus VALUES ('other', 'cap', 'Cap', 1, 0, 1, 1)"),
        ("drop_skus_sku_form", "INSERT INTO drop_skus VALUES ('spring', '../cap', 'Cap', 1, 0, 1, 1)"),
        ("drop_skus_price_natural", "UPDATE drop_skus SET price_minor = -1"),
        ("drops_times_in_order", DEFINE + "('d', 't', 'n', '{\"currency\": \"EUR\"}', 'now', 'now', 'now')"),
        ("drops_id_form", DEFINE + "('Drop', 't', 'n', '{\"currency\": \"EUR\"}', 'now', 'now', 'tomorrow')"),
        ("drops_tenant_given", DEFINE + "('d', '', 'n', '{\"currency\": \"EUR\"}', 'now', 'now', 'tomorrow')"),
        ("drops_currency_form", DEFINE + "('d', 't', 'n', '{\"currency\": \"euro\"}', 'now', 'now', 'tomorrow')"),
        ("drops_state_known", "UPDATE drops SET state = 'sold_out'"),
        ("drops_opened_has_epoch", "UPDATE drops SET opened_in_store = true"),
        ("outbox_event_known", "INSERT INTO outbox (drop_id, reservation_id, event, payload) VALUES ('d', 'r', 'order.pending', '{}')"),
        ("refunds_state_known", f"INSERT INTO refunds VALUES ('{reservation_id(1)}', 'spring', 1, 'EUR', 'p', 'late', 'lost')"),
        ("refunds_refund_id_key", "; ".join([f"INSERT INTO refunds VALUES ('{reservation_id(1)}', 'spring', 1, 'EUR', 'p', 'late')"] * 2)),
        ("orders_units_returned_once", "UPDATE orders SET units_returned = true"),
        ("refunds_reason_given", f"INSERT INTO refunds VALUES ('{reservation_id(1)}', 'spring', 1, 'EUR', 'p', '')"),
        ("refunds_finished_iff_done", f"INSERT INTO refunds VALUES ('{reservation_id(1)}', 'spring', 1, 'EUR', 'p', 'late', 'done')"),
        ("api_keys_hash_is_sha256", KEY + "('k', 't', 'short', '{orders}')"),
        ("api_keys_scopes_given", KEY + "('k', 't', sha256('s'), '{}')"),
        ("api_keys_secret_hash_key", KEY + "('k', 't', sha256('s'), '{o}'), ('l', 't', sha256('s'), '{o}')"),
        (None, "DELETE FROM drop_skus WHERE sku = 'shirt'"),
        (None, "DELETE FROM orders"),
    ],
)
async def test_other_impossible_rows_are_refused(with_drop: Database, constraint: str | None, statement: str) -> None:
    await insert_order(with_drop)
    if constraint != "order_items_pkey":
        await query(with_drop, ITEM)
    async with with_drop.acquire() as session:
        with pytest.raises(asyncpg.IntegrityConstraintViolationError) as refusal:
            await session.connection.execute(statement)
    assert refusal.value.constraint_name == constraint


async def test_the_ranks_are_the_same_in_sql_and_python(database: Database) -> None:
    for kind, state in STATE_OF.items():
        assert await query(database, "SELECT order_rank($1)", state) == [(RANK_OF[kind],)]
    assert await query(database, "SELECT order_rank('refunded')") == [(4,)]


# ---------------------------------------------------------------------------------------------------------------- migrations


@pytest.fixture
async def empty_url(stores: EmbeddedStores) -> AsyncIterator[str]:
    await on_server(stores, "CREATE DATABASE unmigrated")
    yield stores.postgres.url_for(database="unmigrated")
    await on_server(stores, "DROP DATABASE unmigrated WITH (FORCE)")


async def on_server(stores: EmbeddedStores, statement: str) -> None:
    connection = await asyncpg.connect(stores.postgres.url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def test_migrating_twice_does_it_once(empty_url: str) -> None:
    assert await pending(empty_url) == ALL
    assert await migrate(empty_url) == ALL
    assert await migrate(empty_url) == []
    assert await pending(empty_url) == []


async def test_looking_at_what_is_pending_changes_nothing(empty_url: str) -> None:
    await pending(empty_url)
    connection = await asyncpg.connect(empty_url)
    assert await connection.fetchval("SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace") == 0
    await connection.close()


async def test_of_several_migrators_one_does_the_work(empty_url: str) -> None:
    done = await asyncio.gather(*(migrate(empty_url) for _ in range(5)))
    assert sorted(map(len, done)) == [0, 0, 0, 0, len(read_migrations())]


async def test_databases_of_one_cluster_are_migrated_at_once(stores: EmbeddedStores) -> None:
    """Roles belong to all of them, so each migration may find them made, missing, or being made."""
    names = [f"together_{number}" for number in range(4)]
    for name in names:
        await on_server(stores, f"CREATE DATABASE {name}")
    try:
        done = await asyncio.gather(*(migrate(stores.postgres.url_for(database=name)) for name in names))
    finally:
        for name in names:
            await on_server(stores, f"DROP DATABASE {name} WITH (FORCE)")
    assert done == [ALL] * 4


def numbered(folder: Path, **files: str) -> Path:
    for name, sql in files.items():
        (folder / f"{name.lstrip('m')}.sql").write_text(sql)
    return folder


async def test_an_applied_file_may_not_change(empty_url: str, tmp_path: Path) -> None:
    numbered(tmp_path, m0001_one="CREATE TABLE one ();")
    assert await migrate(empty_url, tmp_path) == ["0001_one.sql"]
    numbered(tmp_path, m0001_one="CREATE TABLE one (); --", m0002_two="CREATE TABLE two ();")
    with pytest.raises(ConfigurationError, match=r"0001_one\.sql has changed"):
        await migrate(empty_url, tmp_path)
    with pytest.raises(ConfigurationError, match=r"0001_one\.sql has changed"):
        await pending(empty_url, tmp_path)


async def test_a_database_of_a_newer_version_is_left_alone(empty_url: str, tmp_path: Path) -> None:
    numbered(tmp_path, m0001_one="CREATE TABLE one ();", m0002_two="CREATE TABLE two ();")
    await migrate(empty_url, tmp_path)
    (tmp_path / "0002_two.sql").unlink()
    with pytest.raises(ConfigurationError, match=r"0002_two\.sql, which this version does not know"):
        await migrate(empty_url, tmp_path)


async def test_a_failed_migration_leaves_nothing_and_those_before_it_stay(empty_url: str, tmp_path: Path) -> None:
    numbered(tmp_path, m0001_one="CREATE TABLE one ();", m0002_two="CREATE TABLE two (); SELECT 1 / 0;")
    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate(empty_url, tmp_path)
    assert await pending(empty_url, tmp_path) == ["0002_two.sql"]
    numbered(tmp_path, m0002_two="CREATE TABLE two ();")
    assert await migrate(empty_url, tmp_path) == ["0002_two.sql"]


@pytest.mark.parametrize("name", ["1_one", "0001-one", "0001_One"])
def test_a_misnamed_migration_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / f"{name}.sql").write_text("")
    with pytest.raises(ConfigurationError, match="misnamed"):
        read_migrations(tmp_path)


def test_a_number_is_used_once(tmp_path: Path) -> None:
    numbered(tmp_path, m0001_one="", m0001_two="")
    with pytest.raises(ConfigurationError, match="taken"):
        read_migrations(tmp_path)


async def test_an_unreachable_database_is_said(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnavailable):
        await migrate(f"postgresql:///none?host={tmp_path}")


async def test_a_user_who_may_not_create_roles_can_migrate(stores: EmbeddedStores, tmp_path: Path) -> None:
    """As on managed servers; here the roles exist already, so the file is read with names nobody has made."""
    for migration in read_migrations():
        (tmp_path / migration.name).write_text(migration.sql.replace("flashsale_", "elsewhere_"))
    await on_server(stores, "CREATE ROLE plain LOGIN NOCREATEROLE NOSUPERUSER")
    await on_server(stores, "CREATE DATABASE managed OWNER plain")
    try:
        connection = await asyncpg.connect(stores.postgres.url_for(database="managed"))
        await connection.execute("ALTER SCHEMA public OWNER TO plain")
        url = await as_role(stores, "managed", "plain", connection)
        assert await migrate(url, tmp_path) == ALL
        assert await connection.fetchval("SELECT count(*) FROM pg_roles WHERE rolname LIKE 'elsewhere%'") == 0
        await connection.close()
    finally:
        await on_server(stores, "DROP DATABASE IF EXISTS managed WITH (FORCE)")
        await on_server(stores, "DROP ROLE plain")


async def as_role(stores: EmbeddedStores, database: str, role: str, connection: asyncpg.Connection[asyncpg.Record]) -> str:
    """A URL whose sessions act as `role`, whatever the server's ways of logging in."""
    await connection.execute(f"ALTER DATABASE {database} SET role = '{role}'")
    return stores.postgres.url_for(database=database)


# --------------------------------------------------------------------------------------------------------------------- roles

ORDER_COLUMNS = "reservation_id, drop_id, ticket_id, queue_number, state, amount_minor, currency, reserved_at, expires_at, request_id"
NEW_ORDER = f"INSERT INTO orders ({ORDER_COLUMNS}) VALUES ('{reservation_id(9)}', 'spring', 't', 0, 'pending', 1, 'EUR', now(), now(), 'r')"
NEW_KEY = KEY + "('k', 't', sha256('s'), '{orders}')"
NEW_DROP = DEFINE + "('d', 't', 'n', '{\"currency\": \"EUR\"}', 'now', 'now', 'tomorrow')"
NEW_SKU = "INSERT INTO drop_skus (drop_id, sku, name, allotment, price_minor, limit_per_shopper) VALUES ('spring', 'hat', 'Hat', 1, 1, 1)"
HELD_PAYMENT = (
    "INSERT INTO refunds (reservation_id, drop_id, amount_minor, currency, payment_reference, reason, state, provider)"
    " VALUES ('r', '', 1, '', 'p', 'unmatched', 'held', 'standard')"
)

MAY = {
    "flashsale_service": [
        "SELECT * FROM orders, order_items, drops, drop_skus, outbox, refunds, api_keys",
        NEW_DROP,
        NEW_SKU,
        NEW_KEY,
        "UPDATE drops SET opened_in_store = true, epoch = 1",
        "UPDATE api_keys SET revoked_at = now()",
        "UPDATE drop_skus SET allotment = allotment + 1",
        HELD_PAYMENT,
        "UPDATE refunds SET state = 'settled'",
    ],
    "flashsale_reconciler": [
        "SELECT * FROM orders, order_items, drops, drop_skus, outbox, refunds",
        NEW_ORDER,
        "UPDATE orders SET state = 'expired', finished_at = now()",
        "UPDATE drop_skus SET sold = 1 WHERE sku = 'cap'",
        "UPDATE drop_skus SET allotment = allotment - 1",
        "UPDATE drops SET state = 'open', state_at_ms = 1",
        "UPDATE drops SET opened_in_store = true, epoch = 1",
        "UPDATE outbox SET delivered_at = now()",
        "UPDATE orders SET expires_at = now() + interval '1 day'",
        "UPDATE refunds SET state = 'requested', attempts = 1, generation = 1, next_attempt_at = now()",
    ],
    "flashsale_read": ["SELECT * FROM orders, order_items, drops, drop_skus, outbox, refunds", "SELECT key_id, label FROM api_keys"],
}
MAY_NOT = {
    "flashsale_service": [
        NEW_ORDER,
        "UPDATE orders SET state = 'paid'",
        "DELETE FROM orders",
        "UPDATE drop_skus SET sold = 0",
        "INSERT INTO drop_skus VALUES ('spring', 'hat', 'Hat', 1, 1, 1, 1)",
        "INSERT INTO outbox (drop_id, reservation_id, event, payload) VALUES ('d', 'r', 'order.paid', '{}')",
        "DELETE FROM api_keys",
        "UPDATE api_keys SET scopes = '{admin}'",
        "TRUNCATE orders",
        "UPDATE refunds SET amount_minor = 1",
        "UPDATE refunds SET generation = 1",
        "DELETE FROM refunds",
        "CREATE TABLE mine ()",
    ],
    "flashsale_reconciler": [
        "DELETE FROM orders",
        "DELETE FROM order_items",
        "UPDATE orders SET amount_minor = 0",
        "UPDATE orders SET drop_id = 'other'",
        "UPDATE drop_skus SET price_minor = 1",
        "UPDATE order_items SET quantity = 1",
        "SELECT * FROM api_keys",
        NEW_DROP,
        NEW_KEY,
        "UPDATE outbox SET payload = '{}'",
        "DELETE FROM refunds",
    ],
    "flashsale_read": [
        NEW_ORDER,
        NEW_DROP,
        NEW_KEY,
        "UPDATE orders SET state = 'paid'",
        "SELECT secret_hash FROM api_keys",
        "SELECT * FROM api_keys",
    ],
}


@pytest.mark.parametrize("role", MAY)
async def test_a_role_may_do_what_it_needs(with_drop: Database, role: str) -> None:
    for statement in MAY[role]:
        await run_as(with_drop, role, statement)


@pytest.mark.parametrize(("role", "statement"), [(role, statement) for role in MAY_NOT for statement in MAY_NOT[role]])
async def test_a_role_may_do_no_more(with_drop: Database, role: str, statement: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await run_as(with_drop, role, statement)


@pytest.mark.parametrize("table", ["orders", "drops", "api_keys", "outbox", "schema_migrations"])
async def test_others_may_do_nothing(with_drop: Database, table: str) -> None:
    await query(with_drop, "DROP ROLE IF EXISTS stranger")
    await query(with_drop, "CREATE ROLE stranger")
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="schema"):
        await run_as(with_drop, "stranger", f"SELECT * FROM public.{table}")
    await query(with_drop, "GRANT USAGE ON SCHEMA public TO stranger")
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="table"):
        await run_as(with_drop, "stranger", f"SELECT * FROM public.{table}")
    await query(with_drop, "DROP OWNED BY stranger")
    await query(with_drop, "DROP ROLE stranger")


async def test_the_reconciler_role_records_orders(with_drop: Database) -> None:
    orders = typed(transition("confirmed", 1), transition("refund_due", 2), transition("reserved", 3))
    async with with_drop.transaction() as session:
        await session.connection.execute("SET LOCAL ROLE flashsale_reconciler")
        row = await session.fetchrow("orders_record", *Batch(DROP, orders).arguments)
        await session.fetch("skus_lock", DROP)
        await session.fetch("drop_totals", DROP)
        await session.fetch("drop_state_record", DROP, "open", 5)
        await session.fetch("outbox_delivered", [1])
    assert row is not None
    assert (row["written"], row["paid"]) == (3, 1)


async def test_the_roles_drive_and_steer_refunds(with_drop: Database) -> None:
    await OrderRecorder(with_drop).record(Batch(DROP, typed(transition("refund_due", 1))))
    refund_id = (await with_drop.fetch("refunds_of_order", reservation_id(1)))[0]["refund_id"]
    async with with_drop.transaction() as session:
        await session.connection.execute("SET LOCAL ROLE flashsale_reconciler")
        await session.fetch("refunds_owe", DROP, [reservation_id(1)], [1], ["pay-2"], ["paid_twice"])
        assert len(await session.fetch("refunds_claim", 10, 60.0)) == 2
        assert await session.fetchval("refund_request", refund_id, "stripe") == 1
        await session.execute("refund_retry_later", refund_id, 1.0, "no answer", "re_1")
        await session.execute("refund_fail", refund_id, "no")
        await session.fetch("refunds_backlog")
        await session.connection.execute("SET LOCAL ROLE flashsale_service")
        await session.execute("refund_hold", "unknown", "", 1, "", "pay-3", "unmatched", "standard")
        assert len(await session.fetch("refunds_open", None, 10)) == 3
        assert await session.fetchval("refund_release", refund_id) is False
        assert await session.fetchval("refund_settle", refund_id, "re_1") == refund_id
        await session.connection.execute("SET LOCAL ROLE flashsale_reconciler")
        assert await session.fetchval("refund_done", refund_id, "") == reservation_id(1)
        assert await session.fetchval("refund_done", refund_id, "") is None


async def run_as(database: Database, role: str, statement: str) -> None:
    async with database.transaction() as session:
        await session.connection.execute(f"SET LOCAL ROLE {role}")
        await session.connection.execute(statement)


# ----------------------------------------------------------------------------------------------------------------- hot queries

IDS = [reservation_id(number) for number in range(50)]

HOT: dict[str, tuple[object, ...]] = {
    "wait_for_orders": (IDS,),
    "order_by_id": (IDS[0],),
    "orders_page": (DROP, "", 50),
    "order_counts": (DROP,),
    "order_counts_lately": (DROP,),
    "duplicate_orders": (DROP,),
    "outbox_undelivered": (100, 0),
    "outbox_delivered": ([1, 2, 3],),
    "refunds_claim": (100, 60.0),
    "refunds_open": (None, 100),
    "refunds_of_order": (IDS[0],),
    "refunds_of_payment": ("pay-1",),
    "refunds_backlog": (),
    "refund_done": ("rf_0", ""),
    "drop_get": (DROP,),
    "drop_totals": (DROP,),
    "drop_opened_in_store": (DROP, 1),
    "drop_state_record": (DROP, "open", 1),
    "skus_lock": (DROP,),
    "orders_record": Batch(DROP, typed(*(transition("confirmed", number) for number in range(20)))).arguments,
}
SEQUENTIAL = re.compile(r"Seq Scan on (\w+)")


async def fill(database: Database) -> None:
    """Enough rows of other drops that reading a whole table costs more than an index."""
    recorder = OrderRecorder(database)
    for number in range(20):
        drop_id = f"drop-{number}"
        await make_drop(database, drop_id)
        kinds = ("confirmed", "expired", "refund_due", "reserved")
        await recorder.record(Batch(drop_id, typed(*(transition(kinds[n % 4], n, drop_id=drop_id) for n in range(400)))))
    await recorder.record(Batch(DROP, typed(*(transition("confirmed", number) for number in range(50)))))
    await query(database, "UPDATE outbox SET delivered_at = now() WHERE id % 50 > 0")
    await query(
        database,
        "INSERT INTO drops (drop_id, tenant, name, definition, epoch, opened_in_store, joins_at, opens_at, closes_at)"
        " SELECT 'old-' || n, tenant, name, definition, 1, true, joins_at, opens_at, closes_at"
        " FROM drops, generate_series(1, 2000) n WHERE drop_id = 'spring'",
    )
    await query(
        database,
        "INSERT INTO drop_skus SELECT 'old-' || n, sku, name, allotment, 0, price_minor, 1"
        " FROM drop_skus, generate_series(1, 2000) n WHERE drop_id = 'spring'",
    )
    await query(database, "UPDATE refunds SET state = 'done', finished_at = now() WHERE drop_id <> 'drop-1'")
    await query(database, "ANALYZE")


async def test_no_hot_query_reads_a_whole_table(with_drop: Database) -> None:
    await fill(with_drop)
    offenders = {}
    async with with_drop.acquire() as session:
        for name, arguments in HOT.items():
            transaction = session.connection.transaction()
            await transaction.start()
            plan = await session.connection.fetch(f"EXPLAIN {with_drop.queries[name].sql}", *arguments)
            await transaction.rollback()
            if found := SEQUENTIAL.findall("\n".join(row[0] for row in plan)):
                offenders[name] = found
    assert offenders == {}


async def test_the_guard_on_plans_would_notice(with_drop: Database) -> None:
    await fill(with_drop)
    rows = await query(with_drop, "EXPLAIN SELECT * FROM orders WHERE ticket_id = 'x'")
    assert SEQUENTIAL.findall("\n".join(row[0] for row in rows)) == ["orders"]


async def test_paying_an_order_touches_no_index(with_drop: Database) -> None:
    recorder = OrderRecorder(with_drop)
    await recorder.record(Batch(DROP, typed(*(transition("reserved", number) for number in range(40)))))
    await recorder.record(Batch(DROP, typed(*(transition("confirmed", number) for number in range(10)))))
    async with with_drop.acquire() as session:
        await session.connection.execute("SELECT pg_stat_force_next_flush()")
    ((updated, in_place),) = await query(with_drop, "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'orders'")
    assert updated == in_place == 10
