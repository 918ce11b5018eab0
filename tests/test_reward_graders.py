"""What each grader gives a text, by hand, by closed form, or by a slow version; and whose texts are read and paid."""

import itertools
from collections import Counter
from fractions import Fraction

import pytest
from dialogues import dialogue, paid
from hypothesis import given
from hypothesis import strategies as st

from marft.answers import answer_key, same_answer
from marft.errors import RecipeError
from marft.rewards import REWARDS, load_reward, unit_of
from marft.rewards.grading import Ungraded
from marft.rewards.similarity import jaccard, rouge_l


def worth(name, text, true="12", columns=None, **options):
    """What one text of one seat earns."""
    ((values,),) = [paid(load_reward(name, options), dialogue(("a", text), answer=true, columns=columns)).values()]
    return sum(values)


@pytest.mark.parametrize(
    ("text", "answer", "value"),
    [
        ("<answer>12</answer>", "12", 1),
        ("so \\boxed{12.0}", "12", 1),
        ("<answer>3</answer> no, <answer>12</answer>", "12", 1),
        ("<answer>12</answer> no, \\boxed{3}", "12", 0),
        ("12", "12", 0),
        ("\\boxed{12", "12", 0),
        ("<answer>1,200</answer>", "1200", 1),
        ("<answer>7/8</answer>", "0.875", 1),
        ("<answer> paris. </answer>", "Paris", 1),
        ("<answer>Paris, France</answer>", "Paris", 0),
    ],
)
def test_exact_match_takes_the_last_mark(text, answer, value):
    assert worth("exact_match", text, answer) == value


def test_without_marks_the_whole_text_may_be_the_answer():
    assert worth("exact_match", " 12 ", marked=False) == 1
    assert worth("exact_match", "it is 12", marked=False) == 0


@pytest.mark.parametrize(
    ("text", "options", "value"),
    [
        ("\\boxed{3.14}", {"absolute": 0.01}, 1),
        ("\\boxed{3.13}", {"absolute": 0.01}, 0),
        ("\\boxed{3.2}", {"relative": 0.02}, 1),
        ("\\boxed{3.3}", {"relative": 0.02}, 0),
        ("\\boxed{about 3}", {"absolute": 10}, 0),
        ("first 2, then 3.1415", {"marked": False, "absolute": 1e-3}, 1),
        ("first 3.1415, then 2", {"marked": False, "absolute": 1e-3}, 0),
        ("nothing", {"marked": False, "absolute": 100}, 0),
    ],
)
def test_numeric_match_measures_the_distance(text, options, value):
    assert worth("numeric_match", text, "3.1415", **options) == value


def test_a_true_answer_that_is_no_number_is_an_error():
    with pytest.raises(ValueError, match="'Paris' is no number; use exact_match or math_verify"):
        worth("numeric_match", "<answer>3</answer>", "Paris")


@given(st.fractions(max_denominator=50), st.fractions(max_denominator=50))
def test_answers_are_the_same_where_their_keys_are(one, other):
    first, second = (f"{value.numerator}/{value.denominator}" for value in (one, other))
    assert same_answer(first, second) == (one == other)
    assert (answer_key(first) == answer_key(second)) == (one == other)
    assert answer_key(f' "{first}" ') == Fraction(one)


def slow_lcs(ours, theirs):
    """The longest sequence of words that is a subsequence of both, by trying all."""
    for size in range(min(len(ours), len(theirs)), 0, -1):
        if set(itertools.combinations(ours, size)) & set(itertools.combinations(theirs, size)):
            return size
    return 0


@given(st.lists(st.sampled_from("abc"), max_size=7), st.lists(st.sampled_from("abc"), max_size=7))
def test_rouge_l_is_the_f1_of_the_longest_common_subsequence(ours, theirs):
    common = slow_lcs(ours, theirs)
    expected = (
        2 * (common / len(ours)) * (common / len(theirs)) / (common / len(ours) + common / len(theirs)) if common else 0
    )
    assert rouge_l(" ".join(ours), " ".join(theirs)) == pytest.approx(expected)
    union = set(ours) | set(theirs)
    assert jaccard(" ".join(ours), " ".join(theirs)) == (len(set(ours) & set(theirs)) / len(union) if union else 0)


