"""`flashsale verify-draw`: does a place in line follow from a draw that nobody could bend? Needs public documents only."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar
from urllib.parse import urlencode, urlsplit, urlunsplit

import msgspec
import typer

from flashsale.cli import options
from flashsale.cli.commands import command, finish, run
from flashsale.cli.exits import Exit
from flashsale.cli.output import print_error, print_json, print_table
from flashsale.errors import BadInput

if TYPE_CHECKING:
    from aiohttp import ClientSession

    from admission.fairness import EntryProof, FairnessDocument, Verdict

TIMEOUT_MS = 10_000
_EXAMPLE = "https://shop.example/v1/drops/trial/fairness"
_EXAMPLE_COMMITMENT = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

Document = TypeVar("Document")


def register(app: typer.Typer) -> None:
    """Adds the command."""
    command(
        app,
        "verify-draw",
        f"flashsale verify-draw receipt.json --fairness {_EXAMPLE}",
        f"flashsale verify-draw receipt.json --fairness {_EXAMPLE} --commitment {_EXAMPLE_COMMITMENT}",
        "flashsale verify-draw receipt.txt --fairness fairness.json --proof proof.json --keys jwks.json",
    )(verify_draw)


def checked_commitment(commitment: str | None) -> str | None:
    """`commitment`, when it can be one; a slip of the pen must not look like a draw that was bent.

    Raises:
        BadParameter: it cannot.
    """
    if commitment is not None and not re.fullmatch("[0-9a-fA-F]{64}", commitment):
        raise typer.BadParameter("a commitment is 64 hex digits")
    return commitment


def verify_draw(
    receipt: Annotated[Path, typer.Argument(metavar="RECEIPT", help="File with the receipt, or with the JSON the join answered.")],
    fairness: Annotated[str, typer.Option("--fairness", metavar="URL|FILE", help="The drop's fairness document.")],
    proof: Annotated[
        str | None,
        typer.Option("--proof", metavar="URL|FILE", help="The proof of the receipt's entry.", show_default="beside the fairness URL"),
    ] = None,
    keys: Annotated[
        str | None,
        typer.Option("--keys", metavar="URL|FILE", help="The service's public keys (JWKS).", show_default="of the fairness URL's service"),
    ] = None,
    commitment: Annotated[
        str | None,
        typer.Option(
            "--commitment",
            metavar="HEX",
            help="The commitment as it was shown before the drop.",
            callback=checked_commitment,
            show_default=False,
        ),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Verify that a receipt's place in line follows from the draw, step by step, without trusting the service.

    Names the step that fails, says what that means, and ends with exit code 1 then. Needs no access to the service when
    all parts are files. With --json: passed, queue_number (null when a step failed) and steps (name, passed, sentence).
    """
    from flashsale.fetching import FetchFailed

    try:
        verdict = run(_verdict(_Parts(read_receipt(receipt), fairness, proof, keys), commitment))
    except FetchFailed as error:
        # Not for the command's own error handling: it would send somebody who only has a receipt to look at our stores.
        print_error(error)
        raise typer.Exit(int(Exit.UNREACHABLE)) from None
    if as_json:
        print_json({"passed": verdict.passed, "queue_number": verdict.queue_number, "steps": verdict.steps})
    else:
        print_table(("", "step", "found"), [("ok" if step.passed else "FAILED", step.name, step.sentence) for step in verdict.steps])
    finish(Exit.OK if verdict.passed else Exit.FINDING)


class _Joined(msgspec.Struct):
    receipt: str


