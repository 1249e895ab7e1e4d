"""The checker of shapes and types that every function of the library runs under in tests."""

from beartype import BeartypeConf, beartype

# An int is welcome where a float is asked for, as in any annotated Python.
check = beartype(conf=BeartypeConf(is_pep484_tower=True))
