"""Judges: what decides how good an answer is."""
