"""Numbers, pictures and the page of the studies under `recipes/studies/`; `make studies` runs them."""
