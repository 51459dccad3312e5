"""An embedded suite: `perplexity.yaml` is its lm-eval task, `make.py` writes its items."""
