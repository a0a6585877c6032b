"""What makes a training run what it is, so that no other run goes on from its checkpoint."""

from __future__ import annotations

from typing import Any

from stdistill._training.arguments import TrainingArguments

RECIPE = ("batch_size", "learning_rate", "weight_decay", "seed")


def fingerprint_run(arguments: TrainingArguments, *settings: Any, **facts: Any) -> dict[str, Any]:
    """Say what makes a run what it is.

    Parameters
    ----------
    arguments
        How it is trained; by how many workers does not matter.
    settings
        Of the objective.
    facts
        What else tells runs apart, such as digests of the data.
    """
    return {
        **facts,
        "training": str((*settings, *(arguments[name] for name in RECIPE))),  # type: ignore[literal-required]
        "length": str((arguments["max_epochs"], arguments["max_steps"])),
        "devices": str((arguments["devices"], arguments["num_nodes"])),
        "precision": arguments["precision"],
    }
