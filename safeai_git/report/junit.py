"""JUnit XML, which most CI systems show: one test case for each thing that was judged, failed by what blocks it."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree as ET

from safeai_git.report.remarks import Remark


def document(cases: Sequence[tuple[str, Sequence[Remark]]]) -> str:
    """The report.

    Args:
        cases: A name and the objections for each; names are safe to print.
    """
    blocking = [[one for one in remarks if one.level == "error"] for _, remarks in cases]
    failures = sum(map(bool, blocking))
    suites = ET.Element("testsuites", tests=str(len(cases)), failures=str(failures))
    suite = ET.SubElement(
        suites, "testsuite", name="safeai-git", tests=str(len(cases)), failures=str(failures), errors="0"
    )
    for (name, remarks), failed in zip(cases, blocking, strict=True):
        case = ET.SubElement(suite, "testcase", name=name, classname="safeai-git")
        if failed:
            failure = ET.SubElement(case, "failure", message=failed[0].sentence, type=failed[0].rule)
            failure.text = "\n".join(_line(one) for one in failed)
        rest = [one for one in remarks if one.level != "error"]
        if rest:
            ET.SubElement(case, "system-out").text = "\n".join(_line(one) for one in rest)
    return ET.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


def _line(one: Remark) -> str:
    return f"{one.place}{': ' if one.place else ''}[{one.rule}] {one.sentence}"
