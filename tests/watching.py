# SPDX-License-Identifier: Apache-2.0
"""A watched node and what it serves, asked and read as others do it."""

import contextlib
import threading
import time
import urllib.error
import urllib.request

from powersample.capture import Plan
from powersample.session.live import Watch
from powersample.session.serving import MetricsServer
from powersample.session.simulate import apply_load, make_node, simulated_plan
from powersample.store.accounts import AccountFile

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
TIMEOUT_S = 30.0


def read(text, kind):
    from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
    from prometheus_client.parser import text_string_to_metric_families as text_families

    families = openmetrics_families(text) if "openmetrics" in kind else text_families(text)
    return {(one.name, tuple(sorted(one.labels.items()))): one.value for family in families for one in family.samples}


def values(found, name, **labels):
    return [value for (one, have), value in found.items() if one == name and labels.items() <= dict(have).items()]


@contextlib.contextmanager
def serving_of(exposition=lambda accept: (b"powersample_x 1\n", "text/plain")):
    server = MetricsServer("127.0.0.1", 0, exposition)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def fetch(url, method="GET", **headers):
    with urllib.request.urlopen(urllib.request.Request(url, method=method, headers=headers), timeout=TIMEOUT_S) as got:
        return got.status, dict(got.headers), got.read()


@contextlib.contextmanager
def watched(spec, load="idle", **options):
    with make_node(spec) as node:
        apply_load(node, load, 0)
        with Watch(simulated_plan(Plan(rate_hz=20.0), node), node=node, simulated=spec, **options) as watch:
            watch.start()
            yield node, watch


def until(watch, is_so):
    """Return the first state that is so."""
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        state = watch.state()
        if is_so({(one.name, one.domain): one for one in state.balances}):
            return state
        time.sleep(0.05)
    raise AssertionError(f"not within {TIMEOUT_S} s: {state}")


def closing(path, simulated=None):
    return contextlib.closing(AccountFile(path, simulated))
