"""What calls to a paid judge cost, held to a limit."""

from __future__ import annotations

from threading import Lock


class Budget:
    """Dollars spent and reserved. A call is made only where its whole estimate still fits under the limit.

    Args:
        prompt_price: dollars per million tokens of a prompt; None where unknown.
        answer_price: dollars per million tokens of an answer; None where unknown.
        limit: dollars that may be spent; None for any amount.
    """

    def __init__(self, prompt_price: float | None, answer_price: float | None, limit: float | None) -> None:
        self.prices, self.limit = (prompt_price or 0.0, answer_price or 0.0), limit
        self.known = prompt_price is not None and answer_price is not None
        self.spent = self.reserved = 0.0
        self._lock = Lock()

    def price(self, prompt_tokens: int, answer_tokens: int) -> float:
        """Return the price of a call in dollars."""
        return (prompt_tokens * self.prices[0] + answer_tokens * self.prices[1]) / 1e6

    def reserve(self, estimate: float) -> bool:
        """Set an estimate aside; return False, and reserve nothing, where it no longer fits."""
        with self._lock:
            if self.limit is not None and self.spent + self.reserved + estimate > self.limit:
                return False
            self.reserved += estimate
            return True

    def settle(self, estimate: float, cost: float) -> None:
        """Replace the estimate of a call by what it cost."""
        with self._lock:
            self.reserved -= estimate
            self.spent += cost
