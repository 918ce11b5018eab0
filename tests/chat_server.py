"""A chat endpoint on this machine that answers, and misbehaves, as it is told."""

import contextlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class ChatServer:
    """`say(messages)` gives the text; `faults` are taken first, one a request, each called with the handler.

    It keeps every request: its `body`, `headers`, `began` and the `port` it came from.
    """

    def __init__(self, say=lambda messages: "<A>", faults=(), usage=10):
        self.say, self.faults, self.usage, self.requests = say, list(faults), usage, []
        self.released = threading.Event()
        self.busy = self.most_busy = 0
        self._lock = threading.Lock()

    @property
    def url(self):
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self):
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler_of(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def take(self, handler, body):
        with self._lock:
            self.busy += 1
            self.most_busy = max(self.most_busy, self.busy)
            seen = {"body": body, "headers": handler.headers, "began": time.monotonic()}
            self.requests.append(seen | {"port": handler.client_address[1], "path": handler.path})
            return self.faults.pop(0) if self.faults else None

    def left(self):
        with self._lock:
            self.busy -= 1


def handler_of(server):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            fault = server.take(self, body)
            try:
                with contextlib.suppress(ConnectionError):
                    if fault is None:
                        send(self, answer(server.say(body["messages"]), server.usage))
                    else:
                        fault(self, server)
            finally:
                server.left()

        def log_message(self, *_):
            pass

    return Handler


def answer(text, usage=10, reason="stop"):
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": reason}
    return {"choices": [choice]} | ({"usage": {"total_tokens": usage}} if usage is not None else {})


def send(handler, body, status=200, headers=()):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    handler.send_response(status)
    for name, value in {"Content-Length": str(len(data)), **dict(headers)}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(data)


def status(code, said="it broke", **headers):
    """A fault: this status, with an error body as OpenAI's."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda handler, server: send(handler, {"error": {"message": said}}, code, names.items())


def body(data):
    """A fault: status 200 with this body."""
    return lambda handler, server: send(handler, data)


def hang(handler, server):
    """A fault: no answer until the test is over."""
    server.released.wait(30)


def cut(handler, server):
    """A fault: the connection ends before the announced length."""
    send(handler, b'{"choices"', headers={"Content-Length": "500"}.items())
    handler.close_connection = True
