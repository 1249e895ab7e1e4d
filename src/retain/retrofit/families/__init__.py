"""The families of pretrained models that can be given a memory: one small file each, and a line here."""

from transformers import PreTrainedModel

from .family import Family as Family
from .llama import LLAMA
from .qwen3 import QWEN3

FAMILIES = {family.model_type: family for family in (LLAMA, QWEN3)}


def family_of(model: PreTrainedModel) -> Family:
    """The family of a model.

    Raises:
        ValueError: It is of none that is known; the message says how to add it.

    Examples:
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> config = LlamaConfig(vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2)
        >>> family_of(LlamaForCausalLM(config)).model_type
        'llama'
    """
    found = FAMILIES.get(model.config.model_type)
    if found is None:
        raise ValueError(
            f"a model of type {model.config.model_type!r} cannot be given a memory yet; there are {', '.join(FAMILIES)}. Cure, if each of its decoder layers "
            "adds what its attention returns to the stream: a file in retain/retrofit/families that says where layers and attention are, "
            "Family(model_type=..., layers=..., attention=...), listed in FAMILIES."
        )
    return found
