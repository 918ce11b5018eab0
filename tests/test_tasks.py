"""Task sets: arithmetic, reasoning-gym, files; splits that share nothing; complaints that name the key."""

import json
import os
import sys
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marft.errors import RecipeError
from marft.games import make_game
from marft.tasks import TaskOptions, load_tasks, split_of
from marft.tasks.arithmetic import ask
from marft.tasks.taskset import same_question


def loaded(**options):
    return load_tasks(TaskOptions(**options))


def written(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def rows(count, **more):
    return [{"question": f"What is {n} + {n}?", "answer": 2 * n, **more} for n in range(count)]


@pytest.mark.parametrize(
    ("kind", "numbers", "answer"),
    [
        ("sum", [12, 30, 1], "43"),
        ("sum_mod10", [7, 8], "5"),
        ("product", [12, 12], "144"),
        ("largest", [3, 9, 4], "9"),
        ("digit_sum", [34, 5], "12"),
    ],
)
def test_arithmetic_by_hand(kind, numbers, answer):
    question, true = ask(kind, numbers)
    assert true == answer
    assert all(str(number) in question for number in numbers if kind != "digit_sum")
    assert ("345" in question) == (kind == "digit_sum")


def test_all_sums_of_two_digits_are_in_one_split_or_the_other():
    train, test = (loaded(split=split) for split in ("train", "test"))
    asked = [{task.question for task in one.tasks} for one in (train, test)]
    assert not asked[0] & asked[1]
    assert asked[0] | asked[1] == {f"({a} + {b}) mod 10" for a in range(10) for b in range(10)}
    for task in (*train.tasks, *test.tasks):
        assert int(task.answer) == sum(task.columns["numbers"]) % 10
    assert set(train.answers) == set("0123456789")


@given(st.text(max_size=60), st.floats(0.01, 0.99), st.text(" \n\t", max_size=4))
def test_the_split_is_the_questions_own_whatever_its_spaces(question, share, space):
    assert split_of(question, share) == split_of(f"{space}{question}{space}", share)
    if split_of(question, share) == "test":  # a larger share takes nothing back
        assert split_of(question, min(0.995, share + 0.1)) == "test"


def test_the_share_of_the_test_split_is_kept():
    found = Counter(split_of(f"question {n}", 0.2) for n in range(20_000))
    assert found["test"] / 20_000 == pytest.approx(0.2, abs=0.012)  # four standard deviations


def test_draws_are_of_the_set_and_the_same_for_the_same_seed():
    tasks = loaded(options={"kind": "largest", "terms": 3})
    drawn = [tasks.draw(seed) for seed in range(3000)]
    assert drawn == [tasks.draw(seed) for seed in range(3000)]
    assert {task.question for task in drawn} <= {task.question for task in tasks.tasks}
    assert len({task.question for task in drawn}) > 0.9 * len(tasks.tasks)


def test_levels_ask_for_more():
    assert [loaded(level=level).tasks[0].question.count("+") for level in (0, 1, 3)] == [1, 2, 4]


def test_size_is_how_many_different_questions_there_are():
    tasks = loaded(options={"kind": "sum", "digits": 3}, size=123)
    assert len({task.question for task in tasks.tasks}) == len(tasks.tasks) == 123
    with pytest.raises(RecipeError, match=r"task\.size: arithmetic has only 80 different questions in its train split"):
        loaded(size=500)


def test_a_template_rewrites_the_question_and_leaves_the_split():
    plain, asked = loaded(split="test"), loaded(split="test", template="Sum {{ numbers[0] }}. {{ question }} = ?")
    first = plain.tasks[0]
    assert asked.tasks[0].question == f"Sum {first.columns['numbers'][0]}. {first.question} = ?"
    assert asked.tasks[0].answer == first.answer
    with pytest.raises(RecipeError, match=r"task\.template: .*nothing is called 'answer'"):
        loaded(template="{{ answer }}")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"set": "arithmetik"}, r"task\.set: no set 'arithmetik'; did you mean 'arithmetic'"),
        ({"options": {"kind": "sums"}}, r"task\.options\.kind: cannot be 'sums'; did you mean 'sum'"),
        ({"options": {"term": 3}}, r"task\.options\.term: unknown key; did you mean 'terms'"),
        ({"path": "nowhere.jsonl"}, r"task\.path: there is no nowhere\.jsonl"),
        ({"path": "."}, r"task\.path: \. is no folder that `datasets` saved"),
        ({"path": __file__}, r"must end in \.jsonl or \.parquet"),
    ],
)
def test_a_set_that_cannot_be_loaded_says_which_key(options, complaint):
    with pytest.raises(RecipeError, match=complaint):
        loaded(**options)


