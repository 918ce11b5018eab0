"""Episodes to training rows, and rows to micro-batches.

All turns of one seat in an episode are one row as long as each prompt extends the one before, so a row costs the
dialogue's length and not its square. The loss stands on the ids the agent sampled, its end-of-turn token included and
nothing else. Pure data: no model, no file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from marft.episode import Episode
from marft.errors import RewardError


@dataclass(slots=True)
class Row:
    """One training sequence of one agent.

    ids: (L,) token ids. targets: (N,) the positions in `ids` that are trained, ascending.
    engine: (N,) log-probs under the engine's policy. advantage: (N,). turn: (N,) index of the turn in the turn table.
    """

    agent: str
    ids: np.ndarray
    targets: np.ndarray
    engine: np.ndarray
    advantage: np.ndarray
    turn: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)


def turn_table(episodes: Sequence[Episode]) -> dict[str, np.ndarray]:
    """The columns that credit works on: one row per turn, in the order of the episodes and their turns.

    A decision's reward is the sum of all reward terms at its step and stands on the decision's first turn. What a seat
    earns at a step where it does not act (the other's winning move) becomes a row of its own behind all turns, with
    `acted_U` false: it counts in returns, and nothing is trained on it.
    """
    rows: list[tuple] = []
    idle: list[tuple] = []
    for number, episode in enumerate(episodes):
        paid = _paid(episode)
        place = (number, episode.group, episode.game)
        speaker = {}
        for turn in episode.turns:
            speaker[turn.seat] = turn.agent or turn.policy
            reward = paid.pop((turn.seat, turn.step), 0.0)
            flags = (turn.version, len(turn.completion_ids), turn.invalid, turn.truncated, True)
            rows.append((*place, turn.seat, speaker[turn.seat], turn.step, turn.order, reward, *flags))
        for (seat, step), reward in paid.items():
            who = speaker.get(seat, episode.team[seat])
            idle.append((*place, seat, who, step, 0, reward, -1, 0, False, False, False))
    columns = zip(*rows, *idle, strict=True) if rows else ((),) * len(COLUMNS)
    return {f"{name}_U": np.array(values) for name, values in zip(COLUMNS, columns, strict=True)}


COLUMNS = (
    "episode",
    "group",
    "game",
    "seat",
    "agent",
    "step",
    "order",
    "reward",
    "version",
    "tokens",
    "invalid",
    "truncated",
    "acted",
)


def _paid(episode: Episode) -> dict[tuple[str, int], float]:
    """(seat, step) -> reward, all terms added up, zeros left out."""
    paid: dict[tuple[str, int], float] = {}
    for term in episode.terms.values():
        for seat, values in term.items():
            for step, value in enumerate(values):
                if value:
                    paid[seat, step] = paid.get((seat, step), 0.0) + value
    return paid


def score(episode: Episode, rewards: Mapping[str, tuple[object, float]]) -> None:
    """Run the reward functions, {name: (function, weight)}, on an episode and store each weighted term in it."""
    steps = len(episode.rewards)
    last = {turn.seat: turn.step for turn in episode.turns}
    for name, (function, weight) in rewards.items():
        try:
            given = dict(function(episode))
        except Exception as error:  # the boundary to a user's reward
            raise RewardError(f"reward {name} raised {type(error).__name__}: {error} on {episode.id}") from error
        term: dict[str, list[float]] = {}
        for seat, value in given.items():
            if seat not in episode.seats:
                raise RewardError(f"reward {name} names a seat {seat!r} that {episode.game} does not have")
            try:
                values = _per_step(value, steps, last.get(seat))
            except (TypeError, ValueError) as error:
                raise RewardError(f"reward {name} gave {seat} {error} on {episode.id}") from None
            if not np.isfinite(values).all():
                raise RewardError(f"reward {name} gave {seat} {values} on {episode.id}; rewards must be finite numbers")
            term[seat] = [weight * item for item in values]
        episode.terms[name] = term


def _per_step(value: object, steps: int, last: int | None) -> list[float]:
    """What a reward gave one seat, as a number per step; a single number stands at the seat's last step.

    A seat that never acted (last is None) is paid at the episode's last step: it still counts in a team's return.
    """
    if isinstance(value, str):
        raise TypeError(f"the text {value!r}, not numbers")
    if isinstance(value, Sequence | np.ndarray):
        if len(value) != steps:
            raise ValueError(f"{len(value)} values for {steps} steps")
        return [float(item) for item in value]
    values, number = [0.0] * steps, float(value)
    if steps:
        values[steps - 1 if last is None else last] = number
    return values


def build_rows(episodes: Sequence[Episode], advantage_U: np.ndarray) -> dict[str, list[Row]]:
    """Rows of each agent, in the order of the episodes. `advantage_U` has one number per row of their turn table."""
    rows: dict[str, list[Row]] = {}
    start = 0
    for episode in episodes:
        numbers = {id(turn): start + offset for offset, turn in enumerate(episode.turns)}
        start += len(episode.turns)
        for seat in episode.seats:
            for turns in _unbroken(episode, seat):
                row = _row(turns, numbers, advantage_U)
                rows.setdefault(row.agent, []).append(row)
    return rows


def _unbroken(episode: Episode, seat: str) -> Iterator[list]:
    """A learner's turns, cut where the context starts afresh."""
    run: list = []
    for turn in episode.turns_of(seat):
        if turn.agent is None:
            return
        if turn.fresh and run:
            yield run
            run = []
        run.append(turn)
    if run:
        yield run


def _row(turns: Sequence, numbers: Mapping[int, int], advantage_U: np.ndarray) -> Row:
    ids: list[int] = []
    targets: list[int] = []
    engine: list[float] = []
    owner: list[int] = []
    for turn in turns:
        ids.extend(turn.prompt_ids)
        targets.extend(range(len(ids), len(ids) + len(turn.completion_ids)))
        ids.extend(turn.completion_ids)
        engine.extend(turn.logprobs)
        owner.extend([numbers[id(turn)]] * len(turn.completion_ids))
    turn_N = np.array(owner)
    return Row(
        agent=turns[0].agent,
        ids=np.array(ids, dtype=np.int64),
        targets=np.array(targets, dtype=np.int64),
        engine=np.array(engine),
        advantage=advantage_U[turn_N],
        turn=turn_N,
    )


def micro_batches(rows: Sequence[Row], token_budget: int) -> list[list[int]]:
    """Row numbers in batches of at most `token_budget` tokens, padding included; longest rows first, alike together.

    A row longer than the budget is a batch of its own: it has to be trained, and the machine says if it cannot.
    """
    order = sorted(range(len(rows)), key=lambda number: (-len(rows[number]), number))
    batches: list[list[int]] = []
    for number in order:
        if batches and len(rows[batches[-1][0]]) * (len(batches[-1]) + 1) <= token_budget:
            batches[-1].append(number)
        else:
            batches.append([number])
    return batches


def collate(rows: Sequence[Row]) -> tuple[np.ndarray, np.ndarray]:
    """Right-padded ids (R, L), and for every trained token the flat index of the position that predicts it (N,)."""
    width = max(map(len, rows))
    ids_RL = np.zeros((len(rows), width), dtype=np.int64)
    for number, row in enumerate(rows):
        ids_RL[number, : len(row)] = row.ids
    predictor_N = np.concatenate([number * width + row.targets - 1 for number, row in enumerate(rows)])
    return ids_RL, predictor_N
