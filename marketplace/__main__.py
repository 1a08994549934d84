"""`python -m marketplace` is the `marketplace` command."""

from marketplace.cli import main

main(prog_name="marketplace")
