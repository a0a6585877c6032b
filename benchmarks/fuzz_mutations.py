"""Files that are spoilt: bytes flipped, cut off, doubled; fields of another type, huge, missing, not a number.

Each function is a strategy of hypothesis that gives a valid file's content another form.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import struct
import zipfile
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import h5py
import numpy as np
import pandas as pd
import tifffile
from hypothesis import strategies as st

Draw: TypeAlias = Callable[[st.SearchStrategy[Any]], Any]
Spoil: TypeAlias = Callable[[Draw, bytes], bytes]
"""Gives the content of a file another form."""

DEEP = json.loads("[" * 400 + "]" * 400)
VALUES = (
    None, True, False, 0, -1, 1, 1.5, -0.5, 2**31, 2**63, -(2**63), 2**64, 10**30, 1e308, float("nan"), float("inf"),
    float("-inf"), "", " ", "a", "0", "NaN", "../../x", "a\0b", "µ\u202e\U0001f4a9", "x" * 5000, [], {}, [[]], [None],
    [1, "a"], {"a": 1}, {"": {}}, DEEP,
)  # fmt: skip
"""What may stand where another value is expected."""
WORDS = (
    "", " ", "nan", "-inf", "1e999", "-1", "0", "9" * 20, "a", "µ", "1,5", '"', "a;b", "\t", "\0", "#", "1_0",
)  # fmt: skip
FOREIGN = (
    b"", b"\0" * 4096, b"<!DOCTYPE html><html><body>Log in</body></html>",
    b"version https://git-lfs.github.com/spec/v1\n", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"\xff\xd8\xff\xe0\0\x10JFIF\0",
    b"PK\x05\x06" + b"\0" * 18, b"\x1f\x8b\x08\0\0\0\0\0", b"\x93NUMPY\x01\0", b"\x89HDF\r\n\x1a\n", b"PAR1",
    b"II*\0\x08\0\0\0", b"MM\0+\0\x08\0\0", b"{", b"[]", b"null", b"\xff\xfe", b"\xef\xbb\xbf",
    b"\x80\x04cos\nsystem\n(S'true'\ntR.", b"[" * 100_000, b"1" * 10_000, b'{"a":' * 50_000,
)  # fmt: skip
"""What may lie in the place of a file."""
BOMB = gzip.compress(b"0,1,2\n" * 2_000_000, 9) * 200
"""Some 3.5 MB that are 2.4 GB."""
NUMBERS = (0, 1, 2, 3, 7, 255, 256, 65_535, 65_536, 2**24, 2**31 - 1, 2**31, 2**32 - 1)
TYPES = ("<i1", "<u1", "<i8", "<u8", "<f4", "<f8", "<U9", "S3", "|b1", "<c16", "<M8[ns]")


def spoil_bytes(draw: Draw, content: bytes) -> bytes:
    """Flip, cut off, take out, double, or put in some bytes; or put something else in the place of all."""
    at = draw(st.integers(0, max(0, len(content) - 1)))
    end = min(len(content), at + draw(st.integers(1, 64)))
    kind = draw(st.sampled_from(("flip", "cut", "remove", "double", "insert", "zero", "foreign")))
    if kind == "flip":
        spoilt = bytearray(content)
        for place in draw(st.lists(st.integers(0, max(0, len(content) - 1)), min_size=1, max_size=6)):
            spoilt[place : place + 1] = bytes([draw(st.integers(0, 255))])
        return bytes(spoilt)
    if kind == "foreign":
        return draw(st.sampled_from((*FOREIGN, BOMB)))
    return {
        "cut": content[:at],
        "remove": content[:at] + content[end:],
        "double": content[:end] + content[at:],
        "insert": content[:at] + draw(st.binary(min_size=1, max_size=20)) + content[at:],
        "zero": content[:at] + bytes(end - at) + content[end:],
    }[kind]


def spoil_json(draw: Draw, content: bytes) -> bytes:
    """Replace, remove or add some entries."""
    found = spoil_entries(draw, json.loads(content))
    return json.dumps(found).encode()


def spoil_entries(draw: Draw, found: Any) -> Any:
    """Replace, remove or add one or two entries of what JSON holds, at any depth."""
    for _ in range(draw(st.integers(1, 2))):
        nodes = [(parent, key) for parent, key in _nodes(found)]
        if not nodes or draw(st.integers(0, 30)) == 0:
            return _value(draw)
        parent, key = draw(st.sampled_from(nodes))
        kind = draw(st.sampled_from(("replace", "replace", "replace", "remove", "add")))
        if kind == "replace":
            parent[key] = _value(draw)
        elif kind == "remove":
            del parent[key]
        elif isinstance(parent, dict):
            parent[draw(st.sampled_from(("", "a", "type", "geometry", "__class__", "x" * 300)))] = _value(draw)
        else:
            parent.insert(key, _value(draw))
    return found


def _value(draw: Draw) -> Any:
    """Return an odd value, which may be changed."""
    return json.loads(json.dumps(draw(st.sampled_from(VALUES))))


def _nodes(found: Any) -> list[tuple[Any, Any]]:
    """List all places in lists and dictionaries, each as its parent and its key."""
    waiting, places = [found], []
    while waiting:
        parent = waiting.pop()
        keys = list(parent) if isinstance(parent, dict) else range(len(parent)) if isinstance(parent, list) else ()
        places += [(parent, key) for key in keys]
        waiting += [parent[key] for key in keys]
    return places


def spoil_table(draw: Draw, content: bytes) -> bytes:
    """Replace fields of a CSV, take out or double rows and columns, and write it in another way."""
    rows = list(csv.reader(io.StringIO(content.decode())))
    for _ in range(draw(st.integers(1, 3))):
        row = draw(st.integers(0, max(0, len(rows) - 1)))
        column = draw(st.integers(0, max((len(each) for each in rows), default=1) or 1))
        kind = draw(st.sampled_from(("field", "field", "head", "row", "double", "column", "copy", "longer")))
        if kind == "field" and rows and rows[row]:
            rows[row][column % len(rows[row])] = draw(st.sampled_from(WORDS))
        elif kind == "head" and rows and rows[0]:
            rows[0][column % len(rows[0])] = draw(st.sampled_from((*WORDS, rows[0][0])))
        elif kind == "row":
            del rows[row : row + 1]
        elif kind == "double":
            rows[row:row] = rows[row : row + 1]
        elif kind == "column":
            rows = [each[:column] + each[column + 1 :] for each in rows]
        elif kind == "copy":
            rows = [each[: column + 1] + each[column:] for each in rows]
        elif kind == "longer" and rows:
            rows[row] = rows[row] + [draw(st.sampled_from(WORDS))] * draw(st.integers(1, 3))
    text = io.StringIO()
    csv.writer(text, delimiter=draw(st.sampled_from(",,,;\t|")), lineterminator="\n").writerows(rows)
    written = text.getvalue().encode(draw(st.sampled_from(("utf-8", "utf-8", "utf-16", "cp1252", "utf-32"))), "replace")
    return gzip.compress(written, 1) if draw(st.integers(0, 5)) == 0 else written


def spoil_gzip(draw: Draw, content: bytes, *, inner: Spoil) -> bytes:
    """Spoil what is compressed."""
    return gzip.compress(inner(draw, gzip.decompress(content)), 1)


def spoil_zip(draw: Draw, content: bytes, *, inner: Spoil) -> bytes:
    """Spoil one of the files of an archive, name it otherwise, or leave it out."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    name = draw(st.sampled_from(sorted(held)))
    kind = draw(st.sampled_from(("inner", "inner", "inner", "name", "remove", "add")))
    if kind == "inner":
        held[name] = inner(draw, held[name])
    elif kind == "name":
        held[draw(st.sampled_from(("../matrix.csv", "/etc/matrix.csv", "a", ".hidden", "x/"))).replace("\0", "")] = (
            held.pop(name)
        )
    elif kind == "remove":
        del held[name]
    else:
        held[f"other/{name}"] = held[name]
    new = io.BytesIO()
    with zipfile.ZipFile(new, "w") as archive:
        for key, value in held.items():
            archive.writestr(key, value)
    return new.getvalue()


