"""Count the cost of calls to a paid judge, and enforce a spending limit."""

from __future__ import annotations

from threading import Lock


class Budget:
    """Dollars spent, and dollars reserved for running calls.

    A call is only made if its estimated cost fits under the limit.

    Args:
        prompt_price: dollars per million tokens of a prompt; None where unknown.
        answer_price: dollars per million tokens of an answer; None where unknown.
        limit: most dollars to spend; None for no limit.
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
        """Reserve the estimated cost of a call; return False, and reserve nothing, if it exceeds the limit."""
        with self._lock:
            if self.limit is not None and self.spent + self.reserved + estimate > self.limit:
                return False
            self.reserved += estimate
            return True

    def settle(self, estimate: float, cost: float) -> None:
        """Replace the reserved estimate of a call by its actual cost in dollars."""
        with self._lock:
            self.reserved -= estimate
            self.spent += cost