@pytest.mark.parametrize(
    ("task", "complaint"),
    [
        ({"set": "arithmetic", "path": "a.jsonl"}, "name a set or a path, not both"),
        ({"path": "a.jsonl", "level": 2}, "level is for sets by name"),
        ({"columns": {"question": "q"}}, "columns are for a path"),
        ({"path": {"train": "a.jsonl"}}, "path needs both train and test"),
        ({"split": "dev"}, r"game\.task\.split: cannot be 'dev'; .*allowed: train, test"),
        ({"sett": "x"}, r"game\.task\.sett: unknown key; did you mean 'set'"),
        ({"size": 0}, r"game\.task\.size"),
    ],
)
def test_a_task_option_that_cannot_be_is_told_when_the_recipe_is_read(task, complaint):
    with pytest.raises(RecipeError, match=complaint):
        make_game("debate", {"task": task})


def test_a_file_is_read_through_its_columns(tmp_path):
    path = written(tmp_path / "own.jsonl", [{"q": f"{n}?", "a": n / 2, "tests": ["x"]} for n in range(50)])
    train, test = (loaded(path=path, columns={"question": "q", "answer": "a"}, split=s) for s in ("train", "test"))
    assert len(train.tasks) + len(test.tasks) == 50
    assert not {task.question for task in train.tasks} & {task.question for task in test.tasks}
    task = next(task for task in (*train.tasks, *test.tasks) if task.question == "7?")
    assert (task.answer, task.columns, task.source) == ("3.5", {"tests": ["x"]}, path)


def test_a_question_stands_once_and_rows_left_out_are_counted(tmp_path):
    path = written(tmp_path / "own.jsonl", [*rows(40), {"question": " What is 3 +  3? ", "answer": 6}])
    both = [loaded(path=path, split=split) for split in ("train", "test")]
    assert sum(len(one.tasks) for one in both) == 40
    assert sum(one.repeated for one in both) == 1


def test_files_for_both_splits_share_no_question(tmp_path, caplog):
    train, test = written(tmp_path / "a.jsonl", rows(10)), written(tmp_path / "b.jsonl", rows(3))
    found = {split: loaded(path={"train": train, "test": test}, split=split) for split in ("train", "test")}
    assert [len(found[split].tasks) for split in ("train", "test")] == [7, 3]
    assert "3 rows of the train split ask what the test split asks" in caplog.text


def test_a_question_without_an_answer_has_none(tmp_path):
    tasks = loaded(path=written(tmp_path / "own.jsonl", [{"question": f"write {n}"} for n in range(9)]))
    assert {task.answer for task in tasks.tasks} == {None}
    assert tasks.answers == ()


def test_parquet_and_a_saved_dataset_hold_the_same_as_lines(tmp_path):
    datasets = pytest.importorskip("datasets")
    lines = loaded(path=written(tmp_path / "own.jsonl", rows(30, level=2)))
    pq.write_table(pa.Table.from_pylist(rows(30, level=2)), tmp_path / "own.parquet")
    datasets.Dataset.from_list(rows(30, level=2)).save_to_disk(tmp_path / "saved")
    for name in ("own.parquet", "saved"):
        other = loaded(path=str(tmp_path / name))
        assert [(task.question, task.answer, task.columns) for task in other.tasks] == [
            (task.question, task.answer, task.columns) for task in lines.tasks
        ]
    split = {"train": datasets.Dataset.from_list(rows(5)), "test": datasets.Dataset.from_list(rows(9)[5:])}
    datasets.DatasetDict(split).save_to_disk(tmp_path / "both")
    assert [len(loaded(path=str(tmp_path / "both"), split=s).tasks) for s in ("train", "test")] == [5, 4]
    datasets.DatasetDict({"train": split["train"]}).save_to_disk(tmp_path / "one")
    with pytest.raises(RecipeError, match="has no split 'test'"):
        loaded(path=str(tmp_path / "one"))


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{", r"line 2 is not JSON"),
        ("[" * 100_000, r"line 2 is not JSON"),
        ("[1]", r"line 2 must be an object"),
        ('{"question": 3}', r"line 2: the question \(column 'question'\) must be a text, got 3"),
        ('{"question": " "}', r"must be a text, got ' '"),
        ('{"question": "a", "answer": [1]}', r"line 2: the answer \(column 'answer'\) must be a text or a number"),
        ('{"question": "a", "answer": true}', r"must be a text or a number, got True"),
        ('{"question": "a", "x": NaN}', r"line 2: its further columns cannot be kept"),
        ('{"quesion": "a"}', r"task\.columns\.question: .*line 2 has no column 'question'; did you mean 'quesion'"),
    ],
)
def test_a_bad_row_is_told_with_its_place(tmp_path, line, complaint):
    path = tmp_path / "own.jsonl"
    path.write_text('{"question": "fine"}\n' + line + "\n")
    with pytest.raises(RecipeError, match=complaint):
        loaded(path=str(path), test_share=0.01)


