"""A trained team as a policy that can be asked: the exact probability of each answer at an information state.

Nothing is sampled. The probability of an answer is that of its tokens and the end of the turn after exactly the
messages its seat would have seen; what is left over goes to unreadable answers, which the game replaces by a legal one
drawn at random (its option `invalid: random`). The policy is measured at temperature 1 without truncation, whatever the
recipe's `sampling` says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from marft.banks import Scorers, make_scorer, open_bases
from marft.chat import Chat, Chats
from marft.config import Policy
from marft.errors import RecipeError
from marft.eval.exploitability import Exploitability, InformationState, information_states, measure_text
from marft.eval.teams import Team, home_in, load_team
from marft.games import make_game
from marft.games.openspiel import SpielGame
from marft.scoring import Scorer
from marft.team import add_frozen
from marft.train.checkpoint import checkpoints

TOKENS_AT_ONCE = 16384


class TextPolicy:
    """Answers' probabilities of `policies`, seat -> whom the scorer knows by that name (`frozen:base`: bare base)."""

    def __init__(self, scorer: Scorer | Scorers, chat: Chats, policies: Mapping[str, str]) -> None:
        self._scorer, self.chat, self.policies = scorer, chat, policies

    def chances(self, states: Sequence[InformationState]) -> list[dict[str, float]]:
        """answer -> probability of each state, unreadable answers shared out evenly over the legal ones."""
        prompts, texts, owners = [], [], []
        for number, state in enumerate(states):
            chat = self.chat.of(self.policies[state.seat])
            prompt = _prompt(chat, state)
            for text in state.answers:
                prompts.append(prompt)
                texts.append([*chat.plain(text), chat.end_id])
                owners.append(number)
        mass = np.zeros(len(texts))
        for seat, policy in self.policies.items():
            mine = [place for place, owner in enumerate(owners) if states[owner].seat == seat]
            scored = self._scorer.score(policy, [prompts[n] for n in mine], [texts[n] for n in mine])
            mass[mine] = [np.exp(logp_N.sum()) for logp_N in scored]
        found: list[dict[str, float]] = [{} for _ in states]
        answers = [text for state in states for text in state.answers]
        for owner, text, chance in zip(owners, answers, mass, strict=True):
            found[owner][text] = float(chance)
        return [_shared_out(one) for one in found]


def _prompt(chat: Chat, state: InformationState) -> list[int]:
    conversation = chat.conversation()
    for messages, said in state.turns:
        conversation.hear(messages)
        conversation.answer([*chat.plain(said), chat.end_id])
    conversation.hear(state.messages)
    return conversation.ids


def _shared_out(chances: Mapping[str, float]) -> dict[str, float]:
    left = max(0.0, 1.0 - sum(chances.values()))
    total = sum(chances.values()) + left
    return {text: (chance + left / len(chances)) / total for text, chance in chances.items()}


def exploitability_of(path: Path, recipe: Path | None = None) -> Exploitability:
    """Exact exploitability of a run's newest adapters, both seats as its recipe fills them.

    Raises RecipeError where the game is none of OpenSpiel's with information states, or replaces unreadable answers
    otherwise than at random, or where a scripted player fills a seat.
    """
    team = load_team(path.name, path, recipe)
    (found,) = _measured(team, [team.adapters])
    return found


def exploitability_by_update(path: Path) -> dict[int, Exploitability]:
    """The same at each checkpoint that a run has kept (`train.save_every`, `train.keep_last`): updates made -> it."""
    team = load_team(path.name, path, None)
    kept = checkpoints(path / "checkpoints")
    adapters = [{agent: folder / "adapters" / agent for agent in team.adapters} for folder in kept.values()]
    return dict(zip(kept, _measured(team, adapters), strict=True))


def _measured(team: Team, adapters: Sequence[Mapping[str, Path]]) -> list[Exploitability]:
    """Of the team with each of several sets of its agents' adapters."""
    settings = team.recipe
    game = make_game(settings.game.name, settings.game.options)
    if not isinstance(game, SpielGame):
        raise RecipeError(f"exploitability: {settings.game.name} is not one of OpenSpiel's games")
    if len(game.seats) != 2:
        raise RecipeError(f"exploitability: {game.spiel()} has {len(game.seats)} seats; it is defined here for two")
    if game.options.invalid != "random":
        raise RecipeError(f"exploitability: game.invalid is {game.options.invalid}; only random is a policy")
    for seat in game.seats:
        _check_asked(settings.team[seat].own, f"team.{seat}")
    base, bank = open_bases(settings, home=home_in([team]))
    add_frozen(bank, [settings.team[seat].own for seat in game.seats])
    scorer = make_scorer(base, bank, TOKENS_AT_ONCE)
    policy = TextPolicy(scorer, base.chat, {seat: team.policy(seat) for seat in game.seats})
    found = []
    for folders in adapters:
        for agent, folder in folders.items():
            name = f"{team.name}/{agent}"
            own = bank.of(name)
            (own.restore if name in own.names else own.load)(name, folder)
        found.append(measure(game, policy))
    return found


def _check_asked(policy: Policy, where: str) -> None:
    """A script or an endpoint tells no probabilities."""
    if not policy.by_model:
        raise RecipeError(
            f"exploitability: {where} is {policy}, which has no probabilities to ask for; measure a team whose seats "
            "are all agents or frozen adapters"
        )


def measure(game: SpielGame, policy: TextPolicy) -> Exploitability:
    """The same of a policy at hand."""
    states = list(information_states(game))
    table = dict(zip([state.info for state in states], policy.chances(states), strict=True))
    return measure_text(game, lambda state: table[state.info])
