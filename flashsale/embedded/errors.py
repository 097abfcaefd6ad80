"""What can be wrong with the embedded stores."""

from __future__ import annotations

from flashsale.errors import FlashsaleError


class EmbeddedFailed(FlashsaleError):
    """An embedded server could not be started or stopped."""

    code = "embedded"


class FolderInUse(EmbeddedFailed):
    """Another process runs embedded servers in this data folder."""
