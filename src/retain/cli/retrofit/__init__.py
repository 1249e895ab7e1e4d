"""`retain retrofit`: give a language model that is trained already a memory."""

from retain.cli.group import group

COMMANDS = {
    "fetch-smollm2": "Fetch SmolLM2-135M-Instruct, a small language model to try things on.",
}

retrofit = group("retain retrofit", "Give a language model that is trained already a memory.", __name__, COMMANDS)
