"""AlpacaEval's annotators as judges: their numbers are those of `alpaca_eval evaluate`, every call is counted once."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import sklearn
from first_fast import first_fast
from misbehaving import KEY, Misbehaving, reply, serving

from prefzoo.errors import UserError
from prefzoo.evals.judges import load_judge
from prefzoo.evals.judges.alpaca import own_annotators, read_annotator
from prefzoo.evals.judges.alpaca_code import alpaca_eval_imported
from prefzoo.evals.judges.alpaca_eval import AlpacaEvalJudge, AlpacaEvalSettings
from prefzoo.evals.judges.protocol import Answer, Comparison, PromptRow, Verdict
from prefzoo.evals.judges.rows import annotation_rows, drawn_of, output_rows
from prefzoo.evals.metrics.builtin.win_rate import WIN_RATE_ALPACA_EVAL
from prefzoo.evals.metrics.measure import Measured

WEIGHTED = "weighted_alpaca_eval_gpt4_turbo"
ROWS = [PromptRow(str(i), f"task {i}") for i in range(7)]
BASE = [Answer(f"base {i}", True, 1) for i in range(7)]
OWN = [Answer(f"own {i}" if i != 5 else "base 5", True, 1) for i in range(7)]
PAIRS = [Comparison(*three) for three in zip(ROWS, BASE, OWN, strict=True)]


def share(request: dict[str, Any]) -> float:
    """A preference that depends on everything in a prompt, the order of the answers too."""
    text = json.dumps(request["messages"], sort_keys=True)
    return 0.05 + 0.9 * int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) / 2**32


def weighted(request: dict[str, Any], nth: int) -> tuple[int, Any]:
    return 200, reply("m", m=share(request), M=1 - share(request))


def ranking(request: dict[str, Any], nth: int) -> tuple[int, Any]:
    best = 1 + (share(request) > 0.5)
    return 200, reply(str([{"model": "model_1", "rank": best}, {"model": "model_2", "rank": 3 - best}]))


def five(request: dict[str, Any], nth: int) -> tuple[int, Any]:
    letters = ["ab"[int(share(request) * 1000 * k) % 2] for k in range(1, 6)]
    return 200, reply("\n".join(f"\nOutput ({letter})" for letter in letters))


def scored(request: dict[str, Any], nth: int) -> tuple[int, Any]:
    return 200, reply(f"{int(share(request) * 100)} 50\nbecause")


def called(request: dict[str, Any], nth: int) -> tuple[int, Any]:
    _, body = ranking(request, nth)
    message = body["choices"][0]["message"]
    ranks = [{"model": m, "rank": r} for m, r in (("m", 1 + (share(request) > 0.5)), ("M", 2 - (share(request) > 0.5)))]
    arguments = json.dumps({"concise_explanation": "so", "ordered_models": ranks})
    call = {"id": "1", "type": "function", "function": {"name": "make_partial_leaderboard", "arguments": arguments}}
    message |= {"content": None, "tool_calls": [call]}
    return 200, body


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Misbehaving]:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("PREFZOO_CACHE", str(tmp_path / "cache"))
    with serving() as started:
        started.behave = weighted
        yield started


def judge(server: Misbehaving, annotator: str = WEIGHTED, folder: Path = Path(), **more: Any) -> AlpacaEvalJudge:
    settings = AlpacaEvalSettings(kind="alpaca_eval", annotator=annotator, url=server.url, **more)
    loaded = load_judge(settings, folder)
    assert isinstance(loaded, AlpacaEvalJudge)
    return loaded


def by_its_own_command(server: Misbehaving, annotator: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The row of `alpaca_eval evaluate`, which finds the server by openai's own variable."""
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    with alpaca_eval_imported():
        import alpaca_eval

        board, _ = alpaca_eval.evaluate(
            model_outputs=output_rows(ROWS, OWN, "own"), reference_outputs=output_rows(ROWS, BASE, "base"),
            annotators_config=annotator, caching_path=None, fn_metric="get_winrate", sort_by="win_rate",
            precomputed_leaderboard=None, is_cache_leaderboard=False, output_path=None, name="own",
            is_return_instead_of_print=True,
        )  # fmt: skip
    row: dict[str, Any] = board.loc["own"].to_dict()
    return row


