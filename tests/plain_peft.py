"""What the tests of updates compare with: an adapter in transformers and PEFT alone, and rows that make terms count."""

import dataclasses

import numpy as np
import torch
from peft import PeftModel
from trainer_fixtures import base_folder, one_by_one, widen
from transformers import AutoModelForCausalLM

EXACT = ("model.dtype=float64", "optimizer.max_grad_norm=1e9", "train.gap_limit=1e9")


def noisy(rows, scale=0.7, size=1.0):
    """Rows whose engine log-probs and advantages are arbitrary numbers, so that every term of the loss counts."""
    generator = torch.Generator().manual_seed(3)
    for row in rows:
        row.engine = row.engine + scale * torch.randn(len(row.engine), generator=generator).double().numpy()
        row.advantage = size * torch.randn(len(row.advantage), generator=generator).double().numpy()
    return rows


class Plain:
    """The same adapter in transformers and PEFT alone, from the folder that the bank wrote."""

    def __init__(self, rig, name, folder):
        rig.bank.save(name, folder)
        model = AutoModelForCausalLM.from_pretrained(base_folder(), dtype=torch.float64)
        self.model = PeftModel.from_pretrained(model, folder, is_trainable=True)
        widen(self.model)
        self.named = {key.replace(".default", ""): p for key, p in self.model.named_parameters() if "lora_" in key}

    def logits(self, row):
        """Logits at the positions before the row's targets, (N, V)."""
        return self.model(torch.tensor(row.ids)[None]).logits[0, torch.tensor(row.targets) - 1]

    def logp(self, rows, temperature=1.0):
        targets = (torch.tensor(row.ids[row.targets]) for row in rows)
        scores = (torch.log_softmax(self.logits(row) / temperature, -1) for row in rows)
        return torch.cat([s[torch.arange(len(t)), t] for s, t in zip(scores, targets, strict=True)])

    def base_logp(self, rows, temperature=1.0):
        with torch.no_grad(), self.model.disable_adapter():
            return self.logp(rows, temperature)

    def logp_of(self, weights, rows, temperature=1.0):
        """Log-probs under other weights of the same shape; these stay in place."""
        self.set(weights)
        with torch.no_grad():
            return self.logp(rows, temperature)

    def entropy(self, rows):
        return torch.cat([torch.distributions.Categorical(logits=self.logits(row)).entropy() for row in rows])

    def set(self, weights):
        with torch.no_grad():
            for name, value in weights.items():
                self.named[name].copy_(value)

    def gradient(self, loss, keep=False):
        self.model.zero_grad()
        loss.backward(retain_graph=keep)
        return {name: parameter.grad.clone() for name, parameter in self.named.items()}


def column(rows, name):
    return torch.cat([torch.from_numpy(getattr(row, name)) for row in rows])


def of_rows(rows):
    """(N,) the number of each token's row."""
    return torch.arange(len(rows)).repeat_interleave(torch.tensor([len(row.targets) for row in rows]))


def of_turns(rows):
    """(N,) the number of each token's turn, from 0."""
    return torch.unique(column(rows, "turn"), return_inverse=True)[1]


def mean_by(value_N, id_N):
    """(N,) the mean over all tokens of the same id."""
    return torch.stack([value_N[id_N == one].mean() for one in id_N])


def norm(gradient):
    return float(torch.cat([value.flatten() for value in gradient.values()]).norm())


def paid(episodes, seed=0, low=-1.0, high=1.0):
    """The episodes with a random reward for every seat at every step, in the place of what they earned."""
    rng = np.random.default_rng(seed)
    for episode in episodes:
        steps = len(episode.rewards)
        episode.terms = {"noise": {seat: rng.uniform(low, high, steps).tolist() for seat in episode.seats}}
    return episodes


def clone(row, turns):
    """A second row of the same content; its turns are others."""
    return dataclasses.replace(row, turn=row.turn + turns)


def rows_given(learning):
    """Agent -> the rows its last update was given; filled as the lesson goes on."""
    given, update = {}, learning.updater.update
    one_by_one(learning)

    def note(learner, rows, **rest):
        given[learner.name] = rows
        return update(learner, rows, **rest)

    learning.updater.update = note
    return given
