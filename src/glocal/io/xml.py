"""XML that may come from anybody, read without entities."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path
from xml.parsers import expat

from glocal.errors import BadSourceError, SourceUnavailableError


def parse_xml(content: bytes | str, name: str) -> ET.Element:
    """Return the root of an XML document that declares no document type.

    Entities can make a small file huge or read other files, and both need a declaration
    inside ``<!DOCTYPE``. None of the formats that we read has one, so it is refused by
    the standard library's own parser (expat) before any entity is expanded.

    Raises
    ------
    BadSourceError
        It declares a document type.
    SourceUnavailableError
        It is not well-formed.
    """
    builder = ET.TreeBuilder()
    parser = expat.ParserCreate()

    def refuse(*_: object) -> None:
        raise BadSourceError(
            f"{name} declares a document type, which may hold entities; files of this kind "
            "have none, so it is refused; save it again without <!DOCTYPE"
        )

    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        raise SourceUnavailableError(
            f"{name} is not well-formed XML ({error}); export or download it again"
        ) from error
    return builder.close()


def read_xml(path: Path) -> ET.Element:
    """Return the root of an XML file, as `parse_xml` does; a missing one is unavailable too."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SourceUnavailableError(f"{path} can't be read ({error}); check the path") from error
    return parse_xml(content, path.name)
