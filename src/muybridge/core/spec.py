"""The source of a model, and the known differences from it."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Name, source and differences from the paper of one model.

    Attributes:
        name: the value of ``model.name`` in recipes.
        title: a one-line description.
        paper: title, venue and year.
        link: arXiv or DOI.
        code: the authors' repository; empty if there is none.
        differences: what we do differently from the paper, by short name, each with its reason;
            every name is explained on the model's page in ``docs/papers``.
    """

    name: str
    title: str
    paper: str
    link: str
    code: str = ""
    differences: dict[str, str] = field(default_factory=dict)
