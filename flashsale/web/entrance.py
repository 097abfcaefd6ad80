"""Who may have a place in a drop, and in which line: what a join has to show, and what it showed."""

from __future__ import annotations

from typing import NamedTuple

from msgspec import UNSET

from admission.handoff import Handoffs
from admission.invites import InviteClaim, InviteCodes
from admission.receipts import ReceiptPayload
from admission.waiting_room import Invited
from flashsale.errors import BadInput
from flashsale.identity import IdentityVerifier, ShopperIdentity
from flashsale.model import Drop
from flashsale.web.problems import Code, ProblemError, problem
from flashsale.web.requests import JoinBody


class Entrant(NamedTuple):
    """What a join showed, as the waiting room takes it."""

    line: int = 0
    identity: str = ""
    code: Invited | None = None
    handoff: str = ""


class Entrance:
    """Checks what a join shows against the drop's rules. How often a code was used, and who has a place, the store knows."""

    def __init__(self, identities: IdentityVerifier, invites: InviteCodes, handoffs: Handoffs) -> None:
        self._identities = identities
        self._invites = invites
        self._handoffs = handoffs

    def check(self, drop: Drop, body: JoinBody, before: ReceiptPayload | None, now_ms: int) -> Entrant:
        """What the shopper showed.

        Args:
            before: of a genuine receipt: whoever has one was let in before, and shows no code again.
            now_ms: the store's time.

        Raises:
            BadInput: it shows what the drop does not take.
            ProblemError: something is missing or not genuine.
        """
        if body.challenge is not UNSET:
            raise _not_taken("challenge")
        if isinstance(body.handoff, str):
            return Entrant(handoff=self._handed_over(drop, body.handoff, now_ms))
        shopper = self._shopper(drop, body, now_ms)
        claim = self._code(drop, body, before)
        group_line = _line_of_group(drop, shopper.group) if shopper else 0
        return Entrant(
            line=(claim.line if claim else 0) or group_line or (before.line if before else 0),
            identity=shopper.identity if shopper else "",
            code=Invited(claim.code_id, claim.uses_max) if claim else None,
        )

    def _handed_over(self, drop: Drop, handoff: str, now_ms: int) -> str:
        try:
            return self._handoffs.read(handoff, drop.drop_id, now_ms)
        except ValueError as error:
            raise ProblemError(problem(Code.HANDOFF_INVALID, str(error))) from None

    def _shopper(self, drop: Drop, body: JoinBody, now_ms: int) -> ShopperIdentity | None:
        if body.identity is UNSET:
            if drop.identity == "required":
                raise ProblemError(problem(Code.IDENTITY_REQUIRED))
            return None
        if drop.identity == "none":
            raise _not_taken("identity")
        try:
            return self._identities.read(body.identity, drop.drop_id, now_ms)
        except ValueError as error:
            raise ProblemError(problem(Code.IDENTITY_INVALID, str(error))) from None

    def _code(self, drop: Drop, body: JoinBody, before: ReceiptPayload | None) -> InviteClaim | None:
        if body.code is UNSET:
            if drop.invites == "required" and before is None:
                raise ProblemError(problem(Code.CODE_REQUIRED))
            return None
        if drop.invites == "none":
            raise _not_taken("code")
        claim = self._invites.read_code(drop.drop_id, body.code)
        if claim is None or claim.line > len(drop.groups):
            raise ProblemError(problem(Code.CODE_INVALID))
        return claim


def _line_of_group(drop: Drop, group_id: str) -> int:
    if not group_id:
        return 0
    for line, group in enumerate(drop.groups, start=1):
        if group.group_id == group_id:
            return line
    raise ProblemError(problem(Code.IDENTITY_INVALID, "The identity names a group that this drop does not have."))


def _not_taken(field: str) -> BadInput:
    return BadInput(what=f"'{field}' is not enabled for this drop.", field=field)
