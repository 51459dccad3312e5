"""Embed JSON in a page's script element. Prompts, answers and names are untrusted, and may contain markup."""

from __future__ import annotations

import json
from typing import Any

from markupsafe import Markup

# `<` and `>` open or close elements and comments, `&` starts an entity in XHTML, and the last two are line ends in
# older JavaScript.
UNSAFE = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}


def script_json(value: Any) -> Markup:
    """Return `value` as JSON that cannot end the script element. Parsing it gives `value` back.

    Raises:
        ValueError: a number is not finite, which JSON does not allow; use None for missing numbers.
    """
    return Markup(json.dumps(value, ensure_ascii=False, allow_nan=False).translate(UNSAFE))
