/* SPDX-License-Identifier: Apache-2.0
 *
 * How long a call takes and what goes wrong with it, as the node file says at that moment: another process
 * may change both while we run. Random latencies are hashes of (function, number of the call), so a run can
 * be repeated.
 */
#include <math.h>
#include <stdatomic.h>

#include "core/clock.h"
#include "nvmlsim/sim.h"

enum { SPIN_NS = 200000, SLEEP_SLACK_NS = 100000, HANG_STEP_NS = 5000000 };

static _Atomic uint64_t calls_made[PS_NODE_FUNCTIONS];
static _Atomic uint64_t fault_matches[PS_NODE_MAX_FAULTS];

static double uniform(uint64_t x) /* (0, 1], by splitmix64 */
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    x ^= x >> 31;
    return (double)((x >> 11) + 1) * 0x1p-53;
}

static double latency_ns(const ps_latency *latency, int32_t kind, uint64_t seed, uint64_t call)
{
    uint64_t key = seed ^ call << 8;
    switch (kind) {
    case PS_LATENCY_FIXED:
        return latency->median_ns;
    case PS_LATENCY_LOGNORMAL: {
        double normal = sqrt(-2.0 * log(uniform(key))) * cos(6.283185307179586 * uniform(key + 1));
        return latency->median_ns * exp(latency->sigma * normal);
    }
    case PS_LATENCY_LONG_TAIL:
        return uniform(key) <= latency->tail_share ? latency->tail_ns : latency->median_ns;
    default:
        return 0.0;
    }
}

/* acquire; pairs with the release in ps_node_set_latency: without it a kind may meet another's figures. */
static int32_t kind_of(const ps_latency *latency)
{
    return __atomic_load_n(&latency->kind, __ATOMIC_ACQUIRE);
}

void sim_delay(const ps_node *node, int32_t function)
{
    const ps_latency *latency = &node->latency[function];
    int32_t kind = kind_of(latency);
    if (kind == PS_LATENCY_NONE) {
        latency = &node->latency[PS_FN_ANY];
        kind = kind_of(latency);
    }
    if (kind == PS_LATENCY_NONE)
        return;
    int64_t start_ns = ps_clock_monotonic_ns();
    /* relaxed: only the count itself matters. */
    uint64_t call = atomic_fetch_add_explicit(&calls_made[function], 1, memory_order_relaxed);
    double wait_ns = latency_ns(latency, kind, node->gpu[0].sensor[0].seed + (uint64_t)function, call);
    int64_t deadline_ns = start_ns + (int64_t)fmin(wait_ns, 1e12);
    if (wait_ns >= SPIN_NS)
        ps_clock_sleep_until(deadline_ns - SLEEP_SLACK_NS);
    while (ps_clock_monotonic_ns() < deadline_ns) {
    }
}

/* Blocks until hang_ns have passed or somebody clears the fault. */
static void hang(const ps_fault *fault)
{
    int64_t deadline_ns = ps_clock_monotonic_ns() + fault->hang_ns;
    for (int64_t now = ps_clock_monotonic_ns(); now < deadline_ns; now = ps_clock_monotonic_ns()) {
        int64_t left_ns = deadline_ns - now;
        ps_clock_sleep_until(now + (left_ns < HANG_STEP_NS ? left_ns : HANG_STEP_NS));
        if (!__atomic_load_n(&fault->active, __ATOMIC_RELAXED)) /* relaxed: seen late is soon enough */
            return;
    }
}

static bool in_time(const ps_fault *fault)
{
    if (!fault->from_ns && !fault->to_ns)
        return true;
    int64_t now = ps_clock_monotonic_ns();
    return now >= fault->from_ns && (!fault->to_ns || now < fault->to_ns);
}

uint32_t sim_faults(const ps_node *node)
{
    uint32_t active = 0;
    for (uint32_t i = 0; i < PS_NODE_MAX_FAULTS; i++)
        /* acquire; pairs with ps_node_set_fault's last store: without it a half-written fault acts. */
        active |= (uint32_t)(__atomic_load_n(&node->fault[i].active, __ATOMIC_ACQUIRE) != 0) << i;
    return active;
}

nv_return sim_fault(const ps_node *node, uint32_t active, int32_t function, int32_t gpu, int32_t field)
{
    for (; active; active &= active - 1) {
        int i = __builtin_ctz(active);
        const ps_fault *fault = &node->fault[i];
        if (fault->function != PS_FN_ANY && fault->function != function)
            continue;
        if (fault->field != field || (fault->gpu >= 0 && fault->gpu != gpu) || !in_time(fault))
            continue;
        /* relaxed: only the count itself matters. */
        uint64_t match = atomic_fetch_add_explicit(&fault_matches[i], 1, memory_order_relaxed) + 1;
        if (fault->every > 1 && match % fault->every)
            continue;
        if (fault->hang_ns > 0)
            hang(fault);
        if (fault->code)
            return fault->code;
    }
    return NV_OK;
}
