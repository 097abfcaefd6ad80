"""The verifier: keys and epochs kept at hand, and one judgement of a token."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from typing import Any
from urllib.parse import quote

from flashsale.verify.answers import Admission, Code, Refusal
from flashsale.verify.documents import Document, Fetcher, Loaded, Monotonic, Unavailable
from flashsale.verify.tokens import Keys, TokenReader, read_keys, unseal

KEYS_FRESH_S = 300.0
"""when the service does not say"""
KEYS_RETRY_S = 60.0
"""an unknown `kid` costs the service one request a minute, however many send one"""
EPOCH_FRESH_S = 15.0
EPOCH_RETRY_S = 5.0
DROPS_MAX = 256
"""drops whose epochs are kept"""
TIMEOUT_S = 2.0

_Steps = Generator[Future[None], None, Admission | Refusal]


class AdmissionVerifier:
    """Tells good admission tokens from all others. One is enough for a process; threads and event loops may share it.

    verifier = AdmissionVerifier(jwks_url="https://queue.shop.example/.well-known/jwks.json", drop="launch")
    match verifier.verify(token):
        case Admission(subject=subject): ...
        case Refusal(code=code): ...
    """

    def __init__(
        self,
        *,
        jwks_url: str = "",
        jwks: str | bytes | Mapping[str, Any] | None = None,
        issuer: str = "flashsale",
        audience: str = "storefront",
        drop: str | None = None,
        min_epoch: int = 0,
        serving_url: str = "",
        timeout_s: float = TIMEOUT_S,
        now: Callable[[], float] = time.time,
        monotonic: Monotonic = time.monotonic,
    ) -> None:
        """Takes either the address of the keys or the keys.

        Args:
            jwks_url: the service's `/.well-known/jwks.json`; fetched when first needed and kept as long as its Cache-Control says.
            jwks: the same as text or decoded, where nothing may be fetched.
            issuer: the service's setting `tokens.issuer`.
            audience: the service's setting `tokens.audience`.
            drop: the only drop whose tokens are good here; None for any, which the caller then tells apart.
            min_epoch: tokens of an earlier epoch have ended.
            serving_url: `https://queue.shop.example/v1/drops/{drop}/serving`, to learn each drop's epoch from; empty: only `min_epoch`.
                While it cannot be had, tokens of any epoch are good: they live ten minutes at most, and reserving asks the store.
            timeout_s: how long a token waits for keys or an epoch that are not at hand.
            now: seconds since the Unix epoch.
            monotonic: seconds that never step back.

        Raises:
            ValueError: neither or both of the keys' sources, or keys that cannot be read.
        """
        if (jwks is None) == (not jwks_url):
            raise ValueError("AdmissionVerifier takes jwks_url, the address of the service's keys, or jwks, the keys themselves")
        known = None if jwks is None else read_keys(jwks)
        if known is not None and not known:
            raise ValueError("jwks holds no key for admission tokens; the service shows its own at /.well-known/jwks.json")
        if serving_url and "{drop}" not in serving_url:
            raise ValueError("serving_url names the drop as {drop}, for example https://queue.shop.example/v1/drops/{drop}/serving")
        self.drop = drop
        self._min_epoch = min_epoch
        self._serving_url = serving_url
        self._timeout_s = timeout_s
        self._now = now
        self._monotonic = monotonic
        self._fetcher = Fetcher(timeout_s)
        self._reader = TokenReader(issuer=issuer, audience=audience)
        load = None if known is not None else lambda: self._load_keys(jwks_url)
        self._keys = Document[Keys](load, retry_s=KEYS_RETRY_S, monotonic=monotonic, known=known)
        self._epochs: dict[str, Document[int]] = {}

    def verify(self, token: str | None) -> Admission | Refusal:
        """What a token permits, or why it permits nothing. May wait `timeout_s` for keys; not for event loops."""
        steps = self._judge(token)
        try:
            while True:
                wait_for([next(steps)], timeout=self._timeout_s)
        except StopIteration as judged:
            return _verdict(judged)

    async def verify_async(self, token: str | None) -> Admission | Refusal:
        """`verify` for event loops."""
        steps = self._judge(token)
        try:
            while True:
                await asyncio.wait([asyncio.wrap_future(next(steps))], timeout=self._timeout_s)
        except StopIteration as judged:
            return _verdict(judged)

    @property
    def trouble(self) -> str:
        """Why the keys could not be had at the last try, for a health check; empty when they could."""
        return self._keys.trouble

    def _judge(self, token: str | None) -> _Steps:
        """Yields what has to be waited for, and returns the judgement."""
        if not token:
            return Refusal(Code.TOKEN_MISSING)
        verdict = yield from self._genuine(token)
        if isinstance(verdict, Refusal):
            return verdict
        return (yield from self._good_here(verdict))

    def _genuine(self, token: str) -> _Steps:
        sealed = unseal(token)
        if sealed is None:
            return Refusal(Code.TOKEN_INVALID)
        yield from _at_hand(self._keys, needed=self._keys.value is None or sealed.kid not in self._keys.value)
        if self._keys.value is None:
            return Refusal(Code.KEYS_UNAVAILABLE)
        key = self._keys.value.get(sealed.kid)
        return Refusal(Code.TOKEN_INVALID) if key is None else self._reader.read(sealed, key, self._now())

    def _good_here(self, admission: Admission) -> _Steps:
        if self.drop is not None and admission.drop != self.drop:
            return Refusal(Code.WRONG_DROP)
        epoch = self._min_epoch
        if self._serving_url:
            document = self._epoch_of(admission.drop)
            yield from _at_hand(document, needed=document.value is None)
            epoch = max(epoch, document.value or 0)
        return admission if admission.epoch >= epoch else Refusal(Code.OLD_EPOCH)

    def _epoch_of(self, drop: str) -> Document[int]:
        """Only ever asked for drops of genuine tokens, so nobody can fill the table."""
        document = self._epochs.get(drop)
        if document is None:
            url = self._serving_url.replace("{drop}", quote(drop, safe=""))
            document = Document(lambda: self._load_epoch(url), retry_s=EPOCH_RETRY_S, monotonic=self._monotonic)
            document = self._epochs.setdefault(drop, document)
            if len(self._epochs) > DROPS_MAX:
                self._epochs = {drop: document}
        return document

    def _load_keys(self, url: str) -> Loaded[Keys]:
        answer = self._fetcher.get(url)
        try:
            keys = read_keys(answer.body)
        except ValueError as error:
            raise Unavailable(str(error)) from None
        if not keys:
            raise Unavailable("the set holds no key for admission tokens")
        return Loaded(keys, KEYS_FRESH_S if answer.max_age_s is None else answer.max_age_s)

    def _load_epoch(self, url: str) -> Loaded[int]:
        try:
            epoch = json.loads(self._fetcher.get(url).body)["epoch"]
        except (ValueError, KeyError, TypeError, RecursionError):
            epoch = None
        if not isinstance(epoch, int):
            raise Unavailable("not a serving document")
        return Loaded(epoch, EPOCH_FRESH_S)


def _at_hand(document: Document[Any], *, needed: bool) -> Generator[Future[None], None, None]:
    """Yields what to wait for when the document is `needed`; one that is only stale is renewed behind the caller's back."""
    if needed or document.stale:
        flight = document.renew()
        if needed and flight is not None:
            yield flight


def _verdict(judged: StopIteration) -> Admission | Refusal:
    verdict: Admission | Refusal = judged.value
    return verdict
