"""Results as text, figures and files; plans that are refused; and the page that is committed, against its data."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from retain.benchmark import job, peer
from retain.benchmark.folder import Folder, read
from retain.benchmark.growth import _too_much
from retain.benchmark.job import Job
from retain.benchmark.plan import Plan
from retain.benchmark.report import disagreements, markdown, readme
from retain.benchmark.settings import SETTINGS, chosen
from retain.benchmark.timing import Times, in_turns
from retain.cli import main

COMMITTED = Path(__file__).parents[3] / "benchmarks"


def row(setting: str, phase: str, ratio: float, peak_ratio: float) -> dict[str, Any]:
    targets = SETTINGS[setting].targets
    target, peak_target = (targets.forward, None) if phase == "forward" else (targets.train, targets.peak)
    speeds = {f"{who}{end}": 1000.0 for who in ("ours", "peer") for end in ("", "_min", "_max")}
    errors = {"max_rel_error": 2e-7, "max_rel_error_float64": 1e-15, "max_rel_error_gradients": 3e-7, "agree": True}
    return {
        "setting": setting,
        "phase": phase,
        "what": SETTINGS[setting].sentence,
        **errors,
        **speeds,
        "ratio": ratio,
        "target": target,
        "reached": target is not None and ratio >= target,
        "ours_peak_mb": 10.0,
        "peer_peak_mb": 10.0 / peak_ratio,
        "peak_ratio": peak_ratio,
        "peak_target": peak_target,
        "peak_reached": None if peak_target is None else peak_ratio <= peak_target,
    }


def results(*rows: dict[str, Any], complete: bool = False) -> dict[str, Any]:
    machine = {"processor": "a processor", "cores": 2, "memory_gb": 8.0, "load_at_start": 0.1}
    where = {"command": "retain bench", "date": "2026-01-01", "commit": "abc", "machine": machine, "versions": {"torch": "2"}, "threads": 2}
    return {**where, "sgemm_gflops": 250.0, "repeats": 5, "quick": False, "complete": complete, "failures": [], "rows": list(rows)}


def test_each_target_stands_next_to_what_was_reached() -> None:
    text = markdown(results(row("A", "forward", 130.0, 0.1), row("A", "train", 79.9, 1 / 50)))
    forward, train = (line for line in text.splitlines() if line.startswith("| A"))
    assert "130 (target 120: reached)" in forward
    assert "79.9 (target 80: **not reached**)" in train
    assert "1/50 (target 1/40: reached)" in train


def test_memories_and_the_delta_rule_have_tables_of_their_own() -> None:
    rates = {f"tokens_per_second_{which}": 1000.0 for which in ("median", "min", "max")}
    memory = {"memory": "moneta", "engine": "dual", "phase": "train", "times_titans": 3.21, "target": 3.0, "reached": False, **rates}
    speeds = {who: {"median": 1000.0, "min": 900.0, "max": 1100.0} for who in ("ours", "theirs")}
    agrees = {"rule": "delta rule", "agree": True, "max_rel_error": 1e-7, "faster": 1.25, "reached": True, **speeds}
    differs = {"rule": "gated delta rule", "agree": False, "max_rel_error": 0.5}
    parts = {"memories": {"what": "small", "rows": [memory]}, "delta": {"what": "small", "target": 1.0, "rows": [agrees, differs]}}
    lines = markdown({**results(), **parts}).splitlines()
    assert any(line.startswith("| moneta") and "3.21 (target 3.0 at most: **not reached**)" in line for line in lines)
    assert any(line.startswith("| delta rule") and "1.25 (target 1: reached)" in line for line in lines)
    assert any(line.startswith("| gated delta rule") and "the outputs differ" in line and "reached" not in line for line in lines)


def test_optimizers_are_told_how_many_times_as_long_m3_takes() -> None:
    taken = {"seconds_per_step": 0.0123, "min": 0.012, "max": 0.013}
    rows = [
        {"optimizer": "torch's Muon", "products": "bfloat16", "m3_takes": 1.3, "reached": True, **taken},
        {"optimizer": "Muon", "products": "float32", "m3_takes": 1.51, "reached": False, **taken},
        {"optimizer": "M3", "products": "float32", **taken},
    ]
    lines = markdown({**results(), "optimizers": {"what": "small", "target": 1.5, "rows": rows}}).splitlines()
    assert "| torch's Muon | bfloat16 | 12.3 (12 - 13) | 1.30 (target 1.5 at most: reached) |" in lines
    assert "| Muon | float32 | 12.3 (12 - 13) | 1.51 (target 1.5 at most: **not reached**) |" in lines
    assert "| M3 | float32 | 12.3 (12 - 13) |  |" in lines


def test_hope_is_told_how_many_times_as_long_as_an_lmm_it_takes() -> None:
    rates = {f"tokens_per_second_{which}": 1000.0 for which in ("median", "min", "max")}
    rows = [
        {"model": "LMM", "chunk": 16, "parameters": 630412, "times_lmm": 1.0, "reached": None, **rates},
        {"model": "Hope", "chunk": 16, "parameters": 627848, "times_lmm": 4.01, "reached": False, **rates},
    ]
    lines = markdown({**results(), "hope": {"what": "small", "target": 4.0, "rows": rows}}).splitlines()
    assert "| LMM | 16 | 630,412 | 1,000 (1,000 - 1,000) | 1.00 |" in lines
    assert "| Hope | 16 | 627,848 | 1,000 (1,000 - 1,000) | 4.01 (target 4 at most: **not reached**) |" in lines


def test_what_disagrees_has_no_speed() -> None:
    wrong = {key: value for key, value in row("B", "forward", 130.0, 0.1).items() if not key.startswith(("ours", "peer", "ratio", "peak"))}
    found = results({**wrong, "agree": False, "max_rel_error": 0.3})
    (line,) = (line for line in markdown(found).splitlines() if line.startswith("| B"))
    assert "the outputs differ" in line
    assert "1,000" not in line
    assert "3.0e-01" in disagreements(found)[0]


def test_only_complete_results_get_a_page(tmp_path: Path) -> None:
    whole = Folder(tmp_path).write(results(row("A", "train", 130.0, 0.1), complete=True))
    less = Folder(tmp_path).write(results(row("A", "train", 1.0, 0.1)))
    assert [path.relative_to(tmp_path).as_posix() for path in whole] == ["results.json", "speed.png", "README.md"]
    assert [path.relative_to(tmp_path).as_posix() for path in less] == ["partial/results.json", "partial/speed.png"]
    assert read(whole[0])["rows"][0]["ratio"] == 130.0
    assert whole[1].read_bytes()[1:4] == b"PNG"


def test_a_folder_that_cannot_be_written_to_is_refused_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retain.cli.bench.run", lambda *_: pytest.fail("measured before the folder was tried"))
    monkeypatch.setattr("retain.cli.bench.peer_package", lambda: None)
    taken = tmp_path / "taken"
    taken.write_text("")
    result = CliRunner().invoke(main.app, ["bench", "--out", str(taken)])
    assert result.exit_code == 2
    assert "--out" in result.stderr


def test_a_missing_peer_is_one_line_with_the_cure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(peer, "PEER", "a-package-that-is-not-there")
    result = CliRunner().invoke(main.app, ["bench", "--out", str(tmp_path)])
    assert result.exit_code == 2
    assert "pip install 'retain[bench]'" in result.stderr


def test_another_version_of_the_peer_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer, "version", lambda name: "9.9.9")
    monkeypatch.setattr(peer, "import_module", lambda name: None)
    with pytest.raises(peer.PeerMissing, match=r"9\.9\.9 is installed"):
        peer.peer_package()


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--settings", "A,Q"], "'Q'"),
        (["--only", "decode"], "'decode'"),
        (["--repeats", "2"], "at least 5"),
        (["--table", "nowhere.json"], "nowhere"),
    ],
)
def test_wrong_options_are_refused_with_what_would_do(options: list[str], word: str) -> None:
    result = CliRunner().invoke(main.app, ["bench", *options])
    assert result.exit_code == 2
    assert word in result.stderr


def test_table_prints_what_the_data_say(tmp_path: Path) -> None:
    data = tmp_path / "results.json"
    data.write_text(json.dumps(results(row("A", "train", 79.9, 1 / 50))))
    result = CliRunner().invoke(main.app, ["bench", "--table", str(data)])
    assert result.stdout.strip() == markdown(read(data))


def test_the_committed_page_is_made_of_the_committed_data() -> None:
    found = read(COMMITTED / "results.json")
    assert found["complete"]
    assert (COMMITTED / "README.md").read_text(encoding="utf-8") == readme(found)


def test_a_job_survives_the_way_to_its_process() -> None:
    sent = Job(contender="peer", setting=SETTINGS["D"], phase="train", calls=2, seconds=0.5)
    assert Job.from_json(sent.to_json()) == sent


def test_a_job_that_breaks_says_which_and_why() -> None:
    broken = Job(contender="ours", setting=chosen(["D"])[0].at(-1), phase="forward")
    with pytest.raises(job.JobFailed, match="the forward of ours in setting D over -1 tokens"):
        job.run_apart(broken)


def test_turns_alternate_and_warm_ups_do_not_count() -> None:
    order: list[str] = []
    times = in_turns({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 2, 1, lambda done, note: None, turn=0.0)
    assert order == ["a", "b"] * 3
    assert {name: len(taken.seconds) for name, taken in times.items()} == {"a": 2, "b": 2}
    (many,) = in_turns({"a": lambda: order.append("c")}, 1, 0, lambda done, note: None, turn=0.01).values()
    assert order.count("c") > 1
    assert many.median < 0.01
    assert Times((1.0, 4.0, 2.0)).rates(8.0) == {"median": 4.0, "min": 2.0, "max": 8.0}


def test_lengths_beyond_the_limits_are_foretold() -> None:
    last = {"tokens": 1024, "seconds_per_token": 15 / 1024, "peak_mb": 10.0}
    assert "30 s" in str(_too_much(last, 2048, power=1))
    assert "60 s" in str(_too_much(last, 2048, power=2))
    assert _too_much({**last, "seconds_per_token": 1e-6}, 2048, power=2) is None
    assert "20 GB" in str(_too_much({**last, "seconds_per_token": 1e-6, "peak_mb": 10_000.0}, 2048, power=1))


def test_a_quick_plan_is_never_complete() -> None:
    assert Plan().complete
    assert not Plan(quick=True, repeats=1).complete
    assert not Plan(settings=("A",)).complete
