from tests import typecheck as typecheck  # the import hook looks `tests.typecheck.check` up by attribute
