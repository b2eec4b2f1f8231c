# SPDX-License-Identifier: Apache-2.0
"""Metrics over HTTP: clients of every kind, and the port."""

import concurrent.futures
import contextlib
import os
import socket
import threading
import time
import urllib.error
import urllib.request

import pytest
from watching import TIMEOUT_S, fetch, serving_of

from powersample import errors
from powersample.session import serving
from powersample.session.serving import MetricsServer, parse_listen, port_owner


def test_head_has_the_headers_of_get_and_no_body():
    with serving_of() as server:
        status, headers, body = fetch(server.url)
        assert (status, body) == (200, b"powersample_x 1\n")
        assert fetch(server.url, "HEAD") == (200, headers, b"")


def test_unknown_path_is_not_found_and_the_root_leads_to_the_metrics():
    with serving_of() as server:
        with pytest.raises(urllib.error.HTTPError) as refused:
            fetch(server.url + "x")
        assert refused.value.code == 404
        refused.value.close()
        assert b"/metrics" in fetch(server.url.removesuffix("/metrics"))[2]
        assert fetch(server.url + "?name=x")[0] == 200


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_metrics_that_cannot_be_made_are_answered_with_500_and_told_until_they_can_be(method):
    failing, told = [ValueError("nan")], []

    def exposition(accept):
        if failing:
            raise failing[0]
        return b"x 1\n", "text/plain"

    with serving_of(exposition) as server:
        server.on_trouble = told.append
        with pytest.raises(urllib.error.HTTPError) as refused:
            fetch(server.url, method)
        body = refused.value.read()
        refused.value.close()
        assert refused.value.code == 500
        assert body == (b"powersample: the metrics cannot be made: ValueError: nan\n" if method == "GET" else b"")
        failing.clear()
        assert fetch(server.url)[0] == 200
    assert told == ["the metrics cannot be made: ValueError: nan", None]


def test_more_clients_than_there_is_room_for_are_told_to_come_again(monkeypatch):
    monkeypatch.setattr(serving, "AT_ONCE", 2)
    held, entered = threading.Event(), threading.Semaphore(0)

    def slow(accept):
        entered.release()
        held.wait(TIMEOUT_S)
        return b"x 1\n", "text/plain"

    with serving_of(slow) as server, concurrent.futures.ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(fetch, server.url) for _ in range(2)]
        assert all(entered.acquire(timeout=TIMEOUT_S) for _ in waiting)
        try:
            with pytest.raises(urllib.error.HTTPError) as refused:
                fetch(server.url)
        finally:
            held.set()
        assert refused.value.code == 503
        refused.value.close()
        assert [one.result(TIMEOUT_S)[0] for one in waiting] == [200, 200]


@pytest.mark.parametrize("request_line", [b"GET /metrics HTTP/1.0\r\nX-Slow: ", b"GET /metrics HTTP/1.0\r\n\r\n", b""])
def test_client_that_takes_its_time_is_hung_up_on_and_leaves_its_place(monkeypatch, request_line):
    """A header a byte at a time, an answer that is never taken, and silence: none holds a thread for long."""
    monkeypatch.setattr(serving, "AT_ONCE", 1)
    monkeypatch.setattr(serving, "PATIENCE_S", 0.3)
    with serving_of(lambda accept: (b"x" * (64 << 20), "text/plain")) as server:
        with socket.create_connection(server.server_address[:2], timeout=TIMEOUT_S) as client:
            client.sendall(request_line)
            for held in (True, False):  # the one place there is
                deadline = time.monotonic() + TIMEOUT_S
                while held == bool(server.slots._value):
                    assert time.monotonic() < deadline
                    with contextlib.suppress(OSError):
                        client.send(b"a" if request_line.endswith(b" ") else b"")
                    time.sleep(0.02)
        with socket.create_connection(server.server_address[:2], timeout=TIMEOUT_S) as client:
            client.sendall(b"HEAD /metrics HTTP/1.0\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.0 200")


def test_port_that_is_taken_names_its_owner():
    with serving_of() as server:
        port = server.server_address[1]
        with pytest.raises(errors.SystemFailure, match=rf"127.0.0.1:{port} is taken by .*\(pid {os.getpid()}\)"):
            MetricsServer("127.0.0.1", port, lambda accept: (b"", ""))
    assert port_owner(port) is None


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("127.0.0.1:9", ("127.0.0.1", 9)),
        (":9", ("127.0.0.1", 9)),
        ("[::1]:10188", ("::1", 10188)),
        ("0.0.0.0:0", ("0.0.0.0", 0)),
    ],
)
def test_listen_is_a_host_and_a_port(text, where):
    assert parse_listen(text) == where


@pytest.mark.parametrize("text", ["", "9188", "host", "::1:9188", "host:99999", "[::1]", "a:b:1"])
def test_listen_that_is_none_is_refused(text):
    with pytest.raises(errors.InvalidArgument, match="HOST:PORT"):
        parse_listen(text)
