"""Prompt templates: what they may do, what is refused with its place, and that no value or template runs away."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import Environment

from marft.prompts import LENGTH, LIMIT, Prompt

NAMES = ("question", "outputs", "passes")


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("Q: {{ question }}", "Q: 1 + 1"),
        ("{{ outputs.writer | upper }}", "A TEXT"),
        ("{{ outputs['writer'] }} {{ outputs.many[1] }}", "a text y"),
        ("{% if passes > 1 %}again{% else %}first{% endif %}", "again"),
        ("{% for one in outputs.many %}{{ loop.index }}:{{ one }};{% endfor %}", "1:x;2:y;"),
        ("{{ 'yes' if question and not passes == 3 else 'no' }}", "yes"),
        ("{{ question ~ '!' }} {{ question | length }}", "1 + 1! 5"),
        ("no value at all", "no value at all"),
    ],
)
def test_values_are_put_in(text, filled):
    prompt = Prompt(text, NAMES, {"outputs": ("writer", "many")})
    assert prompt.render(question="1 + 1", outputs={"writer": "a text", "many": ["x", "y"]}, passes=2) == filled


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{{ quesion }}", "line 1 of the template: nothing is called 'quesion'; did you mean 'question'"),
        ("a\n{{ outputs.writr }}", "line 2 of the template: outputs has no 'writr' here; did you mean 'writer'"),
        ("{{ outputs['x'] }}", "outputs has no 'x'"),
        ("{{ outputs[question] }}", "outputs has no None"),
        ("{{ question.__class__ }}", "'__class__' is not allowed"),
        ("{{ question['__class__'] }}", "'__class__' is not allowed"),
        ("{{ question.upper() }}", "call is not allowed"),
        ("{{ range(9) }}", "call is not allowed"),
        ("{{ question * 999999999 }}", "mul is not allowed"),
        ("{{ 9 ** 9 ** 9 }}", "pow is not allowed"),
        ("{{ '%999999999d' % 1 }}", "mod is not allowed"),
        ("{{ question + question }}", "add is not allowed"),
        ("{% set a = question %}", "assign is not allowed"),
        ("{% include 'x' %}", "include is not allowed"),
        ("{% import 'x' as y %}", "import is not allowed"),
        ("{% macro f() %}{% endmacro %}", "macro is not allowed"),
        ("{% for a in question %}{% for b in question %}{% endfor %}{% endfor %}", "a loop inside a loop"),
        (
            "{% for a in question %}{% if a %}{% for b in a %}{% endfor %}{% endif %}{% endfor %}",
            "a loop inside a loop",
        ),
        ("{{ question | center(999999999) }}", "no filter 'center'"),
        ("{{ question | replace('', question) }}", "no filter 'replace'"),
        ("{{ question is filter }}", "no test 'filter'"),
        ("{{ question", "line 1 of the template"),
        ("{% for a in question %}{% endfor %}{{ a }}", "nothing is called 'a'"),
        ("x" * (LENGTH + 1), f"a template may have {LENGTH} characters"),
    ],
)
def test_what_a_prompt_may_not_do_is_refused_when_it_is_read(text, complaint):
    with pytest.raises(ValueError, match=".*") as error:
        Prompt(text, NAMES, {"outputs": ("writer",)})
    assert complaint in str(error.value)


def test_what_comes_out_is_bounded_and_takes_no_time():
    prompt = Prompt("{% for one in question %}{{ question }}{% endfor %}", NAMES)
    start = time.process_time()
    with pytest.raises(ValueError, match=f"more than {LIMIT} characters"):
        prompt.render(question="x" * 20_000)
    assert time.process_time() - start < 5


def test_a_template_without_values_is_bounded_as_well():
    with pytest.raises(ValueError, match=f"more than {LIMIT} characters"):
        Prompt("{% for one in (" + "1," * 500 + ") %}" + "x" * 500 + "{% endfor %}", NAMES)


@pytest.mark.parametrize("values", [{}, {"question": None}, {"question": 3}])
def test_a_value_that_is_missing_or_of_another_kind_is_an_error_and_not_a_gap(values):
    with pytest.raises(ValueError, match="cannot be filled in"):
        Prompt("{% for one in question %}{{ one }}{% endfor %}", NAMES).render(**values)


@pytest.mark.parametrize("text", ["{{ question | truncate(1) }}", "{{ question | truncate('x') }}"])
def test_a_filter_that_cannot_take_its_value_is_an_error_that_says_so(text):
    with pytest.raises(ValueError, match="cannot be filled in"):
        Prompt(text, NAMES).render(question="a longer question")


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=80))
def test_a_value_is_inserted_as_it_is_whatever_it_holds(value):
    assert Prompt("<{{ question }}>", NAMES).render(question=value) == f"<{value}>"


@given(st.text(st.sampled_from("{}%# abquestion|.'\n-"), max_size=40))
def test_any_text_is_refused_or_filled_in_as_plain_jinja_does(text):
    try:
        prompt = Prompt(text, NAMES)
    except ValueError:
        return
    try:
        filled = prompt.render(question="q", outputs={}, passes=1)
    except ValueError:
        return
    plain = Environment(trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    assert filled == plain.from_string(text).render(question="q", outputs={}, passes=1)
