/* SPDX-License-Identifier: Apache-2.0
 *
 * The thread that moves the simulated node's files. Every change of theirs, by the thread or by whoever injects a fault,
 * happens under one lock: at a thousand instants a second nobody waits long for it.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "core/clock.h"
#include "core/errno_status.h"
#include "core/source.h"
#include "node/file_slot.h"
#include "powersample.h"

static const int64_t MIN_PERIOD_NS = 100000;
static const int64_t MAX_PERIOD_NS = INT64_C(1000000000);

struct ps_files {
    pthread_t thread;
    pthread_mutex_t lock; /* of all below */
    atomic_bool stop;
    int64_t period_ns, begin_ns;
    uint32_t n;
    file_slot *slot;
    ps_files_stats stats;
};

/* ---- the thread ---------------------------------------------------------------------- */

static int64_t newest_grid(const ps_files *f)
{
    int64_t now = ps_clock_monotonic_ns();
    return now - now % f->period_ns;
}

static void tick(ps_files *f, int64_t due_ns, int64_t *grid_ns)
{
    pthread_mutex_lock(&f->lock);
    *grid_ns = newest_grid(f);
    for (uint32_t i = 0; i < f->n; i++) {
        int error = f->slot[i].state == PS_FILE_MOVING ? file_slot_show(&f->slot[i], *grid_ns) : 0;
        if (error) {
            f->stats.failures++;
            f->stats.sys_errno = error;
        }
    }
    f->stats.ticks++;
    f->stats.skipped += (uint64_t)((*grid_ns - due_ns) / f->period_ns);
    int64_t late = ps_clock_monotonic_ns() - due_ns;
    if (late > f->stats.late_max_ns)
        f->stats.late_max_ns = late;
    pthread_mutex_unlock(&f->lock);
}

static void *run(void *argument)
{
    ps_files *f = argument;
    prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
    int64_t grid = f->begin_ns;
    /* relaxed: the flag carries no data; what the stopper wants to see is ordered by pthread_join. */
    while (!atomic_load_explicit(&f->stop, memory_order_relaxed)) {
        int64_t due = grid + f->period_ns;
        ps_clock_sleep_until(due);
        tick(f, due, &grid);
    }
    return NULL;
}

/* ---- making ---------------------------------------------------------------------- */

/* The slot that made the register file of slot i: itself for all others. */
static uint32_t first_of(const ps_files *f, uint32_t i)
{
    uint32_t first = i;
    for (uint32_t j = 0; f->slot[i].is.kind == PS_FILE_REGISTER && j < i && first == i; j++)
        if (f->slot[j].is.kind == PS_FILE_REGISTER && strcmp(f->slot[j].is.path, f->slot[i].is.path) == 0)
            first = j;
    return first;
}

static int make(ps_files *f, uint32_t i, ps_error *error)
{
    uint32_t first = first_of(f, i);
    int code = file_slot_make(&f->slot[i], first == i ? NULL : &f->slot[first], newest_grid(f));
    if (!code)
        return PS_OK;
    int status = ps_errno_status(code);
    return ps_fail(error, status, code, "open", "%s: %s", f->slot[i].is.path, strerror(code));
}

static int prepare(file_slot *slot, const ps_file *file, const ps_truth *const *truths, uint32_t n_truths)
{
    slot->fd = -1;
    if (!file_slot_valid(file, n_truths))
        return PS_E_INVALID;
    slot->is = *file;
    for (uint32_t i = 0; i < n_truths; i++)
        if (file->truths >> i & 1)
            slot->truth[slot->n_truths++] = truths[i];
    if (file->kind != PS_FILE_GAUGE)
        return PS_OK;
    slot->memo = calloc(slot->n_truths, sizeof *slot->memo);
    return slot->memo ? PS_OK : PS_E_NOMEM;
}

static void release(ps_files *f)
{
    for (uint32_t i = 0; f->slot && i < f->n; i++) {
        file_slot_drop(&f->slot[i], false);
        free(f->slot[i].memo);
    }
    free(f->slot);
    pthread_mutex_destroy(&f->lock);
    free(f);
}