def spoil_hdf5(draw: Draw, content: bytes) -> bytes:
    """Replace, take out or resize an array or a group of a file in HDF5."""
    file = io.BytesIO(content)
    with h5py.File(file, "r+") as held:
        names: list[str] = []
        held.visit(names.append)
        name = draw(st.sampled_from(sorted(names)))
        kind = draw(st.sampled_from(("array", "array", "values", "remove", "attribute")))
        values = held[name][()] if isinstance(held[name], h5py.Dataset) else None
        if kind == "attribute" and held[name].attrs:
            key = draw(st.sampled_from(sorted(held[name].attrs)))
            held[name].attrs[key] = draw(st.sampled_from(("", "a", 0, 2**40, -1.5)))
        elif kind == "values" and isinstance(values, np.ndarray) and values.dtype.kind in "iuf" and values.size:
            places = draw(st.lists(st.integers(0, values.size - 1), min_size=1, max_size=4))
            limits = np.iinfo(values.dtype) if values.dtype.kind in "iu" else np.finfo(values.dtype)
            with np.errstate(all="ignore"):
                values.reshape(-1)[places] = draw(st.sampled_from((limits.min, limits.max, values.dtype.type(0))))
            held[name][()] = values
        else:
            attributes = dict(held[name].attrs)
            del held[name]
            if kind != "remove":
                shape = draw(st.sampled_from(((), (0,), (1,), (3, 2), (7,), (2, 2, 2))))
                held[name] = draw(
                    st.sampled_from(
                        (np.zeros(shape), np.full(shape, np.nan), np.full(shape, b"a"), np.full(shape, 2**40))
                    )
                )
                held[name].attrs.update(attributes)
    return file.getvalue()


