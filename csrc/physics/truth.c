/* SPDX-License-Identifier: Apache-2.0
 *
 * The truth: an append-only file of immutable segments in a shared mapping.
 *
 * One writer, any number of readers in any process. A segment is complete before the index that makes it
 * visible is raised and never changes afterwards, so readers neither lock nor retry, and a writer that dies in
 * the middle of an append leaves no trace of it. Everything is an integer: energies add up bit for bit, E(a,b)
 * + E(b,c) == E(a,c).
 *
 * The mapping is reserved whole and the file grows below it in steps, by posix_fallocate: ftruncate would
 * promise memory that a full tmpfs does not have, and the first touch would be SIGBUS.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/errno_status.h"
#include "physics/truth.h"
#include "powersample.h"

#define TRUTH_MAGIC "PSTRUTH1"

enum { HEADER_BYTES = 4096, STEP_BYTES = 1 << 20 };

static const uint64_t DEFAULT_CAPACITY = 1u << 24; /* 1 GiB, sparse */

typedef struct header {
    char magic[8];
    uint32_t segment_bytes;
    uint32_t reserved;
    uint64_t capacity;
    _Alignas(64) _Atomic uint64_t n; /* its own line: readers poll it */
    _Alignas(64) _Atomic uint64_t late;
    _Atomic int64_t late_max_ns;
    _Atomic int32_t full;
} header;

_Static_assert(sizeof(ps_segment) == 64, "a segment is one cache line");
_Static_assert(sizeof(header) <= HEADER_BYTES, "the header fits its page");

struct ps_truth {
    header *shared;
    ps_segment *segment;
    size_t mapped;   /* bytes reserved */
    size_t backed;   /* writer: bytes of the file that have memory */
    int fd;          /* writer: holds the lock; -1 for readers */
};

static ps_i128 prefix(const ps_segment *s)
{
    return (ps_i128)s->e_hi * ((ps_i128)1 << 64) + (ps_i128)s->e_lo;
}

/* Energy of one segment over its first dt >= 0 nanoseconds. */
static ps_i128 segment_energy(const ps_segment *s, int64_t dt)
{
    if (s->period_ns == 0)
        return (ps_i128)s->p1_mw * dt;
    int64_t cycles = dt / s->period_ns;
    int64_t rest = dt % s->period_ns;
    ps_i128 first = (ps_i128)s->p1_mw * s->on_ns;
    ps_i128 cycle = first + (ps_i128)s->p2_mw * (s->period_ns - s->on_ns);
    ps_i128 part = rest <= s->on_ns ? (ps_i128)s->p1_mw * rest : first + (ps_i128)s->p2_mw * (rest - s->on_ns);
    return cycle * cycles + part;
}

ps_view ps_truth_view(const ps_truth *truth)
{
    /* acquire: partner is the release store in ps_truth_append (and ps_truth_create); it publishes every
     * segment below n. Without it a weakly ordered CPU may show the new index and the bytes that were there
     * before the segment. */
    return (ps_view){truth->segment, atomic_load_explicit(&truth->shared->n, memory_order_acquire)};
}

uint64_t ps_view_find(const ps_view *view, int64_t t_ns)
{
    /* From the end in doubling steps: nearly every question is about the last second. */
    uint64_t high = view->n; /* the first segment known to begin after t_ns */
    uint64_t step = 1;
    uint64_t low = high - 1;
    while (low > 0 && view->segment[low].t0_ns > t_ns) {
        high = low;
        low = low > step ? low - step : 0;
        step *= 2;
    }
    while (high - low > 1) {
        uint64_t middle = low + (high - low) / 2;
        if (view->segment[middle].t0_ns <= t_ns)
            low = middle;
        else
            high = middle;
    }
    return low;
}

ps_i128 ps_view_energy(const ps_view *view, int64_t t_ns)
{
    const ps_segment *s = &view->segment[ps_view_find(view, t_ns)];
    if (t_ns < s->t0_ns)
        return -(ps_i128)s->p1_mw * ((ps_i128)s->t0_ns - t_ns);
    return prefix(s) + segment_energy(s, t_ns - s->t0_ns);
}

