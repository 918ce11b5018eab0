"""One process of a ZeRO stage 2 launch: steps of an optimizer that is cut up, and what this process keeps of it."""

import json
import sys
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import nn

from marft.config import Optimizer
from marft.train.optimizer import apply_gradient, flatten, make_optimizer
from marft.train.workers import Workers

SHAPES = [(5, 3), (7,), (2, 2, 3)]
"""34 weights and an odd number of tensors, so that the cut goes through one of them."""


def weights() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64)) for shape in SHAPES]


def main(out: Path) -> None:
    workers = Workers(Accelerator(cpu=True))
    settings = Optimizer(learning_rate=0.1, weight_decay=0.1, max_grad_norm=1.0)
    ours, theirs = weights(), weights()
    pieces = make_optimizer(ours, settings, workers)
    whole = torch.optim.AdamW(theirs, lr=0.1, weight_decay=0.1)
    generator = torch.Generator().manual_seed(1 + workers.rank)
    norms = []
    for step in range(4):
        local = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in SHAPES]
        flat = workers.reduced(flatten(local, ours))
        norms.append(workers.norm(flat))
        apply_gradient(pieces, ours, flat, 0.1 / (step + 1), 1.0, norms[-1])
        for parameter, gradient in zip(theirs, local, strict=True):
            parameter.grad = workers.sum(gradient.clone())
        norms[-1] -= float(nn.utils.clip_grad_norm_(theirs, 1.0))
        whole.param_groups[0]["lr"] = 0.1 / (step + 1)
        whole.step()
    held = [state for state in pieces.inner.state[pieces.own].values() if state.numel() > 1]
    pieces.collect()
    moments = [
        float((pieces.state[one][key] - whole.state[other][key]).abs().max())
        for one, other in zip(ours, theirs, strict=True)
        for key in ("exp_avg", "exp_avg_sq")
    ]
    report = {
        "weights": max(float((one - other).abs().max()) for one, other in zip(ours, theirs, strict=True)),
        "moments": max(moments),
        "norms": max(map(abs, norms)),
        "held": sum(state.numel() for state in held),
        "reduced": len(flat),
    }
    (out / f"{workers.rank}.json").write_text(json.dumps(report))
    workers.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
