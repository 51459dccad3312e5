"""JSON inside a page's script element. Prompts, answers and names are anybody's text and may hold markup."""

from __future__ import annotations

import json
from typing import Any

from markupsafe import Markup

# `<` and `>` end or open elements and comments, `&` is read as an entity in XHTML, the last two end a line of older
# JavaScript.
UNSAFE = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}


def script_json(value: Any) -> Markup:
    """Return `value` as JSON that no HTML parser can leave; reading it gives `value` back.

    Raises:
        ValueError: a number is not finite (JSON has none; write None for what is missing).
    """
    return Markup(json.dumps(value, ensure_ascii=False, allow_nan=False).translate(UNSAFE))
