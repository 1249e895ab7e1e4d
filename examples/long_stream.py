"""A million tokens, read by a memory whose size does not change.

    python examples/long_stream.py
    python examples/long_stream.py --calls 1024 --dim 256      # four million

What one sees: at every line as many tokens a second, as many bytes of state, and as much memory of the process as at the first. In the end the state is saved,
loaded, and goes on to the same answer.
"""

import argparse
import tempfile
import time
from pathlib import Path

import torch

from retain import MemoryState, NeuralMemory, load_state, presets, save_state
from retain.evaluation.resident import Resident


def size(state: MemoryState) -> int:
    """Bytes of all that the stream has left behind."""
    return sum(tensor.numel() * tensor.element_size() for _, tensor in state.tensors())


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description="A million tokens, read by a memory whose size does not change.")
    parser.add_argument("--calls", type=int, default=256, help="calls of 4,096 tokens each")
    parser.add_argument("--dim", type=int, default=64, help="width of the stream")
    args = parser.parse_args()

    torch.manual_seed(0)
    memory = NeuralMemory(args.dim, rule=presets.titans(expansion=2, update_every=128))
    state, grown = memory.start(1), ""
    _, state = memory(torch.randn(1, 4096, args.dim), state)  # what is allocated once is allocated here
    begin = time.perf_counter()
    with Resident() as resident:
        for call in range(1, args.calls + 1):
            _, state = memory(torch.randn(1, 4096, args.dim), state)
            resident.look()
            if resident.before is not None and resident.peak is not None:
                grown = f"   process grown by {max(0, resident.peak - resident.before) / 1e6:.0f} MB"
            if call % max(1, args.calls // 8) == 0:
                rate = 4096 * call / (time.perf_counter() - begin)
                print(f"{4096 * call:>9,} tokens   {rate:>7,.0f} a second   state {size(state):,} bytes{grown}")

    x = torch.randn(1, 100, args.dim)
    with tempfile.TemporaryDirectory() as folder:
        save_state(state, Path(folder, "stream.memory"), memory.rule)
        loaded = load_state(Path(folder, "stream.memory"), memory.rule)
    print(f"the loaded state goes on alike: {torch.equal(memory(x, state)[0], memory(x, loaded)[0])}")


if __name__ == "__main__":
    main()
