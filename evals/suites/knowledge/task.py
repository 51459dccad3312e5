"""What `knowledge.yaml` calls."""

from prefzoo.evals.suites.documents import beside

documents = beside(__file__)
