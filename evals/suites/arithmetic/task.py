"""What `arithmetic.yaml` calls."""

from evals.suites.documents import beside

documents = beside(__file__)
