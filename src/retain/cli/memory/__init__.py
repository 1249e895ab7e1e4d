"""`retain memory`: a text memory from the shell, and as a server for agents."""

from retain.cli.group import group

COMMANDS = {
    "observe": "Learn texts, and keep them.",
    "infer": "Ask what the memory has for a question.",
    "surprise": "Tell how new a text is, and learn nothing.",
    "stats": "Tell how much it holds and where it stands.",
    "hash": "Print what names its weights.",
    "history": "List what was observed.",
    "forget": "Forget records, and what they did to the weights.",
    "snapshot": "Keep it as it is under a name.",
    "restore": "Go back to a snapshot, or put one in the place of a damaged memory.",
    "export": "Write its records as lines of JSON.",
    "import": "Learn lines of JSON.",
    "serve": "Be a memory for agents: a server of the Model Context Protocol.",
}

memory = group("retain memory", "A memory of texts that learns while it reads them.", __name__, COMMANDS)