def measured(asker: AlpacaEvalJudge, verdicts: list[Verdict]) -> Measured:
    rows = annotation_rows(PAIRS, verdicts, asker, "base", "own")
    return Measured([], [], [], [], [], [], {}, drawn=drawn_of(rows, withheld=False))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("annotator", "behave", "calls"),
    [
        (WEIGHTED, weighted, 12),
        pytest.param("alpaca_eval_gpt4", ranking, 12, marks=pytest.mark.slow),
        pytest.param("alpaca_farm_greedy_gpt4", five, 4, marks=pytest.mark.slow),  # five pairs in a prompt
        pytest.param("lmsys_gpt4", scored, 12, marks=pytest.mark.slow),
        pytest.param("alpaca_eval_gpt4_turbo_fn", called, 12, marks=pytest.mark.slow),
    ],
)
def test_its_number_is_that_of_its_own_command(
    server: Misbehaving, monkeypatch: pytest.MonkeyPatch, annotator: str, behave: Any, calls: int
) -> None:
    server.behave = behave
    theirs = by_its_own_command(server, annotator, monkeypatch)
    half = len(server.asked)
    asker = judge(server, annotator)
    verdicts = asker.compare(PAIRS)
    assert len(server.asked) - half == calls == 2 * half
    estimate = WIN_RATE_ALPACA_EVAL.estimate(measured(asker, verdicts), None)
    assert estimate is not None and 100 * estimate.value == pytest.approx(theirs["win_rate"], abs=1e-12)
    assert 100 * estimate.stderr == pytest.approx(theirs["standard_error"]) and estimate.n == theirs["n_total"] == 7
    once = judge(server, annotator, seats="drawn").compare(PAIRS)
    assert len(server.asked) - half == calls and [v.preference for v in once] == [v.drawn for v in verdicts]
    assert [v.preference for v in verdicts if v.orders] == [sum(v.orders) / 2 for v in verdicts if v.orders]
    assert verdicts[5].preference == 1.5 and not verdicts[5].orders


def test_the_orders_are_those_in_which_the_answers_were_shown(server: Misbehaving) -> None:
    server.behave = lambda request, nth: (200, reply("m", m=0.8, M=0.2))  # always for what stands first
    verdicts = judge(server).compare(PAIRS)
    assert {tuple(round(p, 6) for p in v.orders) for v in verdicts if v.orders} == {(1.2, 1.8)}
    assert {round(v.drawn, 6) for v in verdicts if v.orders} == {1.2, 1.8}  # by chance, as it draws them
    assert {round(v.preference, 6) for v in verdicts} == {1.5}


@pytest.mark.slow
def test_every_call_is_cached_counted_and_priced(server: Misbehaving) -> None:
    asker = judge(server, prompt_price=1000.0, answer_price=2000.0)
    assert asker.forecast(PAIRS).startswith("12 calls of alpaca_eval:weighted_alpaca_eval_gpt4_turbo:gpt-4-1106-pr")
    steps: list[tuple[int, int]] = []
    first = asker.compare(PAIRS, lambda *step: steps.append(step))
    assert sorted(steps) == [(i, 12) for i in range(1, 13)]
    assert asker.budget.spent == pytest.approx(12 * (100 * 1000 + 1 * 2000) / 1e6)
    again = judge(server, prompt_price=1000.0, answer_price=2000.0, spend_limit=0.01)
    assert "12 of them cached; about $0.00, limit $0.01" in again.forecast(PAIRS)
    assert again.compare(PAIRS) == first and len(server.asked) == 12 and server.keys == {f"Bearer {KEY}"}
    more = [*PAIRS, Comparison(PromptRow("8", "another"), Answer("a", True, 1), Answer("b", True, 1))]
    with pytest.raises(UserError, match=r"about \$\d.\d+ is needed, but spend_limit is \$0.01; raise evals"):
        again.compare(more)
    assert len(server.asked) == 12


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    first_fast(
        [
            (500, {}, "HTTP 500, 1 try"),
            (429, {"error": {"message": "rate limit"}}, "HTTP 429, 1 try"),
            (200, b"rubbish", None),
            (200, reply("neither", neither=0.9), "unknown verdict 'neither'"),
            (422, {}, "HTTP 422"),
        ]
    ),
)
def test_faults_are_missing_verdicts_with_their_reason(
    server: Misbehaving, status: int, body: Any, reason: str | None
) -> None:
    def behave(request: dict[str, Any], nth: int) -> tuple[int, Any]:
        return (status, body) if "own 3" in json.dumps(request) else weighted(request, nth)

    server.behave = behave
    fine, wrong = judge(server, tries=1).compare(PAIRS[2:4])
    assert not fine.missing and wrong.missing and math.isnan(wrong.preference)
    assert reason is None or wrong.missing == reason
    server.behave = weighted  # nothing of it was cached
    assert not judge(server).compare(PAIRS[3:4])[0].missing


