/* SPDX-License-Identifier: Apache-2.0
 *
 * The spool's inside: spool.c controls it, spool_thread.c is its thread.
 */
#ifndef PS_SPOOL_H
#define PS_SPOOL_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "core/json.h"
#include "core/keep.h"
#include "core/sampler.h"
#include "core/spool_file.h"

enum { PS_SPOOL_BATCH_RECORDS = 1 << 14 };

#define PS_SPOOL_NEWEST_NS INT64_C(500000000) /* spacing of rows of a value that does not change: what a kill may cost */
#define PS_SPOOL_LANES_NS INT64_C(600000000000) /* spacing of the lanes' statistics, unless a part closes before */

struct ps_spool {
    ps_sampler *sampler;
    ps_spool_options options;
    char *directory; /* for messages */
    char boot_id[40];
    pid_t pid;       /* of the process that has the thread; 0 before start */
    bool stopped;
    pthread_t thread;
    int wake_fd;     /* eventfd: cuts the thread's pause short */

    /* Between the thread and its controller. */
    _Atomic bool stop;
    _Atomic uint64_t sync_asked, sync_done;
    /* Figures: written by the thread, relaxed, each read for itself; final once the thread has been joined. */
    _Atomic uint64_t records, bytes, omitted, discarded;
    _Atomic uint32_t parts;
    _Atomic int32_t status, sys_errno;

    /* The thread's own; the starter's before there is one. */
    ps_part part;
    int events_fd;
    ps_text text;
    ps_sample *batch;
    ps_keep *keep; /* NULL: everything is kept */
    ps_kept *kept; /* rows of a batch, or of every channel */
    int64_t drain_ns; /* when the last drain began */
    int64_t sync_due_ns, newest_due_ns, anchor_due_ns, lanes_due_ns;
};

static inline int32_t ps_spool_status(const ps_spool *spool)
{
    /* relaxed: a figure; where it must follow a drain, sync_done has ordered it. */
    return atomic_load_explicit(&spool->status, memory_order_relaxed);
}

/* The thread. */
void *ps_spool_run(void *spool);

/* Also made at start, before there is a thread. 0 or an errno. */
int ps_spool_open_part(ps_spool *spool);
int ps_spool_append_anchor(ps_spool *spool);

/* PS_E_FULL or PS_E_SYSTEM. */
int ps_spool_failure_status(int failure);

#endif
