"""gpt2lab.data.sources: which documents come out of which files, and which errors."""

import os
import platform
import shlex

import pytest

from gpt2lab import compose_config
from gpt2lab.config import DataConfig, PythonStdlibConfig, TextFilesConfig, UserError, from_dict
from gpt2lab.data import open_source
from gpt2lab.data.sources import Problem, base
from gpt2lab.data.sources import text as text_module


def text_files(*files, **settings):
    whole_files = {"delimiter": None, "min_document_bytes": 0}
    return open_source(TextFilesConfig(files=[str(file) for file in files], **(whole_files | settings)))


def read(source):
    """All documents and problems, in order; the chunks must not matter."""
    return [document for chunk in source.chunks() for document in source.read(chunk)]


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


@pytest.fixture
def stdlib(tmp_path, monkeypatch):
    """A small tree in the place of the standard library."""
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path / "lib") if name == "stdlib" else None)
    return tmp_path / "lib"


def test_stdlib_is_every_python_file_by_relative_path(stdlib):
    for name in ("b.py", "a/z.py", "a.py", "a/b/c.py"):
        write(stdlib / name, f"# {name}")
    write(stdlib / "notes.txt", "no")
    for folder in ("site-packages", "dist-packages", "a/__pycache__"):
        write(stdlib / folder / "x.py", "no")
    source = open_source(PythonStdlibConfig())
    assert read(source) == ["# a.py", "# a/b/c.py", "# a/z.py", "# b.py"]
    assert source.size_bytes() == 6 + 10 + 8 + 6
    assert source.describe() == {"source": "python_stdlib", "python": platform.python_version(), "files": 4}


def test_stdlib_counts_what_is_not_utf8(stdlib):
    write(stdlib / "good.py", "é")
    write(stdlib / "latin.py", "é".encode("latin-1"))
    write(stdlib / "bom.py", b"\xef\xbb\xbfx = 1")
    source = open_source(PythonStdlibConfig())
    assert read(source) == ["x = 1", "é", Problem("not UTF-8", "")]


def test_stdlib_takes_a_linked_file_once_and_no_broken_link(stdlib):
    write(stdlib / "real.py", "text")
    (stdlib / "same.py").symlink_to(stdlib / "real.py")
    (stdlib / "broken.py").symlink_to(stdlib / "nowhere.py")
    (stdlib / "again").symlink_to(stdlib, target_is_directory=True)
    assert read(open_source(PythonStdlibConfig())) == ["text"]


def test_a_file_without_delimiter_is_one_document_with_its_line_ends(tmp_path):
    first, second = write(tmp_path / "b.txt", "two\r\nlines\r\n"), write(tmp_path / "a.txt", "one\n")
    assert read(text_files(first, second)) == ["one\n", "two\r\nlines\r\n"]


def test_globs_are_sorted_without_doubles_and_folders(tmp_path, monkeypatch):
    for name in ("c.txt", "a.txt", "sub/b.txt", "sub/deep/d.txt", "a.md"):
        write(tmp_path / name, name)
    (tmp_path / "folder.txt").mkdir()
    (tmp_path / "link.txt").symlink_to(tmp_path / "a.txt")
    monkeypatch.chdir(tmp_path)
    source = text_files("**/*.txt", tmp_path / "c.txt", "a.txt")
    assert sorted(read(source)) == ["a.txt", "c.txt", "sub/b.txt", "sub/deep/d.txt"]
    assert read(text_files("c.txt", "*.txt", "*.md")) == ["a.md", "a.txt", "c.txt"]


def test_a_file_whose_name_looks_like_a_glob_is_found(tmp_path):
    assert read(text_files(write(tmp_path / "part[1].txt", "text"))) == ["text"]


