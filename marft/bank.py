"""One frozen base, many LoRA adapters: the model that engine and trainer share.

The adapters are PEFT's. PEFT switches `requires_grad` off on every adapter but the active one, so each agent's
parameter list is taken from the names once and never from that flag.

Only one thread at a time computes: whoever is inside `use`, or adds, changes or removes an adapter, holds `lock`.
"""

from __future__ import annotations

import contextlib
import copy
import threading
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from marft.config import Adapter
from marft.errors import ModelError
from marft.files import replace_folder
from marft.mixed import mixable, mixed_lora, mixed_rows
from marft.packing import NAME as PACKED
from marft.packing import Layout, apart, can_pack, close, layout_of
from marft.seeds import derive
from marft.shards import Whole

MAGNITUDE = ("lora_magnitude_vector.weight", "lora_magnitude_vector")
"""DoRA's magnitudes: the module's name, and that in a PEFT folder."""


class AdapterBank:
    """A base model with named adapters; `use(name)` chooses who computes, None is the bare base."""

    def __init__(self, base: nn.Module, packing: bool = True) -> None:
        self.base = base
        self.attention = base.config._attn_implementation
        self.peft: PeftModel | None = None
        self.shards = Whole()
        self.lock = threading.RLock()
        self.names: dict[str, str] = {}
        self._active: str | None = None
        self._using: list[str | None] = []
        self._mixes: dict[frozenset[str], bool] = {}
        self._attached = 0
        self._mixes_rows: bool | None = None
        self._layers: list[BaseTunerLayer] = []
        self._parameters: dict[str, dict[str, nn.Parameter]] = {}
        self._scale, self._softcap = _head_shape(base.config)
        self._check_head()
        self.packs = packing and can_pack(base)

    def of(self, policy: str) -> AdapterBank:
        """The bank that holds a policy: where all are on one base, this one (see `marft.banks` for several)."""
        return self

    @property
    def device(self) -> torch.device:
        return next(self.base.parameters()).device

    @property
    def config(self) -> Any:
        return self.base.config

    def add(self, name: str, settings: Adapter, seed: int) -> None:
        """A fresh adapter: A random from `seed`, B zero, so that it starts as the base."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(seed, "adapter", name) % 2**31)
            self._attach(name, lora_config(settings))

    def load(self, name: str, folder: str | Path) -> None:
        """The adapter in a PEFT folder."""
        if not (Path(folder) / "adapter_config.json").is_file():
            raise ModelError(f"adapter of {name}: {folder} holds no adapter_config.json, so it is no PEFT adapter")
        config = PeftConfig.from_pretrained(str(folder))
        config.inference_mode = False
        self._attach(name, config)
        self.restore(name, folder)

    def restore(self, name: str, folder: str | Path) -> None:
        """Overwrite an adapter's weights with those of a PEFT folder; names and shapes must be the same."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        path = Path(folder) / "adapter_model.safetensors"
        try:
            stored = load_file(path)
        except (OSError, SafetensorError) as error:
            raise ModelError(f"adapter of {name}: {path} cannot be read: {error}") from None
        own = self._stored_names(name)
        for key in sorted(own.keys() ^ stored.keys()):
            place = "the folder" if key in stored else "the recipe's adapter"
            raise ModelError(
                f"adapter of {name}: {folder} does not fit the recipe: {key} is only in {place}; "
                f"set agents.{name}.adapter.targets as they were"
            )
        for key, tensor in stored.items():
            if own[key].shape != tensor.shape:
                raise ModelError(
                    f"adapter of {name}: {key} is {tuple(tensor.shape)} in {folder} but {tuple(own[key].shape)} by "
                    f"the recipe; set agents.{name}.adapter.rank and targets as they were"
                )
        with self.lock, torch.no_grad():
            for key, tensor in stored.items():
                own[key].copy_(tensor)

    def save(self, name: str, folder: str | Path) -> None:
        """Write an adapter as a plain PEFT folder, whole or not at all."""
        from safetensors.torch import save_file

        with replace_folder(Path(folder)) as temporary:
            _write_config(self.peft.peft_config[self.names[name]], temporary)
            tensors = {key: value.detach().cpu().contiguous() for key, value in self._stored_names(name).items()}
            save_file(tensors, temporary / "adapter_model.safetensors", metadata={"format": "pt"})

    def copy(self, source: str, name: str) -> None:
        """A further adapter of the same shape as `source`, with the weights that it has now."""
        with torch.random.fork_rng(devices=[]):  # PEFT draws weights first, which are written over
            self._attach(name, copy.deepcopy(self.peft.peft_config[self.names[source]]))
        self.overwrite(name, source)

    @torch.no_grad()
    def overwrite(self, name: str, source: str) -> None:
        """Give an adapter the weights that another one of the same shape has now."""
        with self.lock:
            for old, new in zip(self.parameters(name), self.parameters(source), strict=True):
                old.copy_(new)

    def remove(self, name: str) -> None:
        """Forget an adapter."""
        with self.lock:
            if self._active == name:
                self._activate(next(other for other in self.names if other != name))
            self.peft.delete_adapter(self.names.pop(name))
            del self._parameters[name]
            active, self._active = self._active, None  # PEFT may have switched to another one
            self._activate(active)

    def parameters(self, name: str) -> list[nn.Parameter]:
        """An adapter's parameters, always in the same order."""
        return list(self._parameters[name].values())

    def named_parameters(self, name: str) -> dict[str, nn.Parameter]:
        """An adapter's parameters under the names they have in a PEFT folder."""
        return self._stored_names(name)

    @contextlib.contextmanager
    def use(self, name: str | None) -> Iterator[None]:
        """Compute with one adapter, or with the bare base; inside another `use`, that one comes back afterwards.

        Other threads wait for its end, so forward and backward belong into one `use`.
        """
        with self.lock:
            if name is not None and name not in self.names:
                raise ModelError(f"adapter: none is called {name!r}; there are {', '.join(self.names) or 'none'}")
            self._using.append(name)
            try:
                self._activate(name)
                yield
            finally:
                self._using.pop()
                if self._using:
                    self._activate(self._using[-1])
                else:
                    self._attend(None)

    @contextlib.contextmanager
    def mixed(self, segments: Sequence[tuple[str, int]]) -> Iterator[None]:
        """Compute packs in which these adapters, one after the other, have so many tokens each; see `mixes`."""
        with self.lock:
            if self._using:
                raise RuntimeError(f"a mixed pass inside the use of {self._using[-1]!r}")
            names = [name for name, _ in segments]
            for name in names:
                for parameter in self.parameters(name):
                    parameter.requires_grad_(True)
            try:
                with mixed_lora(self._layers, [(self.names[name], count) for name, count in segments]):
                    yield
            finally:
                self._attend(None)
                for name in names:
                    for parameter in self.parameters(name):
                        parameter.requires_grad_(name == self._active)

    @contextlib.contextmanager
    def use_rows(self, names: Sequence[str | None]) -> Iterator[None]:
        """Compute batches whose rows are these adapters' (None: the bare base), without gradients.

        Several adapters need `mixes_rows`.
        """
        own: dict[str | None, list[int]] = {}
        for row, name in enumerate(names):
            own.setdefault(name, []).append(row)
        if len(own) == 1:
            with self.use(names[0]):
                yield
            return
        with self.lock:
            rows = [(self.names[name], self._rows(at)) for name, at in own.items() if name is not None]
            with mixed_rows(self._layers, rows, len(names)):
                yield

    def _rows(self, at: Sequence[int]) -> slice | Tensor:
        """These rows of a batch; neighbours as a slice, which copies nothing."""
        if at[-1] - at[0] == len(at) - 1:
            return slice(at[0], at[-1] + 1)
        return torch.tensor(at, device=self.device)

    def mixes(self, names: Sequence[str]) -> bool:
        """Whether rows of these adapters can share a pack: all plain LoRA, below the head; tried out once."""
        if not self.packs:
            return False
        key = frozenset(names)
        if key not in self._mixes:
            self._mixes[key] = self._mixable(names) and self._same(names, packed=True)
        return self._mixes[key]

    def mixes_rows(self, names: Sequence[str | None]) -> bool:
        """Whether a batch can hold rows of these adapters (None: the bare base); a bank tries it out once."""
        if not self._mixable([name for name in names if name is not None]):
            return False
        if self._mixes_rows is None:
            self._mixes_rows = self._same(names, packed=False)
        return self._mixes_rows

    def _mixable(self, names: Sequence[str]) -> bool:
        return mixable(self._layers, [self.names[name] for name in names], self.base.get_output_embeddings())

    @torch.no_grad()
    def _same(self, names: Sequence[str | None], packed: bool) -> bool:
        """Whether a mixed pass of a few tokens gives what each adapter gives alone; experts, say, see other tokens."""
        with self.lock:
            lengths = [3 + number % 3 * packed for number in range(len(names))]
            rows = [torch.arange(1, 1 + length, device=self.device) % self.config.vocab_size for length in lengths]
            alone = []
            for name, row in zip(names, rows, strict=True):
                with self.use(name):
                    alone.append(self.hidden(row[None], use_cache=False)[0])
            try:
                if packed:
                    with self.mixed(list(zip(names, lengths, strict=True))):
                        together = self.hidden(torch.cat(rows)[None], packed=layout_of(apart(lengths), self.device))[0]
                else:
                    with self.use_rows(names):
                        together = self.hidden(torch.stack(rows), use_cache=False).flatten(0, 1)
            except ValueError:  # a layer met other tokens
                return False
            return close(together, torch.cat(alone))

    def hidden(self, input_ids: Tensor, *, packed: Layout | None = None, **inputs: Any) -> Tensor:
        """Last hidden states (rows, positions, width); `head` turns the ones that matter into logits.

        packed: where several rows lie in the one that is given. Attention stays packed until the end of `use`, since a
        backward pass may compute some of it again.
        """
        self._attend(packed)
        if packed is not None:
            inputs |= {"packed": packed, "position_ids": packed.position_1T, "use_cache": False}
        return self.base.base_model(input_ids=input_ids, **inputs)[0]

    def head(self, hidden: Tensor) -> Tensor:
        """Logits of hidden states, as the whole model would compute them."""
        logits = self.base.get_output_embeddings()(hidden)
        if self._scale != 1.0:
            logits = logits * self._scale
        if self._softcap is not None:
            logits = torch.tanh(logits / self._softcap) * self._softcap
        return logits

    def _attend(self, packed: Layout | None) -> None:
        wanted = self.attention if packed is None else PACKED
        if self.config._attn_implementation != wanted:
            self.config._attn_implementation = wanted

    def _attach(self, name: str, config: PeftConfig) -> None:
        if name in self.names:
            raise ModelError(f"adapter: {name!r} is there already")
        with self.lock:
            self._attach_now(name, config)

    def _attach_now(self, name: str, config: PeftConfig) -> None:
        key = f"agent_{self._attached}"  # a module name: the agent's own may hold a dot, or look like PEFT's "lora_A"
        config.base_model_name_or_path = self.base.name_or_path  # PEFT fills it in for the first adapter, if at all
        try:
            if self.peft is None:
                self.peft = get_peft_model(self.base, config, adapter_name=key, autocast_adapter_dtype=True)
                self.base = self.peft.get_base_model()
            else:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # it warns that a second adapter is there; that is the idea
                    self.peft.add_adapter(key, config)
        except ValueError as error:
            raise ModelError(f"agents.{name}.adapter: {error}") from error
        self._attached += 1
        self._mixes.clear()
        self.peft.eval()
        self.names[name] = key
        self._parameters[name] = {
            full: parameter for full, parameter in self.peft.named_parameters() if key in full.split(".")
        }
        self._layers = [module for module in self.peft.modules() if isinstance(module, BaseTunerLayer)]
        for layer in self._layers:
            layer.enable_adapters(True)  # they are off where the base spoke last, and set_adapter leaves them so
        self.peft.set_adapter(key)
        self._active = name

    def _activate(self, name: str | None) -> None:
        """Switch PEFT's layers one by one; walking the whole model for it takes longer than a tiny model's forward."""
        if self._active == name:
            return
        for layer in self._layers:
            if name is None:
                layer.enable_adapters(False)
                continue
            if self._active is None:
                layer.enable_adapters(True)
            layer.set_adapter(self.names[name])
        self._active = name

    def _stored_names(self, name: str) -> dict[str, nn.Parameter]:
        key = self.names[name]
        return {
            ".".join(part for part in full.split(".") if part != key).replace(*MAGNITUDE): value
            for full, value in self._parameters[name].items()
        }

    @torch.no_grad()
    def _check_head(self) -> None:
        """Some models scale their logits in ways of their own; a wrong head must not go unnoticed."""
        ids = torch.arange(1, 9, device=self.device)[None]
        whole = self.base(input_ids=ids, use_cache=False).logits.float()
        ours = self.head(self.hidden(ids, use_cache=False)).float()
        gap = (whole - ours).abs().max().item()
        if not gap <= 1e-2 * max(1.0, whole.abs().max().item()):
            kind = type(self.base).__name__
            raise ModelError(
                f"model: {kind} computes its logits in a way marft does not know (they differ by {gap:.3g})"
            )


def lora_config(settings: Adapter) -> LoraConfig:
    """The settings in PEFT's words."""
    return LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=0.0,  # the model stays in evaluation mode: what was sampled is what is trained
        target_modules=settings.targets if isinstance(settings.targets, str) else list(settings.targets),
        use_rslora=settings.rslora,
        use_dora=settings.dora,
        task_type="CAUSAL_LM",
    )


def _write_config(config: PeftConfig, folder: Path) -> None:
    """PEFT keeps names in sets and writes those in any order; the same adapter shall be the same bytes."""
    ordered = copy.copy(config)
    for key, value in vars(config).items():
        if isinstance(value, set):
            setattr(ordered, key, sorted(value))
    ordered.inference_mode = True
    ordered.save_pretrained(str(folder))


def _head_shape(config: Any) -> tuple[float, float | None]:
    """(factor, soft cap) that a model applies to its logits: Cohere multiplies, Granite divides, Gemma caps."""
    scale = getattr(config, "logit_scale", None) or 1.0
    scaling = getattr(config, "logits_scaling", None) or 1.0
    return float(scale) / float(scaling), getattr(config, "final_logit_softcapping", None)
