"""metrics.jsonl with characters that other programs take for line ends, and with damaged lines."""

import json
from pathlib import Path

import pytest

from scriven.train.trackers.jsonl import Tracker, drop_events_after, read_events

TEXTS = ["a\u2028b\x85c\x0bd\x0ce\x1cf", "rain \ud83d", "one\r\ntwo\n"]


def test_samples_keep_their_line_separators_when_a_run_resumes(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    tracker = Tracker()
    tracker.path = path
    for step, text in enumerate(TEXTS):
        tracker.write("sample", step=step, text=text)
    drop_events_after(path, 10, 10)
    wanted = [text.replace("\ud83d", "\ufffd") for text in TEXTS]
    assert [event["text"] for event in read_events(path)] == wanted
    assert tracker.path == path, "the log was given up"


@pytest.mark.parametrize("line", ["5", "null", "[1]", '"x"', "{", "", "[" * 100_000, "\udcff"])
def test_a_line_that_is_no_event_is_passed_over(line: str, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    events = [json.dumps({"event": "step", "step": step}) for step in (1, 2)]
    raw = "\n".join([events[0], line, events[1]]).encode("utf-8", "surrogateescape")
    path.write_bytes(raw)
    drop_events_after(path, 1, 1)
    assert read_events(path) == [{"event": "step", "step": 1}]


def test_an_escaped_surrogate_in_the_log_costs_no_run(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps({"event": "sample", "step": 1, "text": "\ud83d"}) + "\n")
    drop_events_after(path, 5, 5)
    assert read_events(path)[0]["text"] == "\ufffd"
