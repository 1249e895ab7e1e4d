"""Speed and memory, measured against titans-pytorch on the same numbers: nothing is timed before the outputs agree."""
