"""Forms that came back from the field: submissions of ODK Central and KoboToolbox."""

from __future__ import annotations

from glocal.core.legend import Legend
from glocal.errors import BadSourceError
from glocal.sources.answers.asked import Asked
from glocal.sources.answers.rows import Rows, column_of, last_of_each, of_this_run, text_of
from glocal.sources.answers.verdict import NO_PROPOSAL, Answer, Heard, Verdict, Visit
from glocal.sources.points.words import class_of_text, is_silent

CLASS = ("class_seen", "class_found", "class", "land_cover", "landcover", "cover")
STATE = ("reviewstate", "_validation_status", "validation_status")
WHEN = ("submissiondate", "_submission_time", "submission_date", "updatedat", "end")

REFUSED = frozenset({"rejected", "not approved", "validation_status_not_approved"})
DOUBTED = frozenset({"hasissues", "has issues", "on hold", "validation_status_on_hold"})


def read_form(
    rows: Rows,
    name: str,
    channel: str,
    asked: Asked,
    legend: Legend,
    class_column: str | None = None,
) -> Heard:
    """Return what people found where they were sent, from an export of ODK or Kobo.

    Rows are known by the ``sample_id`` that the form brings back: Kobo's ``_uuid`` changes
    with each edit. Of several submissions for one place the newest stands. A submission
    that was rejected in the tool is left out; one with issues, or on hold, counts as "could
    not tell". No other column is read.

    Raises ``BadSourceError``: no column for the place or for the class; it answers another run.
    """
    of_this_run(rows, name, asked)
    place = column_of(rows, ("sample_id",))
    column = column_of(rows, (class_column.lower(),) if class_column else CLASS)
    columns = sorted({str(one) for row in rows for one in row})
    for what, found, how in (
        ("sample_id", place, "the form must bring back the sample_id of the place"),
        ("the class", column, "name the question with --class-column"),
    ):
        if found is None:
            raise BadSourceError(f"{name} has no column for {what}; {how}; it has {columns}")
    planned = set(asked.visits["sample_id"].tolist())
    state, when = column_of(rows, STATE), column_of(rows, WHEN)
    visits: dict[str, Visit] = {}
    answers, unknown, refused = [], [], 0
    for row in sorted(rows, key=lambda row: text_of(row, when)):
        key, word, judged = (text_of(row, one) for one in (place, column, state))
        if judged.lower() in REFUSED:
            refused += 1
            continue
        silent = is_silent(word) or judged.lower() in DOUBTED
        stated = "" if silent else class_of_text(word, legend)
        if not silent and not stated:
            unknown.append((key, f"{word!r} is no class of {legend.name}"))
        elif key in planned:
            visits[key] = Visit(sample_id=key, stated=stated)
        elif (at := asked.find([key])) is not None:
            proposal = str(asked.proposals["proposal"].iloc[at])
            verdict: Verdict = "told" if stated else "too_hard"
            answers.append(
                Answer(proposal=proposal, channel=channel, verdict=verdict, stated=stated)
            )
        else:
            unknown.append((key or "no sample_id", NO_PROPOSAL))
    again = len(rows) - refused - len(unknown) - len(visits) - len(last_of_each(answers))
    notes = [f"{refused} submissions were rejected in the tool and are left out"] if refused else []
    notes += [f"{again} submissions are older ones for the same place"] if again else []
    return Heard(
        channel=channel, answers=last_of_each(answers), visits=tuple(visits.values()),
        unknown=tuple(unknown), notes=tuple(notes),
    )  # fmt: skip
