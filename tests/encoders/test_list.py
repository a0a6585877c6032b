from __future__ import annotations

import pandas as pd
import torch

import stdistill as sd


def test_columns() -> None:
    table = sd.encoders.list()
    assert table.index.name == "name"
    assert list(table.columns) == [
        "dim",
        "input_px",
        "precision",
        "licence",
        "commercial",
        "gated",
        "n_params",
        "pooling",
        "source",
        "reference",
    ]
    assert table.index.is_unique
    assert table.loc["uni2-h", ["dim", "input_px", "precision", "commercial", "gated"]].tolist() == [
        1536,
        224,
        "bfloat16",
        False,
        True,
    ]
    assert table.loc[["midnight", "hibou-l", "hibou-b"], "gated"].isna().all()
    assert (table["reference"].str.len() > 0).all()


def test_filters() -> None:
    table = sd.encoders.list()
    free = table[table["commercial"].fillna(False) & ~table["gated"].fillna(True)]
    assert free.index.tolist() == ["texture", "h-optimus-0"]
    assert isinstance(table["n_params"].dtype, pd.Int64Dtype)


def test_own_encoders_are_listed() -> None:
    own = sd.encoders.from_module(torch.nn.Identity(), mean=(0, 0, 0), std=(1, 1, 1), name="own")
    sd.encoders.register(own)
    table = sd.encoders.list()
    assert table.index[-1] == "own"
    assert pd.isna(table.loc["own", "dim"])
    assert pd.isna(table.loc["own", "commercial"])