def test_similarity_reads_references_from_the_columns():
    columns = {"summary": ["nothing alike", "The cat sat!"]}
    assert worth("similarity", "the cat ran", columns=columns, reference="summary") == pytest.approx(4 / 6)
    assert worth("similarity", "the cat the", columns={"s": "the cat"}, reference="s", measure="f1") == pytest.approx(
        0.8
    )
    assert worth("similarity", "no <answer>12</answer>", part="answer") == 1
    with pytest.raises(ValueError, match="'s' must be a text or several, not 3"):
        worth("similarity", "x", columns={"s": 3}, reference="s")


@pytest.mark.parametrize(
    ("count", "value"),
    [(0, -1), (1, -0.5), (2, 0), (10, 0), (11, -0.5), (12, -1), (40, -1)],
)
def test_length_falls_in_a_straight_line_on_both_sides(count, value):
    text = " ".join(["w"] * count)
    assert worth("length", text, least=2, most=10, slope=2, unit="words") == value
    assert worth("length", text, least=2, most=10, unit="words") == (0 if 2 <= count <= 10 else -1)


def test_length_counts_the_tokens_that_were_sampled():
    episode = dialogue(("a", "xxxx"))
    episode.turns[0].completion_ids = [1, 2, 3]
    assert paid(load_reward("length", {"most": 2, "slope": 4}), episode) == {"a": [-0.25]}
    with pytest.raises(ValueError, match="came without tokens; set options.unit: words"):
        worth("length", "xxxx", most=2)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("<think>x</think> <answer>1</answer>", 1),
        ("<answer>1</answer><think>x</think>", 0),
        ("<think>x</think><think>y</think><answer>1</answer>", 0),
        ("<think>x<answer>1</answer>", 0),
        ("<think>x</think> 1", 0),
    ],
)
def test_format_wants_each_mark_once_and_in_order(text, value):
    assert worth("format", text, tags=["think", "answer"]) == value


def test_format_may_want_an_answer_or_a_pattern_alone():
    assert worth("format", "\\boxed{3}") == 1
    assert worth("format", "three") == 0
    assert worth("format", "three", answer=False, pattern="^t") == 1
    assert worth("format", "a three", answer=False, pattern="^t") == 0


# --- whose texts, and who is paid

TALK = (
    ("a", "<answer>12</answer>"),
    ("b", "<answer>1</answer>"),
    ("a", "<answer>2</answer>"),
    ("b", "<answer>12</answer>"),
)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {"a": [0, 0, 0, 0], "b": [0, 0, 0, 1]}),
        ({"of": "first"}, {"a": [1, 0, 0, 0], "b": [0, 0, 0, 0]}),
        ({"of": "every"}, {"a": [1, 0, 0, 0], "b": [0, 0, 0, 1]}),
        ({"seats": ["b"]}, {"b": [0, 0, 0, 1]}),
        ({"share": "team"}, {"a": 0.5, "b": 0.5}),
        ({"share": "team", "seats": ["b"]}, {"a": 1.0, "b": 1.0}),
        ({"share": "team", "roles": ["solver"]}, {"a": 0.0, "b": 0.0}),
        ({"roles": ["checker"]}, {"a": [0, 0, 0, 0], "b": [0, 0, 0, 1]}),
    ],
)
def test_a_reward_may_be_told_what_it_reads_and_whom_it_pays(options, expected):
    episode = dialogue(*TALK, facts={"roles": {"a": "solver", "b": "checker"}})
    assert paid(load_reward("exact_match", options), episode) == expected


def test_a_turns_own_role_goes_before_its_seats():
    episode = dialogue(*TALK, facts={"roles": {"a": "solver", "b": "checker"}}, marks={"a": {"role": "checker"}})
    assert paid(load_reward("exact_match", {"roles": ["checker"], "of": "first"}), episode)["a"] == [1, 0, 0, 0]


