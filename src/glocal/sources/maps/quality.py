"""Accuracy of a map as ISO 19157 data quality in XML (ISO/TS 19157-2 within ISO 19115-3)."""

from __future__ import annotations

from typing import Any
from xml.sax.saxutils import escape

from glocal.core.accuracy import AccuracyReport
from glocal.core.legend import Legend

SPACES = {
    "mdq": "http://standards.iso.org/iso/19157/-2/mdq/1.0",
    "mcc": "http://standards.iso.org/iso/19115/-3/mcc/1.0",
    "gco": "http://standards.iso.org/iso/19115/-3/gco/1.0",
}
CODES = "http://standards.iso.org/iso/19115/resources/Codelists/cat/codelists.xml#MD_ScopeCode"


def quality_xml(
    report: AccuracyReport, legend: Legend, *, title: str, licence: str, attribution: str
) -> str:
    """Return a ``mdq:DQ_DataQuality`` document with the measures 60 to 64 of ISO 19157.

    Matrices are written row by row, classes in the order of ``legend`` (named in the
    description of the method), reference in rows.
    """
    value, half = report.overall.value, report.overall.half_width
    interval = report.overall.reason
    if value is not None and half is not None:
        interval = f"overall accuracy {value:.4f} with a 95 % interval of +-{half:.4f}"
    # A comment may not hold two hyphens.
    notes = f"{title}; licence {licence}; {attribution}; a proposal, not reviewed"
    comment = escape(notes).replace("--", "- -")
    spaces = " ".join(f'xmlns:{key}="{value}"' for key, value in SPACES.items())
    method = (
        f"stratified estimators of Olofsson et al. 2014 at {report.sample_size} reference points; "
        f"classes of legend {legend.name}: {', '.join(legend.names)}; {interval}"
    )
    reports = "\n".join(_report(one, method) for one in report.iso19157())
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<!-- {comment} -->
<mdq:DQ_DataQuality {spaces}>
<mdq:scope><mcc:MD_Scope><mcc:level>
<mcc:MD_ScopeCode codeList="{CODES}" codeListValue="dataset">dataset</mcc:MD_ScopeCode>
</mcc:level></mcc:MD_Scope></mdq:scope>
{reports}
</mdq:DQ_DataQuality>
"""


def _report(one: dict[str, Any], method: str) -> str:
    value = one["value"]
    if isinstance(value, list):
        text = "; ".join(" ".join(f"{cell:g}" for cell in row) for row in value)
    else:
        text = "" if value is None else f"{value:g}"
    return f"""<mdq:report><mdq:DQ_ThematicClassificationCorrectness>
<mdq:measure><mdq:DQ_MeasureReference>
<mdq:measureIdentification><mcc:MD_Identifier><mcc:code>{_string(str(one["measure"]))}</mcc:code>
<mcc:codeSpace>{_string("ISO 19157")}</mcc:codeSpace></mcc:MD_Identifier>
</mdq:measureIdentification>
<mdq:nameOfMeasure>{_string(one["name"])}</mdq:nameOfMeasure>
</mdq:DQ_MeasureReference></mdq:measure>
<mdq:evaluationMethod><mdq:DQ_SampleBasedInspection>
<mdq:evaluationMethodDescription>{_string(method)}</mdq:evaluationMethodDescription>
</mdq:DQ_SampleBasedInspection></mdq:evaluationMethod>
<mdq:result><mdq:DQ_QuantitativeResult>
<mdq:value><gco:Record>{text}</gco:Record></mdq:value>
</mdq:DQ_QuantitativeResult></mdq:result>
</mdq:DQ_ThematicClassificationCorrectness></mdq:report>"""


def _string(text: str) -> str:
    return f"<gco:CharacterString>{escape(text)}</gco:CharacterString>"