def test_a_server_that_is_not_there_or_refuses_the_key_is_told_once(server: Misbehaving) -> None:
    server.behave = lambda request, nth: (401, {"error": {"message": f"bad key {KEY}"}})
    with pytest.raises(UserError, match="the server answers HTTP 401; check the variable OPENAI_API_KEY"):
        judge(server).compare(PAIRS)
    assert len(server.asked) == 1
    nowhere = AlpacaEvalSettings(kind="alpaca_eval", annotator=WEIGHTED, url="http://127.0.0.1:9/v1", tries=1)
    with pytest.raises(UserError, match="no connection; start the server, or correct evals.judge.url"):
        nowhere.load(Path()).check()


def test_another_model_gets_the_prompt_as_a_conversation(server: Misbehaving) -> None:
    judge(server, model="some-instruct-model").check()  # alpaca-eval takes `instruct` for a model without a chat
    assert server.asked[0]["model"] == "some-instruct-model" and len(server.asked[0]["messages"]) == 2


@pytest.mark.slow
def test_every_annotator_that_is_installed_can_be_read() -> None:
    for name in own_annotators():
        annotator = read_annotator(name, Path(), None)
        assert annotator.name == name and re.fullmatch("[0-9a-f]{12}", annotator.hash)
        assert {c["fn_completions"] for c in annotator.configs.values()} == {"openai_completions"}
    (claude,) = read_annotator("claude", Path(), None).configs.values()
    options = {"model_name": "claude-v1", "max_tokens": 50, "temperature": 0, "requires_chatml": False}
    assert claude["completions_kwargs"] == options


GOOD = """\
mine:
  prompt_template: "<|im_start|>user\\n{instruction} (a) {output_1} (b) {output_2}<|im_end|>"
  completions_kwargs: {model_name: m, max_tokens: 5, temperature: 0}
  completion_parser_kwargs: {outputs_to_match: {1: '\\(a\\)', 2: '\\(b\\)'}}
"""
LOGPROB = GOOD.replace("{outputs_to_match: {1: '\\(a\\)', 2: '\\(b\\)'}}", (
    "{numerator_token: m, denominator_tokens: [m, M], is_binarize: false}\n  fn_completion_parser: logprob_parser\n"
    "  completion_key: completions_all"
))  # fmt: skip
PIPELINE = GOOD.replace("{outputs_to_match: {1: '\\(a\\)', 2: '\\(b\\)'}}", (
    "{parsers_to_kwargs: {json_parser: {annotation_key: rank}, ranking_parser: {}}}\n"
    "  fn_completion_parser: pipeline_meta_parser"
))  # fmt: skip


