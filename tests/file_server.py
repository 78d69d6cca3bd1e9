"""A web server in this process that has one file, continues downloads, and can end a connection early."""

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FileServer:
    """Gives ``content`` under any path.

    Attributes:
        tag: its ``ETag``; None to send none.
        ends_after: bytes after which the next connections end; None for none.
        status: other answer than the content.
        ranges: the ``Range`` of each request, None where it had none.
    """

    def __init__(self, content):
        self.content = content
        self.tag = '"1"'
        self.ends_after = None
        self.status = None
        self.ranges = []
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"state": self}))
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}/file.pt"
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self):
        self._http.shutdown()
        self._http.server_close()


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        wanted = self.headers.get("Range")
        self.state.ranges.append(wanted)
        if self.state.status is not None:
            self.send_error(self.state.status)
            return
        content, start = self.state.content, 0
        if wanted and self.headers.get("If-Range") in (None, self.state.tag):
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                self.send_error(416)
                return
        self.send_response(206 if start else 200)
        if self.state.tag is not None:
            self.send_header("ETag", self.state.tag)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        end = len(content) if self.state.ends_after is None else start + self.state.ends_after
        self.wfile.write(content[start:end])

    def log_message(self, *_):
        pass


@contextmanager
def file_server(content):
    server = FileServer(content)
    try:
        yield server
    finally:
        server.stop()
