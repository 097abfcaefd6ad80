"""What goes wrong is told by a code of its own."""

from __future__ import annotations

import pytest

from flashsale import errors
from flashsale.web.problems import Code, of_error

DEFECTS = (errors.ScriptError, errors.ConfigurationError)
"""nobody outside can do anything about them, and they are in the log"""
EXPECTED: list[type[errors.FlashsaleError]] = [
    kind for kind in errors.FlashsaleError.__subclasses__() if kind.__module__ == errors.__name__ and kind not in DEFECTS
]


@pytest.mark.parametrize("kind", EXPECTED, ids=[kind.__name__ for kind in EXPECTED])
def test_an_error_has_its_own_code(kind: type[errors.FlashsaleError]) -> None:
    assert of_error(kind(what="It is so.")).code == kind.code


@pytest.mark.parametrize("kind", DEFECTS, ids=[kind.__name__ for kind in DEFECTS])
def test_a_defect_tells_nothing(kind: type[errors.FlashsaleError]) -> None:
    problem = of_error(kind(what="A secret place."))
    assert problem.code is Code.INTERNAL
    assert isinstance(problem.body, bytes)
    assert b"secret" not in problem.body
