"""A server that listens at the address of its host name, and answers with its model and the host name."""

import json
import os
import socket
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer({})

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        model = Path("/opt/ml/model/model.txt").read_text()
        seen = sorted(path.name for path in Path("/opt").iterdir())
        self.answer({"model": model, "name": socket.gethostname(), "seen": seen})

    def answer(self, document):
        body = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


port = int(os.environ.get("SAGEMAKER_BIND_TO_PORT", "8080"))
HTTPServer((socket.gethostname(), port), Handler).serve_forever()
