/* SPDX-License-Identifier: Apache-2.0
 *
 * One source, one thread, one ring. A lane knows its grid and its source; rates are decided by whoever starts
 * it.
 */
#ifndef PS_LANE_H
#define PS_LANE_H

#include <pthread.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "core/ring.h"
#include "core/source.h"
#include "core/tracker.h"

enum { PS_LANE_BINS = 64 }; /* a bin for each bit: nothing to clamp while sampling; readers fold the last ones */

/* Written by the lane's thread only, read by anyone while it runs. All relaxed unless said otherwise: each
 * figure is read for itself, and those who need several to agree (the identities in powersample.h) read them
 * after the thread has ended, which the acquire of `ended` orders. */
typedef struct ps_lane_counters {
    _Atomic uint64_t passes, skipped, records, reopens; /* slots are their sum: passes and skipped */
    _Atomic int64_t start_ns, last_ns, lead_ns, cpu_ns;
    _Atomic int32_t cpu, cpu_errno;
    _Atomic int32_t fifo_priority, fifo_refusal, fifo_errno;
    _Atomic int32_t unfollowed;
    _Atomic uint64_t updates, acquisitions;
    _Atomic int64_t followed_period_ns[PS_FOLLOWED_MAX];
    _Atomic uint32_t n_errors; /* release: publishes error_code[] below it */
    _Atomic uint32_t error_code[PS_ERROR_CODES];
    _Atomic uint64_t error_count[PS_ERROR_CODES];
    _Atomic uint64_t error_other;
    _Atomic uint64_t call_hist[PS_LANE_BINS];
    _Atomic uint64_t wake_hist[PS_LANE_BINS];
} ps_lane_counters;

/* A channel whose sensor's updates are looked for. */
typedef struct ps_followed {
    uint32_t channel; /* within the source */
    ps_tracker tracker;
} ps_followed;

typedef struct ps_lane {
    /* Constant while the thread runs. */
    ps_source *source;
    ps_ring *ring;
    ps_lane_options options;
    uint16_t first_channel; /* id of the source's channel 0 */
    pthread_t thread;
    bool created; /* the thread exists and is neither joined nor detached */
    ps_followed *followed; /* of its source's channels those that can be; the trackers are the thread's own */
    uint32_t n_followed;

    /* The plan: written by the controller before `planned`, constant from then on; so are the divisors of the
     * source's groups. */
    int64_t grid_ns; /* slot 0, unless the thread comes to it too late */
    int32_t mode;      /* what it runs as: following may be refused */
    int64_t period_ns; /* of the grid; following: the spacing of polls around an update */
    int64_t idle_ns;   /* following: the spacing of polls without an update to look for */
    double share;      /* of its time that calls may take */
    double rate_hz;
    double call_cost_ns;
    int32_t rate_origin;

    /* Written by the thread before `timed`. */
    double *costs_ns; /* what each group's call takes */

    /* Between the thread and who controls it. */
    alignas(PS_CACHE_LINE) _Atomic int64_t stop_ns; /* 0, or when stopping was asked */
    _Atomic bool turn;    /* it may time its calls */
    _Atomic bool timed;   /* costs_ns are set */
    _Atomic bool planned; /* the plan is set */
    _Atomic bool started; /* start_ns is set */
    _Atomic bool ended; /* the thread's last access to this struct */
    _Atomic bool hung;  /* left behind by its controller */

    /* The thread's own. */
    alignas(PS_CACHE_LINE) int64_t now_ns; /* start of the next call */
    int64_t cpu_due_ns, house_due_ns;
    int64_t duty_from_ns, duty_cpu_ns;   /* of the last look at the CPU time */
    int64_t watch_from_ns, busy_ns;      /* following: time in calls since */
    bool failed; /* a reading of this pass had a status */
    ps_reading readings[PS_GROUP_MAX]; /* of the call under way */
    ps_lane_counters counters;
} ps_lane;

/* Owns `source` on success. */
int ps_lane_new(ps_source *source, const ps_lane_options *options, uint16_t first_channel, ps_lane **out);
void ps_lane_free(ps_lane *lane);
/* As ps_lane_free, but leaves the source alone: in a forked child its library may hold the lock of a thread
 * that does not exist there. */
void ps_lane_abandon(ps_lane *lane);

/* Starts the thread, which waits for its turn, times the source's calls and then waits for its plan. PS_E_SYSTEM leaves errno in
 * *system_errno. */
int ps_lane_start(ps_lane *lane, int *system_errno);
void ps_lane_give_turn(ps_lane *lane);
bool ps_lane_timed(const ps_lane *lane);  /* costs_ns may be read */
void ps_lane_set_planned(ps_lane *lane);  /* the plan is complete: go */
bool ps_lane_started(const ps_lane *lane); /* it has its grid and goes */
void ps_lane_ask_stop(ps_lane *lane, int64_t now_ns);
bool ps_lane_ended(const ps_lane *lane);
/* The thread must have ended. */
void ps_lane_join(ps_lane *lane);
/* Gives up on a thread that is still inside a device call. */
void ps_lane_leave_behind(ps_lane *lane);
void ps_lane_stats_get(const ps_lane *lane, ps_lane_stats *out);

#endif