int32_t ps_view_power(const ps_view *view, int64_t t_ns)
{
    const ps_segment *s = &view->segment[ps_view_find(view, t_ns)];
    if (s->period_ns == 0 || t_ns < s->t0_ns)
        return s->p1_mw;
    return (t_ns - s->t0_ns) % s->period_ns < s->on_ns ? s->p1_mw : s->p2_mw;
}

/* Gives memory to the file up to `bytes`. PS_E_FULL when there is none. */
static int back(ps_truth *truth, size_t bytes)
{
    while (truth->backed < bytes) {
        size_t step = STEP_BYTES < truth->mapped - truth->backed ? STEP_BYTES : truth->mapped - truth->backed;
        int error;
        do
            error = posix_fallocate(truth->fd, (off_t)truth->backed, (off_t)step);
        while (error == EINTR);
        if (error)
            return ps_errno_status(error);
        truth->backed += step;
    }
    return PS_OK;
}

static int map(ps_truth *truth, int fd, uint64_t capacity, int protection)
{
    truth->mapped = HEADER_BYTES + (size_t)capacity * sizeof(ps_segment);
    void *base = mmap(NULL, truth->mapped, protection, MAP_SHARED | MAP_NORESERVE, fd, 0);
    if (base == MAP_FAILED)
        return ps_errno_status(errno);
    truth->shared = base;
    truth->segment = (ps_segment *)(void *)((char *)base + HEADER_BYTES);
    return PS_OK;
}

int ps_truth_create(const char *path, uint64_t capacity, int64_t t0_ns, int32_t p_mw, ps_truth **out)
{
    if (capacity == 0)
        capacity = DEFAULT_CAPACITY;
    if (!path || !out || p_mw < 0 || capacity > UINT64_C(1) << 32)
        return PS_E_INVALID;
    ps_truth *truth = calloc(1, sizeof *truth);
    if (!truth)
        return PS_E_NOMEM;
    int status = PS_OK;
    struct stat file;
    truth->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (truth->fd < 0 || fstat(truth->fd, &file) != 0) {
        status = ps_errno_status(errno);
        goto out;
    }
    /* A timeline that exists is never begun anew: what was read from it must stay true. */
    if (flock(truth->fd, LOCK_EX | LOCK_NB) != 0 || file.st_size != 0) {
        status = PS_E_STATE;
        goto out;
    }
    status = map(truth, truth->fd, capacity, PROT_READ | PROT_WRITE);
    if (status == PS_OK)
        status = back(truth, HEADER_BYTES + sizeof(ps_segment));
    if (status != PS_OK)
        goto out;
    truth->segment[0] = (ps_segment){.t0_ns = t0_ns, .p1_mw = p_mw, .p2_mw = p_mw};
    truth->shared->segment_bytes = sizeof(ps_segment);
    truth->shared->capacity = capacity;
    memcpy(truth->shared->magic, TRUTH_MAGIC, sizeof truth->shared->magic);
    /* release: partner is the acquire in ps_truth_open and ps_truth_view; it publishes the header and segment
     * 0. Without it a reader that opens meanwhile could pass the check of n and still see an empty header. */
    atomic_store_explicit(&truth->shared->n, 1, memory_order_release);
    *out = truth;
    truth = NULL;
out:
    ps_truth_close(truth);
    return status;
}

int ps_truth_open(const char *path, ps_truth **out)
{
    if (!path || !out)
        return PS_E_INVALID;
    ps_truth *truth = calloc(1, sizeof *truth);
    if (!truth)
        return PS_E_NOMEM;
    truth->fd = -1;
    int status = PS_OK;
    header *head = MAP_FAILED;
    struct stat file;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &file) != 0) {
        status = ps_errno_status(errno);
        goto out;
    }
    status = PS_E_FORMAT;
    if (file.st_size < HEADER_BYTES + (off_t)sizeof(ps_segment))
        goto out;
    head = mmap(NULL, HEADER_BYTES, PROT_READ, MAP_SHARED, fd, 0);
    if (head == MAP_FAILED) {
        status = ps_errno_status(errno);
        goto out;
    }
    /* acquire: see ps_truth_create. */
    uint64_t n = atomic_load_explicit(&head->n, memory_order_acquire);
    if (n == 0 || memcmp(head->magic, TRUTH_MAGIC, sizeof head->magic) != 0 || n > head->capacity ||
        head->segment_bytes != sizeof(ps_segment) || head->capacity > UINT64_C(1) << 32)
        goto out;
    if (fstat(fd, &file) != 0 || (uint64_t)file.st_size < HEADER_BYTES + n * sizeof(ps_segment))
        goto out; /* cut short: touching what is missing would be SIGBUS */
    status = map(truth, fd, head->capacity, PROT_READ);
    if (status != PS_OK)
        goto out;
    *out = truth;
    truth = NULL;