@pytest.mark.parametrize("scan_bytes", [1, 2, 5, 2**20])
@pytest.mark.parametrize("delimiter", ["\n", "\n\n", "<|endoftext|>", "aa", "¶", "日"])
@pytest.mark.parametrize(
    "text", ["", "x", "\n", "a\n\n\nb\n", "aaaaab", "é¶¶ü¶", "¶", "日本日", "one<|endoftext|>two<|endoftext|>", "\n\nx"]
)
def test_delimiters_split_as_str_split_does(tmp_path, monkeypatch, text, delimiter, scan_bytes):
    monkeypatch.setattr(text_module, "SCAN_BYTES", scan_bytes)
    source = text_files(write(tmp_path / "a.txt", text), delimiter=delimiter)
    assert read(source) == text.split(delimiter)


@pytest.mark.parametrize(
    ("typed", "delimiter"), [(r"\n", "\n"), (r"\r\n\t", "\r\n\t"), (r"\\n", r"\n"), (r"\c", r"\c"), (r"\n\c", "\n\\c")]
)
def test_delimiters_are_typed_with_backslashes(tmp_path, typed, delimiter):
    text = "a\nb\r\n\tc\\nd\n\\c"
    source = text_files(write(tmp_path / "a.txt", text), delimiter=typed)
    assert read(source) == text.split(delimiter)
    assert source.describe()["delimiter"] == delimiter


def test_lines_that_end_otherwise_than_the_delimiter_get_a_warning_with_what_to_type(tmp_path):
    names = "abc"
    files = [write(tmp_path / name, f"{name}\r\n\r\nx\r\n\r\ny") for name in names]
    warning = text_files(*files, delimiter=r"\n\n").warning()
    assert warning.startswith(f"{files[0]} and 2 more: each is one document, as data.delimiter='\\n\\n' is not in it; ")
    command, found = shlex.split(warning.partition(": try ")[2]), ",".join(map(str, files))
    data = compose_config(
        "prepare", ["data=text_files", f"data.files=[{found}]", "data.min_document_bytes=0", *command]
    )
    assert read(open_source(data.data)) == [text for name in names for text in (name, "x", "y")]
    assert open_source(data.data).warning() is None
    assert text_files(*files, delimiter="\n\n", min_document_bytes=100).warning() is None
    assert text_files(write(tmp_path / "d", "a\n\nb\r\n\r\nc"), delimiter="\n\n").warning() is None
    assert text_files(*files).warning() is None


def test_short_neighbors_are_joined_until_long_enough(tmp_path):
    path = write(tmp_path / "a.txt", "aa|bb|cccccc|d|éé|ff|g")
    joined = read(text_files(path, delimiter="|", min_document_bytes=5))
    assert joined == ["aa|bb", "cccccc", "d|éé", "ff|g"]  # é is two bytes; what is left at the end may be short


def test_joining_keeps_empty_documents_apart(tmp_path):
    path = write(tmp_path / "a.txt", "|aaaaa||bb||bb|")
    joined = read(text_files(path, delimiter="|", min_document_bytes=5))
    assert joined == ["", "aaaaa", "", "bb||bb", ""]


def test_joining_never_crosses_a_file(tmp_path):
    files = [write(tmp_path / f"{name}.txt", f"{name}|{name}") for name in "ab"]
    assert read(text_files(*files, delimiter="|", min_document_bytes=100)) == ["a|a", "b|b"]


def test_joining_loses_no_text(tmp_path):
    text = "|".join("x" * (i * 7 % 13 + 1) for i in range(200))
    documents = read(text_files(write(tmp_path / "a", text), delimiter="|", min_document_bytes=20))
    assert "|".join(documents) == text
    assert all(len(document) >= 20 for document in documents[:-1])
    assert all(len(document.rpartition("|")[0]) < 20 for document in documents)


@pytest.mark.parametrize("delimiter", [None, "\n"])
def test_a_byte_order_mark_is_dropped_at_the_start_only(tmp_path, delimiter):
    path = write(tmp_path / "a.txt", "\ufeffone\ufeff")
    assert read(text_files(path, delimiter=delimiter)) == ["one\ufeff"]


