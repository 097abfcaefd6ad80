"""The vectors every connector is held to, as the file for other people's verifiers has them."""

from __future__ import annotations

import json
from dataclasses import dataclass

from tests.vectors.make_admission_tokens import FILE, JWKS, vectors


@dataclass(frozen=True, slots=True)
class Vector:
    """A token, and the code of its refusal; None when it is good."""

    name: str
    token: str
    code: str | None


DOCUMENT = json.loads(FILE.read_text(encoding="utf-8"))
NOW_S: int = DOCUMENT["now_s"]
DROP: str = DOCUMENT["drop"]
MIN_EPOCH: int = DOCUMENT["min_epoch"]
ISSUER: str = DOCUMENT["issuer"]
AUDIENCE: str = DOCUMENT["audience"]
VECTORS = [Vector(one["name"], one["token"], one["code"]) for one in DOCUMENT["vectors"]]
GOOD = VECTORS[0].token

__all__ = ["AUDIENCE", "DOCUMENT", "DROP", "GOOD", "ISSUER", "JWKS", "MIN_EPOCH", "NOW_S", "VECTORS", "Vector", "vectors_at"]


def vectors_at(now_s: int, epoch: int = MIN_EPOCH) -> list[Vector]:
    """The same vectors, made for another time and epoch."""
    return [Vector(str(one["name"]), str(one["token"]), one["code"]) for one in vectors(now_s, epoch)]
