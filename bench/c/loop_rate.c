/* SPDX-License-Identifier: Apache-2.0
 *
 * loop_rate CALL_NS CALLS PAIRS: bare calls of a source against the shipped tight lane over the same source, in turns on
 * one CPU each. Prints a line a pair: ns a bare call, ns a sample.
 */
#include "bench.h"
#include "core/source.h"

/* Busy for CALL_NS by the clock (0: not at all), then a constant. */
static ps_source *busy_source(int64_t call_ns)
{
    ps_script script = {.channels = 1, .kind = PS_KIND_POWER, .scale = 1e-3, .max_hz = 1000};
    ps_script_step step = {.raw = 100000, .stall_ns = call_ns};
    ps_source *source;
    ps_error error = {0};
    need_ok(ps_source_scripted_new("busy", &script, &step, 1, &source, &error), &error);
    return source;
}

static double bare_ns(int64_t call_ns, uint64_t calls)
{
    ps_source *source = busy_source(call_ns);
    ps_reading readings[PS_GROUP_MAX];
    int64_t sum = 0;
    int64_t begin_ns = ps_clock_now_ns();
    for (uint64_t call = 0; call < calls; call++) {
        (void)source->ops->read(source, 0, call, readings);
        sum += readings[0].raw;
    }
    int64_t end_ns = ps_clock_now_ns();
    NEED(sum == (int64_t)calls * 100000);
    ps_source_free(source);
    return (double)(end_ns - begin_ns) / (double)calls;
}

static double lane_ns(int64_t call_ns, uint64_t calls)
{
    uint32_t ring_records = 1 << 17; /* as shipped */
    NEED(calls <= ring_records);
    ps_lane_stats stats = bench_tight(busy_source(call_ns), calls, ring_records);
    NEED(stats.dropped == 0);
    return (double)(stats.last_ns - stats.start_ns) / (double)calls;
}

int main(int argc, char **argv)
{
    NEED(argc == 4);
    int64_t call_ns = strcmp(argv[1], "0") == 0 ? 0 : (int64_t)bench_count(argv[1]);
    uint64_t calls = bench_count(argv[2]), pairs = bench_count(argv[3]);
    for (uint64_t pair = 0; pair < pairs; pair++) {
        double bare = bare_ns(call_ns, calls);
        double lane = lane_ns(call_ns, calls);
        printf("%.3f %.3f\n", bare, lane);
    }
    return 0;
}
