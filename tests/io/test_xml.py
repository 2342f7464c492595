"""XML from strangers: entities and document types are refused, the rest is as it was."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glocal.errors import BadSourceError, SourceUnavailableError
from glocal.io.xml import parse_xml, read_xml

BOMB = '<!DOCTYPE a [<!ENTITY b "ha"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]><a>&c;</a>'
OUTSIDE = '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/hostname">]><a>&b;</a>'
PARAMETER = '<!DOCTYPE a [<!ENTITY % b SYSTEM "http://localhost/x.dtd"> %b;]><a/>'
FOREIGN = '<!DOCTYPE a SYSTEM "http://localhost/x.dtd"><a/>'


@pytest.mark.parametrize("text", [BOMB, OUTSIDE, PARAMETER, FOREIGN])
def test_document_types_are_refused(text: str) -> None:
    with pytest.raises(BadSourceError, match="document type"):
        parse_xml(text.encode(), "answer.osc")


@pytest.mark.parametrize("text", ["", "no xml", "<a>", "<a>&b;</a>", "<a></b>"])
def test_what_is_no_xml_is_refused(text: str) -> None:
    with pytest.raises(SourceUnavailableError, match=r"answer\.osc"):
        parse_xml(text.encode(), "answer.osc")


TEXT = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "Zs", "S")), max_size=20)


@given(st.lists(st.dictionaries(st.sampled_from("kvx"), TEXT), max_size=4), TEXT)
def test_reads_what_the_standard_library_wrote(rows: list[dict[str, str]], text: str) -> None:
    root = ET.Element("osm", version="0.6")
    for row in rows:
        ET.SubElement(ET.SubElement(root, "way"), "tag", row).text = text
    content = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    assert ET.tostring(parse_xml(content, "x")) == ET.tostring(ET.fromstring(content))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailableError, match="check the path"):
        read_xml(tmp_path / "none.xml")
