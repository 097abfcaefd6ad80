"""Verifies admission tokens at the shop's door, without asking the service for each one.

This package stands alone: it needs `cryptography` and the standard library, and of the rest of the service nothing. The middlewares are
imported from where they are, so that each brings only its own framework: `flashsale.verify.asgi`, `.wsgi`, `.aiohttp`.
"""

from flashsale.verify.answers import Admission, Code, Refusal
from flashsale.verify.door import Door
from flashsale.verify.verifier import AdmissionVerifier

__all__ = ["Admission", "AdmissionVerifier", "Code", "Door", "Refusal"]
