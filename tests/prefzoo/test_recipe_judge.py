"""What `evals.judge` may say, what it becomes, and what a wrong one is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from prefzoo.errors import UserError
from prefzoo.evals.judges.server import ServerSettings
from prefzoo.recipe.load import dump, load

MINIMAL = "name: tiny\nmodel: some/model\ndata: {train: pairs.jsonl}\nvariants: {dpo: }\n"
SERVER = "kind: server, url: 'http://localhost:8000/v1/', model: m"


def written(folder: Path, judge: str) -> Path:
    path = folder / "r.yaml"
    path.write_text(MINIMAL + f"evals: {{judge: {judge}}}\n")
    return path


def test_the_fields_of_each_kind_are_pinned(tmp_path: Path) -> None:
    fields = {
        "{kind: reward, model: m}": {"kind", "model"},
        "{kind: model, model: m}": {"kind", "model", "prompt"},
        "{kind: implicit, model: m}": {"kind", "model", "reference"},
        f"{{{SERVER}}}": {
            *("kind", "url", "model", "prompt", "key", "temperature", "max_tokens", "workers", "tries", "timeout"),
            *("prompt_price", "answer_price", "spend_limit", "verdicts"),
        },
        "{kind: alpaca_eval, annotator: weighted_alpaca_eval_gpt4_turbo}": {
            *("kind", "annotator", "url", "model", "seats", "key", "workers", "tries", "timeout"),
            *("prompt_price", "answer_price", "spend_limit"),
        },
    }
    for text, names in fields.items():
        recipe = load(written(tmp_path, text))
        assert set(recipe.resolved()["evals"]["judge"]) == names
        (tmp_path / "again.yaml").write_text(dump(recipe))
        assert load(tmp_path / "again.yaml").evals == recipe.evals


def test_a_name_or_a_function_is_text(tmp_path: Path) -> None:
    for text in ("verifier", "mine.py:better", "package.module:better"):
        assert load(written(tmp_path, text)).evals.judge == text


def test_a_server_and_an_override(tmp_path: Path) -> None:
    recipe = load(written(tmp_path, f"{{{SERVER}}}"), ["evals.judge.workers=3", "evals.judge.temperature=null"])
    judge = recipe.evals.judge
    assert isinstance(judge, ServerSettings) and (judge.workers, judge.temperature) == (3, None)
    assert judge.url == "http://localhost:8000/v1" and judge.key == "OPENAI_API_KEY"


@pytest.mark.parametrize(
    ("judge", "says"),
    [
        ("3", ": must be text (is 3); put it in quotes: '3'"),
        ("''", ": must be non-empty text (is '')"),
        (
            "{}",
            ": a mapping needs a known kind; write kind: reward, kind: model, kind: implicit, kind: ser",
        ),
        (
            "{kind: [reward]}",
            ": a mapping needs a known kind; write kind: reward, kind: model, kind: implicit, kind: ser",
        ),
        (
            "{kind: srv}",
            ": a mapping needs a known kind; write kind: reward, kind: model, kind: implicit, kind: ser",
        ),
        ("{kind: reward}", ".model: is missing; add `model: org/name (a hub id, a folder or a .gguf file)`"),
        ("{kind: reward, model: m, prompt: x}", ".prompt: no such field; there are kind, model"),
        ("{kind: server, model: m}", ".url: is missing; add `url: http://localhost:8000/v1`"),
        (f"{{{SERVER}, api_key: sk-123}}", ".api_key: no such field; did you mean 'key'?"),
        (f"{{{SERVER}, key: sk-123}}", ".key: must be the name, in capitals, of an environment variable that holds"),
        (f"{{{SERVER}, workers: 0}}", ".workers: must be greater than 0 (is 0)"),
        (f"{{{SERVER}, prompt_price: -1}}", ".prompt_price: must be at least 0 (is -1)"),
        (f"{{{SERVER}, spend_limit: 1}}", ": spend_limit needs prompt_price and answer_price (dollars per million"),
        (
            "{kind: alpaca_eval}",
            ".annotator: is missing; add `annotator: weighted_alpaca_eval_gpt4_turbo (or a",
        ),
        ("{kind: alpaca_eval, annotator: ''}", ".annotator: must be non-empty text (is '')"),
        ("{kind: alpaca_eval, annotator: a, seats: one}", ".seats: must be 'both' or 'drawn' (is 'one')"),
        ("{kind: alpaca_eval, annotator: a, spend_limit: 1}", ": spend_limit needs prompt_price and answer_price"),
        ("{kind: server, model: m, url: here}", ".url: must be an http address (is 'here'); like http://localhost"),
        ("{kind: server, model: m, url: 'http://me:sk-1@x/v1'}", ".url: carries a secret or a query; put the key in"),
    ],
)
def test_what_a_wrong_judge_is_told(tmp_path: Path, judge: str, says: str) -> None:
    with pytest.raises(UserError) as caught:
        load(written(tmp_path, judge))
    (line,) = caught.value.lines
    assert line.startswith(f"{tmp_path}/r.yaml:5: evals.judge{says}") and "sk-1" not in line
