"""The command line: read the arguments, call the library, print what it returns. No mathematics lives here."""

from importlib import import_module

# Asked for once, here, so that a missing one is a sentence before anything has run.
for _name in ("typer", "rich", "matplotlib"):
    try:
        import_module(_name)
    except ModuleNotFoundError as missing:
        raise SystemExit(f"retain: the command line needs {missing.name}, which is not installed. Cure: pip install 'retain[cli]'") from None
