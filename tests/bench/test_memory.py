import json
from dataclasses import replace
from pathlib import Path

import pytest

from worldenv.bench import memory as bench
from worldenv.cli import main
from worldenv.memory.select import Selection


def test_bench_memory_writes_the_contract_s_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "YOUNG", 8)
    retrieval = bench._retrieval
    monkeypatch.setattr(bench, "_retrieval", lambda num_envs, _, steps: retrieval(min(num_envs, 2), 60, steps))
    command = ["worldenv", "bench", "memory", "--chunks", "20", "--steps", "3", "--out", str(tmp_path / "m.json")]
    monkeypatch.setattr("sys.argv", command)
    main()
    report = json.loads((tmp_path / "m.json").read_text())
    assert set(report["policies"]) == {"worldplay", "worldscape", "worldplay_rendered"}
    for row in report["policies"].values():
        assert {"chunk_time_ratio", "rss_mb_per_1000_chunks", "tokens_attended"} <= set(row)
        assert row["chunk_time_ratio"] > 0
    assert report["policies"]["worldplay"]["tokens_attended"] in ((16 + 4) * 12, (13 + 4) * 12)
    assert report["policies"]["worldscape"]["tokens_attended"] in ((17 + 4) * 12, (13 + 4) * 12)
    assert {"envs", "chunks", "median"} <= set(report["retrieval_ms"])


def test_a_search_that_chooses_otherwise_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    search = bench.select

    def wrong(*arguments: object) -> Selection:
        found: Selection = search(*arguments)  # type: ignore[arg-type]
        return replace(found, retrieved=found.retrieved + 1)

    monkeypatch.setattr(bench, "select", wrong)
    with pytest.raises(AssertionError, match="chose another chunk"):
        bench._retrieval(1, 40, 1)


def test_an_old_engine_must_be_old(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="more than the 200"):
        bench.bench_memory(tmp_path / "m.json", name="tiny", num_chunks=100, num_steps=1)
