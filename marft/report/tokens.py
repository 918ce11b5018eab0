"""Turns token by token: what was heard and not trained, what was said, and what the update made of it.

Only turns that the run has recorded (`train.token_episodes`) are told; ids are put into words by the run's own
tokenizer, where it is at hand without a download.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from marft.episode import Episode
from marft.errors import MarftError
from marft.records import TokenRecord
from marft.report.runs import Run
from marft.report.transcripts import Texts

MOST = 4096
"""Completion tokens of a turn that are shown."""
BEFORE = 256
"""Prompt tokens before them that are shown."""

Words = Callable[[int], str]


class Vocabulary:
    """The tokenizers of a run's bases, loaded when first asked for. `problem`: why ids are shown instead."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._decoders: dict[str, Words | None] = {}
        self._known: dict[tuple[str, int], str] = {}
        self._recipe: Any = None
        self.problem = ""

    def word(self, agent: str, token: int) -> str:
        """The text of a token of that agent's base; its id as "#12" where there is no tokenizer."""
        key = (agent, token)
        if key not in self._known:
            if agent not in self._decoders:
                self._decoders[agent] = self._decoder(agent)
            decode = self._decoders[agent]
            self._known[key] = f"#{token}" if decode is None else decode(token)
        return self._known[key]

    def _decoder(self, agent: str) -> Words | None:
        from marft.bases import home_of, views_of
        from marft.train.folder import run_recipe

        try:
            if self._recipe is None:
                self._recipe = run_recipe(self._run.path)
            tokenizer = tokenizer_of(views_of(self._recipe)[home_of(self._recipe, agent).base])
        except (MarftError, OSError, ValueError, KeyError) as error:  # a run made elsewhere may lack anything here
            model = self._run.recipe.get("model")
            named = model.get("name") if isinstance(model, dict) else model
            self.problem = f"{named}, of {self._run.name} ({type(error).__name__})"
            return None

        def decode(token: int) -> str:
            text = tokenizer.decode([token])
            return text if "\ufffd" not in text else str(tokenizer.convert_ids_to_tokens(token))

        return decode


def tokenizer_of(recipe: Any) -> Any:
    """The tokenizer of a recipe's model; that of `tiny` is made on the spot, others are never downloaded."""
    from transformers import AutoTokenizer

    from marft.model import load_tokenizer

    if recipe.model.name != "tiny":
        return AutoTokenizer.from_pretrained(recipe.model.name, revision=recipe.model.revision, local_files_only=True)
    from marft.games import make_game
    from marft.tiny import scripted_play, tiny_folder, train_tokenizer

    folder = tiny_folder(recipe)
    if (folder / "tokenizer.json").is_file():
        return load_tokenizer(str(folder))
    game = make_game(recipe.game.name, recipe.game.options)
    return train_tokenizer(scripted_play(game, recipe.model.tiny), recipe.model.tiny)


def token_turns(
    episode: Episode, records: Mapping[tuple[str, int], TokenRecord], words: Vocabulary, texts: Texts
) -> dict[int, dict[str, Any]]:
    """Turn's number in the episode -> its tokens, of the turns that `records` (seat, turn of the seat) know.

    heard, said: numbers of texts. engine: log-probs of what was said. gap: the trainer's minus those. advantage.
    before, after: tokens left out at either end.
    """
    found = {}
    place: dict[str, int] = {}
    for number, turn in enumerate(episode.turns):
        of_seat = place.get(turn.seat, 0)
        place[turn.seat] = of_seat + 1
        record = records.get((turn.seat, of_seat))
        if record is None or turn.agent is None or len(record.logprobs) != len(turn.completion_ids):
            continue
        heard, said = turn.prompt_ids[-BEFORE:], turn.completion_ids[:MOST]
        engine = turn.logprobs[: len(said)]
        found[number] = {
            "heard": [texts(words.word(turn.agent, token)) for token in heard],
            "said": [texts(words.word(turn.agent, token)) for token in said],
            "engine": _digits(engine, 5),
            "gap": _digits([ours - theirs for ours, theirs in zip(record.logprobs, engine, strict=False)], 3),
            "advantage": _digits(record.advantage[: len(said)], 5),
            "before": len(turn.prompt_ids) - len(heard),
            "after": len(turn.completion_ids) - len(said),
        }
    return found


def _digits(values: Sequence[float], digits: int) -> list[float]:
    """With so many significant digits."""
    return [float(f"{value:.{digits}g}") for value in values]
