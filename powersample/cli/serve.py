# SPDX-License-Identifier: Apache-2.0
"""`powersample serve`: a node's energy and power for Prometheus, node_exporter and OpenTelemetry."""

from __future__ import annotations

import argparse
import math
import signal
import sys
import threading
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from powersample.cli.sampling import add_sampling, list_meters, plan_of

if TYPE_CHECKING:
    from powersample.capture import Plan
    from powersample.session.live import Watch
    from powersample.session.meters import Asked
    from powersample.sim import Node
    from powersample.store.accounts import AccountFile

LISTEN = "127.0.0.1:10188"  # beyond 9100-9999, which exporters have shared out among themselves
RATE_HZ = 10.0
NONE = "none"
END_S = 2.0  # for the last sending, to a collector that may be gone

EXAMPLE = f"""\
examples:
  powersample serve                                          # http://{LISTEN}/metrics
  powersample serve --listen 0.0.0.0:10188                   # for other machines, without a password
  powersample serve --textfile /var/lib/node_exporter/powersample.prom
  powersample serve --meter lmg450:/dev/ttyUSB0
  powersample serve --otlp http://collector:4318/v1/metrics
  powersample serve --simulate h100x4 --load wave:100,400,4,0.5 --listen 127.0.0.1:0

It needs pip install 'powersample[serve]', and with --otlp 'powersample[otel]'. Energies are counters: take
rate(powersample_energy_joules_total[5m]) for a mean power, increase(...) for joules. They go on after a restart, by a
file in $STATE_DIRECTORY or ~/.local/state/powersample; what happened in between is not made up, except that a GPU's
own counter has it. docs/serve.md has the metrics, a systemd unit and rules that compare with DCGM.
"""


def add(verbs: Any) -> None:
    """Add the verb's arguments."""
    verb = verbs.add_parser(
        "serve",
        help="energy and power as OpenMetrics, a textfile or OpenTelemetry",
        description="Watch this machine's devices and serve their energy and power, until it is ended.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.add_argument(
        "--listen", metavar="HOST:PORT", help=f"where to answer; port 0 takes a free one; default {LISTEN}"
    )
    verb.add_argument("--textfile", type=Path, metavar="FILE.prom", help="write this too, or instead without --listen")
    verb.add_argument(
        "--otlp",
        nargs="?",
        const="",
        metavar="URL",
        help="send to a collector, too; default $OTEL_EXPORTER_OTLP_ENDPOINT",
    )
    verb.add_argument(
        "--every", type=float, default=15.0, metavar="S", help="spacing of writing and sending; default 15"
    )
    verb.add_argument("--state", metavar="FILE", help="where counters are kept for the next start, or none")
    verb.add_argument("--duration", type=float, metavar="S", help="end by itself after so many seconds")
    add_sampling(verb)
    simulated = verb.add_argument_group("simulated node")
    simulated.add_argument("--simulate", metavar="NODE", help="as record --simulate; no state is kept unless --state")
    simulated.add_argument(
        "--load", metavar="KIND", help="idle (default), wave:..., script:... or trace:..., as record"
    )
    verb.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Serve until SIGTERM, Ctrl-C or the duration's end; all three are an orderly end."""
    from powersample.export.openmetrics import needs

    if options.meter == ["help"]:
        return list_meters()
    needs("prometheus_client", "serve")
    if options.otlp is not None:
        needs("opentelemetry.exporter.otlp.proto.http", "otel")
    _refuse(options)
    plan, meters = plan_of(options)
    if plan.rate_hz is None and options.rate is None and plan.mode == "paced":
        plan = replace(plan, rate_hz=RATE_HZ)
    try:
        with ExitStack() as stack:
            _serve(options, plan, meters, stack)
    except KeyboardInterrupt:
        return 0
    except SystemExit as ending:  # see cli.process
        if ending.code != 128 + signal.SIGTERM:
            raise
    return 0


