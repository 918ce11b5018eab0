"""Messages to token ids: encode once, append only, disarm everybody else's text.

A chat template is used as a skeleton. Message contents never go through it: each is replaced by a placeholder, the
rendered skeleton is encoded with control tokens on, and every content is encoded by itself with control tokens off.
So a seat's prompt is always its previous prompt, plus the ids its engine sampled, plus the new messages; and no text,
whoever wrote it, can open or close a message.

Where a template rewrites what an assistant said before (it drops old thinking, or marks the last turn), the sequence
cannot be appended to. Then the whole conversation is rendered again and the turn is marked `fresh`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from marft.errors import ModelError
from marft.game import Message

_OPEN, _CLOSE = "\ue000", "\ue001"
_PLACEHOLDER = re.compile(f"{_OPEN}(\\d+){_CLOSE}")
_THINKING = re.compile("(</?think>)")
_LINES = re.compile(r"(\n*)(.*?)(\n*)", re.DOTALL)


class Chat:
    """Encoder of conversations for one tokenizer.

    stop_ids: ids that end a completion: the template's end of turn and the tokenizer's end of text.
    end_id: the template's end-of-turn id, or the end of text where the template has none.
    """

    def __init__(self, tokenizer: Any) -> None:
        if not getattr(tokenizer, "chat_template", None):
            raise ModelError(f"model: the tokenizer of {tokenizer.name_or_path!r} has no chat template")
        self.tokenizer = tokenizer
        self.control = _control_tokens(tokenizer)
        self._control_pattern = re.compile(
            "|".join(map(re.escape, sorted(self.control, key=len, reverse=True))) or "(?!)"
        )
        self._control_ids = frozenset(self.control.values())
        self._plain = functools.lru_cache(maxsize=4096)(self._encode_plain)
        self._skeleton = functools.lru_cache(maxsize=4096)(self._render_skeleton)
        self._text = functools.lru_cache(maxsize=4096)(self._decode)
        self.follow = functools.lru_cache(maxsize=4096)(self._follow)
        self._ids = functools.lru_cache(maxsize=4096)(self._encode_skeleton)
        after = self._ids(self._after_answer())
        ends = [token for token in after[:1] if token in self._control_ids]
        eos = tokenizer.eos_token_id
        self.stop_ids = frozenset(ends + ([eos] if eos is not None else []))
        if not self.stop_ids:
            raise ModelError(f"model: {tokenizer.name_or_path!r} has neither an end-of-turn nor an end-of-text token")
        self.end_id = ends[0] if ends else eos
        self.rewrites_thinking = self._drops_thinking()

    def of(self, policy: str) -> Chat:
        """The encoder for a policy: where all are on one base, this one (see `ChatByBase` for several)."""
        return self

    def plain(self, text: str) -> tuple[int, ...]:
        """The ids of a text with every control token disarmed."""
        return self._plain(text)

    def text_of(self, completion_ids: Sequence[int]) -> str:
        """What a completion says, without the stop token that ended it."""
        return self._text(tuple(completion_ids))

    def conversation(self) -> Conversation:
        """A new, empty conversation of one seat."""
        return Conversation(self)

    def render(self, roles: Sequence[str], texts: Sequence[str]) -> list[int]:
        """All ids of a conversation up to the point where the assistant speaks next."""
        return self._fill(self._skeleton(tuple(roles)), [self.plain(text) for text in texts])

    def render_rewritten(self, messages: Sequence[tuple[str, str]]) -> list[int]:
        """The same through the template itself: what the assistant said earlier is left to the template to rewrite."""
        contents: list[Sequence[int]] = []

        def placeholder(text: str) -> str:
            contents.append(self.plain(text))
            return f"{_OPEN}{len(contents) - 1}{_CLOSE}"

        prepared = []
        for role, text in messages:
            if role == "assistant":
                # Of these the template sees the marks of thinking and the newlines around them, and no letter more.
                pieces = _THINKING.split(text)
                for number in range(0, len(pieces), 2):
                    before, core, after = _LINES.fullmatch(pieces[number]).groups()
                    pieces[number] = before + (placeholder(core) if core else "") + after
                prepared.append({"role": role, "content": "".join(pieces)})
            else:
                prepared.append({"role": role, "content": placeholder(text)})
        return self._fill(self._template(prepared, prompt=True), contents)

    def _follow(self, roles: tuple[str, ...], new: tuple[str, ...]) -> tuple[int, ...] | None:
        """The ids that follow the last answer; None where the template does not leave what is before it as it was.

        `roles` is the conversation with the new messages, `new` their texts; the answer stands right before them.
        """
        answered = len(roles) - len(new) - 1
        before = self._skeleton(roles[:answered]) + f"{_OPEN}{answered}{_CLOSE}"
        whole = self._skeleton(roles)
        if not whole.startswith(before):
            return None
        return tuple(self._fill(whole[len(before) :], {answered + 1 + n: self.plain(t) for n, t in enumerate(new)}))

    def _fill(self, skeleton: str, contents: Sequence[Sequence[int]] | Mapping[int, Sequence[int]]) -> list[int]:
        ids: list[int] = []
        for number, piece in enumerate(_PLACEHOLDER.split(skeleton)):
            ids.extend(contents[int(piece)] if number % 2 else self._ids(piece))
        return ids

    def _render_skeleton(self, roles: tuple[str, ...]) -> str:
        messages = [{"role": role, "content": f"{_OPEN}{number}{_CLOSE}"} for number, role in enumerate(roles)]
        return self._template(messages, prompt=True)

    def _template(self, messages: list[dict[str, str]], prompt: bool) -> str:
        try:
            return self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)
        except Exception as error:  # a template is a program of its own; name it
            roles = ", ".join(message["role"] for message in messages)
            raise ModelError(f"model: its chat template refuses the roles {roles}: {error}") from error

    def _after_answer(self) -> str:
        text = self._template([{"role": "user", "content": "u"}, {"role": "assistant", "content": _OPEN}], prompt=False)
        return text.partition(_OPEN)[2]

    def _drops_thinking(self) -> bool:
        said = "<think>\nmm-thought\n</think>\n\nmm-answer"
        text = self._template(
            [
                {"role": "user", "content": "u"},
                {"role": "assistant", "content": said},
                {"role": "user", "content": "u"},
            ],
            prompt=True,
        )
        return said not in text

    def _decode(self, completion_ids: tuple[int, ...]) -> str:
        ids = list(completion_ids)
        if ids and ids[-1] in self.stop_ids:
            ids.pop()
        return self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)

    def _encode_skeleton(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer.encode(text, add_special_tokens=False)) if text else ()

    def _encode_plain(self, text: str) -> tuple[int, ...]:
        pieces, start = [], 0
        while found := self._control_pattern.search(text, start):  # cut each control token after one character
            pieces.append(text[start : found.start() + 1])
            start = found.start() + 1
        ids = self._encode_pieces([*pieces, text[start:]])
        if not self._control_ids.isdisjoint(ids):  # a normaliser turned other characters into a control token
            ids = self._encode_pieces(list(text))
        if not self._control_ids.isdisjoint(ids):
            raise ModelError(f"model: its tokenizer reads a control token into the plain text {text[:80]!r}")
        return tuple(ids)

    def _encode_pieces(self, pieces: Sequence[str]) -> list[int]:
        return [token for piece in pieces if piece for token in self.tokenizer.encode(piece, add_special_tokens=False)]


@dataclass(frozen=True)
class ChatByBase:
    """The encoders of several bases. home: policy -> (its base, its name there)."""

    each: Mapping[str, Chat]
    home: Callable[[str], tuple[str, str]]

    def of(self, policy: str) -> Chat:
        return self.each[self.home(policy)[0]]


Chats = Chat | ChatByBase


def _control_tokens(tokenizer: Any) -> dict[str, int]:
    """Text -> id of the tokens that mean more than letters: special ones, thinking's, those the template writes."""
    template = str(tokenizer.chat_template)

    def means(token: Any) -> bool:
        return token.special or token.content in template or _THINKING.fullmatch(token.content) is not None

    added = tokenizer.added_tokens_decoder.items()
    return {token.content: number for number, token in added if len(token.content) > 1 and means(token)}


