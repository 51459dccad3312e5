"""Remove secrets from texts that are printed or written."""

from __future__ import annotations

import os
import re

NAMES = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS)S?$")
SHORTEST = 8  # characters: a shorter value is hardly a secret, and would occur in ordinary text


def redact(text: str, *secrets: str) -> str:
    """Return `text` with `***` for `secrets` and for the values of environment variables with a secret's name."""
    values = {value for name, value in os.environ.items() if NAMES.search(name.upper()) and len(value) >= SHORTEST}
    for value in sorted(values | {s for s in secrets if len(s) >= SHORTEST}, key=len, reverse=True):
        text = text.replace(value, "***")
    return text
