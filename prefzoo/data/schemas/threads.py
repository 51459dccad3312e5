"""Conversations whose messages are separate rows or trees: OpenAssistant's ranked replies, PRISM's utterances."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from prefzoo.data.examples import Message
from prefzoo.data.rows import Row
from prefzoo.data.schemas.build import read_number
from prefzoo.data.schemas.labelled_answers import read_label
from prefzoo.data.schemas.messages import ROLES
from prefzoo.data.schemas.notes import SkipRow
from prefzoo.data.schemas.rankings import Rated, RatedAnswers
from prefzoo.data.schemas.registry import schema

QUESTION = "What is the capital of France?"
ASKED = "user"
ReadRow = tuple[int, Row]


def _message(row: Row) -> Message:
    role = str(row.get("role")).lower()
    return {"role": ROLES.get(role, role), "content": row.get("text")}


def _thread(row: Row, before: list[Message], replies: Sequence[Any]) -> Row:
    """Add to a row the conversation up to a message as `thread`, and the ranked replies to it as `rated`."""
    ranked = [(one.get("text"), rank) for one in replies if (rank := read_number(one.get("rank"))) is not None]
    return {**row, "thread": before, "rated": [Rated(text, -rank) for text, rank in ranked]}


def _by_parent(rows: Sequence[Row]) -> Iterator[ReadRow]:
    """Yield one row per user message, with the conversation up to it and its ranked replies."""
    by_id = {row["message_id"]: row for row in rows}
    replies: dict[Any, list[Row]] = {}
    for row in rows:
        replies.setdefault(row["parent_id"], []).append(row)
    for index, row in enumerate(rows):
        if _message(row)["role"] != ASKED:
            continue
        before, parent = [_message(row)], by_id.get(row["parent_id"])
        while parent is not None and len(before) <= len(rows):
            before.insert(0, _message(parent))
            parent = by_id.get(parent["parent_id"])
        yield index, _thread(row, before, replies.get(row["message_id"], ()))


def _nodes(rows: Sequence[Row]) -> Iterator[ReadRow]:
    """Yield one row per user message in the trees, with the conversation up to it and its ranked replies."""
    for index, row in enumerate(rows):
        waiting: list[tuple[Any, list[Message]]] = [(row["prompt"], [])]
        while waiting:
            node, before = waiting.pop()
            if not isinstance(node, dict):
                continue
            path, replies = [*before, _message(node)], node.get("replies") or []
            if path[-1]["role"] == ASKED:
                yield index, _thread(row, path, replies)
            waiting += [(reply, path) for reply in reversed(replies)]


def _ranking(row: Row, index: int, *, scores: bool) -> RatedAnswers:
    if len(row["rated"]) <= 1:
        raise SkipRow("fewer than two rated replies to a message")
    return RatedAnswers(row, index, row["thread"], row["rated"], scores)


@schema(
    "ranked messages", columns=("message_id", "parent_id", "text", "role", "rank"), gather=_by_parent,
    example=(
        {"message_id": "a", "parent_id": None, "text": QUESTION, "role": "prompter", "rank": None},
        {"message_id": "b", "parent_id": "a", "text": "Paris.", "role": "assistant", "rank": 0},
        {"message_id": "c", "parent_id": "a", "text": "Lyon.", "role": "assistant", "rank": 1},
    ),
)  # fmt: skip
def ranked_messages(row: Row, index: int) -> RatedAnswers:
    """Take a message's best-ranked reply as chosen, its worst-ranked as rejected; each has a row (OpenAssistant)."""
    return _ranking(row, index, scores=False)


def _are_trees(rows: Sequence[Row]) -> bool:
    return all(isinstance(row.get("prompt"), dict) and "replies" in row["prompt"] for row in rows)


@schema(
    "ranked trees", columns=("prompt",), matches=_are_trees, gather=_nodes,
    example={
        "prompt": {
            "text": QUESTION, "role": "prompter",
            "replies": [
                {"text": "Paris.", "role": "assistant", "rank": 0, "replies": []},
                {"text": "Lyon.", "role": "assistant", "rank": 1, "replies": []},
            ],
        },
    },
)  # fmt: skip
def ranked_trees(row: Row, index: int) -> RatedAnswers:
    """Take a message's best-ranked reply as chosen, its worst-ranked as rejected, from trees (OpenAssistant)."""
    return _ranking(row, index, scores=False)


def _by_turn(rows: Sequence[Row]) -> Iterator[ReadRow]:
    """Yield one row per turn of a conversation, with the conversation up to it and the scored responses to it."""
    conversations: dict[Any, dict[Any, list[int]]] = {}
    for index, row in enumerate(rows):
        conversations.setdefault(row["conversation_id"], {}).setdefault(row["turn"], []).append(index)
    for turns in conversations.values():
        before: list[Message] = []
        for _, members in sorted(turns.items(), key=lambda item: read_number(item[0]) or 0.0):
            responses = [rows[index] for index in members]
            before = [*before, {"role": ASKED, "content": responses[0]["user_prompt"]}]
            scored = [(one["model_response"], read_number(one["score"])) for one in responses]
            rated = [Rated(text, score) for text, score in scored if score is not None]
            yield members[0], {**responses[0], "thread": before, "rated": rated}
            taken = next((r for r in responses if read_label(r["if_chosen"], "if_chosen")), responses[0])
            before = [*before, {"role": "assistant", "content": taken["model_response"]}]


@schema(
    "prism", columns=("conversation_id", "turn", "user_prompt", "model_response", "score", "if_chosen"),
    gather=_by_turn,
    example=(
        {
            "conversation_id": "c", "turn": 0, "user_prompt": QUESTION, "model_response": "Paris.", "score": 90,
            "if_chosen": True,
        },
        {
            "conversation_id": "c", "turn": 0, "user_prompt": QUESTION, "model_response": "Lyon.", "score": 10,
            "if_chosen": False,
        },
    ),
)  # fmt: skip
def prism(row: Row, index: int) -> RatedAnswers:
    """Take a turn's highest-scored response as chosen, its lowest-scored as rejected; each has a row (PRISM)."""
    return _ranking(row, index, scores=True)