@pytest.mark.parametrize("text", [GOOD, LOGPROB, PIPELINE])
def test_a_right_file_is_read(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.yaml").write_text(text)
    assert list(read_annotator("a.yaml", tmp_path, None).configs) == ["mine"]


def test_a_users_own_file(server: Misbehaving, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(GOOD)
    server.behave = lambda request, nth: (200, reply("Output (a)"))
    asker = judge(server, "mine.yaml", tmp_path)
    assert asker.name == f"alpaca_eval:mine:m@127.0.0.1:{server.http.server_port}"
    assert {v.preference for v in asker.compare(PAIRS)} == {1.5}  # a position bias, in both orders
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "prompt.txt").write_text("{instruction} {output_1} {output_2}")
    rest = "completions_kwargs: {}, completion_parser_kwargs: {outputs_to_match: {1: a, 2: b}}"
    (tmp_path / "own" / "configs.yaml").write_text(f"own: {{prompt_template: own/prompt.txt, {rest}}}\n")
    assert read_annotator("own", tmp_path, "m").name == "own"


@pytest.mark.parametrize(
    ("annotator", "text", "says"),
    [
        ("weighted_alpaca_eval_gpt4_turb", "", "has no annotator 'weighted_alpaca_eval_gpt4_turb'; did you mean 'weig"),
        ("brilliant", "", "alpaca-eval has no annotator 'brilliant'; name a YAML file, or one of Self-taught-llama"),
        ("not_here.yaml", "", "not_here.yaml: no such file: "),
        ("a.yaml", "x: [", "a.yaml is not YAML ("),
        ("a.yaml", "just text", "a.yaml must be a mapping, `name: {prompt_template: ..., completions_kwargs: ...}`"),
        (
            "a.yaml",
            GOOD.replace("prompt_template", "prompt_templates"),
            "no such field: prompt_templates; did you",
        ),
        ("a.yaml", GOOD.replace("{output_1}", "{output}"), "prompt_template: no such file: "),
        ("a.yaml", GOOD.replace("{output_2}", ""), "must hold {output_2} once"),
        ("a.yaml", GOOD + "  batch_size: 2\n", "must hold {output_1} and {output_2} 2 times, which is batch_size"),
        ("a.yaml", GOOD + "  batch_size: 0\n", "batch_size: must be a whole number from 1 (is 0)"),
        (
            "a.yaml",
            GOOD + "  fn_completion_parser: rank_parser\n",
            "has no 'rank_parser'; did you mean 'ranking",
        ),
        (
            "a.yaml",
            GOOD + "  fn_completions: openai\n",
            "fn_completions: alpaca-eval has no 'openai'",
        ),
        ("a.yaml", GOOD + "  processors_to_kwargs: {Pad: {}}\n", "processors_to_kwargs: alpaca-eval has no 'Pad'"),
        ("a.yaml", GOOD + "  random_seed_column: [output_1]\n", "random_seed_column: must be [instruction]"),
        ("a.yaml", GOOD.replace("model_name: m, ", ""), "completions_kwargs: model_name: is missing; add it, or name"),
        ("a.yaml", GOOD.replace("max_tokens: 5", "openai_api_keys: [sk]"), "openai_api_keys: leave it out; the recipe"),
        (
            "a.yaml",
            GOOD.replace("outputs_to_match", "outputs_to_mach"),
            "completion_parser_kwargs: outputs_to_mach: regex_parser has no such option; did you mean 'outputs_to_m",
        ),
        ("a.yaml", GOOD.replace("{1: ", "{one: "), "outputs_to_match: 'one' is not a preference; write 1 where the"),
        (
            "a.yaml",
            GOOD.replace("(a", "((a"),
            "outputs_to_match: 1: '\\\\((a\\\\)' is not a pattern (missing ), unterminated",
        ),
        (
            "a.yaml",
            LOGPROB.replace("numerator_token: m, ", ""),
            "numerator_token: is missing, and logprob_parser needs",
        ),
        (
            "a.yaml",
            LOGPROB.replace("numerator_token", "numerator_tokn"),
            "numerator_tokn: logprob_parser has no such op",
        ),
        ("a.yaml", LOGPROB.replace("[m, M]", "mM"), "denominator_tokens: must be Sequence[str] (is 'mM'); correct it"),
        (
            "a.yaml",
            LOGPROB.replace("[m, M]", "[M]"),
            "denominator_tokens: must hold the numerator_token 'm' too; add it",
        ),
        (
            "a.yaml",
            PIPELINE.replace("annotation_key", "key"),
            "parsers_to_kwargs: json_parser: key: json_parser has no",
        ),
        (
            "a.yaml",
            PIPELINE.replace("ranking_parser", "rank_parser"),
            "parsers_to_kwargs: alpaca-eval has no 'rank_par",
        ),
        ("a.yaml", "mine: {completions_kwargs: {}}\n", "mine: prompt_template: must name a text file (is None)"),
    ],
)
def test_what_a_wrong_annotator_is_told(tmp_path: Path, annotator: str, text: str, says: str) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(UserError) as caught:
        read_annotator(annotator, tmp_path, None)
    (line,) = caught.value.lines
    assert line.startswith("evals.judge.annotator: ") and says in line


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prefzoo.evals.judges.alpaca.find_spec", lambda name: None)
    with pytest.raises(UserError, match="kind alpaca_eval needs the package alpaca-eval; pip install alpaca-eval==0.6"):
        own_annotators()


def package_files() -> set[str]:
    spec = find_spec("alpaca_eval")
    assert spec is not None and spec.origin is not None
    return {str(p) for p in Path(spec.origin).parent.rglob("*") if "__pycache__" not in str(p)}


@pytest.mark.slow
def test_global_state_is_put_back_and_nothing_is_written_beside_its_code(
    server: Misbehaving, capsys: pytest.CaptureFixture[str]
) -> None:
    root, files = logging.getLogger(), package_files()
    before = (root.level, list(root.handlers), dict(os.environ), sklearn.get_config(), root.manager.disable)
    judge(server).compare(PAIRS)
    assert (root.level, list(root.handlers), dict(os.environ), sklearn.get_config(), root.manager.disable) == before
    assert package_files() == files and capsys.readouterr() == ("", "")


def test_the_board_has_its_number_beside_the_mean_of_both_orders(server: Misbehaving) -> None:
    asker = judge(server)
    rows = pd.DataFrame(annotation_rows(PAIRS, asker.compare(PAIRS), asker, "base", "own"))
    assert rows.preference_drawn.between(1, 2).all() and not rows.preference_drawn.equals(rows.preference)
    assert drawn_of(rows.to_dict("records"), withheld=True) == [None] * 7  # type: ignore[arg-type]


def test_a_conversation_is_judged_as_one_text(server: Misbehaving) -> None:
    turns = (("user", "Hi"), ("assistant", "Hello"), ("user", "Why?"))
    talk = [{"role": role, "content": text} for role, text in turns]
    row = PromptRow("1", talk)
    (verdict,) = judge(server).compare([Comparison(row, BASE[0], OWN[0])])
    assert not verdict.missing and row.text in server.asked[0]["messages"][-1]["content"]