def spoil_parquet(draw: Draw, content: bytes) -> bytes:
    """Replace, take out or rename a column of a table in Parquet, or its rows."""
    frame = pd.read_parquet(io.BytesIO(content))
    name = draw(st.sampled_from(list(frame.columns)))
    kind = draw(st.sampled_from(("column", "column", "remove", "rename", "rows", "double", "values")))
    if kind == "remove":
        frame = frame.drop(columns=name)
    elif kind == "rename":
        frame = frame.rename(columns={name: draw(st.sampled_from(("", "a", "µ", name.upper())))})
    elif kind == "rows":
        frame = frame.iloc[: draw(st.integers(0, 3))]
    elif kind == "double":
        frame = pd.concat([frame, frame.iloc[: draw(st.integers(1, 3))]])
    elif kind == "values" and pd.api.types.is_numeric_dtype(frame[name]):
        frame[name] = frame[name].astype(float)
        frame.loc[frame.index[: draw(st.integers(1, 3))], name] = draw(
            st.sampled_from((np.nan, np.inf, -1e300, -1.0, 1e300))
        )
    else:
        odd = (None, "a", "", b"\xff", -1, 2**62, np.nan, [1, 2], {"a": 1}, pd.Timestamp(0), True)
        frame[name] = [draw(st.sampled_from(odd))] * len(frame)
    file = io.BytesIO()
    frame.to_parquet(file, index=draw(st.booleans()))
    return file.getvalue()


def spoil_tiff(draw: Draw, content: bytes) -> bytes:
    """Change the code, type, count or value of one or two tags of any page."""
    spoilt = bytearray(content)
    with tifffile.TiffFile(io.BytesIO(content)) as tiff:
        order = tiff.byteorder
        wide = tiff.is_bigtiff
        pages = [page for series in tiff.series for level in series.levels for page in level.pages if page is not None]
        tags = [(tag.offset, tag.valueoffset, tag.dtype) for page in pages for tag in page.aspage().tags]
    for _ in range(draw(st.integers(1, 2))):
        offset, place, kind = draw(st.sampled_from(tags))
        what = draw(st.sampled_from(("code", "type", "count", "value", "value", "value")))
        number = draw(st.sampled_from((*NUMBERS, draw(st.integers(0, 70_000)), len(content), len(content) - 1)))
        if what in ("code", "type"):
            struct.pack_into(f"{order}H", spoilt, offset + 2 * (what == "type"), number & 0xFFFF)
        elif what == "count":
            struct.pack_into(f"{order}{'Q' if wide else 'I'}", spoilt, offset + 4, number)
        else:
            form = "H" if int(kind) == 3 else "I"
            if place + struct.calcsize(form) <= len(spoilt):
                struct.pack_into(f"{order}{form}", spoilt, place, number & (0xFFFF if form == "H" else 0xFFFFFFFF))
    return bytes(spoilt)


def spoil_npy(draw: Draw, content: bytes) -> bytes:
    """Give an array another shape or type than its bytes have."""
    array = np.load(io.BytesIO(content), allow_pickle=False)
    shape = draw(
        st.sampled_from(
            ((), (0,), (-1,), (1, 1), (2**40, 2**20), array.shape[::-1], (*array.shape, 1), ("a",), (1.5,), None)
        )
    )
    kind = draw(st.sampled_from((*TYPES, "|O", "nonsense", array.dtype.str)))
    header = repr({"descr": kind, "fortran_order": draw(st.sampled_from((False, True, 3))), "shape": shape})
    text = (header + " " * 20 + "\n").encode()
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(text)) + text + array.tobytes()


def spoil_safetensors(draw: Draw, content: bytes) -> bytes:
    """Change the header of a file of tensors, which says where each lies and what it is."""
    (size,) = struct.unpack("<Q", content[:8])
    header = json.dumps(spoil_entries(draw, json.loads(content[8 : 8 + size]))).encode()
    size = draw(st.sampled_from((len(header), len(header), len(header), 0, 2**40, 2**63)))
    return struct.pack("<Q", size) + header + content[8 + size :]


def any_of(*spoils: Spoil) -> Spoil:
    """Spoil in one of several ways."""

    def spoil(draw: Draw, content: bytes) -> bytes:
        return draw(st.sampled_from(spoils))(draw, content)

    return spoil


JSON = any_of(spoil_json, spoil_json, spoil_bytes)
TABLE = any_of(spoil_table, spoil_table, spoil_bytes)
PACKED_TABLE = any_of(partial(spoil_gzip, inner=TABLE), spoil_bytes)
PACKED_JSON = any_of(partial(spoil_gzip, inner=JSON), spoil_bytes)
ARCHIVE = any_of(partial(spoil_zip, inner=TABLE), spoil_bytes)
HDF5 = any_of(spoil_hdf5, spoil_hdf5, spoil_bytes)
PARQUET = any_of(spoil_parquet, spoil_parquet, spoil_bytes)
TIFF = any_of(spoil_tiff, spoil_tiff, spoil_bytes)
NPY = any_of(spoil_npy, spoil_bytes)
ARRAYS = any_of(partial(spoil_zip, inner=NPY), spoil_bytes)
