"""A memory for a Hugging Face model that is trained already.

    python examples/hugging_face.py                            # a tiny Qwen3 with random weights, half a minute
    python examples/hugging_face.py --base .venv/smollm2       # SmolLM2-135M, some minutes; any Llama or Qwen3 will do

What one sees: with the memory attached the model is its base, to the last bit. After some updates on pages of pairs, as " milk = white", it knows the pairs of
pages that it never saw, though its attention cache is cut between page and question; with writes off it does not. The base's own weights stay what they were.
"""

import argparse

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen3Config, Qwen3ForCausalLM

from retain.retrofit import MemoryConfig, ask, attach, branches_of, calibrate, memory_parameters, opening, read_pages, start_recalling, writing
from retain.tasks import TRAINED_FORMATS, Bytes, Hosted, Letters, Pairs, Vocabulary

parser = argparse.ArgumentParser(description="A memory for a Hugging Face model that is trained already.")
parser.add_argument("--base", help="folder or name of a Llama or Qwen3; a tiny random one unless given")
parser.add_argument("--steps", type=int, default=120, help="updates of the training")
args = parser.parse_args()

torch.manual_seed(0)
if args.base:
    base, tokenizer = AutoModelForCausalLM.from_pretrained(args.base, dtype=torch.float32).eval(), AutoTokenizer.from_pretrained(args.base)
    codec, start, layer = Hosted(tokenizer), opening(tokenizer), -7
    words = Vocabulary.of(codec)
else:
    sizes = Qwen3Config(vocab_size=257, hidden_size=64, intermediate_size=64, num_hidden_layers=3, num_attention_heads=2, num_key_value_heads=2)
    sizes.tie_word_embeddings = True
    base = Qwen3ForCausalLM(sizes).eval()
    codec, start, layer, words = Bytes(), [256], -1, Letters(2)
pairs = Pairs(facts=6, asked=4, formats=TRAINED_FORMATS[:1], keys=words, codec=codec)
texts = [torch.tensor([start + page.text.tolist()]) for page in pairs.batch(range(16))]

memory = {
    "preset": "gated_delta_net",
    "heads": base.config.hidden_size // 64,
    "projections": {"conv": 6, "activation": None, "start": "recall"},  # a key is made of the tokens before its value
    "output": {"norm": None, "gate": None},
    "gates": {"curve": "hard", "lr": 0.9, "forget": 1e-4},
}
with torch.no_grad():
    before = [base(text).logits for text in texts]
    model = attach(base, MemoryConfig(layers=(layer,), memory=memory, values="embedding", features="centred", refine=0))
    same = all(torch.equal(model(text).logits, logits) for text, logits in zip(texts, before, strict=True))
print(f"logits with the memory attached are the base's: {same}")

start_recalling(calibrate(model, texts), texts)  # what is recalled is said, from the first update on
torch.nn.init.constant_(branches_of(model)[0].strength, 0.6)
learner = torch.optim.AdamW(memory_parameters(model), lr=3e-3)
for step in range(args.steps):
    seen = pairs.batch(range(1000 + 16 * step, 1016 + 16 * step))
    loss = ask(model, seen, read_pages(model, seen, start), start).loss.mean()  # read_pages cuts the attention cache
    learner.zero_grad()
    loss.backward()
    learner.step()

unseen = pairs.batch(range(32))
for name, write in (("memory writes", True), ("writes off", False)):
    with torch.no_grad(), writing(model, write):
        right = ask(model, unseen, read_pages(model, unseen, start), start).exact.float().mean()
    print(f"{name}: {right:.3f} of values recalled behind the cut")
