"""The evaluation harness: checkpoints in, one long table with honest uncertainty out."""
