"""How long commands take that train nothing, as multiples of `python -c "import torch"` on the same machine.

`python tests/benchmarks/startup.py` prints a table; a few minutes on two cores. Run nothing else meanwhile.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = 5
PREFZOO = (sys.executable, "-m", "prefzoo")
TORCH = (sys.executable, "-c", "import torch")
TYPO = "name: r\nmodel: m\ndata: {train: t.jsonl}\nvariants: {dpo: {betta: 1}}\n"


def seconds(words: tuple[str, ...], folder: Path) -> float:
    """The median time of a command by the clock, after one call that fills the caches of files and bytecode."""
    times = []
    for _ in range(ROUNDS + 1):
        start = time.perf_counter()
        subprocess.run(words, cwd=folder, capture_output=True, check=False)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "typo.yaml").write_text(TYPO)
        (folder / "results").mkdir()
        cases = {
            "prefzoo --help": (*PREFZOO, "--help"),
            "prefzoo losses": (*PREFZOO, "losses"),
            "prefzoo ls": (*PREFZOO, "ls"),
            "prefzoo run, a typo in the recipe": (*PREFZOO, "run", "typo.yaml"),
            "prefzoo check quickstart": (*PREFZOO, "check", "quickstart"),
        }
        unit = seconds(TORCH, folder)
        print(f"| command | seconds | times `import torch` ({unit:.2f} s) |\n|---|---|---|")
        for name, words in cases.items():
            taken = seconds(words, folder)
            print(f"| `{name}` | {taken:.2f} | {taken / unit:.2f} |", flush=True)


if __name__ == "__main__":
    main()
