"""Untrusted archives: paths out of the folder, special files and decompression bombs are refused with the
reason."""

from __future__ import annotations

import gzip
import io
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from groundplan.lambdas.site_files import handler as site
from local import archives as of_local
from scenarios import archives as of_scenarios
from toolkit import archive

ROOT = Path(__file__).resolve().parents[2]
Unpack = Callable[[bytes, Path], None]

MOST_BYTES, MOST_MEMBERS = 1_000_000, 50

READERS = ("tarfile.open(", "zipfile.ZipFile(", ".extractall(", "unpack_archive(")


def readers(*rooms: str) -> list[Path]:
    """Return the modules of these rooms that open archives, as paths in the project."""
    return sorted(
        path.relative_to(ROOT)
        for room in rooms
        for path in (ROOT / room).rglob("*.py")
        if any(reader in path.read_text() for reader in READERS)
    )


@pytest.fixture(params=["container", "local"])
def unpack(request: pytest.FixtureRequest, tmp_path: Path) -> Unpack:
    """The unpack function of each room, with limits of a megabyte and fifty members."""
    if request.param == "local":
        return lambda body, folder: of_local.unpack(io.BytesIO(body), folder, MOST_BYTES, MOST_MEMBERS)

    def from_file(body: bytes, folder: Path) -> None:
        path = tmp_path / "model.tar.gz"
        path.write_bytes(body)
        try:
            archive.unpack(path, folder, MOST_BYTES, MOST_MEMBERS)
        except archive.ArchiveError as error:
            raise of_local.ArchiveError(str(error)) from None

    return from_file


def packed(*members: tuple[tarfile.TarInfo, bytes], mode: str = "w:gz") -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode=mode) as tar:  # pyright: ignore[reportCallIssue, reportArgumentType]
        for member, body in members:
            tar.addfile(member, io.BytesIO(body))
    return content.getvalue()


def member(name: str, body: bytes = b"x", kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644):
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.size, made.mode = kind, link, len(body), mode
    return made, body


def long_header(size: int) -> bytes:
    """Return an archive whose first member's header claims a name of this many bytes."""
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, size
    return gzip.compress(header.tobuf(tarfile.GNU_FORMAT) + b"a" * min(size, 2_000_000))


def chained_headers(count: int) -> bytes:
    """Return an archive of extended headers only."""
    body = b"11 path=ab\n"
    header = tarfile.TarInfo("pax")
    header.type, header.size = tarfile.XHDTYPE, len(body)
    return gzip.compress((header.tobuf(tarfile.USTAR_FORMAT) + body.ljust(512, b"\0")) * count)


LINKED = [
    member("inside", b"", tarfile.DIRTYPE),
    member("inside/out", b"", tarfile.SYMTYPE, "../.."),
    member("inside/out/escaped", b"x"),
]
HARMFUL = {
    "symbolic link": (packed(member("link", b"", tarfile.SYMTYPE, "file")), "'link' is neither a file nor"),
    "symbolic link out of it": (packed(*LINKED), "'inside/out' is neither a file nor a folder"),
    "hard link": (packed(member("a"), member("b", b"", tarfile.LNKTYPE, "a")), "'b' is neither a file"),
    "hard link out of it": (packed(member("b", b"", tarfile.LNKTYPE, "../../x")), "'b' is neither a file"),
    "character device": (packed(member("null", b"", tarfile.CHRTYPE)), "'null' is neither a file"),
    "block device": (packed(member("disk", b"", tarfile.BLKTYPE)), "'disk' is neither a file"),
    "FIFO": (packed(member("pipe", b"", tarfile.FIFOTYPE)), "'pipe' is neither a file"),
    "parent": (packed(member("../escaped")), "'../escaped' is not a path inside"),
    "parent within": (packed(member("a/../../escaped")), "is not a path inside"),
    "absolute": (packed(member("/tmp/escaped")), "'/tmp/escaped' is not a path inside"),  # noqa: S108
    "name of 1,000 characters": (packed(member("n" * 1000)), "must have at most 1024 bytes, 255 between"),
    "path of 3,000 characters": (packed(member("/".join(["n" * 100] * 30))), "must have at most 1024 bytes"),
    "bomb": (packed(member("zeros", bytes(1_000_001))), "it unpacks to more than 1000000 bytes"),
    "bomb of parts": (packed(*[member(f"{i}", bytes(300_000)) for i in range(4)]), "more than 1000000 bytes"),
    "too many files": (packed(*[member(f"{i}") for i in range(51)]), "more than 50 members"),
    "too many folders": (
        packed(*[member(f"{i}", b"", tarfile.DIRTYPE) for i in range(51)]),
        "more than 50 members",
    ),
    "endless name": (long_header(3 * 2**30), "a header of 3221225472 bytes"),
    "endless headers": (chained_headers(3000), "."),
    "cut off": (packed(member("a", bytes(range(256)) * 900))[:-300], "."),
    "no archive": (b"not an archive", "ReadError"),
    "file for a folder": (packed(member("a"), member("a/b")), "FileExistsError|NotADirectoryError"),
}


