"""One process of a ZeRO stage 3 launch: cut up a base and report, per process, what it holds and computes.

Bytes are counted in all tensors that Python can reach, whatever DeepSpeed calls them.
"""

import gc
import json
import sys
from pathlib import Path

import torch
from accelerate import Accelerator
from transformers import Qwen3Config, Qwen3ForCausalLM

from marft.bank import AdapterBank
from marft.config import Adapter
from marft.shards import Shards
from marft.train.workers import Workers

SHAPE = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4, "vocab_size": 320, "head_dim": 32}


def held() -> int:
    """Bytes in the distinct storages of all live tensors."""
    gc.collect()
    tensors = [one for one in gc.get_objects() if isinstance(one, torch.Tensor)]
    return sum({one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() for one in tensors}.values())


def main(out: Path) -> None:
    workers = Workers(Accelerator(cpu=True))
    torch.manual_seed(0)
    config = Qwen3Config(**SHAPE, num_attention_heads=2, num_key_value_heads=2, tie_word_embeddings=True)
    bank = AdapterBank(Qwen3ForCausalLM(config).eval().requires_grad_(False))
    report = {"bytes": 4 * sum(parameter.numel() for parameter in bank.base.parameters()), "before": held()}
    ids = torch.arange(10)[None]
    with torch.no_grad():
        expected = bank.head(bank.hidden(ids, use_cache=False))
    bank.shards = Shards(bank.base, workers.zero.settings, workers.accelerator.device, workers.most)
    report["sharded"] = held() - expected.untyped_storage().nbytes()
    most = 0

    def watch(*_: object) -> None:
        nonlocal most
        most = max(most, bank.shards.resident())

    for module in bank.base.modules():
        module.register_forward_hook(watch)
    with torch.no_grad():
        found = bank.head(bank.hidden(ids, use_cache=False))
        with bank.shards.whole():
            report["whole"] = held() - 2 * expected.untyped_storage().nbytes()
    report |= {"most": 4 * most, "gap": float((found - expected).abs().max())}
    bank.add("alice", Adapter(rank=2, alpha=4, targets="all-linear"), 0)
    with bank.use("alice"):
        bank.hidden(ids, use_cache=False).square().sum().backward()
    report["resident"] = 4 * bank.shards.resident()
    (out / f"{workers.rank}.json").write_text(json.dumps(report))
    workers.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
