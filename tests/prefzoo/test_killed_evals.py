"""`prefzoo eval`, really killed while it generates and while it judges: nothing is done twice, nothing is lost."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
OWN = "def better(instruction, output_1, output_2):\n    return 1 + float(len(output_2) > len(output_1))\n"


@pytest.mark.slow
def test_killed_in_the_middle_of_everything(tmp_path: Path, tiny_model: Any, tiny_tokenizer: Any) -> None:
    from transformers import LlamaForSequenceClassification

    tiny_model.config.max_position_embeddings = 2048
    config = copy.deepcopy(tiny_model.config)
    config.num_labels = 1
    LlamaForSequenceClassification(config).save_pretrained(tmp_path / "rm")
    tiny_model.save_pretrained(tmp_path / "model")
    tiny_model.lm_head.weight.data *= -1
    tiny_model.save_pretrained(tmp_path / "other")
    for name in ("model", "other", "rm"):
        tiny_tokenizer.save_pretrained(tmp_path / name)
    rows = [json.dumps({"prompt": f"Tell {i}" + " more" * (i % 5)}) for i in range(120)]
    (tmp_path / "prompts.jsonl").write_text("\n".join(rows) + "\n")
    (tmp_path / "own.py").write_text(OWN)
    done = subprocess.run(
        [sys.executable, str(HERE / "killed_evals.py"), str(tmp_path)], capture_output=True, text=True, check=False,
        timeout=600, env={**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert done.stdout.count("gone on: every call once") == 4
