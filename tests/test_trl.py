"""marft's GRPO beside TRL's own: the same answers, rewards and adapter give the same advantages, loss and gradient."""

import numpy as np
import pytest
import torch
from trainer_fixtures import base_folder
from transformers import AutoModelForCausalLM, AutoTokenizer

from marft.bank import AdapterBank
from marft.credit import algorithm as read_algorithm
from marft.credit import assess
from marft.episode import Episode, Turn
from marft.loss import policy_loss, token_weights
from marft.scoring import Scorer
from marft.train.rows import build_rows
from marft.train.table import turn_table

pytest.importorskip("trl")
GROUPS, SIZE, LONGEST = 3, 4, 12
STD = {"kind": "std", "key": ["instance", "seat"], "unbiased": True, "eps": 1e-4}  # TRL's eps
CASES = {
    "grpo": ({"preset": "grpo", "normalise": STD, "aggregate": {"kind": "row_mean"}}, "group"),
    "bnpo": ({"preset": "grpo", "normalise": STD}, "group"),
    "dr_grpo": ({"preset": "dr_grpo", "aggregate": {"kind": "sum_over", "constant": LONGEST}}, "none"),
}
"""TRL's loss_type -> marft's algorithm, TRL's scale_rewards."""


def adapted():
    """The tiny base with an adapter that is not zero."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(base_folder())
    model = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM"))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    return model


def trl_answers(kind, scale, folder):
    """TRL's trainer, what it sampled and scored, the rewards; old log-probs that make some ratios clip."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    paid = []

    def reward(completion_ids, **_):
        paid[:] = [float(sum(ids) % 17) for ids in completion_ids]
        return list(paid)

    trainer = GRPOTrainer(
        adapted(),
        reward_funcs=reward,
        train_dataset=Dataset.from_dict({"prompt": ["x"]}),
        processing_class=AutoTokenizer.from_pretrained(base_folder()),
        args=GRPOConfig(
            output_dir=str(folder / "trl"),
            per_device_train_batch_size=GROUPS * SIZE,
            num_generations=SIZE,
            max_completion_length=LONGEST,
            temperature=1.0,
            top_k=0,
            beta=0.0,
            loss_type=kind,
            scale_rewards=scale,
            use_cpu=True,
            bf16=False,
            report_to=[],
        ),
    )
    trainer.model.save_pretrained(folder / "adapter")
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    prompts = ["<|user|>go<|end|><|assistant|>", "<|user|>on then<|end|><|assistant|>", "<|user|>A or B?<|assistant|>"]
    made = trainer._generate_and_score_completions([{"prompt": one} for one in prompts for _ in range(SIZE)])
    ids = torch.cat([made["prompt_ids"], made["completion_ids"]], 1)
    mask = torch.cat([made["prompt_mask"], made["completion_mask"]], 1)
    width = made["completion_ids"].shape[1]
    with torch.no_grad():
        now = trainer._get_per_token_logps_and_entropies(trainer.model, ids, mask, width)[0]
    made["old_per_token_logps"] = now + 0.3 * torch.randn(now.shape, generator=torch.Generator().manual_seed(1))
    return trainer, made, paid


def as_episodes(made, paid):
    """The same answers as plays of a game of one turn."""
    episodes, old = [], []
    for number, reward in enumerate(paid):
        said = made["completion_mask"][number].bool()
        turn = Turn(
            seat="one",
            step=0,
            order=0,
            policy="one",
            text="",
            agent="one",
            prompt_ids=made["prompt_ids"][number][made["prompt_mask"][number].bool()].tolist(),
            completion_ids=made["completion_ids"][number][said].tolist(),
            logprobs=made["old_per_token_logps"][number][said].tolist(),
        )
        group = number // SIZE
        episode = Episode(f"e{number}", "game", ("one",), {"one": "one"}, group, group, number % SIZE, turns=[turn])
        episode.rewards, episode.terms = [{"one": reward}], {"paid": {"one": [reward]}}
        episodes.append(episode)
        old.append(made["old_per_token_logps"][number][said])
    return episodes, torch.cat(old)


@pytest.mark.learning
@pytest.mark.parametrize("kind", CASES)
def test_grpo_is_trls(kind, tmp_path):
    settings, scale = CASES[kind]
    trainer, made, paid = trl_answers(kind, scale, tmp_path)
    theirs = trainer._compute_loss(trainer.model, made)
    theirs.backward()

    algorithm = read_algorithm(settings)
    episodes, old_N = as_episodes(made, paid)
    advantage_U = assess(algorithm, turn_table(episodes), {}).advantage_U
    np.testing.assert_allclose(advantage_U, made["advantages"].numpy(), rtol=1e-5, atol=1e-6)
    assert len({len(episode.turns[0].completion_ids) for episode in episodes}) > 1  # lengths differ, or means would not

    rows = build_rows(episodes, advantage_U)["one"]
    model = AutoModelForCausalLM.from_pretrained(base_folder()).requires_grad_(False).eval()
    bank = AdapterBank(model)
    bank.load("one", tmp_path / "adapter")
    row_N = np.repeat(np.arange(len(rows)), [len(row.targets) for row in rows])
    with bank.use("one"):
        logp_N = Scorer(bank, 10_000).forward(rows).logp_N
        advantage_N = torch.from_numpy(np.concatenate([row.advantage for row in rows])).to(logp_N)
        weight_N = token_weights(algorithm.aggregate, row_N, row_N)
        ours, report = policy_loss(algorithm, logp_N, old_N, old_N, None, advantage_N, weight_N)
        ours.backward()
    assert report["clip_fraction"] > 0
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-4, abs=1e-6)
    gradients = {name.replace(".default", ""): one.grad for name, one in trainer.model.named_parameters()}
    for name, parameter in bank.named_parameters("one").items():
        wanted = gradients[name]
        torch.testing.assert_close(parameter.grad, wanted, rtol=1e-3, atol=1e-4 * wanted.abs().max().item())
