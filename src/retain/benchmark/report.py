"""Results as text: tables with each target next to what was reached, and the page that goes with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .delta_rule import RULER, RULER_VERSION
from .peer import PEER, PEER_VERSION
from .settings import SETTINGS

Results = Mapping[str, Any]


def number(x: float) -> str:
    """Three digits that count, in groups of three.

    Examples:
        >>> number(31247.0), number(8.614), number(0.02468)
        ('31,200', '8.61', '0.0247')
    """
    if x == 0:
        return "0"
    if abs(x) < 0.001:
        return f"{x:.1e}"
    if abs(x) < 100:
        return f"{x:.3g}"
    digits = len(str(int(abs(x)))) - 3
    return f"{round(x, -digits):,.0f}"


def disagreements(results: Results) -> list[str]:
    """A sentence for each comparison whose outputs differ; speeds are not worth giving there."""
    return [
        f"{row['setting']}, {row['phase']}: the outputs differ by {row['max_rel_error']:.1e}, too much to compare speeds."
        for row in results["rows"]
        if not row["agree"]
    ]


def markdown(results: Results) -> str:
    """All tables of the results.

    Args:
        results: What ``run`` returned, or the JSON it was written to.
    """
    parts = (_note, _comparison, _memories, _delta, _optimizers, _hope, _retrofit, _text, _decoding, _flops, _streaming, _long, _growth)
    return "\n\n".join(text for part in parts for text in part(results))


def readme(results: Results) -> str:
    """The page that goes with the results."""
    machine, versions = results["machine"], ", ".join(f"{name} {v}" for name, v in results["versions"].items())
    return (
        "\n\n".join(
            [
                "# Benchmarks",
                "Made by the command below from `results.json`; do not edit by hand. The tables alone: `retain bench --table benchmarks/results.json`.",
                f"    {results['command']}",
                f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gb']} GB, load {machine['load_at_start']} at the start; {results['threads']} threads; {versions}; "
                f"commit {results['commit']}; {results['date']}. A float32 product of 2048 x 2048 matrices runs at {number(results['sgemm_gflops'])} GFLOP/s.",
                "Both libraries hold the same parameters and read the same tokens, batch 1, float32. Nothing is timed before outputs and gradients agree: "
                "the error is the largest difference over the largest value. Each phase of each setting is timed in a process of its own, where calls are made in turns, ours, the peer's and a matrix product, after a "
                f"warm-up, each turn of 0.2 s or one call; {results['repeats']} rounds; medians, with minimum and maximum in brackets. A train step is forward and backward for the mean "
                "square of the output, without an optimizer. Peak memory is the high-water mark of a fresh process during its first call, above what was "
                "resident just before, after imports and building. "
                "The gates start as those of a memory that lasts (it keeps 99.75% a step): where the peer starts, forgetting half a step, setting A multiplies "
                "rounding errors a million-fold in 1,024 tokens and float32 outputs cannot be compared; there the check is made in float64 over the first tokens. Speed does not depend on it.",
                markdown(results),
                "![Speed and memory against the peer](speed.png)\n\n![What a token costs](growth.png)",
            ]
        )
        + "\n"
    )


def _verdict(reached: bool | None, target: str) -> str:
    return "" if reached is None else f" (target {target}: {'reached' if reached else '**not reached**'})"


def _spread(row: Mapping[str, Any], who: str) -> str:
    return f"{number(row[who])} ({number(row[f'{who}_min'])} - {number(row[f'{who}_max'])})"


def _share(x: float) -> str:
    return f"1/{number(1 / x)}"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _note(results: Results) -> Iterator[str]:
    if results["quick"]:
        yield "A quick run over shortened calls: its numbers and verdicts are not to be quoted."


def _comparison(results: Results) -> Iterator[str]:
    rows = [row for row in results["rows"] if row["setting"] in SETTINGS]
    if not rows:
        return
    head = ["setting", "phase", "ours, tokens/s", "peer, tokens/s", "times faster", "ours, peak MB", "peer, peak MB", "share of its memory", "error"]
    lines = []
    for row in rows:
        if row["agree"]:
            target, peak_target = row["target"], row["peak_target"]
            measured = [
                _spread(row, "ours"),
                _spread(row, "peer"),
                number(row["ratio"]) + _verdict(row["reached"], "none" if target is None else number(target)),
                number(row["ours_peak_mb"]),
                number(row["peer_peak_mb"]),
                _share(row["peak_ratio"]) + _verdict(row["peak_reached"], "none" if peak_target is None else _share(peak_target)),
            ]
        else:
            measured = ["the outputs differ", *[""] * 5]
        lines.append([row["setting"], row["phase"], *measured, f"{row['max_rel_error']:.0e}"])
    yield f"## Against {PEER} {PEER_VERSION}"
    yield _table(head, lines)
    seen = {row["setting"]: row for row in rows}
    yield "\n".join(
        f"* {name}: {row['what']}; errors: outputs {row['max_rel_error']:.0e}, outputs in float64 {row['max_rel_error_float64']:.0e}, "
        f"gradients of all parameters {row['max_rel_error_gradients']:.0e}"
        for name, row in seen.items()
    )


def _memories(results: Results) -> Iterator[str]:
    if "memories" not in results:
        return
    found = results["memories"]
    yield "## The memories of MIRAS against Titans'"
    lines = []
    for row in found["rows"]:
        rates = [number(row[f"tokens_per_second_{which}"]) for which in ("median", "min", "max")]
        verdict = _verdict(row["reached"], f"{row['target']} at most")
        lines.append([row["memory"], row["engine"], row["phase"], f"{rates[0]} ({rates[1]} - {rates[2]})", f"{row['times_titans']:.2f}{verdict}"])
    yield _table(["memory", "engine", "phase", "tokens/s", "times Titans' time"], lines)
    yield f"{found['what']}."


def _delta(results: Results) -> Iterator[str]:
    if "delta" not in results:
        return
    found = results["delta"]
    yield f"## The delta rule against {RULER} {RULER_VERSION}, in plain torch"
    lines = []
    for row in found["rows"]:
        if row["agree"]:
            rates = [f"{number(row[who]['median'])} ({number(row[who]['min'])} - {number(row[who]['max'])})" for who in ("ours", "theirs")]
            lines.append(
                [row["rule"], *rates, f"{row['faster']:.2f}{_verdict(row['reached'], number(found['target']))}", f"{row['max_rel_error']:.0e}"]
            )
        else:
            lines.append([row["rule"], "the outputs differ", "", "", f"{row['max_rel_error']:.0e}"])
    yield _table(["rule", "ours, tokens/s", "theirs, tokens/s", "times faster", "error"], lines)
    yield f"{found['what']}."


def _optimizers(results: Results) -> Iterator[str]:
    if "optimizers" not in results:
        return
    found = results["optimizers"]
    yield "## A step of M3 against Muon's"
    lines = []
    for row in found["rows"]:
        taken, least, most = (number(1e3 * row[which]) for which in ("seconds_per_step", "min", "max"))
        times = f"{row['m3_takes']:.2f}{_verdict(row['reached'], format(found['target'], '.1f') + ' at most')}" if "m3_takes" in row else ""
        lines.append([row["optimizer"], row["products"], f"{taken} ({least} - {most})", times])
    yield _table(["optimizer", "products in", "ms a step", "M3's time over it"], lines)
    yield f"{found['what']}."


def _hope(results: Results) -> Iterator[str]:
    if "hope" not in results:
        return
    found = results["hope"]
    yield "## Training Hope against an LMM"
    lines = []
    for row in found["rows"]:
        rates = [number(row[f"tokens_per_second_{which}"]) for which in ("median", "min", "max")]
        verdict = _verdict(row["reached"], f"{found['target']:.0f} at most")
        lines.append(
            [row["model"], str(row["chunk"]), f"{row['parameters']:,}", f"{rates[0]} ({rates[1]} - {rates[2]})", f"{row['times_lmm']:.2f}{verdict}"]
        )
    yield _table(["model", "chunk", "parameters", "tokens/s trained", "times the LMM's time"], lines)
    yield f"{found['what']}."


def _retrofit(results: Results) -> Iterator[str]:
    if "retrofit" not in results:
        return
    found = results["retrofit"]
    yield "## A memory beside every layer of SmolLM2-135M"
    if "skipped" in found:
        yield found["skipped"]
        return
    lines = []
    for row in found["rows"]:
        rates = [f"{number(row[who]['median'])} ({number(row[who]['min'])} - {number(row[who]['max'])})" for who in ("base", "with memories")]
        said = "time {:.2f} times the base's" if row["phase"] == "forward" else "{:.2f} of the base's speed"
        verdict = _verdict(row["reached"], f"{row['target']} at {'most' if row['phase'] == 'forward' else 'least'}")
        lines.append([row["phase"], *rates, said.format(row["ratio"]) + verdict])
    yield _table(["phase", "base, tokens/s", "with memories, tokens/s", "ratio, the median of the rounds"], lines)
    stream = found["stream"]
    yield (
        f"{found['what']}. A stream of {stream['tokens']:,} tokens in pieces of {stream['piece']:,}, the attention cut behind each: the memories take "
        f"{' or '.join(f'{size / 2**20:.1f}' for size in stream['state_bytes'])} MB throughout; resident memory, most over most of the first tenth: "
        f"{stream['resident_ratio']:.2f}{_verdict(stream['reached'], format(stream['target'], '.1f') + ' at most')}."
    )


def _text(results: Results) -> Iterator[str]:
    if "text" not in results:
        return
    found = results["text"]
    yield "## A text memory"
    names = {"observed_a_second": "observed/s", "inferred_a_second": "asked/s", "opened_in": "opened in, s"}
    rates = [[f"{number(row[name]['median'])} ({number(row[name]['min'])} - {number(row[name]['max'])})" for name in names] for row in found["rows"]]
    lines = [[f"{row['records']:,}", *rate, f"{row['weights_bytes'] / 2**20:.2f}"] for row, rate in zip(found["rows"], rates, strict=True)]
    yield _table(["records", *names.values(), "weights on disk, MB"], lines)
    judged = {name: part["reached"] for name, part in found["judged"].items()}
    said = {
        "observed_a_second": "Observing, with few records",
        "inferred_a_second": "asking, with few",
        "opened_in": "opening, with most",
        "weights_bytes": "the size of the weights",
    }
    targets = {
        name: "the same" if name == "weights_bytes" else f"{part['target']:g} at {'most' if name == 'opened_in' else 'least'}"
        for name, part in found["judged"].items()
    }
    yield f"{found['what']}. " + "; ".join(f"{said[name]}{_verdict(judged[name], targets[name])}" for name in said) + "."


def _decoding(results: Results) -> Iterator[str]:
    if "decoding" not in results:
        return
    (row,) = (row for row in results["rows"] if row["setting"] == "decoding")
    yield "## One token at a time"
    if not row["agree"]:
        yield f"The outputs differ by {row['max_rel_error']:.0e}: nothing is timed."
        return
    yield (
        f"{row['what'][0].upper()}{row['what'][1:]}, a step per token: ours {_spread(row, 'ours')} tokens/s, the peer {_spread(row, 'peer')}: "
        f"{number(row['ratio'])} times faster{_verdict(row['reached'], number(row['target']))}; error {row['max_rel_error']:.0e}. "
        f"For information, with a step per 64 tokens: ours {number(row['ours_coarse'])}, the peer {number(row['peer_coarse'])}."
    )
    found = results["decoding"]
    yield _table(
        ["tokens read before", "ms per token"],
        [
            [f"{after['tokens_read']:,}", f"{1e3 * after['seconds_per_token']:.3f} ({1e3 * after['min']:.3f} - {1e3 * after['max']:.3f})"]
            for after in found["after"]
        ],
    )
    yield f"Last over first: {found['after_growth']:.2f}{_verdict(found['after_reached'], '1.1 at most')}."


def _flops(results: Results) -> Iterator[str]:
    if "flops" not in results:
        return
    found = results["flops"]
    yield "## Use of the machine"
    yield (
        f"Forward, {found['what']}: {number(found['tokens_per_second'])} tokens/s, {number(found['flops_per_token'] / 1e6)} MFLOP a token, "
        f"{number(found['gflops'])} GFLOP/s ({number(found['gflops_min'])} - {number(found['gflops_max'])}), {found['share']:.0%} of the "
        f"{number(found['sgemm_gflops'])} GFLOP/s of a matrix product{_verdict(found['share_reached'], format(found['share_target'], '.0%'))}. "
        f"Under bfloat16 autocast {found['bfloat16_faster']:.2f} times as fast"
        f"{_verdict(found['bfloat16_reached'], str(found['bfloat16_target']))}; its outputs differ by {found['bfloat16_max_rel_error']:.1%} of the "
        f"largest value at most, {found['bfloat16_rms_rel_error']:.1%} in the root mean square."
    )


def _streaming(results: Results) -> Iterator[str]:
    if "streaming" not in results:
        return
    found = results["streaming"]
    yield "## Streams"
    yield f"{found['what'][0].upper()}{found['what'][1:]}, no gradients; the allocator hands blocks of 1 MB and more back to the system."
    yield _table(
        ["tokens", "tokens/s", "peak MB"],
        [[f"{part['tokens']:,}", number(part["tokens_per_second"]), number(part["peak_mb"])] for part in (found["short"], found["long"])],
    )
    yield (
        f"Peak memory, last over first: {found['peak_ratio']:.2f}{_verdict(found['peak_reached'], format(found['peak_target'], '.2f') + ' at most')}. "
        f"Speed: {found['speed_ratio']:.2f}{_verdict(found['speed_reached'], format(found['speed_target'], '.2f') + ' at least')}."
    )


def _long(results: Results) -> Iterator[str]:
    if "long" not in results:
        return
    found = results["long"]
    yield "## Training over a long call"
    yield (
        f"A train step, {found['what']}: peak {number(found['peak_mb'])} MB{_verdict(found['reached'], format(found['peak_target_mb'], '.0f') + ' MB')}, "
        f"{number(found['tokens_per_second'])} tokens/s."
    )


def _growth(results: Results) -> Iterator[str]:
    if "growth" not in results:
        return
    rows = results["growth"]["rows"]
    lengths, names = sorted({row["tokens"] for row in rows}), list(dict.fromkeys(row["contender"] for row in rows))
    found = {(row["contender"], row["tokens"]): row for row in rows}
    yield "## What a token costs"
    yield "Forward calls without gradients, in setting A, or in C where a step per 64 tokens is said: microseconds a token, and kB a token at the peak."
    yield _table(
        ["tokens", *names],
        [[f"{n:,}", *(_cost(found[name, n]) for name in names)] for n in lengths],
    )
    skipped = {row["contender"]: row for row in reversed(rows) if "skipped" in row}
    if skipped:
        yield "\n".join(f"* {name}: {row['tokens']:,} tokens {row['skipped']}; not measured." for name, row in skipped.items())


def _cost(row: Mapping[str, Any]) -> str:
    if "skipped" in row:
        return "not measured"
    return f"{number(1e6 * row['seconds_per_token'])} us, {number(1e3 * row['mb_per_token'])} kB"
