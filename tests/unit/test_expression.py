"""Questions to a state: what compiles, what they refer to, and what they are at a document."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.analysis import UNDEFINED, Answer, Evaluation, Expression
from store.analysis.expression import LONGEST
from store.errors import InvalidExpression

TRUE, FALSE = Answer("value", value=True), Answer("value", value=False)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text("ab", max_size=2),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcd"), inner, max_size=3)
    ),
)


def value(found: Any) -> Answer:
    return Answer("value", found)


def failed(text: str) -> Answer:
    return Answer("error", error=text)


def answers(text: str, *documents: Any) -> list[Answer]:
    with Evaluation(Expression(text)) as evaluation:
        return [answer for _, answer in evaluation.answers(enumerate(documents))]


@pytest.mark.parametrize(
    ("text", "reason", "line", "column"),
    [
        ("", "Syntax error: it ends too early", 1, 1),
        ("status ==", "Syntax error: it ends too early", 1, 10),
        ("a ==\n b +", "Syntax error: it ends too early", 2, 5),
        ("a = 1", "Syntax error: token recognition error at: '= '", 1, 3),
        ("foo(a)", "there is no function 'foo'", 1, 4),
        ("a.exist(b, b > 1)", "there is no function 'exist'", 1, 8),
        ("has(a)", "has() argument must be a field selection", 1, 5),
        (
            'type == "a"',
            "found no matching overload for '_==_' applied to '(type(type), string)'",
            1,
            6,
        ),
        ("(" * 99 + "a" + ")" * 99, "Expression recursion limit exceeded. limit: 32", None, None),
        ("a == '\0'", "it has a character that is no text", None, None),
        ("a == '\ud800'", "it has a character that is no text", None, None),
        ("a" * (LONGEST + 1), "2,001 characters; the limit is 2,000", None, None),
        ("a[0]['b'].map(c, c) + lost()", "there is no function 'lost'", 1, 27),
    ],
)
def test_what_does_not_compile_is_one_line_that_says_where(
    text: str, reason: str, line: int | None, column: int | None
) -> None:
    with pytest.raises(InvalidExpression) as caught:
        Expression(text)
    error = caught.value
    assert (error.text, error.reason, error.line, error.column) == (text, reason, line, column)
    assert len(str(error).splitlines()) == 1
    assert reason in str(error)
    assert len(str(error)) < 300


def test_the_place_is_told_to_people_too() -> None:
    with pytest.raises(InvalidExpression, match=r"^expression 'a ==': .*early at column 5$"):
        Expression("a ==")
    with pytest.raises(InvalidExpression, match=r"early at column 5 of line 2$"):
        Expression("a ==\n b +")


def test_the_longest_expression_compiles() -> None:
    assert answers("a" + " " * (LONGEST - 1), {"a": 1}) == [value(1)]


EVERY_FIELD = {"a": {"b": {"c": 1, "d": 2}, "e": [1]}, "b": 2, "c": "x", "z": 4}


@pytest.mark.parametrize(
    ("text", "names", "part"),
    [
        ("1 + 1", "", {}),
        ("z", "z", {"z": 4}),
        (".z == 4", "z", {"z": 4}),
        ("a.b.c", "a", {"a": {"b": {"c": 1}}}),
        ("a['b'].d", "a", {"a": {"b": {"d": 2}}}),
        ("a.`b`.d", "a", {"a": {"b": {"d": 2}}}),
        ("a.b.c + a.b.d + a.e[0]", "a", {"a": {"b": {"c": 1, "d": 2}, "e": [1]}}),
        ("a.b.c == 1 && size(a.b) == 2", "a", {"a": {"b": {"c": 1, "d": 2}}}),
        ("size(a.b) == 2 && a.b.c == 1", "a", {"a": {"b": {"c": 1, "d": 2}}}),
        ("a[c]", "a c", {"a": EVERY_FIELD["a"], "c": "x"}),
        ("a.b[c].d", "a c", {"a": {"b": {"c": 1, "d": 2}}, "c": "x"}),
        ("has(a.b.c)", "a", {"a": {"b": {"c": 1}}}),
        ("a.e.exists(z, z == b)", "a b", {"a": {"e": [1]}, "b": 2}),
        ("a.e.map(z, z > b, z + c.size())", "a b c", {"a": {"e": [1]}, "b": 2, "c": "x"}),
        ("c.exists(c, c.d)", "c", {"c": "x"}),
        ("[b].exists(b, b > z) && c > 1", "b c z", {"b": 2, "c": "x", "z": 4}),
        ("{'k': [b, c], z: a.b.d}", "a b c z", {"a": {"b": {"d": 2}}, "b": 2, "c": "x", "z": 4}),
        ("google.protobuf.Value{number_value: z}", "z", {"z": 4}),
        ("z in a.e ? b : c", "a b c z", {"a": {"e": [1]}, "b": 2, "c": "x", "z": 4}),
        ("type(b) == int", "b", {"b": 2}),
        ("c.matches('x')", "c", {"c": "x"}),
        ("state", "state", {"state": EVERY_FIELD}),
        ("state.a.b.c", "state", {"state": {"a": {"b": {"c": 1}}}}),
        ("a.b.lost.more", "a", {"a": {"b": {}}}),
        ("lost.more", "lost", {}),
        ("b.c", "b", {"b": 2}),
    ],
)
def test_only_what_is_referred_to_is_looked_at(text: str, names: str, part: Any) -> None:
    expression = Expression(text)
    assert expression.names == set(names.split())
    assert expression.part(EVERY_FIELD) == part


@pytest.mark.parametrize(
    ("text", "document", "answer"),
    [
        ("a > 1", {"a": 2}, TRUE),
        ("a > 1", {"a": 1}, FALSE),
        ("a", {"a": None}, value(None)),
        ("a", {"a": {"b": [1, 1.5, "x", None, True]}}, value({"b": [1, 1.5, "x", None, True]})),
        ("a", {"b": 1}, UNDEFINED),
        ("a.b", {"a": {}}, UNDEFINED),
        ("a.b.c", {"a": {}}, UNDEFINED),
        ("a.b", {"a": None}, UNDEFINED),
        ("a.b", {"a": "text"}, UNDEFINED),
        ("a['b']", {"a": 3}, UNDEFINED),
        ("a[0]", {"a": None}, UNDEFINED),
        ("a[0]", {"a": [7]}, value(7)),
        ("a[1]", {"a": [7]}, UNDEFINED),
        ("a[-1]", {"a": [7]}, UNDEFINED),
        ("a.all(b, b.c > 1)", {"a": [{"c": 2}, {}]}, UNDEFINED),
        ("a.exists(b, b.c > 1)", {"a": [{"c": 2}, {}]}, TRUE),
        ("has(a.b)", {"a": {}}, FALSE),
        ("a || b", {"a": True}, TRUE),
        ("a && b", {"a": True}, UNDEFINED),
        ("a['b'].exists(c, c > 1)", {"a": {"b": [2]}}, TRUE),
        ("a['b'].exists(c, c > 1)", {"a": {}}, UNDEFINED),
        ("a", [1], UNDEFINED),
        ("state[0]", [1], value(1)),
        ("state", 3, value(3)),
        ("state.state", {"state": 5}, value(5)),
        ("state.type", {"type": "x"}, value("x")),
        ("1 / a", {"a": 0}, failed("divide by zero")),
        ("a > 1", {"a": "x"}, failed("No matching overloads found : _>_(string, int64)")),
        ("a['b']", {"a": [1]}, failed("Index error: expected integer type, got string")),
        ("int(a)", {"a": "Key not found in map"}, failed("cannot convert string to int")),
        ("a == 1", {"a": True}, FALSE),
        ("a == 1", {"a": 1.0}, TRUE),
        ("a > 5", {"a": 2**64 - 1}, TRUE),
        ("a == b", {"a": 2**63, "b": 2**63}, TRUE),
        ("a", {"a": 2**64 - 1}, value(2**64 - 1)),
        ("a < 5", {"a": 2**64}, failed(f"Integer value '{2**64}' out of range for 'a'.")),
        ("1.0 / a", {"a": 0.0}, failed("inf is no JSON")),
        ("{1: a, 2: a}", {"a": 1}, failed("its value is no JSON")),
        ("[type(a), type(b)]", {"a": 1, "b": "x"}, value(["INT", "STRING"])),
        ("timestamp(a)", {"a": "2026-01-01T00:00:00Z"}, value("2026-01-01T00:00:00Z")),
        ("timestamp(a) < timestamp('2026-01-01T00:00:01Z')", {"a": "2026-01-01T00:00:00Z"}, TRUE),
        ("a == 'x\\\\u0000'", {"a": "x\\u0000"}, TRUE),
        ("size(a)", {"a": "x\0y"}, failed("a text has \\u0000 in it")),
        ("size(a)", {"a": [{"x\0y": 1}]}, failed("a text has \\u0000 in it")),
        ("size(b)", {"a": "x\0y", "b": "x"}, value(1)),
        ("a.size()", {"a": "žluť"}, value(4)),
        (
            "a.all(b, a.all(c, a.all(d, a.all(e, b + c + d + e >= 0))))",
            {"a": list(range(99))},
            failed("Iteration budget exceeded"),
        ),
    ],
)
def test_an_answer_is_a_value_undefined_or_an_error(
    text: str, document: Any, answer: Answer
) -> None:
    [found] = answers(text, document)
    assert found.is_same(answer), found


def test_answers_of_other_types_are_not_the_same() -> None:
    several = [value(1), value(1.0), TRUE, value("1"), value(None), UNDEFINED, failed("1")]
    for one in several:
        assert [one.is_same(other) for other in several].count(True) == 1
    assert failed("a").is_same(failed("a"))
    assert not failed("a").is_same(failed("b"))


def looked_up(document: Any, parts: list[str]) -> Answer:
    for part in parts:
        if not isinstance(document, dict) or part not in document:
            return UNDEFINED
        document = document[part]
    return value(document)


@given(
    st.lists(st.dictionaries(st.sampled_from("abcd"), JSON, max_size=4), min_size=1, max_size=5),
    st.lists(st.sampled_from("abcd"), min_size=1, max_size=3),
    st.data(),
)
def test_a_path_is_what_plain_python_finds_there(
    documents: list[Any], parts: list[str], data: st.DataObject
) -> None:
    expression = Expression(".".join(parts))
    for document in documents:
        part = expression.part(document)
        assert looked_up(part, parts).is_same(looked_up(document, parts))
        assert len(json.dumps(part)) <= len(json.dumps(document))
    whole = Expression(f"state.{'.'.join(parts)}").part(documents[0])
    assert looked_up(whole["state"], parts).is_same(looked_up(documents[0], parts))


def test_what_is_no_number_in_json_is_null() -> None:
    assert answers("a", {"a": math.nan}) == [value(None)]
