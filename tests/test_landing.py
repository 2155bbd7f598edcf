"""What the landing page and the map show is what models, records and chapters say."""

import statistics
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import torch
from claims.sources import by_ais

from tvae_core import warps
from tvae_core.experiments import results, where
from tvae_core.experiments.study import PRINTED

EXTENSIONS = Path(__file__).parents[1] / "book" / "_ext"
sys.path.insert(0, str(EXTENSIONS))
import glossary_ext  # noqa: E402
import landing_ext  # noqa: E402
import map_ext  # noqa: E402


def values(result: landing_ext.Result) -> list[list[float]]:
    return [[mark.value for mark in row] for row in result.rows.values()]


def test_the_first_result_is_the_study_beside_our_runs():
    shown = landing_ext.study()
    for (theirs, ours), decoder in zip(values(shown), ("plain", "affine", "tps"), strict=True):
        assert theirs == PRINTED[decoder].headed_multi5
        seeds = results.over_seeds(f"{decoder}-iwae5")
        assert ours == pytest.approx(statistics.mean(seeds))
        assert len(seeds) == 12
    assert "this book, twelve runs" in shown.legend.values()


def test_the_second_result_is_that_importance_sampling_hides_most_of_the_gain():
    shown = landing_ext.trust()
    for (sampled, annealed), decoder in zip(values(shown), ("affine", "tps"), strict=True):
        gap = results.gap_over_seeds(f"{decoder}-iwae5", "plain-iwae5")
        assert sampled == round(gap.mean, 2)
        assert annealed == by_ais(f"{decoder}-iwae5")[0]
        assert annealed < 2 * sampled < 0  # so more than half is hidden


def test_the_third_result_is_that_the_warp_pays_with_a_second_look():
    (plain,), (once,), (twice,) = values(landing_ext.second_look())
    assert twice < plain - 2 < once - 2
    assert plain == pytest.approx(statistics.mean(results.over_seeds("plain-iwae5-modern")))


def test_the_fourth_result_is_the_chapter_s_table_of_what_a_warp_is_worth():
    shown = values(landing_ext.worth())
    for (once, straight), turn in zip(shown, where.TURNS, strict=True):
        assert once == where.worth(2_000, turn, "affine").factor > 1.5
        assert straight == where.worth(2_000, turn, "affine-straight").factor > 2 * once


@pytest.mark.parametrize("name", landing_ext.RESULTS)
def test_a_result_is_drawn_to_scale_and_described(name):
    result = landing_ext.RESULTS[name]()
    svg = ET.fromstring(landing_ext.picture_of(result))
    marks = [m for row in result.rows.values() for m in row]
    circles = [c for c in svg.iter("circle") if float(c.get("cy")) > 20][-len(marks) :]
    places = [float(c.get("cx")) for c in circles]
    ticks = {float(t.text): float(t.get("x")) for t in svg.iter("text") if t.get("class") == "tick"}
    (a, at_a), (b, at_b) = min(ticks.items()), max(ticks.items())
    for mark, place in zip(marks, places, strict=True):
        value = a + (place - at_a) * (b - a) / (at_b - at_a)
        assert value == pytest.approx(mark.value, abs=0.02)
        assert a <= mark.low <= mark.value <= mark.high <= b
    (drawn,) = svg.iter("svg")
    for mark in marks:
        said = (f"{mark.value:+.1f}", f"{mark.value:.2f}")
        assert any(number in drawn.get("aria-label") for number in said)


def test_the_live_figure_has_poses_that_differ_and_that_digits_have():
    canonical, maps = landing_ext.canonical_and_poses()
    assert canonical.shape == (28, 28)
    assert canonical.max() > 0.9
    slants = maps[:, 0, 1]
    assert slants.max() - slants.min() > 0.3
    theta = (maps - torch.eye(2, 3)).flatten(1)
    out = warps.make_warp("affine", (28, 28))(canonical.expand(len(maps), 1, 28, 28), theta)
    assert (out.sum((1, 2, 3)) > 0.7 * canonical.sum()).all()  # it stays in the frame


def test_the_map_reads_what_chapters_say():
    chapters = map_ext.chapters()
    assert [c.number for c in chapters] == [*range(1, len(chapters) + 1)]
    assert all(20 <= c.minutes <= 120 for c in chapters)
    assert all(n < c.number for c in chapters for n in c.needs)
    assert chapters[0].needs == []
    assert chapters[2].needs == [1, 2]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("chapter 3, and the spline of chapter 2", [2, 3]),
        ("chapters 1 to 6, or their conclusions", [1, 2, 3, 4, 5, 6]),
        ("chapters 3, 5 and 9 (HMC); chapter 8", [3, 5, 8, 9]),
        ("Python and the normal distribution", []),
    ],
)
def test_the_map_understands_lists_of_chapters(text, found):
    assert map_ext.numbers(text, 11) == found


def test_terms_are_found_as_whole_words_and_abbreviations_as_they_are_written():
    glossary = (EXTENSIONS.parent / "glossary.md").read_text(encoding="utf-8")
    found = glossary_ext.pattern(glossary_ext.terms(glossary)).findall
    assert len(glossary_ext.terms(glossary)) > 50
    assert found("Decoders of the ELBO") == [("Decoder", "s"), ("ELBO", "")]
    assert found("effective\nsample size") == [("effective\nsample size", "")]
    assert found("elbo, sub-warp, warped, kl") == []
