"""`python -m prefzoo`."""

from prefzoo.cli import main

main()
