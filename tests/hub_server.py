"""A small server that speaks the protocol of the Hugging Face Hub for the datasets in a folder."""

import hashlib
import http.server
import json
import re
import threading
from contextlib import contextmanager
from functools import partial
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def hub_server(folder):
    """Serve ``folder``/ORG/NAME as datasets; yield the address for HF_ENDPOINT and the list of requested paths."""
    requests = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(HubRequest, folder, requests))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", requests
    server.shutdown()
    thread.join()
    server.server_close()


class HubRequest(http.server.BaseHTTPRequestHandler):
    """A request: the commit of a revision, the list of its files, or one file."""

    protocol_version = "HTTP/1.1"

    def __init__(self, folder, requests, *connection):
        self.folder, self.requests = folder, requests
        super().__init__(*connection)

    def do_GET(self):
        """Answer, with the content."""
        path = unquote(urlsplit(self.path).path)
        self.requests.append(path)
        if match := re.fullmatch(r"/datasets/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path):
            self._answer_file(self.folder / match[1] / match[2])
        elif match := re.fullmatch(r"/api/datasets/([^/]+/[^/]+)(?:/revision/[^/]+)?", path):
            self._answer_json({"id": match[1], "sha": COMMIT, "siblings": []})
        elif match := re.fullmatch(r"/api/datasets/([^/]+/[^/]+)/tree/[^/]+", path):
            repository = self.folder / match[1]
            files = sorted(file for file in repository.rglob("*") if file.is_file())
            self._answer_json([describe_file(file, repository) for file in files])
        else:
            self._answer(404, b"")

    do_HEAD = do_GET

    def _answer_file(self, file):
        if not file.is_file():
            self._answer(404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        self._answer(200, file.read_bytes(), {"ETag": f'"{git_sha1(file)}"', "X-Repo-Commit": COMMIT})

    def _answer_json(self, value):
        self._answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _answer(self, status, content, headers=None):
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_):
        """Print nothing."""


def describe_file(file, repository):
    """A file as the Hub lists it."""
    path = str(file.relative_to(repository))
    return {"type": "file", "oid": git_sha1(file), "size": file.stat().st_size, "path": path}


def git_sha1(file):
    """The name that git gives a file's content."""
    content = file.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