def _refuse(options: argparse.Namespace) -> None:
    from powersample import errors

    if options.load and options.simulate is None:
        raise errors.InvalidArgument("--load belongs to --simulate NODE")
    if options.load == "cpu":
        raise errors.InvalidArgument("--load cpu is the CPU use of a program, and there is none")
    if not (options.every > 0 and math.isfinite(options.every)):
        raise errors.InvalidArgument(f"--every {options.every:g}: seconds, above 0")
    file = options.textfile
    if file is None:
        return
    if file.suffix != ".prom":
        raise errors.InvalidArgument(f"--textfile {file}: node_exporter reads files that end in .prom")
    if not file.parent.is_dir():
        raise errors.AccessDenied(f"{file.parent} is not a folder; create it first")


def _serve(options: argparse.Namespace, plan: Plan, meters: Asked, stack: ExitStack) -> None:
    """Bring everything up, the port first: an end that comes early finds what it has to take down on the stack."""
    from powersample.export import openmetrics
    from powersample.session.live import Watch
    from powersample.session.serving import MetricsServer, is_loopback, parse_listen

    where = parse_listen(options.listen or LISTEN)
    http = options.listen is not None or (options.textfile is None and options.otlp is None)
    account = _account(options, stack)
    node = _node(options, stack)
    if node is not None:
        from powersample.session.simulate import simulated_plan

        plan = simulated_plan(plan, node)
    watch = Watch(plan, node=node, simulated=options.simulate or "", meters=meters, account=account, on_trouble=_note)
    registry = openmetrics.registry(watch.state)
    server = None
    if http:
        server = MetricsServer(*where, lambda accept: openmetrics.exposition(registry, accept), watch.note_metrics)
        stack.callback(server.server_close)
    if node is not None:
        _note(f"SIMULATED NODE {options.simulate}, not a measurement")
    stack.enter_context(watch)
    watch.start()
    for note in watch.notes():
        _note(note)
    if server is not None:
        thread = threading.Thread(target=server.serve_forever, name="powersample-http", daemon=True)
        thread.start()
        stack.callback(server.shutdown)
        _note(f"serving {server.url}")
        if not is_loopback(str(server.server_address[0])):
            _note("whoever reaches this machine can read it: there is no password")
    if options.otlp is not None:
        from powersample.export.otel import sender

        sending = sender(watch.state, options.otlp or None, every_s=options.every)
        stack.callback(sending.shutdown, timeout_millis=END_S * 1e3)
    _wait(options, watch, lambda: openmetrics.exposition(registry)[0])


def _account(options: argparse.Namespace, stack: ExitStack) -> AccountFile | None:
    from powersample.store.accounts import AccountFile, account_file

    if options.state == NONE or (options.state is None and options.simulate is not None):
        return None
    path = Path(options.state) if options.state else account_file()
    if path is None:
        _note("counters begin at 0 at each start: set HOME or STATE_DIRECTORY, or name a file by --state")
        return None
    account = AccountFile(path, options.simulate)
    stack.callback(account.close)
    for note in account.notes:
        _note(note)
    return account


def _node(options: argparse.Namespace, stack: ExitStack) -> Node | None:
    if options.simulate is None:
        return None
    from powersample.session.simulate import apply_load, make_node

    node = stack.enter_context(make_node(options.simulate))
    apply_load(node, options.load or "idle", 0)
    return node


def _wait(options: argparse.Namespace, watch: Watch, text: Any) -> None:
    """Wait for the end, and write the textfile meanwhile; one that cannot be written is told once and tried again."""
    import time

    from powersample.store.accounts import write_whole

    over_s = math.inf if options.duration is None else time.monotonic() + options.duration
    told = False
    while True:
        if options.textfile is not None:
            try:
                write_whole(options.textfile, text(), sync=False)
                told = False
            except OSError as error:
                if not told:
                    _note(f"{options.textfile} cannot be written: {error.strerror}; it is tried again")
                told = True
        left_s = over_s - time.monotonic()
        if left_s <= 0:
            return
        time.sleep(min(left_s, options.every))


def _note(text: str) -> None:
    print(f"powersample: {text}", file=sys.stderr, flush=True)
