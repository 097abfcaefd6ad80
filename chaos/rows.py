"""The fault table: fifty ways to break the service, and exactly what has to happen then.

`tests/faults` has a test for each row, named after it, or the row says why there is none.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One fault."""

    number: int
    fault: str
    expected: str
    untested: str = ""
    """why there is no test; empty when there is one"""


ROWS: tuple[Row, ...] = (
    Row(
        1,
        "kill -9 of a worker before the reserve script runs",
        "the shopper's connection is reset, the repetition is a normal reservation, and until then no unit has moved",
    ),
    Row(
        2,
        "kill -9 of a worker after the reserve script, before the answer",
        "the repetition with the same key finds the same reservation; the units were taken once",
    ),
    Row(3, "the store's answer to a reserve is lost, k times", "as row 2 for any k: the worker repeats, the units are taken once"),
    Row(
        4,
        "a shopper reserves, loses the answer and never comes back",
        "the reservation expires and the units are back within 2 s of that",
    ),
    Row(5, "kill -9 of a reconciler that has just read journal entries", "another claims them once they are idle; one order each"),
    Row(
        6,
        "kill -9 of a reconciler between its insert and the commit",
        "Postgres rolls back; another claims the entries; one order each",
    ),
    Row(
        7,
        "kill -9 of a reconciler after the commit, before the XACK",
        "the entries are delivered again and absorbed; one order, one event",
    ),
    Row(
        8,
        "kill -9 of a reconciler after the XACK, before the entry is deleted",
        "the entry stays until it is trimmed; no second order",
    ),
    Row(9, "kill -9 of a reconciler with some batches acknowledged and some not", "rows 7 and 8 mixed; every count is exact"),
    Row(10, "kill -9 of a process that is ending overdue reservations", "none is ended twice, the rest by the next look"),
    Row(11, "several reconcilers and reapers at once", "no unit is given back twice and no order made twice"),
    Row(
        12,
        "kill -9 of Valkey, AOF every second",
        "everything acknowledged is kept; meanwhile shoppers get 503 with Retry-After; scripts load themselves again",
    ),
    Row(
        13,
        "kill -9 of Valkey without AOF",
        "the drop is found missing and stays recovering; it never starts again with full stock",
    ),
    Row(14, "power loss, AOF every second: its tail is gone", "at most 2 s of reservations are lost, no half script; totals add up"),
    Row(15, "a byte in the middle of the AOF is wrong", "the store refuses to start; the drop stays as it is"),
    Row(16, "Valkey comes back empty", "every request is answered 503 recovering; nothing is taken for zero or for full"),
    Row(17, "failover to a replica that is up to date", "errors for 1 to 3 s, all of them repeated; nothing is lost"),
    Row(18, "failover to a replica that is behind", "no unit is sold twice; with tier replica nothing acknowledged is lost"),
    Row(
        19,
        "the old primary comes back with clients on it",
        "what is written there is refused or fenced off; nothing of it is paid",
    ),
    Row(
        20,
        "a worker is cut off from Valkey in both directions",
        "reserve is answered 503 within 1 s; the circuit opens; nothing piles up; no order is written",
    ),
    Row(21, "requests reach Valkey, answers do not come back", "as row 3; after healing every count is exact"),
    Row(22, "a primary is cut off from its replica", "with tier replica answers are unknown, never ok"),
    Row(23, "one node of a cluster is isolated", "only drops in its slots stop"),
    Row(24, "slots move under load", "TRYAGAIN, ASK and MOVED are repeated; totals as before"),
    Row(25, "SCRIPT FLUSH during a drop", "the next call loads the script; nobody sees an error"),
    Row(
        26,
        "Valkey's memory is full",
        "joining and reserving are refused with 503 before anything is written; confirm and release work",
    ),
    Row(27, "a slow disk", "answers take longer; nothing is lost, nobody repeats in a stampede"),
    Row(
        28,
        "Valkey's disk is full",
        "AOF every second: writes are refused with 503, reading goes on, at most one acknowledged write is lost, and that is noticed; "
        "AOF always: the server ends itself, and nothing acknowledged is lost",
    ),
    Row(
        29,
        "Valkey is frozen for 10 s",
        "answers time out; what runs late changes nothing twice; reservations that expired meanwhile are ended once",
    ),
    Row(30, "CLIENT PAUSE WRITE, and every client killed", "every call is repeated; nobody notices but by the time it takes"),
    Row(
        31,
        "Postgres restarts, fast and immediate",
        "reservations go on, confirm is answered 202 meanwhile; afterwards the journal drains, one order each",
    ),
    Row(
        32,
        "Postgres is away for longer than reservations live",
        "what was paid stays paid, what was not expires; the journal is bounded by the stock",
    ),
    Row(33, "the connection is cut during COMMIT", "the outcome is unknown, the transaction is repeated; one order"),
    Row(34, "deadlock, serialization failure", "repeated; SKUs are locked in one order"),
    Row(35, "an asynchronous standby without the last commits is promoted", "the orders come again from the kept journal"),
    Row(36, "Postgres's disk is full", "it panics; then as row 31"),
    Row(37, "a migration holds a lock", "lock_timeout; the reconciler waits; shoppers notice nothing"),
    Row(38, "Postgres has too few connections", "back-pressure; nothing grows without bound; everything arrives"),
    Row(
        39,
        "a worker's clock is an hour wrong",
        "tokens and reservations go by the store's clock",
    ),
    Row(
        40,
        "Valkey's clock jumps by 10 minutes",
        "the reaper pauses and says so instead of ending everything",
    ),
    Row(41, "journal entries come three times and in any order", "one order each; an older state never overwrites a newer one"),
    Row(42, "an entry nobody can read", "after 5 deliveries it is in the dead-letter stream and said; the others flow"),
    Row(43, "an operator trims the journal", "paid reservations without an order are found and recorded again; nothing is lost"),
    Row(44, "the consumer group is destroyed", "it is made anew from the beginning; duplicates are absorbed"),
    Row(45, "old and new versions side by side", "both work; an entry of an unknown version is left for the new one"),
    Row(46, "every client comes back at once after a restart of all workers", "they come back spread out, and every place is kept"),
    Row(
        47,
        "a slow or failing receiver of webhooks",
        "retries by schedule; others are not delayed; 410 disables it",
        untested="Outgoing webhooks are not built yet; the outbox they will be sent from is checked in rows 6, 7 and 33.",
    ),
    Row(48, "the merchant changes the stock during the drop", "totals add up with the adjustments; below what is held is refused"),
    Row(49, "confirm, release and expire in the same millisecond", "exactly one wins; the others get a definite answer"),
    Row(50, "SIGTERM, as a deployment sends it", "no new requests, those in flight are finished within 10 s, exit code 0"),
)

BY_NUMBER = {row.number: row for row in ROWS}
