from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from stdistill._formats.alignment import check_cells_on_image, read_alignment
from stdistill._slide.affine import apply_affine

TENX = "0.011071,1.289579,807.979\n-1.289579,0.011071,73097.655\n0,0,1\n"
MATRIX = np.array([[0.011071, 1.289579, 807.979], [-1.289579, 0.011071, 73097.655], [0, 0, 1]])


def test_csv_zip_and_array(tmp_path: Path) -> None:
    csv = tmp_path / "he_imagealignment.csv"
    csv.write_text(TENX)
    archive = tmp_path / "export.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("matrix.csv", TENX)
        file.writestr("keypoints.csv", "fixedX,fixedY,alignmentX,alignmentY\n1,2,3,4\n")
    for source in (csv, str(csv), archive, MATRIX, MATRIX.tolist()):
        np.testing.assert_array_equal(read_alignment(source), MATRIX)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="There is no alignment file"):
        read_alignment(tmp_path / "missing.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x,y,z\n1,0,0\n0,1,0\n0,0,1\n", "no CSV of numbers: expected 3 lines of 3 numbers and no header"),
        ("1,0,0\n0,1,0\n", r"must be a 3 × 3 matrix, found shape \(2, 3\)"),
        ("1,0\n0,1,0\n0,0,1\n", "no CSV of numbers"),
        ("1,2,0\n2,4,0\n0,0,1\n", "singular"),
        ("1,0.5,0\n0,1,0\n0,0,1\n", "sheared"),
        ("1,0,0\n0,2,0\n0,0,1\n", "anisotropic"),
    ],
)
def test_unusable_files(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a_matrix.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        read_alignment(path)
    assert "a_matrix.csv" in str(error.value)


def test_a_zip_without_a_matrix(tmp_path: Path) -> None:
    path = tmp_path / "export.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("keypoints.csv", "")
    with pytest.raises(ValueError, match=r"should hold one matrix\.csv.*it holds \['keypoints\.csv'\]"):
        read_alignment(path)


def test_warnings_for_mirrored_and_stretched() -> None:
    with pytest.warns(UserWarning, match="mirrors the image"):
        read_alignment(np.diag([-1.0, 1, 1]))
    with pytest.warns(UserWarning, match=r"stretches one direction by 3\.0%"):
        read_alignment(np.diag([1.0, 1.03, 1]))


def test_cells_on_the_image() -> None:
    cells = 0.2125 * apply_affine(MATRIX, np.random.default_rng(0).uniform(0, (20_000, 30_000), (1000, 2)))
    shape = (30_000, 20_000)

    def check(matrix: np.ndarray, shape: tuple[int, int] = shape) -> float:
        return check_cells_on_image(matrix, cells, 0.2125, shape, "it")

    assert check(MATRIX) == 1
    with pytest.raises(ValueError, match=r"Only 0\.0% .*Its inverse would put 100\.0%.*np\.linalg\.inv"):
        check(np.linalg.inv(MATRIX))
    to_um = np.diag([0.2125, 0.2125, 1]) @ MATRIX
    with pytest.raises(ValueError, match=r"Taken as a map to µm it would put 100\.0% of them there: divide"):
        check(to_um)
    with pytest.raises(ValueError, match=r"Only 0\.0% of the 1000 cells .* Is it the alignment of this image"):
        check(MATRIX + np.array([[0, 0, 1e6], [0, 0, 0], [0, 0, 0]]))
    with pytest.warns(UserWarning, match="cells fall off the H&E image"):
        assert 0.6 < check(MATRIX, (20_000, 20_000)) < 0.72


def test_the_wrong_way_round_at_nearly_the_same_resolution() -> None:
    """At 0.2125 µm per pixel a turn and its inverse put many of the same cells on the image; neither is believed."""
    quarter_turn = np.array([[0, 1.0, 0], [-1.0, 0, 1000], [0, 0, 1]])
    cells = 0.2125 * apply_affine(quarter_turn, np.random.default_rng(0).uniform(0, (1000, 600), (1000, 2)))
    with pytest.raises(ValueError, match=r"Only [1-9]\d\.\d% .*Its inverse would put 100\.0%"):
        check_cells_on_image(np.linalg.inv(quarter_turn), cells, 0.2125, (600, 1000), "it")


@pytest.mark.parametrize("source", [[["a"] * 3] * 3, [[1, 2], [3]], {"matrix": 1}])
def test_no_numbers(source: object) -> None:
    with pytest.raises(TypeError, match="must be the path of a CSV or zip, or 3 × 3 numbers"):
        read_alignment(source)  # type: ignore[arg-type]


def test_a_zip_from_a_mac_and_a_byte_order_mark(tmp_path: Path) -> None:
    archive = tmp_path / "export.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("export/matrix.csv", "\ufeff" + TENX)
        file.writestr("__MACOSX/export/._matrix.csv", b"\0")
    np.testing.assert_array_equal(read_alignment(archive), MATRIX)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("spelling", [",", ";", "\t"])
def test_encodings_and_separators(tmp_path: Path, encoding: str, spelling: str) -> None:
    text = TENX.replace(",", spelling)
    path = tmp_path / "a.csv"
    path.write_text(text.replace(".", ",") if spelling == ";" else text, encoding=encoding)
    np.testing.assert_array_equal(read_alignment(path), MATRIX)


def test_what_is_no_alignment(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("matrix.csv", TENX)
        file.writestr("__MACOSX/._matrix.csv", "\0")
    np.testing.assert_array_equal(read_alignment(path), MATRIX)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"a\.zip is no alignment \(it ends too early\): copy it again"):
        read_alignment(path)
    path.write_text("<html>Sign in</html>")
    with pytest.raises(ValueError, match=r"The H&E alignment a\.zip is no CSV of numbers"):
        read_alignment(path)


def test_archives_that_hold_no_text(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    for content, why in (
        (b"0,1,2\n\xb5", r"a\.zip is no alignment \(.*UnicodeDecodeError"),
        (b"0," * 10**7, "CSV of numbers"),
    ):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr("matrix.csv", content)
        with pytest.raises(ValueError, match=why):
            read_alignment(path)
