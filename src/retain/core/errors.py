"""Errors that callers may want to catch by name. Plain misuse is a ``ValueError`` with its cure."""


class EngineRefusal(ValueError):
    """An engine was asked to run a rule that it cannot run; the message says why and what would."""


class StateMismatch(ValueError):
    """A state does not belong to the rule, layer or batch it was handed to."""


class StateFileError(ValueError):
    """A file holds no state, or memory, that can be trusted. Nothing was changed by trying to read it."""


class NotAStateFile(StateFileError):
    """The file is not a saved memory state or memory (a pickle, a plain checkpoint, something else)."""


class DamagedStateFile(StateFileError):
    """The file was a memory state or a memory, but it is cut short or its bytes have changed, or it does not belong to the one beside it."""


class UnsupportedStateVersion(StateFileError):
    """The file is a memory state or a memory in a format that this version cannot read."""


class ForeignState(StateFileError):
    """The file is sound, but it was written under another rule, for another model, or with other memories."""
