"""Six different statuses, and how several answers to one question become one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glocal.core.answer import SPEAKS
from glocal.sources.answers.store import merged
from glocal.sources.answers.verdict import MEANING, Answer, resolved, verdict_of
from glocal.sources.osm.heard_tasks import of_task

STATUS = {
    0: "", 1: "accepted", 2: "rejected", 3: "skipped", 4: "void", 5: "already_fixed",
    6: "too_hard", 7: "told", 8: "accepted", 9: "void",
}  # fmt: skip
NAMES = {
    "Created": 0, "Fixed": 1, "Not_An_Issue": 2, "Skipped": 3, "Deleted": 4, "Already_Fixed": 5,
    "Too_Hard": 6, "Answered": 7, "Validated": 8, "Disabled": 9,
}  # fmt: skip


@pytest.mark.parametrize(("code", "verdict"), STATUS.items())
def test_each_status_means_what_maproulette_says(code: int, verdict: str) -> None:
    assert of_task(code) == of_task(str(code)) == of_task(float(code)) == verdict


@pytest.mark.parametrize(("name", "code"), NAMES.items())
def test_names_and_codes_are_the_same(name: str, code: int) -> None:
    assert of_task(name) == of_task(name.replace("_", " ").lower()) == STATUS[code]


@pytest.mark.parametrize("status", [10, -1, "Fixd", "", None, True])
def test_a_status_that_does_not_exist_is_told(status: object) -> None:
    assert of_task(status) is None


@pytest.mark.parametrize("review", range(8))
def test_a_fix_that_review_refused_is_not_accepted(review: int) -> None:
    assert of_task(1, review) == ("disputed" if review in (2, 4) else "accepted")
    assert of_task(3, review) == "skipped"


@pytest.mark.parametrize(
    ("word", "verdict"),
    [("Yes", "accepted"), ("FALSE positive", "rejected"), ("too-hard", "too_hard"), ("", ""),
     ("proposed", ""), (None, ""), ("perhaps", None)],
)  # fmt: skip
def test_words(word: str | None, verdict: str | None) -> None:
    assert verdict_of(word) == verdict


VERDICT = st.sampled_from(sorted(MEANING))
GIVEN = VERDICT.flatmap(
    lambda v: st.tuples(
        st.just(v), st.sampled_from("ab") if v in ("told", "changed") else st.just("")
    )
)


@given(st.lists(GIVEN, max_size=5))
def test_order_and_repetition_make_no_difference(answers: list[tuple[str, str]]) -> None:
    assert resolved(answers) == resolved(answers[::-1]) == resolved(answers + answers)


@given(st.lists(GIVEN, min_size=1, max_size=5))
def test_one_voice_is_itself_and_silence_gives_way(answers: list[tuple[str, str]]) -> None:
    assert resolved(answers[:1]) == answers[0]
    verdict, _ = resolved(answers)
    spoken = {one for one, _ in answers if one in SPEAKS}
    assert verdict == "disputed" or verdict in spoken or not spoken
    if {"accepted", "rejected"} <= spoken or "disputed" in {one for one, _ in answers}:
        assert verdict == "disputed"


ANSWERS = st.lists(
    st.builds(
        Answer,
        proposal=st.sampled_from(["g-1", "g-2"]),
        verdict=VERDICT,
        channel=st.sampled_from(["maproulette", "extract"]),
    ),
    max_size=6,
)


@given(ANSWERS, ANSWERS)
def test_the_same_answers_twice_are_the_answers_once(old: list[Answer], new: list[Answer]) -> None:
    once = merged(old, new)
    assert merged(once, new) == once
    assert len({(one.proposal, one.channel) for one in once}) == len(once)


def test_a_task_that_was_rebuilt_and_skipped_keeps_its_answer() -> None:
    fixed = Answer(proposal="g-1", verdict="accepted", channel="maproulette")
    skipped = Answer(proposal="g-1", verdict="skipped", channel="maproulette")
    assert merged([fixed], [skipped]) == [fixed]
    assert merged([skipped], [fixed]) == [fixed]
