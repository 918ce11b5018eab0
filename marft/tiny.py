"""`model: tiny`: a small Qwen3 model and tokenizer made on the spot, so that everything runs without a hub.

Both come from a seed. The tokenizer is a byte-level BPE learned from rendered play of the recipe's game; the model is
warmed up on the play of its scripted players, drawn at random for every seat, all alike or by the weights of
`model.tiny.players`, which shape the prior and may name players of the user's own. The players must differ in kind:
with coin-flip play alone the output rows of the two move tokens stay nearly equal, and no adapter can push a move's
probability far from one half.

The result is a plain model folder in the cache (`MARFT_CACHE`, else ~/.cache/marft), keyed by everything it depends on.

The warm-up is a plain loop and not TRL's trainer: the core must run without trl installed, and the rows must be encoded
exactly as rollouts encode them.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from marft.chat import Chat
from marft.config import Recipe, Tiny
from marft.curriculum import stages_of
from marft.errors import ModelError
from marft.files import replace_folder
from marft.game import Game, Message
from marft.games import make_game
from marft.recipe import load_player
from marft.seeds import derive
from marft.threads import fit_threads

log = logging.getLogger(__name__)

FORMAT = 3
"""Raise it when the same settings and players give another model, so that no stale cache is used."""

LONGEST_PATH = 1000
"""Characters beyond which a text of the recipe cannot name a file."""

ROLES = ("system", "user", "assistant")
CONTROL = ("<|pad|>", "<|end|>", *(f"<|{role}|>" for role in ROLES))
TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
# A tag is one piece, so that an answer such as <A> is one token, and so is a mark such as <<end>>; digits stand alone.
# What lies between may merge across words: a game says the same sentences over and over, and each becomes a token or
# two. That halves a row.
PIECES = r" ?<<[A-Za-z_/]{1,32}>>| ?<[A-Za-z_/]{1,32}>| ?\p{N}|\n|[^<>\p{N}\n]+|[<>]"

Script = list[tuple[Sequence[Message], str]]
"""One seat's side of an episode: what it heard and what it then said, turn by turn."""


def build_tiny(recipe: Recipe) -> Path:
    """The folder of the tiny model for this recipe's game; built once, then taken from the cache."""
    settings = recipe.model.tiny
    folder = tiny_folder(recipe)
    if (folder / "config.json").is_file():
        return folder
    game = make_game(recipe.game.name, recipe.game.options)
    scripts = scripted_play(game, settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(settings.seed, "tiny") % 2**31)
        tokenizer = train_tokenizer(scripts, settings)
        model = new_model(tokenizer, settings)
        warm_up(model, tokenizer, scripts, settings)
    if (folder / "config.json").is_file():  # another process built the same one meanwhile, and may be reading it
        return folder
    with replace_folder(folder) as temporary:
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
    return folder


def tiny_folder(recipe: Recipe) -> Path:
    """Where the tiny model of this recipe is cached."""
    players = sorted(make_game(recipe.game.name, recipe.game.options).players)
    key = {"format": FORMAT, "tiny": recipe.model.tiny.model_dump(), "game": recipe.game.model_dump()}
    key |= {"players": players} | _own_files(recipe)
    digest = hashlib.blake2b(json.dumps(key, sort_keys=True).encode(), digest_size=8).hexdigest()
    root = Path(os.environ.get("MARFT_CACHE") or Path.home() / ".cache" / "marft")
    safe = "".join(c if c.isalnum() or c in "-_" else "-" for c in recipe.game.name)
    return root / f"tiny-{safe}-{digest}"


def _own_files(recipe: Recipe) -> dict[str, dict[str, str]]:
    """The files that the game and its players name (players, a game of one's own, tasks), by their content: where one
    has changed, what is learned from it has, too."""
    names = [*recipe.model.tiny.players, *_texts(recipe.game.model_dump())]
    places = {name if Path(name).is_file() else name.rpartition(":")[0] for name in names if len(name) < LONGEST_PATH}
    texts = {place: Path(place).read_bytes() for place in sorted(places) if Path(place).is_file()}
    found = {place: hashlib.blake2b(text, digest_size=8).hexdigest() for place, text in texts.items()}
    return {"files": found} if found else {}


def _texts(data: Any) -> Iterator[str]:
    """All texts in nested data."""
    if isinstance(data, str):
        yield data
    elif isinstance(data, dict):
        for value in data.values():
            yield from _texts(value)
    elif isinstance(data, list | tuple):
        for value in data:
            yield from _texts(value)