@dataclass
class Conversation:
    """One seat's conversation, as the ids its engine sees. `hear`, then `answer`, and so on in turn.

    thought: `ids` holds thinking that the template will drop when it is asked again.
    """

    chat: Chat
    ids: list[int] = field(default_factory=list)
    roles: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    thought: bool = False

    def hear(self, messages: Sequence[Message]) -> tuple[list[int], bool]:
        """Add new messages; returns (ids new to the seat, False), or (the whole prompt, True) where it starts afresh.

        After it, `ids` is the prompt for the next completion. Neighbouring messages of one role are joined, since many
        templates insist on alternating roles.
        """
        answered = len(self.roles) - 1
        for role, text in messages:
            if len(self.roles) - 1 > max(answered, -1) and self.roles[-1] == role:
                text = self.texts.pop() + "\n\n" + text
                self.roles.pop()
            self.roles.append(role)
            self.texts.append(text)
        if answered < 0:
            self.ids = self.chat.render(self.roles, self.texts)
            return list(self.ids), True
        follows = self.chat.follow(tuple(self.roles), tuple(self.texts[answered + 1 :]))
        if follows is None or (self.thought and self.chat.rewrites_thinking):
            self.ids = self.chat.render_rewritten(list(zip(self.roles, self.texts, strict=True)))
            self.thought = self.thought and self.roles[-1] != "user"  # templates keep what follows the last question
            return list(self.ids), True
        new = list(follows)
        if new and self.ids[-1] == new[0] and new[0] in self.chat.stop_ids:
            new = new[1:]  # the engine sampled the end of turn itself
        self.ids.extend(new)
        return new, False

    def fork(self) -> Conversation:
        """A copy that goes its own way."""
        return replace(self, ids=list(self.ids), roles=list(self.roles), texts=list(self.texts))

    def answer(self, completion_ids: Sequence[int]) -> str:
        """Add what the seat's engine sampled, id for id; returns its text."""
        text = self.chat.text_of(completion_ids)
        self.ids.extend(completion_ids)
        self.roles.append("assistant")
        self.texts.append(text)
        self.thought = self.thought or "</think>" in text
        return text
