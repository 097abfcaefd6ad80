"""What the forms of the line without JavaScript say. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import parse_qsl

from flashsale.model import ITEMS_PER_RESERVATION_MAX, QUANTITY_MAX, SKU_RE
from flashsale.web.line_scenes import UNITS
from flashsale.web.line_words import Unfit

FORM_FIELDS_MAX = 100
_NUMBER = re.compile(r"[0-9]{1,4}")

Form = Mapping[str, str]


def form_of(body: bytes) -> Form:
    """The fields of a form as a browser sends it. Raises Unfit when it cannot be read."""
    try:
        return dict(parse_qsl(body.decode("ascii"), max_num_fields=FORM_FIELDS_MAX, strict_parsing=False))
    except ValueError:
        raise Unfit("unknown_form") from None


def items_of(form: Form) -> tuple[tuple[str, int], ...]:
    """(SKU, units) of the choosing form, in ascending order. Raises Unfit when nothing is chosen."""
    wanted = {form["sku"]: 1} if SKU_RE.fullmatch(form.get("sku", "")) else {}
    for name, units in form.items():
        if name.startswith(UNITS) and units.strip("0 "):
            if _NUMBER.fullmatch(units) is None or int(units) > QUANTITY_MAX:
                raise Unfit("not_a_number")
            wanted[name.removeprefix(UNITS)] = int(units)
    if not wanted or not all(map(SKU_RE.fullmatch, wanted)):
        raise Unfit("choose_first")
    if len(wanted) > ITEMS_PER_RESERVATION_MAX:
        raise Unfit("too_many_kinds", n=str(ITEMS_PER_RESERVATION_MAX))
    return tuple(sorted(wanted.items()))


def asked_in(fields: Form) -> dict[str, int]:
    """What is chosen in `fields`, by SKU; nothing where that cannot be read."""
    try:
        return dict(items_of(fields))
    except Unfit:
        return {}
