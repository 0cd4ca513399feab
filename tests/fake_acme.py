"""The server of the provider in docs/providers.md, on loopback."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


class _Handler(BaseHTTPRequestHandler):
    """A small batch server: answers each prompt in capitals; the state is the server object's."""

    def log_message(self, *args):
        pass

    def _reply(self, body, status=200):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _handle(self):
        batches, path = self.server.batches, urlsplit(self.path).path
        size = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(size)) if size else None
        if self.headers["Authorization"] != f"Bearer {self.server.key}":
            self._reply({"error": f"wrong key {self.headers['Authorization']}"}, 401)
        elif (self.command, path) == ("POST", "/batches"):
            made = {"id": f"b{len(batches)}", "state": "running", "label": body["label"]}
            batches[made["id"]] = made, body["requests"]
            if self.server.lose > 0:
                self.server.lose -= 1
                self.close_connection = True  # the batch exists, and nobody is told
                return
            self._reply(made)
        elif path == "/answers":
            self._reply(line(body))
        elif path == "/batches":
            self._reply({"batches": [made for made, _ in batches.values()]})
        elif path.endswith("/results") and path.split("/")[2] in batches:
            self._reply(b"".join(line(each) for each in batches[path.split("/")[2]][1]))
        elif path.split("/")[2] not in batches:
            self._reply({"error": "no such batch"}, 404)
        else:
            made = batches[path.split("/")[2]][0]
            made["state"] = "cancelled" if path.endswith("/cancel") else "done"
            self._reply(made)

    do_GET = do_POST = _handle  # noqa: N815


def line(request):
    prompt = request["prompt"]
    answer = {"error": "no"} if "fail" in prompt else {"text": prompt.upper()}
    return json.dumps({"id": request["id"], **answer}).encode() + b"\n"


class FakeAcme(ThreadingHTTPServer):
    """A context manager; `batches`, `key` and `lose` (answers to lose) may be changed."""

    def __init__(self, key):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.batches, self.key, self.lose = {}, key, 0
        self.url = f"http://127.0.0.1:{self.server_port}"

    def __enter__(self):
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()
