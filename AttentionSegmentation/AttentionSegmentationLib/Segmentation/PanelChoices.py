"""What the panel's choices mean for a run: no Qt."""

from collections.abc import Iterable
from typing import Any, Literal

from ..Model import Model
from ..NoticeWidget import Notice
from .ProcessingOptions import ProcessingOptions
from .VolumeChecks import Finding


def processingOptions(parameterNode: Any, model: Model, organs: tuple[str, ...] | None) -> ProcessingOptions:
    """The choices as the logic takes them. organs: names of the organs to keep; None is all."""
    edge = parameterNode.tileSize
    return ProcessingOptions(
        modelPath=model.path,
        device=parameterNode.device,
        attention=_attention(parameterNode, model),
        tileSize=(edge, edge, edge) if edge else None,
        mirror=parameterNode.mirror,
        largestComponent=parameterNode.largestComponent,
        organs=organs,
    )


def _attention(parameterNode: Any, model: Model) -> Literal["none", "levels", "gates"]:
    if not (parameterNode.attention and model.hasAttention):
        return "none"
    return "gates" if parameterNode.subGates else "levels"


def findingNotices(findings: Iterable[Finding]) -> list[Notice]:
    """Findings as the panel shows them, with a link that takes what they suggest."""
    return [_notice(finding) for finding in findings]


def _notice(finding: Finding) -> Notice:
    kind: Literal["error", "warning"] = "error" if finding.blocking else "warning"
    if finding.code == "tileTooLarge" and finding.suggestion:
        edge = min(finding.suggestion)
        return Notice(finding.sentence, kind, f"tileSize:{edge}", f"Use tiles of {edge} × {edge} × {edge}")
    if finding.code == "tooLittleMemory" and finding.suggestion:
        return Notice(finding.sentence, kind, f"device:{finding.suggestion}", f"Use {finding.suggestion.upper()}")
    return Notice(finding.sentence, kind)


def choiceOfAction(action: str) -> tuple[str, Any]:
    """The parameter that the link of a notice sets, and its value."""
    name, _colon, value = action.partition(":")
    return name, int(value) if name == "tileSize" else value
