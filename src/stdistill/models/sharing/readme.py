"""The page of a model on the hub: README.md, from what the model knows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.metadata import version

from stdistill.models.sharing.description import COLOR, Ancestor, Description, Part, as_line
from stdistill.models.sharing.licences import NON_COMMERCIAL, WORDING, Licence

TAGS = ("stdistill", "histology", "pathology", "H&E", "spatial-transcriptomics")
MARKUP = re.compile(r"([\\`*_{}\[\]<>|#~$])")
STUDY = (
    "Hizmi, Bakulin, Bagon and Yosef 2026, *Cross-Modal Knowledge Distillation from Spatial Transcriptomics to "
    "Histology*, [arXiv:2604.09076](https://arxiv.org/abs/2604.09076)"
)


def write_readme(described: Description, *, repo_id: str, kind: str, licence: Licence, sums: dict[str, str]) -> str:
    """Write the page.

    Parameters
    ----------
    described
        What the model says of itself.
    repo_id
        Where it will be: ``owner/name``.
    kind
        Of the model, a tag.
    licence
        Its terms.
    sums
        SHA-256 of its files by their names.
    """
    sections = {
        "Use": _use(described, repo_id),
        **{heading: _facts(facts) for heading, facts in described.sections.items() if facts},
        described.parts_name: _parts(described.parts),
        "Encoder": _encoders(described),
        "Licence": _licence(described, licence),
        "How to cite": _citation(described.ancestors, repo_id),
        "Files": _files(sums),
        "Not recorded": escape(", ".join(described.unrecorded)) + "." if described.unrecorded else "",
    }
    body = "\n\n".join(f"## {escape(heading)}\n\n{text}" for heading, text in sections.items() if text)
    front = _front_matter(described, kind, licence)
    title = escape(described.title[:1].upper() + described.title[1:])
    return f"---\n{front}\n---\n\n# {title}\n\n{escape(described.purpose)}\n\n{body}\n"


def escape(text: object) -> str:
    """Make text of a card plain in Markdown: one line without markup."""
    return MARKUP.sub(r"\\\1", as_line(text))


def _front_matter(described: Description, kind: str, licence: Licence) -> str:
    from huggingface_hub import ModelCardData

    is_named = licence.hub is None  # by its own name: the hub has no identifier for it
    data = ModelCardData(
        library_name="stdistill",
        tags=[*TAGS, kind],
        base_model=[each.repository for each in described.ancestors if each.repository is not None] or None,
        license=licence.hub or "other",
        license_name=re.sub(r"[^a-z0-9]+", "-", licence.name.lower()) if is_named else None,
        license_link=licence.link if is_named else None,
        extra_gated_prompt=gating_prompt(described, licence) if NON_COMMERCIAL in licence.demands else None,
    )
    return data.to_yaml().strip()


def gating_prompt(described: Description, licence: Licence) -> str:
    """Say what whoever asks for access agrees to, where the owner has switched that on."""
    through = ", ".join(each.name for each in described.ancestors)
    return f"This model learned through {through}. Its licence is {licence.name}: {licence.in_words}."


def _use(described: Description, repo_id: str) -> str:
    kind, by_kind = described.class_name, described.class_name is not None
    load = f'{kind}.from_pretrained("{repo_id}")' if by_kind else f'load("hf:{repo_id}")'
    code = f"import stdistill as sd\n\nmodel = sd.models.{load}\n{described.use}"
    command = f"\n\n```bash\nstdistill predict hf:{repo_id} slide.svs\n```" if described.command else ""
    return (
        f"Made with stdistill {version('stdistill')}. Nothing in it is pickled, "
        f"and files are compared with their checksums when it is loaded.\n\n```python\n{code}\n```{command}"
    )


def _facts(facts: Sequence[str]) -> str:
    return "\n".join(f"- {escape(text)}" for text in facts)


def _parts(parts: Sequence[Part]) -> str:
    """List the niches or types, with the columns that are known of any."""
    columns = {
        "name": [escape(part.name) for part in parts],
        "colour": [_swatch(part.color) for part in parts],
        "training cells": ["" if part.n_cells is None else f"{part.n_cells:,}" for part in parts],
        "share": ["" if part.share is None else f"{part.share:.1%}" for part in parts],
        "commonest cell types": [escape(part.consists_of) for part in parts],
    }
    known = {name: texts for name, texts in columns.items() if any(texts)}
    if not known:
        return ""
    rows = "\n".join(f"| {' | '.join(row)} |" for row in zip(*known.values(), strict=True))
    return f"| {' | '.join(known)} |\n|{'---|' * len(known)}\n{rows}"


def _swatch(color: str | None) -> str:
    if color is None or not COLOR.fullmatch(color):
        return ""
    return f'<span style="color:{color}">■</span> `{color}`'


def _encoders(described: Description) -> str:
    lines = []
    for each in described.ancestors:
        where = "" if each.repository is None else f", [{each.repository}](https://huggingface.co/{each.repository})"
        which = "" if each.revision is None else f"; weights {_weights(each.revision)}"
        terms = f"; licence {escape(each.licence)}" if each.licence else ""
        lines.append(f"- **{escape(each.name)}**{where}{which}{terms}")
    if not lines:
        return ""
    lines += [
        "",
        "Features of another encoder, of other weights, or of crops of another size or scale are refused where they "
        "are known to be.",
    ]
    if not described.holds_encoder:
        lines[-1] += " The weights of the encoder are not part of this repository."
    return "\n".join(lines)


def _weights(revision: str) -> str:
    """Name weights by what is recorded of them: the beginning of their hash, or the revision of a repository."""
    digest = revision.removeprefix("sha256-")
    return f"whose SHA-256 begins with `{digest}`" if digest != revision else f"of revision `{escape(revision)}`"


def _licence(described: Description, licence: Licence) -> str:
    lines = [f"[{licence.name}]({licence.link}): {licence.in_words}."]
    if described.ancestors:
        named = ", ".join(f"{escape(each.name)} ({escape(each.licence or 'unknown')})" for each in described.ancestors)
        lines.append(f"It demands all that the terms of the encoders do that the model learned through: {named}.")
    for words, link in dict.fromkeys(
        WORDING[each.repository] for each in described.ancestors if each.repository in WORDING
    ):
        lines.append(
            f"{words} ([{link.removeprefix('https://')}]({link})). This repository holds none of the encoder's "
            "weights; whether the model itself may be passed on and used is for those terms to say, so read them first."
        )
    lines.append("Nothing here is a medical device, nor was it tested as one.")
    return "\n\n".join(lines)


def _citation(ancestors: Sequence[Ancestor], repo_id: str) -> str:
    lines = [
        f"- this model: [{repo_id}](https://huggingface.co/{repo_id}), with the commit that you used",
        f"- {STUDY}",
    ]
    lines += [f"- {escape(each.name)}: {each.reference}" for each in ancestors if each.reference]
    return "\n".join(lines)


def _files(sums: dict[str, str]) -> str:
    rows = "\n".join(f"| `{name}` | `{value}` |" for name, value in sums.items())
    return f"| file | SHA-256 |\n|---|---|\n{rows}"
