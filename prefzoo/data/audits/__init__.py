"""Find odd rows in preference data: contradictions, leaks, refusals, other languages, answers that hardly differ."""
