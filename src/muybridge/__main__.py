"""``python -m muybridge``, and what ``torchrun -m muybridge`` starts."""

from muybridge.cli import main

main()