def scripted_play(game: Game, settings: Tiny) -> list[Script]:
    """All sides of `warmup_episodes` episodes between players drawn at random, the stages of a curriculum in turn."""
    if not game.players and not settings.players:
        raise ModelError(f"model: tiny needs scripted players to learn the format of {game.name} from; it has none")
    names = sorted(settings.players or game.players)
    known = {name: load_player(game, name, f"model.tiny.players.{name}") for name in names}
    weights = [settings.players[name] for name in names] if settings.players else None
    games = stages_of(game) or [game]
    scripts = []
    for number in range(settings.warmup_episodes):
        game = games[number % len(games)]
        rng = random.Random(derive(settings.seed, "warmup", number))
        drawn = rng.choices(names, weights, k=len(game.seats)) if weights else [rng.choice(names) for _ in game.seats]
        players = {seat: known[name] for seat, name in zip(game.seats, drawn, strict=True)}
        sides: dict[str, Script] = {seat: [] for seat in game.seats}
        game.reset(derive(settings.seed, "instance", number))
        while seats := game.acting():
            texts = {}
            for seat in seats:
                heard = game.observe(seat)
                texts[seat] = players[seat](game.view(seat), rng)
                sides[seat].append((heard, texts[seat]))
            game.act(texts)
        scripts.extend(side for side in sides.values() if side)
    return scripts


def train_tokenizer(scripts: Sequence[Script], settings: Tiny) -> PreTrainedTokenizerFast:
    """A byte-level BPE over the texts of the play, with a chat template of one token per role."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=settings.vocabulary,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in CONTROL],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    texts = [text for script in scripts for heard, said in script for text in (*(m.text for m in heard), said)]
    tokenizer.train_from_iterator(texts, trainer)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<|pad|>", model_max_length=settings.context
    )
    wrapped.chat_template = TEMPLATE
    return wrapped


def new_model(tokenizer: PreTrainedTokenizerFast, settings: Tiny) -> Qwen3ForCausalLM:
    """A Qwen3 model of the given shape with random weights."""
    return Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(tokenizer),
            hidden_size=settings.hidden,
            intermediate_size=settings.intermediate,
            num_hidden_layers=settings.layers,
            num_attention_heads=settings.heads,
            num_key_value_heads=settings.kv_heads,
            head_dim=settings.hidden // settings.heads,
            max_position_embeddings=settings.context,
            tie_word_embeddings=False,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def encode(chat: Chat, script: Script) -> tuple[list[int], list[bool]]:
    """One side of an episode as token ids, and which of them it said itself (its end-of-turn token included)."""
    conversation = chat.conversation()
    said: list[bool] = []
    for heard, text in script:
        new, _ = conversation.hear(heard)
        answer = [*chat.plain(text), chat.end_id]
        conversation.answer(answer)
        said += [False] * len(new) + [True] * len(answer)
    return conversation.ids, said


def warm_up(
    model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, scripts: Sequence[Script], settings: Tiny
) -> None:
    """Supervised learning of what the scripted players said: AdamW, cosine decay, all weights."""
    chat = Chat(tokenizer)
    rows = [encode(chat, script) for script in scripts]
    longest = max(len(ids) for ids, _ in rows)
    if longest > settings.context:
        raise ModelError(f"model.tiny.context: {settings.context} is less than an episode's {longest} tokens")
    ids_RL = np.full((len(rows), longest), tokenizer.pad_token_id, dtype=np.int64)
    said_RL = np.zeros((len(rows), longest), dtype=bool)
    for number, (ids, said) in enumerate(rows):
        ids_RL[number, : len(ids)] = ids
        said_RL[number, : len(said)] = said
    ids_RL, said_RL = torch.from_numpy(ids_RL), torch.from_numpy(said_RL)
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.warmup_learning_rate, weight_decay=0.01)
    steps = settings.warmup_steps
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / 20) * 0.5 * (1 + np.cos(np.pi * step / max(1, steps)))
    )
    generator = torch.Generator().manual_seed(derive(settings.seed, "batches") % 2**31)
    fit_threads(model)
    model.train()
    for step in range(steps):
        batch = torch.randint(len(rows), (settings.warmup_batch,), generator=generator)
        hidden = model.model(input_ids=ids_RL[batch], use_cache=False)[0]
        learn = said_RL[batch][:, 1:]  # position p - 1 predicts token p
        loss = F.cross_entropy(model.lm_head(hidden[:, :-1][learn]), ids_RL[batch][:, 1:][learn])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0 or step == steps - 1:
            log.info("warm-up step %d of %d: loss %.4f", step + 1, steps, loss.item())
    model.eval()