def test_seats_and_roles_that_nobody_has_are_errors():
    for options, name in (({"seats": ["x"]}, "'x'"), ({"roles": ["slover"]}, "'slover'")):
        with pytest.raises(ValueError, match=f"there is no {name} in talk, but a, b"):
            paid(load_reward("exact_match", options), dialogue(*TALK))


def test_what_the_game_read_goes_before_the_text():
    episode = dialogue(("a", "twelve"))
    episode.turns[0].action = {"answer": "12"}
    assert paid(load_reward("exact_match"), episode) == {"a": [1.0]}
    episode.turns[0].action = {"answer": None}
    episode.turns[0].text = "<answer>12</answer>"
    assert paid(load_reward("exact_match"), episode) == {"a": [0.0]}


# --- without labels


def told(*answers, by="abcdef", group=0, number=0):
    said = [
        (seat, "hm" if answer is None else f"<answer>{answer}</answer>")
        for seat, answer in zip(by, answers, strict=False)
    ]
    return dialogue(*said, answer=None, group=group, number=number)


def values(rows):
    return [sum(value) for row in rows for value in row.values()]


def test_majority_over_the_group_or_the_episode():
    group = [told(1, 2, number=0), told(2.0, 2, number=1), told(3, None, number=2), told(1, 1, group=1, number=3)]
    assert values(paid(load_reward("majority"), *group)) == [0, 1, 1, 1, 0, 0, 1, 1]
    assert values(paid(load_reward("majority", {"over": "episode"}), *group)) == [0.5, 0.5, 1, 1, 1, 0, 1, 1]


@given(st.lists(st.lists(st.sampled_from([None, "1", "2", "3"]), min_size=3, max_size=3), min_size=1, max_size=5))
def test_consensus_is_the_papers_formula(rows):
    """RLCCF: SC_n, then argmax_a of sum_n sum_k SC_n 1[a = o_nk], written out."""
    share = {}
    for seat in range(3):
        own = [row[seat] for row in rows]
        share[seat] = max(own.count(answer) for answer in "123") / len(own)
    total = {answer: sum(share[n] for row in rows for n in range(3) if row[n] == answer) for answer in "123"}
    best = [answer for answer in "123" if abs(total[answer] - max(total.values())) < 1e-9 and total[answer] > 0]
    expected = [1 / len(best) if row[n] in best else 0 for row in rows for n in range(3)]
    found = paid(load_reward("consensus"), *[told(*row, number=k) for k, row in enumerate(rows)], told(1, group=9))
    assert values(found[:-1]) == pytest.approx(expected)


def test_consensus_trusts_who_agrees_with_itself():
    """b says 2 all the time, a says 1 twice of four: votes 1, 1, 7, 8 against 2 four times; weights 1.0 to 4.0."""
    rows = [told(answer, 2, number=number) for number, answer in enumerate([1, 1, 7, 8])]
    assert values(paid(load_reward("consensus"), *rows)) == [0, 1] * 4
    rows = [told(1, 1, 2, number=k) for k in range(2)] + [told(5, 6, 2, number=k) for k in range(2, 4)]
    assert Counter(values(paid(load_reward("majority"), *rows))) == Counter({0.5: 8, 0: 4})
    assert Counter(values(paid(load_reward("consensus"), *rows))) == Counter({1: 4, 0: 8})


# --- other people's graders


def test_math_verify_knows_the_same_mathematics():
    pytest.importorskip("math_verify")
    cases = [
        ("\\boxed{\\frac{1}{2}}", "0.5", 1),
        ("<answer>2^{10}</answer>", "1024", 1),
        ("\\boxed{x^2+2x+1}", "(x+1)^2", 1),
        ("\\boxed{x^2+1}", "(x+1)^2", 0),
        ("\\boxed{\\{1,2\\}}", "\\{2,1\\}", 1),
        ("0.5", "0.5", 0),
        ("\\boxed{\\frac{1}{}", "0.5", 0),
    ]
    episodes = [dialogue(("a", text), answer=answer, number=n) for n, (text, answer, _) in enumerate(cases)]
    assert values(paid(load_reward("math_verify", {"deadline": 30}), *episodes)) == [value for *_, value in cases]
    assert worth("math_verify", "I think it is $\\frac{1}{2}$.", "0.5", marked=False, deadline=30) == 1


