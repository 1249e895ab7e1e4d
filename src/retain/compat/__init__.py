"""Coming from other libraries: their checkpoints, read as ours."""
