"""What a verifier says of a token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Code(StrEnum):
    """Why somebody is not let in. The same words in every connector; new ones may be added, none changes its meaning."""

    TOKEN_MISSING = "token_missing"  # noqa: S105 - a code
    TOKEN_INVALID = "token_invalid"  # noqa: S105 - a code
    TOKEN_EXPIRED = "token_expired"  # noqa: S105 - a code
    TOKEN_EARLY = "token_early"  # noqa: S105 - a code
    WRONG_ISSUER = "wrong_issuer"
    WRONG_AUDIENCE = "wrong_audience"
    WRONG_DROP = "wrong_drop"
    OLD_EPOCH = "old_epoch"
    KEYS_UNAVAILABLE = "keys_unavailable"


@dataclass(frozen=True, slots=True)
class Admission:
    """What a good token says: this shopper may buy in this drop for now."""

    subject: str
    """the ticket's id; the same shopper keeps it for the whole drop"""
    drop: str
    epoch: int
    token_id: str
    """the token's `jti`"""
    issued_at_s: int
    expires_at_s: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a token lets nobody in."""

    code: Code

    @property
    def detail(self) -> str:
        """A sentence for people."""
        return DETAILS[self.code]


DETAILS: Mapping[Code, str] = {
    Code.TOKEN_MISSING: "An admission token is needed here; the waiting room gives one.",
    Code.TOKEN_INVALID: "The admission token is not genuine.",
    Code.TOKEN_EXPIRED: "The admission token has expired; the waiting room gives another.",
    Code.TOKEN_EARLY: "The admission token is not in force yet.",
    Code.WRONG_ISSUER: "The admission token was issued by another service.",
    Code.WRONG_AUDIENCE: "The admission token is meant for another shop.",
    Code.WRONG_DROP: "The admission token is for another drop.",
    Code.OLD_EPOCH: "The admission token is from before the drop was put together again; the waiting room gives another.",
    Code.KEYS_UNAVAILABLE: "Admission tokens cannot be verified just now. Try again in a moment.",
}
