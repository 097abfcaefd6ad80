"""The description of the interface is the interface: routes, codes, bodies and the generated file are held together."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from admission import fairness
from admission.serving import ServingDocument
from admission.tokens import make_signing_keys
from flashsale.clock import SystemClock
from flashsale.payments.test import Behaviour
from flashsale.settings import load_settings
from flashsale.web import (
    console_session,
    live_view,
    merchant,
    merchant_drops,
    places,
    problems,
    requests,
    shopper,
    steering,
    storefront,
    test_provider,
)
from flashsale.web.app import routes_of
from flashsale.web.problems import Code

FOLDER = Path(problems.__file__).parent
SOURCE, GENERATED = FOLDER / "openapi.yaml", FOLDER / "openapi.json"
# A defect, a method the description does not have, and an error of the protocol are not part of any operation.
OUTSIDE = {Code.INTERNAL, Code.METHOD_NOT_ALLOWED}


def generate() -> str:
    return json.dumps(yaml.safe_load(SOURCE.read_text(encoding="utf-8")), indent=1, ensure_ascii=False) + "\n"


@pytest.fixture(scope="module")
def description() -> dict[str, Any]:
    return dict(json.loads(GENERATED.read_text(encoding="utf-8")))


def test_the_served_file_is_generated_from_the_source() -> None:
    assert GENERATED.read_text(encoding="utf-8") == generate(), f"Run: python {Path(__file__)}"


def test_every_route_is_described_and_every_description_has_a_route(description: dict[str, Any]) -> None:
    services: Any = SimpleNamespace(
        settings=load_settings(environment={}), clock=SystemClock(), jwks=json.dumps(make_signing_keys(1).jwks())
    )
    for name in (
        "inlet",
        "drop_store",
        "waiting_room",
        "reservations",
        "tokens",
        "payments",
        "access",
        "entrance",
        "handoffs",
        "receipts",
        "console_sessions",
    ):
        setattr(services, name, None)
    routes = {(route.method, route.path, route.name) for route in routes_of(services)}
    described = {
        (method.upper(), path, operation["operationId"])
        for path, operations in description["paths"].items()
        for method, operation in operations.items()
        if method != "parameters"
    }
    assert described == routes


def test_every_code_is_described_where_its_status_is(description: dict[str, Any]) -> None:
    described = {}
    for answer in description["components"]["responses"].values():
        content = answer.get("content", {}).get("application/problem+json")
        if content is not None and "allOf" in content["schema"]:
            code = content["schema"]["allOf"][1]["properties"]["code"]
            for value in code.get("enum", [code.get("const")]):
                described[value] = answer
    assert set(described) == {code.value for code in Code if code not in OUTSIDE}


def test_every_use_of_a_problem_has_its_status(description: dict[str, Any]) -> None:
    statuses = {code.value: str(problems.problem(code).status) for code in Code}
    for path, operations in description["paths"].items():
        for method, operation in operations.items():
            if method == "parameters":
                continue
            for status, reference in operation["responses"].items():
                name = reference.get("$ref", "").rpartition("/")[2]
                answer = description["components"]["responses"].get(name, {})
                problem = answer.get("content", {}).get("application/problem+json")
                if problem is not None and "allOf" in problem["schema"]:
                    code = problem["schema"]["allOf"][1]["properties"]["code"]
                    wrong = [value for value in code.get("enum", [code.get("const")]) if statuses[value] != status]
                    assert not wrong, (path, method, wrong)


def test_examples_of_problems_are_what_is_answered(description: dict[str, Any]) -> None:
    for answer in description["components"]["responses"].values():
        content = answer.get("content", {}).get("application/problem+json")
        if content is None or "allOf" not in content["schema"]:
            continue
        for example in [content["example"]] if "example" in content else [value["value"] for value in content["examples"].values()]:
            answered = json.loads(problems.problem(Code(example["code"])).body)  # type: ignore[arg-type]
            assert {name: example[name] for name in ("type", "title", "status")} == {
                name: answered[name] for name in ("type", "title", "status")
            }


@pytest.mark.parametrize(
    ("schema", "view"),
    [
        ("Drop", shopper.DropView),
        ("Ticket", places.TicketView),
        ("Place", places.PlaceView),
        ("Admission", shopper.AdmissionView),
        ("Reservation", shopper.ReservationView),
        ("Order", storefront.OrderView),
        ("Orders", storefront.OrdersView),
        ("Recording", storefront.RecordingView),
        ("WebhookTaken", storefront.WebhookView),
        ("TestPaymentSent", test_provider.TestPaymentView),
        ("Join", requests.JoinBody),
        ("Reserve", requests.ReserveBody),
        ("Restore", requests.RestoreBody),
        ("Confirm", requests.ConfirmBody),
        ("Item", requests.Item),
        ("TestPayment", requests.TestPaymentBody),
        ("TestBehaviour", Behaviour),
        ("Refund", requests.RefundBody),
        ("StockChange", merchant.StockBody),
        ("Stock", merchant.StockView),
        ("Audit", merchant.AuditView),
        ("MerchantDrops", merchant_drops.DropsView),
        ("MerchantDropEntry", merchant_drops.DropEntry),
        ("MerchantDrop", merchant_drops.MerchantDropView),
        ("MerchantSku", merchant_drops.SkuRow),
        ("MerchantGroup", merchant_drops.GroupRow),
        ("DropCreated", merchant_drops.CreatedView),
        ("Close", merchant_drops.CloseBody),
        ("Live", live_view.LiveView),
        ("SignIn", console_session.SignInBody),
        ("Session", console_session.SessionView),
        ("Fairness", fairness.FairnessDocument),
        ("EntryProof", fairness.EntryProof),
        ("ServingDocument", ServingDocument),
        ("Handoff", shopper.HandoffView),
        ("PlaceGone", steering.PlaceGoneView),
        ("Steered", steering.SteeredView),
        ("Rate", steering.RateBody),
        ("Capacity", steering.CapacityBody),
        ("Message", steering.MessageBody),
        ("Joining", steering.JoiningBody),
        ("Signal", steering.SignalBody),
        ("Removal", steering.RemoveBody),
    ],
)
def test_members_of_bodies_are_those_described(description: dict[str, Any], schema: str, view: Any) -> None:
    assert set(description["components"]["schemas"][schema]["properties"]) == set(view.__struct_fields__)


if __name__ == "__main__":
    GENERATED.write_text(generate(), encoding="utf-8")
    sys.exit(0)