out:
    if (head != MAP_FAILED)
        munmap(head, HEADER_BYTES);
    if (fd >= 0)
        close(fd);
    ps_truth_close(truth);
    return status;
}

void ps_truth_close(ps_truth *truth)
{
    if (!truth)
        return;
    if (truth->shared)
        munmap(truth->shared, truth->mapped);
    if (truth->fd >= 0)
        close(truth->fd); /* lets the lock go */
    free(truth);
}

int ps_truth_append(ps_truth *truth, int64_t t0_ns, int32_t p1_mw, int32_t p2_mw, int64_t period_ns, int64_t on_ns,
                    int32_t live)
{
    if (!truth || p1_mw < 0 || period_ns < 0 ||
        (period_ns > 0 && (p2_mw < 0 || on_ns <= 0 || on_ns >= period_ns)))
        return PS_E_INVALID;
    if (truth->fd < 0)
        return PS_E_STATE;
    header *head = truth->shared;
    uint64_t n = atomic_load_explicit(&head->n, memory_order_relaxed); /* relaxed: the writer's own index */
    const ps_segment *last = &truth->segment[n - 1];
    if (t0_ns <= last->t0_ns)
        return PS_E_INVALID;
    if (period_ns == 0 && last->period_ns == 0 && last->p1_mw == p1_mw)
        return PS_OK;
    bool full = n == head->capacity || atomic_load_explicit(&head->full, memory_order_relaxed); /* relaxed: own */
    if (full || back(truth, HEADER_BYTES + (n + 1) * sizeof(ps_segment)) != PS_OK) {
        /* relaxed: a flag for the report; nothing is read on the strength of it. */
        atomic_store_explicit(&head->full, 1, memory_order_relaxed);
        return PS_E_FULL;
    }
    ps_i128 energy = prefix(last) + segment_energy(last, t0_ns - last->t0_ns);
    truth->segment[n] = (ps_segment){
        .t0_ns = t0_ns,
        .e_lo = (uint64_t)energy,
        .e_hi = (int64_t)(energy >> 64),
        .p1_mw = p1_mw,
        .p2_mw = period_ns ? p2_mw : p1_mw,
        .period_ns = period_ns,
        .on_ns = period_ns ? on_ns : 0,
    };
    /* release: partner is the acquire in ps_truth_view; it publishes segment n. Without it a reader on a weakly
     * ordered CPU may see the index before the segment. */
    atomic_store_explicit(&head->n, n + 1, memory_order_release);
    if (live) {
        int64_t behind = ps_clock_monotonic_ns() - t0_ns;
        if (behind > 0) {
            /* relaxed: counts for the report, written by this thread only. */
            atomic_fetch_add_explicit(&head->late, 1, memory_order_relaxed);
            if (behind > atomic_load_explicit(&head->late_max_ns, memory_order_relaxed))
                atomic_store_explicit(&head->late_max_ns, behind, memory_order_relaxed);
        }
    }
    return PS_OK;
}

int ps_truth_state_get(const ps_truth *truth, ps_truth_state *out)
{
    if (!truth || !out)
        return PS_E_INVALID;
    ps_view view = ps_truth_view(truth);
    const ps_segment *last = &view.segment[view.n - 1];
    *out = (ps_truth_state){
        .segments = view.n,
        /* relaxed: counts for the report; they order nothing. */
        .late = atomic_load_explicit(&truth->shared->late, memory_order_relaxed),
        .late_max_ns = atomic_load_explicit(&truth->shared->late_max_ns, memory_order_relaxed),
        .last_t0_ns = last->t0_ns,
        .last_p_mw = last->p1_mw,
        .full = atomic_load_explicit(&truth->shared->full, memory_order_relaxed),
    };
    return PS_OK;
}