def test_an_empty_file_is_no_set(tmp_path):
    with pytest.raises(RecipeError, match="has only 0 different questions"):
        loaded(path=written(tmp_path / "own.jsonl", []))
    (tmp_path / "bad.jsonl").write_bytes(b"\xff\xfe{}\n")
    with pytest.raises(RecipeError, match="is not UTF-8"):
        loaded(path=str(tmp_path / "bad.jsonl"))
    (tmp_path / "bad.parquet").write_text("no")
    with pytest.raises(RecipeError, match="not readable as Parquet"):
        loaded(path=str(tmp_path / "bad.parquet"))


def test_a_mapped_column_must_be_there(tmp_path):
    path = written(tmp_path / "own.jsonl", rows(3))
    with pytest.raises(
        RecipeError, match=r"task\.columns\.answer: .*line 1 has no column 'anser'; did you mean 'answer'"
    ):
        loaded(path=path, columns={"answer": "anser"})


def test_a_file_that_changed_is_read_again(tmp_path):
    path = written(tmp_path / "own.jsonl", rows(20))
    before = loaded(path=path)
    assert loaded(path=path) is before
    written(tmp_path / "own.jsonl", rows(40))
    os.utime(path, (1, 1))
    assert len(loaded(path=path).tasks) > len(before.tasks)


def test_without_reasoning_gym_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "reasoning_gym.factory", None)
    with pytest.raises(RecipeError, match=r"task\.set: reasoning_gym:x needs reasoning-gym; pip install"):
        loaded(set="reasoning_gym:x")


def test_sets_of_reasoning_gym_have_their_curricula_and_graders():
    factory = pytest.importorskip("reasoning_gym.factory")
    easy, hard = (loaded(set="reasoning_gym:chain_sum", level=level, size=40) for level in (0, 3))
    assert max(len(task.question) for task in easy.tasks) < max(len(task.question) for task in hard.tasks)
    few = loaded(set="reasoning_gym:chain_sum", options={"min_terms": 2, "max_terms": 2}, size=40)
    assert {task.columns["entry"]["metadata"]["num_terms"] for task in few.tasks} == {2}
    grader = factory.create_dataset("chain_sum", size=1, seed=0)
    for task in few.tasks:
        assert grader.score_answer(task.answer, task.columns["entry"]) == 1.0
        assert grader.score_answer("x", task.columns["entry"]) < 1.0
    mixed = loaded(set="reasoning_gym:chain_sum", level=3, options={"min_terms": 2, "max_terms": 2}, size=10)
    assert {task.columns["entry"]["metadata"]["num_terms"] for task in mixed.tasks} == {2}


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (
            {"set": "reasoning_gym:chain_sun"},
            r"task\.set: reasoning-gym has no set 'chain_sun'; did you mean 'chain_sum'",
        ),
        ({"set": "reasoning_gym:chain_sum", "options": {"terms": 3}}, r"task\.options: .*unexpected keyword"),
        ({"set": "reasoning_gym:chain_sum", "options": {"min_terms": -3}}, r"task\.options: .*does not take"),
        ({"set": "reasoning_gym:chain_sum", "options": {"seed": 3}}, r"task\.options\.seed: say task\.seed"),
        ({"set": "reasoning_gym:composite", "level": 1}, r"task\."),
    ],
)
def test_reasoning_gym_refuses_with_the_key(options, complaint):
    pytest.importorskip("reasoning_gym")
    with pytest.raises(RecipeError, match=complaint):
        loaded(**options)


@pytest.mark.parametrize("name", ["chain_sum", "leg_counting", "number_sorting", "word_ladder"])
def test_splits_of_reasoning_gym_share_no_question(name):
    pytest.importorskip("reasoning_gym")
    train, test = (loaded(set=f"reasoning_gym:{name}", size=30, split=split) for split in ("train", "test"))
    again = loaded(set=f"reasoning_gym:{name}", size=30, split="test", seed=9)
    assert not {same_question(t.question) for t in train.tasks} & {same_question(t.question) for t in test.tasks}
    assert not {same_question(t.question) for t in train.tasks} & {same_question(t.question) for t in again.tasks}
    assert len(test.tasks) == len(again.tasks) == 30
