"""Where a model comes from, and where it knowingly leaves its source."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """The door plate of a model.

    Attributes:
        name: the word in recipes, ``model.name``.
        title: one line for people.
        paper: title, venue and year.
        link: arXiv or DOI.
        code: the authors' repository; empty when there is none.
        departures: what we do differently from the paper, by short name, each with its reason;
            every name stands on the model's page in ``docs/papers``.
    """

    name: str
    title: str
    paper: str
    link: str
    code: str = ""
    departures: dict[str, str] = field(default_factory=dict)