def test_reasoning_gym_grades_its_own_sets():
    gym = pytest.importorskip("reasoning_gym")
    entry = gym.create_dataset("chain_sum", seed=3, size=1)[0]
    columns = {"entry": entry}
    right, facts = entry["answer"], {"task": "reasoning_gym:chain_sum", "columns": columns}
    episodes = [dialogue(("a", f"<answer>{text}</answer>"), facts=facts) for text in (right, "x", f"{right}0")]
    found = values(paid(load_reward("reasoning_gym", {"deadline": 60}), *episodes))
    score = gym.get_score_answer_fn("chain_sum")
    assert found == [score(right, entry), score("x", entry), score(f"{right}0", entry)]
    assert found[0] == 1
    (lost,) = load_reward("reasoning_gym", {"deadline": 60})(
        [dialogue(("a", "<answer>1</answer>"), facts={"task": "no", "columns": columns})]
    )
    assert isinstance(lost, Ungraded)
    assert "no" in lost.cause


# --- a judge's seat


def test_a_judging_seat_marks_the_others():
    played = dialogue(("a", "one"), ("b", "two"), ("j", "well: <answer>7</answer>"))
    options = {"seat": "j", "lowest": 0, "highest": 10}
    assert values([paid(load_reward("judge", options), played, services=[None])]) == pytest.approx([0.7, 0.7, 0])
    team = paid(load_reward("judge", options | {"share": "team"}), played, services=[None])
    assert team == pytest.approx({"a": 0.7, "b": 0.7, "j": 0.7})
    played.turns[-1].text = "<answer>Good.</answer>"
    marks = {"seat": "j", "labels": {"good": 1.0, "bad": -1.0}, "seats": ["a"]}
    assert paid(load_reward("judge", marks), played, services=[None]) == {"a": [1, 0, 0]}


@pytest.mark.parametrize(
    "text", ["7", "<answer>eleven</answer>", "<answer>11</answer>", "<answer>-1</answer>", "<answer></answer>"]
)
def test_a_mark_that_cannot_be_read_is_no_mark(text):
    played = dialogue(("a", "one"), ("j", text))
    (found,) = load_reward("judge", {"seat": "j", "highest": 10})([played], None)
    assert isinstance(found, Ungraded)
    assert found.cause.startswith("a: unread: ")
    (found,) = load_reward("judge", {"seat": "j", "highest": 10, "failed": 0.25})([played], None)
    assert sum(found["a"]) == 0.25
    assert found.failures


# --- options


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("exact_match", {"of": "lst"}, "rewards.options.of: cannot be 'lst'; did you mean 'last'"),
        ("exact_match", {"seat": ["a"]}, "rewards.options.seat: unknown key; did you mean 'seats'"),
        ("math_verify", {"deadline": "soon"}, "rewards.options.deadline: .*number"),
        ("similarity", {"measure": "rouge"}, "rewards.options.measure: cannot be 'rouge'; did you mean 'rouge_l'"),
        ("majority", {"failed": 0}, "rewards.options.failed: unknown key"),
        ("exact_match", {"seats": "a"}, "rewards.options.seats"),
    ],
)
def test_options_of_wrong_names_and_types_are_told_at_once(name, options, message):
    with pytest.raises(RecipeError, match=message):
        load_reward(name, options)


def test_a_package_that_is_not_there_is_named_with_its_extra(monkeypatch):
    monkeypatch.setattr("marft.rewards.needs.find_spec", lambda name: None)
    for name in ("math_verify", "reasoning_gym"):
        with pytest.raises(RecipeError, match=rf"rewards.use: {name} needs {name}; install marft\[reasoning\]"):
            load_reward(name)
    load_reward("exact_match")


def test_what_a_reward_must_see_whole_is_known_for_each():
    beyond = {name for name, function in REWARDS.items() if unit_of(function) == "all"}
    assert beyond == {"information_gain"}
    assert {name for name, function in REWARDS.items() if unit_of(function) == "group"} == {"majority", "consensus"}
