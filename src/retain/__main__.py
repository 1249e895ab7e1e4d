"""`python -m retain`, and so `torchrun -m retain`: the command `retain`."""

from retain.cli.main import app

app(prog_name="retain")
