"""Which positions are trained: the sampled answer, its end-of-turn token where it was sampled, and nothing else."""

import numpy as np
import torch
from trainer_fixtures import Rig

from marft.episode import Episode, Turn
from marft.game import Message
from marft.train.rows import build_rows

EXACT = ("model.dtype=float64", "optimizer.max_grad_norm=1e9", "train.gap_limit=1e9")


def conversation_row(rig, *answers):
    """The row of a seat that hears a line and gives each of the answers (token ids) in turn."""
    conversation = rig.base.chat.conversation()
    turns = []
    for step, answer in enumerate(answers):
        prompt, fresh = conversation.hear([Message("user", f"The other chose <A> in round {step}.")])
        conversation.answer(answer)
        turn = Turn("alice", step, 0, "alice", "", agent="alice", prompt_ids=prompt, completion_ids=answer, fresh=fresh)
        turn.logprobs = [-1.0] * len(answer)
        turns.append(turn)
    episode = Episode("e", "g", ("alice",), {"alice": "alice"}, 0, turns=turns)
    (row,) = build_rows([episode], np.arange(1.0, 1.0 + len(turns)))["alice"]
    return row


def watch(rig, monkeypatch, method):
    """What the bank's `method` returns while an update runs, with its gradient."""
    seen, original = [], getattr(rig.bank, method)

    def call(*arguments, **named):
        result = original(*arguments, **named)
        if result.requires_grad:
            result.retain_grad()
            seen.append(result)
        return result

    monkeypatch.setattr(rig.bank, method, call)
    return seen


def test_the_loss_stands_on_the_answer_and_its_end_token_and_on_nothing_else(monkeypatch):
    rig = Rig(*EXACT)
    end, word = rig.base.chat.end_id, rig.base.chat.plain("<A>")[0]
    row = conversation_row(rig, [word, end], [word, end])
    first = next(n for n in range(len(row)) if row.ids[n : n + 2].tolist() == [word, end])
    assert row.targets.tolist() == [first, first + 1, len(row) - 2, len(row) - 1]
    hidden = watch(rig, monkeypatch, "hidden")
    rig.gradient("alice", [row])
    at = hidden[0].grad[0].abs().sum(-1).nonzero().flatten().tolist()
    assert at == [first - 1, first, len(row) - 3, len(row) - 2]
    # of the mean of −A log softmax(z)[target] by z: (A / N) (softmax(z) − one-hot), with A = 1, 1, 2, 2 and N = 4
    scale, head = torch.tensor([[0.25], [0.25], [0.5], [0.5]]), rig.bank.base.get_output_embeddings().weight
    chances = (hidden[0].detach()[0, at] @ head.T).softmax(-1)
    one_hot = torch.nn.functional.one_hot(torch.tensor([word, end, word, end]), len(head))
    expected = scale * (chances - one_hot) @ head
    assert float((hidden[0].grad[0, at] - expected).abs().max()) < 1e-12


def test_a_cut_answer_trains_no_end_token(monkeypatch):
    rig = Rig(*EXACT)
    end, word = rig.base.chat.end_id, rig.base.chat.plain("<A>")[0]
    row = conversation_row(rig, [word, word], [word, end])
    first = row.ids.tolist().index(end, row.targets[0])  # put there by the template, since the engine did not sample it
    assert row.ids[first - 2 : first + 1].tolist() == [word, word, end]
    hidden = watch(rig, monkeypatch, "hidden")
    rig.gradient("alice", [row])
    at = hidden[0].grad[0].abs().sum(-1).nonzero().flatten().tolist()
    assert at == [first - 3, first - 2, len(row) - 3, len(row) - 2]


def test_a_rollout_whose_answers_are_all_cut_trains_what_was_sampled():
    rig = Rig("sampling.max_new_tokens=1")
    for episode in rig.play():
        for seat in episode.seats:
            turns = list(episode.turns_of(seat))
            (row,) = build_rows([episode], np.zeros(99))[seat]
            assert row.ids[row.targets].tolist() == [turn.completion_ids[0] for turn in turns]
            for turn, after in zip(turns, turns[1:], strict=False):
                cut = turn.finish_reason == "length"
                assert cut == (turn.completion_ids[0] != rig.base.chat.end_id)
                assert (after.prompt_ids[0] == rig.base.chat.end_id) == cut