def test_description_lists_files_with_size_and_hash(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "abc.txt", "abc")
    assert text_files("*.txt", delimiter="\n", min_document_bytes=3).describe() == {
        "source": "text_files",
        "delimiter": "\n",
        "min_document_bytes": 3,
        "patterns": ["*.txt"],
        "files": [
            {  # the hash is FIPS 180's example
                "path": "abc.txt",
                "bytes": 3,
                "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            }
        ],
    }


@pytest.mark.parametrize("delimiter", [None, "\n"])
def test_invalid_utf8_names_file_and_byte(tmp_path, delimiter):
    path = write(tmp_path / "bad.txt", b"\xef\xbb\xbffine\nthen \xff\n")
    problem = read(text_files(path, delimiter=delimiter))[0 if delimiter is None else 1]
    assert problem.reason == "not UTF-8"
    assert "bad.txt: byte 13 is not valid UTF-8" in problem.message
    assert path.read_bytes()[13] == 0xFF
    assert "iconv -f latin1 -t utf-8 bad.txt" in problem.message
    wide = write(tmp_path / "two words.txt", "x".encode("utf-16"))
    assert "iconv -f utf-16 -t utf-8 'two words.txt' >" in read(text_files(wide, delimiter=delimiter))[0].message
    for content, what in ((b"PAR1\x15\0\xff", "type data=parquet_files"), (b"%PDF\0\xff", "it is no text file")):
        binary = write(tmp_path / "binary", content)
        assert what in read(text_files(binary, delimiter=delimiter))[0].message
    packed = text_files(path.rename(tmp_path / "bad.txt.gz"), delimiter=delimiter)
    assert read(packed)[0 if delimiter is None else 1].message.endswith(": unpack the file first")


def test_json_lines_that_are_read_as_plain_text_get_a_warning(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"text": "one"}\n')
    assert text_files(path).warning().startswith(f"{path}: is read as it is, JSON keys and quotes included; ")
    assert text_files(write(tmp_path / "a.txt", "one")).warning() is None


@pytest.mark.parametrize("method", ["size_bytes", "describe"])
def test_bad_paths_are_one_line_errors(tmp_path, method):
    cases = {
        (): r"data\.files=\[\]: .* type data\.files=\[",
        (str(tmp_path / "none.txt"),): r"none\.txt: expected a text file",
        (str(tmp_path / "*.none"),): r"\*\.none: expected a text file",
        (str(tmp_path),): r"found a folder: type data\.files=\[.*/\*\.txt\]",
        (str(write(tmp_path / "good.txt", "x")), str(tmp_path / "none.txt")): r"none\.txt: expected",
    }
    for files, message in cases.items():
        with pytest.raises(UserError, match=message) as error:
            getattr(text_files(*files), method)()
        assert "\n" not in str(error.value)


def test_an_unknown_source_is_named():
    with pytest.raises(UserError, match=r"data=text_file: expected one of .*did you mean text_files"):
        from_dict(DataConfig, {"source": "text_file"})


def test_a_home_folder_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setitem(os.environ, "HOME", str(tmp_path))
    write(tmp_path / "a.txt", "text")
    assert read(text_files("~/*.txt")) == ["text"]


@pytest.mark.parametrize("piece_bytes", [1, 7, 100, 10**6])
def test_chunks_are_a_division_of_the_documents(tmp_path, monkeypatch, piece_bytes):
    documents = ["x" * (i * 7 % 13) for i in range(50)]
    for name, part in (("a", documents[:20]), ("b", documents[20:])):
        write(tmp_path / name, "|".join(part))
    source = text_files(f"{tmp_path}/*", delimiter="|")
    monkeypatch.setattr(base, "CHUNK_BYTES", piece_bytes)
    chunks = list(source.chunks())
    assert [document for chunk in chunks for document in source.read(chunk)] == documents
    assert sum(chunk.size for chunk in chunks) == sum(map(len, documents))
    assert all(chunk.size >= piece_bytes for chunk in chunks[:-1])
    # a chunk can be read without the others, by a source of its own
    assert list(text_files(f"{tmp_path}/*", delimiter="|").read(chunks[-1])) == documents[-len(chunks[-1].spans) :]
