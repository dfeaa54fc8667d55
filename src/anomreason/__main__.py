"""`python -m anomreason`."""

from anomreason.cli import main

main()
