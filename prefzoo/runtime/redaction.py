"""Secrets of the environment stay out of what is printed and written, whoever repeats them."""

from __future__ import annotations

import os
import re

NAMES = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS)S?$")
SHORTEST = 8  # characters: what is shorter is hardly a secret, and would be found in any text


def redact(text: str, *secrets: str) -> str:
    """`text` with `secrets`, and every value of an environment variable that is named like one, as `***`."""
    found = {value for name, value in os.environ.items() if NAMES.search(name.upper()) and len(value) >= SHORTEST}
    for value in sorted(found | {s for s in secrets if len(s) >= SHORTEST}, key=len, reverse=True):
        text = text.replace(value, "***")
    return text
