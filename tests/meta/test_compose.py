"""The head of compose.yaml makes the secrets in an order that works. No Docker runs here."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

TEXT = (Path(__file__).parents[2] / "compose.yaml").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load(TEXT)


def test_the_signing_keys_are_made_in_a_service_that_does_without_them() -> None:
    # A secret is a file that is mounted, and a container whose file is not there yet does not start.
    (service,) = re.findall(r"(\w+) signing-key create", TEXT)
    assert "signing_keys" not in COMPOSE["services"][service].get("secrets", ())


def test_every_secret_of_a_service_is_one_that_there_is() -> None:
    named = {secret for service in COMPOSE["services"].values() for secret in service.get("secrets", ())}
    assert named == set(COMPOSE["secrets"])
