"""The tree of errors: what it says in its docstring is what there is."""

import re

import pytest

from pgtune import errors


@pytest.mark.parametrize("name", sorted(errors.__all__))
def test_exit_codes(name: str) -> None:
    kind = getattr(errors, name)
    assert issubclass(kind, errors.PgtuneError)
    assert kind("what is wrong").exit_code == (1 if name == "TrainingError" else 2)
    assert str(kind("what is wrong")) == "what is wrong"


def test_the_docstring_draws_the_whole_tree() -> None:
    assert set(re.findall(r"\b(\w+Error)\b", errors.__doc__ or "")) == set(errors.__all__)


def test_recipe_errors_carry_their_problems() -> None:
    assert errors.RecipeError("one").problems == ()
    assert errors.RecipeError("one", problems=[1, 2]).problems == (1, 2)
