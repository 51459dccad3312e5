"""An embedded suite: `knowledge.yaml` is its lm-eval task, `make.py` writes its items."""
