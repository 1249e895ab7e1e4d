"""`retain retrofit`: give a language model that is trained already a memory."""

from retain.cli.group import group

COMMANDS = {
    "chat": "Chat with a model whose attention forgets each turn, and whose memories do not.",
    "eval": "Let a model with memories read pages, and ask it about them behind a cut, beside four controls.",
    "fetch-smollm2": "Fetch SmolLM2-135M-Instruct, a small language model to try things on.",
    "inspect": "Tell which memories there are, and what they do with a text.",
    "train": "Train memories beside a pretrained model, which stays as it is.",
}

retrofit = group("retain retrofit", "Give a language model that is trained already a memory.", __name__, COMMANDS)
