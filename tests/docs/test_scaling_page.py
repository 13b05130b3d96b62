"""docs/scaling.md is what its script makes, and agrees with what others published."""

import re
import runpy

import docpages

ROOT = docpages.ROOT
PAGE = ROOT / "docs" / "scaling.md"


def test_the_page_of_scaling_is_up_to_date() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "make_scaling.py"))
    assert PAGE.read_text(encoding="utf-8") == made["page"]()


def test_flops_and_memory_agree_with_published_figures() -> None:
    text = PAGE.read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if re.search(r"3\.14e\+23|120 GB|1\.9 GB", line)]
    ratios = [float(row.split("|")[5]) for row in rows]
    assert len(ratios) == 3
    assert all(abs(ratio - 1) <= 0.02 for ratio in ratios)


def test_hours_agree_with_published_ones_as_far_as_their_use_of_the_peak() -> None:
    text = PAGE.read_text(encoding="utf-8")
    rows = re.findall(r"\| ([\d,]+) h \| ([\d,]+) h \| ([\d.]+) \| (\d+)% \|", text)
    assert len(rows) == 5
    for published, ours, ratio, share in rows:
        hours, own = (float(each.replace(",", "")) for each in (published, ours))
        assert abs(own / hours - float(ratio)) < 0.05
        # at their share of the peak, arithmetic alone takes at most what they needed
        assert own * 0.4 / (float(share) / 100) >= 0.99 * hours
        assert 0.5 < float(ratio) < 2