int ps_files_start(const ps_file *files, uint32_t n_files, const ps_truth *const *truths, uint32_t n_truths,
                   int64_t period_ns, ps_files **out, ps_error *error)
{
    if (!files || !n_files || !truths || !n_truths || n_truths > PS_FILE_TRUTHS || !out || period_ns < MIN_PERIOD_NS ||
        period_ns > MAX_PERIOD_NS)
        return ps_fail(error, PS_E_INVALID, 0, "ps_files_start", "%u files, every %lld ns", n_files,
                       (long long)period_ns);
    ps_files *f = calloc(1, sizeof *f);
    if (!f)
        return ps_fail(error, PS_E_NOMEM, 0, "malloc", "%u files", n_files);
    pthread_mutex_init(&f->lock, NULL);
    f->period_ns = period_ns;
    f->slot = calloc(n_files, sizeof *f->slot);
    int status = f->slot ? PS_OK : ps_fail(error, PS_E_NOMEM, 0, "malloc", "%u files", n_files);
    for (uint32_t i = 0; status == PS_OK && i < n_files; i++, f->n++) {
        status = prepare(&f->slot[i], &files[i], truths, n_truths);
        if (status != PS_OK)
            (void)ps_fail(error, status, 0, "ps_files_start", "file %u", i);
        else
            status = make(f, i, error);
    }
    if (status != PS_OK)
        goto out;
    f->begin_ns = newest_grid(f);
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* the thread inherits it: signals stay the program's */
    int code = pthread_create(&f->thread, NULL, run, f);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (code) {
        status = ps_fail(error, code == EAGAIN ? PS_E_NOMEM : PS_E_SYSTEM, code, "pthread_create", "%s", strerror(code));
        goto out;
    }
    *out = f;
    return PS_OK;
out:
    release(f);
    return status;
}

/* ---- while it runs ---------------------------------------------------------------------- */

static bool same_file(const ps_files *f, uint32_t i, uint32_t j)
{
    return i == j || (f->slot[i].is.kind == PS_FILE_REGISTER && first_of(f, i) == first_of(f, j));
}

static void take_away(ps_files *f, uint32_t index)
{
    for (uint32_t i = f->n; i-- > 0;) { /* the first word holds the descriptor and goes last */
        if (!same_file(f, index, i))
            continue;
        file_slot_drop(&f->slot[i], true);
        f->slot[i].state = PS_FILE_GONE;
    }
}

static int bring_back(ps_files *f, uint32_t index, ps_error *error)
{
    int status = PS_OK;
    for (uint32_t i = 0; i < f->n && status == PS_OK; i++) {
        if (!same_file(f, index, i))
            continue;
        status = make(f, i, error);
        if (status == PS_OK)
            f->slot[i].state = PS_FILE_MOVING;
    }
    if (status != PS_OK)
        take_away(f, index);
    return status;
}

int ps_files_set(ps_files *f, uint32_t index, int32_t state, const char *text, ps_error *error)
{
    if (!f || index >= f->n || state < PS_FILE_MOVING || state > PS_FILE_GONE ||
        (state == PS_FILE_GARBAGE && (!text || f->slot[index].is.kind == PS_FILE_REGISTER)))
        return ps_fail(error, PS_E_INVALID, 0, "ps_files_set", "file %u, state %d", index, state);
    int status = PS_OK, code = 0;
    pthread_mutex_lock(&f->lock);
    file_slot *slot = &f->slot[index];
    if (state == PS_FILE_GONE) {
        take_away(f, index);
    } else if (slot->state == PS_FILE_GONE) {
        status = state == PS_FILE_MOVING ? bring_back(f, index, error)
                                         : ps_fail(error, PS_E_STATE, 0, "ps_files_set", "%s is gone", slot->is.path);
    } else {
        if (state == PS_FILE_GARBAGE)
            code = file_slot_text(slot, text);
        slot->shown = false;
        if (state == PS_FILE_MOVING)
            code = file_slot_show(slot, newest_grid(f));
        if (!code)
            slot->state = state;
    }
    pthread_mutex_unlock(&f->lock);
    if (code)
        status = ps_fail(error, code == ERANGE ? PS_E_INVALID : ps_errno_status(code), code, "pwrite", "%s: %s",
                         slot->is.path, strerror(code));
    return status;
}

int ps_files_restart(ps_files *f, uint32_t index, uint64_t counts)
{
    if (!f || index >= f->n || f->slot[index].is.kind == PS_FILE_GAUGE ||
        (f->slot[index].is.modulus && counts >= f->slot[index].is.modulus))
        return PS_E_INVALID;
    pthread_mutex_lock(&f->lock);
    f->slot[index].is.start_ns = ps_clock_monotonic_ns();
    f->slot[index].is.start_counts = counts;
    pthread_mutex_unlock(&f->lock);
    return PS_OK;
}

int ps_files_stats_get(ps_files *f, ps_files_stats *out)
{
    if (!f || !out)
        return PS_E_INVALID;
    pthread_mutex_lock(&f->lock);
    *out = f->stats;
    pthread_mutex_unlock(&f->lock);
    return PS_OK;
}

int ps_files_stop(ps_files *f, ps_files_stats *stats)
{
    if (!f)
        return PS_E_INVALID;
    /* relaxed: see run(). */
    atomic_store_explicit(&f->stop, true, memory_order_relaxed);
    pthread_join(f->thread, NULL);
    if (stats)
        *stats = f->stats;
    release(f);
    return PS_OK;
}
