"""What is odd in preference data: contradictions, leaks, refusals, languages, scores, answers that hardly differ."""
