/* SPDX-License-Identifier: Apache-2.0
 *
 * Where a sensor's next update is to be looked for: polls go in, the instant of the next poll comes out. No clock and no
 * device in here, so that the same code runs in a lane and in a test's own time.
 *
 * An update lies between the last poll that saw the old value and the first that saw the new one: its bracket. Polls a
 * spacing apart are needed only around the instant at which the next update is due, some four or five of them, where a grid
 * takes a hundred.
 */
#ifndef PS_TRACKER_H
#define PS_TRACKER_H

#include <stdbool.h>
#include <stdint.h>

#include "core/period.h"

enum { PS_TRACKER_POINTS = 128 };

enum ps_tracker_phase {
    PS_TRACK_ACQUIRE, /* polls on a grid until the changes show a period */
    PS_TRACK_ANCHOR,  /* one poll well before the window: if the next wake-up comes late, the bracket starts here */
    PS_TRACK_WINDOW,  /* a spacing apart, around the expected update */
    PS_TRACK_CHECK,   /* nothing came: one more poll tells a late update from none */
    PS_TRACK_SCAN     /* a whole period of polls, after many windows without a change */
};

typedef struct ps_tracker_point {
    int64_t k;          /* number of the update */
    int64_t middle_ns;  /* of its bracket */
    double off_grid_ns; /* how far it came after what either way of predicting said */
    double off_step_ns;
} ps_tracker_point;

typedef struct ps_tracker {
    int64_t spacing_ns; /* of polls in a window: updates are known to half of it */
    int64_t idle_ns;    /* of polls while there is nothing to lock on to, after a burst of 1 ms */
    uint64_t random;

    int64_t next_ns; /* when the next poll is wanted */
    enum ps_tracker_phase phase;

    bool known; /* there has been a good poll */
    int64_t raw, seen_ns;

    /* Acquisition. */
    ps_changes changes;
    int64_t burst_until_ns, burst_again_ns;

    /* What has been learnt. */
    double period_ns;                            /* 0 before the first acquisition; kept while acquiring again */
    ps_tracker_point point[PS_TRACKER_POINTS];   /* a ring; n_points in all, the newest at n_points - 1 */
    uint64_t n_points, n_judged;                 /* judged: with a prediction of before */
    double intercept_ns;                         /* of the line through the points, after the newest one's middle */
    bool by_step;                                /* predicts by the last update and not by the line */
    double early_floor_ns, late_floor_ns;        /* least lead and tail, where updates came outside them */
    double score;                                /* of changes that made no sense */

    /* The window under way. */
    int64_t k, expected_ns, open_ns, close_ns;
    double lead_ns, tail_ns;
    bool opened; /* a poll of it has been made */
    uint64_t misses; /* windows in a row that saw nothing */

    uint64_t updates, acquisitions;
    bool too_fast; /* the sensor publishes more often than can be followed */
} ps_tracker;

/* seed: of the small random shift of every window, without which polls would lock in phase with the updates and never
 * learn their phase better than half a spacing. */
void ps_tracker_init(ps_tracker *tracker, int64_t spacing_ns, int64_t idle_ns, uint64_t seed, int64_t now_ns);

/* Is told of every poll of its channel, whoever wanted it. good: raw is a value. */
void ps_tracker_offer(ps_tracker *tracker, int64_t t0_ns, int64_t t1_ns, int64_t raw, bool good);

/* Polls of the window under way whose instants lie before now_ns and that nobody made. */
uint64_t ps_tracker_passed_over(const ps_tracker *tracker, int64_t now_ns);

static inline bool ps_tracker_locked(const ps_tracker *tracker)
{
    return tracker->phase != PS_TRACK_ACQUIRE;
}

#endif