@pytest.mark.parametrize("name", HARMFUL)
def test_unpack_refuses_harmful_archives_with_the_reason(unpack: Unpack, tmp_path: Path, name: str):
    body, reason = HARMFUL[name]
    folder = tmp_path / "outer" / "folder"
    folder.mkdir(parents=True)
    with pytest.raises(of_local.ArchiveError, match=reason):
        unpack(body, folder)
    # then no file is outside of the folder, and the folder has only regular files within the limits
    found = [path for path in (tmp_path / "outer").rglob("*") if path != folder]
    assert all(folder in path.parents for path in found)
    assert all(stat.S_IFMT(path.lstat().st_mode) in (stat.S_IFREG, stat.S_IFDIR) for path in found)
    assert sum(path.stat().st_size for path in found if path.is_file()) <= MOST_BYTES
    assert not Path("/tmp/escaped").exists()  # noqa: S108


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_unpack_returns_the_packed_files(unpack: Unpack, tmp_path: Path, mode: str):
    deep = "/".join(["n" * 99] * 10)  # a path of nearly 1,000 characters whose parts are short
    files = {
        "model.ubj": bytes(range(256)) * 2000,
        "a/b/c.json": b"{}",
        "./d": b"",
        deep: b"deep",
        "größe": b"7",
    }
    body = packed(
        member("empty", b"", tarfile.DIRTYPE, mode=0o700),
        *[member(name, content) for name, content in files.items()],
        member("run.sh", b"#", mode=0o4777),
        mode=mode,
    )
    unpack(body, tmp_path / "new")
    for name, content in files.items():
        assert (tmp_path / "new" / name).read_bytes() == content
    assert (tmp_path / "new/empty").is_dir()
    assert stat.S_IMODE((tmp_path / "new/run.sh").stat().st_mode) == 0o755


def test_unpack_needs_no_memory_for_a_bomb(unpack: Unpack, tmp_path: Path):
    # given an archive of 3 MB that unpacks to 3 GiB
    header = tarfile.TarInfo("zeros")
    header.size = 3 * 2**30
    body = gzip.compress(header.tobuf()) + gzip.compress(bytes(2**20)) * 3000
    # when the archive is unpacked, then it is refused before the first byte is written
    with pytest.raises(of_local.ArchiveError, match="it unpacks to more than 1000000 bytes"):
        unpack(body, tmp_path / "new")
    assert not list((tmp_path / "new").rglob("zeros"))


def test_scenarios_read_regular_files_up_to_a_limit():
    body = packed(member("./a", b"1"), member("b/c", b"2"), member("b", b"", tarfile.DIRTYPE))
    assert of_scenarios.files(body) == {"a": b"1", "b/c": b"2"}
    for name in ("symbolic link", "hard link", "FIFO", "bomb", "too many files", "no archive", "cut off"):
        with pytest.raises(of_scenarios.ArchiveError):
            of_scenarios.files(HARMFUL[name][0], MOST_BYTES, MOST_MEMBERS)


# --- zip archives of web pages ---


def zipped(*members: tuple[zipfile.ZipInfo, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for info, body in [(zipfile.ZipInfo("index.html"), b""), *members]:
            archive.writestr(info, body, zipfile.ZIP_DEFLATED)
    return content.getvalue()


def entry(name: str, kind: int = 0) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = (kind | 0o644) << 16 if kind else 0
    return info


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (zipped((entry("link", stat.S_IFLNK), b"/etc/passwd")), "'link' is neither a file nor a folder"),
        (zipped((entry("pipe", stat.S_IFIFO), b"")), "'pipe' is neither a file nor a folder"),
        (zipped((entry("../x"), b"")), "'../x' is not a name inside the page"),
        (zipped((entry("/x"), b"")), "'/x' is not a name inside the page"),
        (zipped((entry("n" * 1100), b"")), "is not a name inside the page"),
        (zipped((entry("zeros"), bytes(site.MOST_BYTES + 1))), "at most 5000 files and 67108864 bytes"),
        (zipped(*[(entry(f"{i}"), b"") for i in range(site.MOST_FILES)]), "at most 5000 files"),
        (zipped((entry("a"), bytes(range(256)) * 99))[:-200], "is not a whole zip file"),
    ],
    ids=["symbolic link", "FIFO", "parent", "absolute", "long name", "bomb", "too many", "cut off"],
)
def test_page_refuses_harmful_archives_with_the_reason(body: bytes, reason: str):
    with pytest.raises(ValueError, match=reason):
        site.objects(body, {}, {})


def test_page_accepts_files_with_unix_modes():
    body = zipped((entry("js/app.js", stat.S_IFREG), b"1"), (entry("js/", stat.S_IFDIR), b""))
    assert {item.key for item in site.objects(body, {}, {})} == {"index.html", "js/app.js", "config.json"}


# --- modules that may unpack archives ---


def test_archives_are_unpacked_in_listed_modules_only():
    allowed = (
        "containers/toolkit/archive.py",
        "local/archives.py",
        "local/emulator/patches/functions.py",  # unpacks Lambda's layers, whose size the emulator checks
        "local/sagemaker/artifacts.py",  # packs
        "local/feeds/caiso.py",  # packs
        "runtime/*/core/archive.py",  # packs archives, or reads files of a bounded size
        "runtime/*/layer/python/*/sources/*.py",  # reads a source's response, which has a bounded size
        "constructs/groundplan/lambdas/site_files/handler.py",
        "scenarios/archives.py",
    )
    found = readers("containers", "runtime", "local", "scenarios", "constructs", "stacks")
    assert not [path for path in found if not any(path.match(each) for each in allowed)]
