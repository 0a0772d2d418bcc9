import hashlib
import io
import socket
import subprocess
import sys
import tarfile
import zipfile

import pytest

from seg_det.archives import unpack
from seg_det.checksums import sha256_of
from seg_det.download import CHUNK, DownloadError, download
from seg_det.errors import UserError

BODY = bytes(range(256)) * 4000  # 1,024,000 bytes
SHA256 = hashlib.sha256(BODY).hexdigest()
MD5 = hashlib.md5(BODY).hexdigest()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_sha256_of_a_published_vector(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256_of(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_file_arrives_whole_and_alone(file_server, tmp_path):
    url = file_server.put("a.bin", BODY)
    path = download(url, tmp_path / "deep" / "a.bin", sha256=SHA256.upper(), md5=MD5, size=len(BODY))
    assert path == tmp_path / "deep" / "a.bin"
    assert path.read_bytes() == BODY
    assert names(path.parent) == ["a.bin"]
    assert file_server.ranges() == [None]


def test_what_is_there_and_right_is_not_asked_for(file_server, tmp_path):
    (tmp_path / "a.bin").write_bytes(BODY)
    download(file_server.url("a.bin"), tmp_path / "a.bin", sha256=SHA256)
    download(file_server.url("a.bin"), tmp_path / "a.bin")
    assert file_server.requests == []


def test_what_is_there_and_wrong_is_replaced_only_by_what_is_right(file_server, tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(UserError):
        download(file_server.put("a.bin", b"worse"), path, sha256=SHA256)
    assert path.read_bytes() == b"old"
    assert download(file_server.put("a.bin", BODY), path, sha256=SHA256).read_bytes() == BODY


def test_a_cut_connection_goes_on_where_it_broke(file_server, tmp_path):
    url = file_server.put("a.bin", BODY, cuts=[4 * CHUNK, 3 * CHUNK + 5])
    assert download(url, tmp_path / "a.bin", sha256=SHA256).read_bytes() == BODY
    assert file_server.ranges() == [None, "bytes=262144-", "bytes=458752-"]
    assert [headers.get("If-Range") for _, headers in file_server.requests] == [None, '"v1"', '"v1"']


def test_the_next_run_goes_on_where_the_last_one_gave_up(file_server, tmp_path):
    url = file_server.put("a.bin", BODY, cuts=[6 * CHUNK, 0])
    with pytest.raises(
        DownloadError, match=r"a\.bin: the connection broke off again and again, at 393216 bytes; if you"
    ):
        download(url, tmp_path / "a.bin", sha256=SHA256, retries=0)
    assert names(tmp_path) == ["a.bin.lock", "a.bin.part", "a.bin.part.json"]
    assert download(url, tmp_path / "a.bin", sha256=SHA256).read_bytes() == BODY
    assert file_server.ranges()[-1] == "bytes=393216-"
    assert names(tmp_path) == ["a.bin"]


def test_a_part_that_was_complete_is_not_fetched_again(file_server, tmp_path):
    url = file_server.put("a.bin", BODY, cuts=[6 * CHUNK, 0])
    with pytest.raises(DownloadError):
        download(url, tmp_path / "a.bin", retries=0)
    (tmp_path / "a.bin.part").write_bytes(BODY)
    assert download(url, tmp_path / "a.bin", sha256=SHA256).read_bytes() == BODY


def test_a_changed_remote_file_is_not_glued_to_the_old_part(file_server, tmp_path):
    url = file_server.put("a.bin", b"x" * len(BODY), cuts=[6 * CHUNK, 0])
    with pytest.raises(DownloadError):
        download(url, tmp_path / "a.bin", retries=0)
    file_server.put("a.bin", BODY, etag='"v2"')
    assert download(url, tmp_path / "a.bin").read_bytes() == BODY


def test_a_part_of_another_address_is_not_continued(file_server, tmp_path):
    with pytest.raises(DownloadError):
        download(file_server.put("old", b"x" * 500, cuts=[100, 0]), tmp_path / "a.bin", retries=0)
    assert download(file_server.put("new", BODY), tmp_path / "a.bin").read_bytes() == BODY
    assert file_server.ranges()[-1] is None


@pytest.mark.parametrize(
    "behaviour",
    [
        {"ranges": False},
        {"etag": None},
        {"etag": 'W/"v1"'},
        {"etag": None, "last_modified": "no date", "ranges": False},
    ],
    ids=["server ignores ranges", "nothing to compare", "only a weak tag", "date but no ranges"],
)
def test_where_going_on_is_unsafe_it_starts_again(file_server, tmp_path, behaviour):
    url = file_server.put("a.bin", BODY, cuts=[4 * CHUNK], **behaviour)
    assert download(url, tmp_path / "a.bin", sha256=SHA256).read_bytes() == BODY


def test_a_date_serves_where_the_tag_is_missing(file_server, tmp_path):
    date = "Wed, 21 Oct 2015 07:28:00 GMT"
    url = file_server.put("a.bin", BODY, cuts=[4 * CHUNK], etag=None, last_modified=date)
    assert download(url, tmp_path / "a.bin", sha256=SHA256).read_bytes() == BODY
    assert file_server.ranges() == [None, "bytes=262144-"]


def test_a_body_of_unknown_length(file_server, tmp_path):
    url = file_server.put("a.bin", BODY, says_length=False)
    assert download(url, tmp_path / "a.bin", sha256=SHA256).read_bytes() == BODY


def test_wrong_content_is_named_and_removed(file_server, tmp_path):
    url = file_server.put("a.bin", b"<html>Please log in</html>")
    got = hashlib.sha256(b"<html>Please log in</html>").hexdigest()
    with pytest.raises(DownloadError) as caught:
        download(url, tmp_path / "a.bin", sha256=SHA256)
    assert caught.value.reason == f"wrong content for a.bin: expected sha256 {SHA256}, got {got}"
    assert url in str(caught.value) and str(tmp_path / "a.bin") in str(caught.value)
    assert names(tmp_path) == ["a.bin.lock"]


def test_wrong_md5_is_named(file_server, tmp_path):
    with pytest.raises(DownloadError, match=f"expected md5 {MD5}, got 900150983cd24fb0d6963f7d28e17f72"):
        download(file_server.put("a.bin", b"abc"), tmp_path / "a.bin", md5=MD5)


def test_a_wrong_size_is_known_before_the_body(file_server, tmp_path):
    with pytest.raises(DownloadError, match=r"the server has 3 bytes, expected 1024000"):
        download(file_server.put("a.bin", b"abc"), tmp_path / "a.bin", size=len(BODY))
    with pytest.raises(DownloadError, match=r"expected 1024000 bytes, got 3"):
        download(file_server.put("a.bin", b"abc", says_length=False), tmp_path / "a.bin", size=len(BODY))


def test_a_missing_file_is_not_asked_for_twice(file_server, tmp_path):
    url = file_server.url("gone.bin")
    message = f"cannot download {url}: 127.0.0.1 answers 404 Not Found; if you have the file from elsewhere, put it at "
    with pytest.raises(DownloadError, match=message):
        download(url, tmp_path / "gone.bin")
    assert len(file_server.requests) == 1


def test_a_busy_server_is_asked_again(file_server, tmp_path):
    url = file_server.put("a.bin", BODY, statuses=[503])
    assert download(url, tmp_path / "a.bin", sha256=SHA256).read_bytes() == BODY
    assert len(file_server.requests) == 2


def test_a_server_that_stays_busy_is_named(file_server, tmp_path):
    url = file_server.put("a.bin", BODY, statuses=[503, 503])
    with pytest.raises(DownloadError, match="answers 503 Service Unavailable"):
        download(url, tmp_path / "a.bin", retries=1)


def test_no_connection_is_one_sentence(tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound, not listening: refuses
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/a.bin"
        with pytest.raises(DownloadError, match=rf"cannot download {url}: no connection to 127\.0\.0\.1; if you have"):
            download(url, tmp_path / "a.bin", retries=0)


def test_an_address_that_is_none(tmp_path):
    with pytest.raises(DownloadError, match="cannot download htp://x/a: No connection adapters"):
        download("htp://x/a", tmp_path / "a")


def test_a_folder_that_cannot_be_made(file_server, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DownloadError, match=r"cannot write .*file"):
        download(file_server.put("a.bin", BODY), tmp_path / "file" / "a.bin")


def test_two_processes_make_one_request(file_server, tmp_path):
    url = file_server.put("a.bin", BODY)
    code = "import sys; from pathlib import Path; from seg_det.download import download; "
    code += f"download(sys.argv[1], Path(sys.argv[2]), sha256={SHA256!r})"
    command = [sys.executable, "-c", code, url, str(tmp_path / "a.bin")]
    processes = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    assert (tmp_path / "a.bin").read_bytes() == BODY
    assert len(file_server.requests) == 1
    assert names(tmp_path) == ["a.bin"]


def make_zip(path, members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, body in members.items():
            archive.writestr(name, body)
    return path


def make_tar(path, members, **header):
    with tarfile.open(path, "w") as archive:
        for name, body in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            for key, value in header.items():
                setattr(info, key, value)
            archive.addfile(info, io.BytesIO(body))
    return path


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_unpack_merges_into_what_is_there(tmp_path, make):
    into = tmp_path / "out"
    (into / "VOC2007" / "JPEGImages").mkdir(parents=True)
    (into / "VOC2007" / "JPEGImages" / "1.jpg").write_bytes(b"one")
    members = {"VOCdevkit/VOC2007/JPEGImages/2.jpg": b"two", "VOCdevkit/VOC2007/new/3.txt": b"three"}
    unpack(make(tmp_path / "a", members), into, inside="VOCdevkit", progress=False)
    files = {str(p.relative_to(into)): p.read_bytes() for p in into.rglob("*") if p.is_file()}
    images = "VOC2007/JPEGImages"
    assert files == {f"{images}/1.jpg": b"one", f"{images}/2.jpg": b"two", "VOC2007/new/3.txt": b"three"}
    assert names(into) == ["VOC2007"]


@pytest.mark.parametrize("make", [make_zip, make_tar])
@pytest.mark.parametrize(
    "name", ["../evil.txt", "a/../../evil.txt", "/evil.txt", "C:\\evil.txt", "a\\..\\..\\evil.txt"]
)
def test_a_member_that_leaves_the_folder_is_refused(tmp_path, make, name):
    archive = make(tmp_path / "a", {"fine.txt": b"", name: b"evil"})
    with pytest.raises(UserError, match=r"would write outside its folder, to .*evil"):
        unpack(archive, tmp_path / "out", progress=False)
    assert names(tmp_path / "out") == []


def test_links_are_refused(tmp_path):
    archive = make_tar(tmp_path / "a.tar", {"link": b""}, type=tarfile.SYMTYPE, linkname="/etc/passwd")
    with pytest.raises(UserError, match=r"a\.tar holds a link or device, 'link'"):
        unpack(archive, tmp_path / "out", progress=False)


def test_a_corrupt_member_leaves_nothing(tmp_path):
    archive = make_zip(tmp_path / "a.zip", {"one.txt": b"1" * 99, "two.txt": b"2" * 99})
    archive.write_bytes(archive.read_bytes().replace(b"2" * 99, b"2" * 98 + b"x"))
    with pytest.raises(UserError, match=r"a\.zip is damaged or no zip or tar file \(Bad CRC-32 for file 'two\.txt'\)"):
        unpack(archive, tmp_path / "out", progress=False)
    assert names(tmp_path / "out") == []


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_a_truncated_archive_leaves_nothing(tmp_path, make):
    archive = make(tmp_path / "a", {"one.bin": b"1" * 5000, "two.bin": b"2" * 5000})
    archive.write_bytes(archive.read_bytes()[:7000])
    with pytest.raises(UserError, match=r"a is damaged or no zip or tar file \(.+\); delete it and run again"):
        unpack(archive, tmp_path / "out", progress=False)
    assert names(tmp_path / "out") == []


def test_another_archive_is_noticed(tmp_path):
    archive = make_zip(tmp_path / "a.zip", {"x/one.txt": b"1"})
    with pytest.raises(UserError, match=r"a\.zip has no folder VOCdevkit: it is another archive"):
        unpack(archive, tmp_path / "out", inside="VOCdevkit", progress=False)