@dataclass(frozen=True, slots=True)
class _Parts:
    receipt: str
    fairness: str
    proof: str | None
    keys: str | None

    def keys_source(self) -> str:
        if self.keys is not None:
            return self.keys
        if not _is_url(self.fairness):
            raise BadInput(
                what="The service's public keys are missing.",
                why="The fairness document comes from a file, so it does not tell where they are.",
                todo="Give them: --keys jwks.json (the service shows them at /.well-known/jwks.json).",
            )
        parts = urlsplit(self.fairness)
        before, _, _ = parts.path.partition("/v1/drops/")
        return urlunsplit((parts.scheme, parts.netloc, f"{before.rstrip('/')}/.well-known/jwks.json", "", ""))

    def proof_source(self, group: str, entry_number: int) -> str | None:
        if self.proof is not None or not _is_url(self.fairness):
            return self.proof
        parts = urlsplit(self.fairness)
        query = urlencode({"group": group}) if group else ""
        return urlunsplit((parts.scheme, parts.netloc, f"{parts.path.rstrip('/')}/proofs/{entry_number}", query, ""))


async def _verdict(parts: _Parts, commitment: str | None) -> Verdict:
    from aiohttp import ClientSession

    from admission.fairness import FairnessDocument, receipt_keys, verify

    async with ClientSession() as client:
        document = _decoded(
            await _read(client, parts.fairness, "The fairness document"), FairnessDocument, parts.fairness, "a fairness document"
        )
        try:
            keys = receipt_keys(await _read(client, parts.keys_source(), "The key set"))
        except ValueError as error:
            raise BadInput(what=f"The service's public keys cannot be read: {error}.", field="keys") from None
        proof = await _proof(client, parts, document, keys)
    return verify(parts.receipt, document, proof, keys, commitment)


async def _proof(client: ClientSession, parts: _Parts, document: FairnessDocument, keys: Any) -> EntryProof | None:
    """The proof the receipt needs; None where verifying ends before it."""
    from admission.fairness import EntryProof, proof_wanted
    from admission.receipts import ReceiptVerifier

    try:
        wanted = proof_wanted(ReceiptVerifier(keys).read(parts.receipt), document)
    except ValueError:
        return None
    if wanted is None or document.secret is None:
        return None
    source = parts.proof_source(*wanted)
    return None if source is None else _decoded(await _read(client, source, "The proof"), EntryProof, source, "the proof of an entry")


async def _read(client: ClientSession, source: str, what: str) -> bytes:
    from flashsale.fetching import FetchFailed, fetch

    if not _is_url(source):
        return read_file(Path(source), what)
    status, body = await fetch(client, source, what, timeout_ms=TIMEOUT_MS)
    if status != 200:
        raise FetchFailed(what=f"{what} is not there:", why=f"the answer has status {status}.", todo="Is the address right?")
    return body


def _is_url(source: str) -> bool:
    return source.startswith(("https://", "http://"))


def _decoded(raw: bytes, kind: type[Document], source: str, words: str) -> Document:
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.MsgspecError as error:
        where = "The answer" if _is_url(source) else source
        raise BadInput(what=f"{where} is not {words}:", why=f"{error}.") from None


def read_receipt(path: Path) -> str:
    """The receipt in a file, alone or as the member `receipt` of a JSON object.

    Raises:
        BadInput: the file cannot be read, or is JSON without a receipt.
    """
    text = read_file(path, "The receipt").decode("utf-8", "replace").strip()
    if not text.startswith("{"):
        return text
    try:
        return msgspec.json.decode(text, type=_Joined).receipt
    except msgspec.MsgspecError:
        raise BadInput(what=f"{path} is JSON without a receipt in it.", todo="Save the answer of the join, or only its receipt.") from None


def read_file(path: Path, what: str) -> bytes:
    """The bytes of a small file.

    Raises:
        BadInput: it cannot be read, or is too long to be a document of ours.
    """
    from flashsale.fetching import ANSWER_BYTES_MAX

    try:
        with path.open("rb") as file:
            raw = file.read(ANSWER_BYTES_MAX + 1)
    except OSError as error:
        raise BadInput(what=f"{what} cannot be read from {path}:", why=f"{error.strerror}.") from None
    if len(raw) > ANSWER_BYTES_MAX:
        raise BadInput(what=f"{what} cannot be read from {path}:", why=f"it is longer than {ANSWER_BYTES_MAX} bytes.")
    return raw
