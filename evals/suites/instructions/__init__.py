"""An embedded suite: `instructions.yaml` is its lm-eval task, `make.py` writes its items."""
