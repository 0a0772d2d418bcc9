"""Text files as editors write them."""

import pytest

from seg_det.data.texts import read_lines, read_text
from seg_det.errors import UserError


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252"])
def test_a_text_is_the_same_in_every_encoding(tmp_path, encoding):
    file = tmp_path / "labels.txt"
    file.write_bytes("Größe\r\nnut".encode(encoding))
    assert read_text(file) == "Größe\r\nnut"
    assert read_lines(file) == ["Größe", "nut"]


@pytest.mark.parametrize(
    "content", ["螺母".encode("gb2312"), "болт".encode("cp1251"), "nut".encode("utf-16-le"), b"\xff\xfen"]
)
def test_what_is_in_no_known_encoding_is_named_with_the_remedy(tmp_path, content):
    file = tmp_path / "labels.txt"
    file.write_bytes(content)
    with pytest.raises(UserError, match="labels.txt .*save it as UTF-8"):
        read_text(file)


def test_a_missing_file_is_left_to_the_caller(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_text(tmp_path / "none.txt")
