"""What a memory does, shown on the text that every interpreter brings along: its own standard library."""
