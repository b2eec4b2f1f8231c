/* SPDX-License-Identifier: Apache-2.0
 *
 * See tracker.h.
 *
 * Two ways of predicting, because sensors keep time in two ways: a line through the last 128 updates, for those that publish
 * on a timer and a little off it; the last update and a period, for those that wait a period after each. Whichever erred
 * less is used. How far either erred, early and late apart, is how wide the next window must be.
 */
#include <math.h>
#include <string.h>

#include "core/tracker.h"

enum { YOUNG_POINTS = 32, CHOICE_POINTS = 8, SCAN_MISSES = 64 };

#define MS 1e6
#define ANCHOR_NS 4e6
#define ACQUIRE_NS 1e6        /* spacing of a burst */
#define ACQUIRE_MIN_NS 5e5
#define BURST_NS 2e9
#define BURST_REST 15         /* bursts that follow a change take a sixteenth of the time at most */
#define MARGIN 1.1            /* of the largest error so far */
#define YOUNG_SHARE 0.05      /* of a period: least lead and tail while little is known */
#define YOUNG_MAX_NS 5e6
#define CHECK_SHARE 0.2       /* of a period after the expected update */
#define REACH_SHARE 0.45      /* most of a period that lead or tail may take */
#define WIDEN 1.3
#define FORGET 0.98
#define GROWTH_NS 2e4         /* a window without a change is followed by one that is wider by this */
#define GROWTH_MAX_NS 8e5
#define LOST_SCORE 4.0
#define GOOD_SCORE 0.8

static double uniform(ps_tracker *t)
{
    uint64_t x = t->random += UINT64_C(0x9e3779b97f4a7c15); /* splitmix64 */
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return (double)((x ^ (x >> 31)) >> 11) * 0x1p-53;
}

static int64_t later(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static int64_t middle(int64_t lo_ns, int64_t hi_ns)
{
    return lo_ns + (hi_ns - lo_ns) / 2;
}

static ps_tracker_point *newest(ps_tracker *t)
{
    return &t->point[(t->n_points - 1) % PS_TRACKER_POINTS];
}

static uint32_t kept(const ps_tracker *t)
{
    return t->n_points < PS_TRACKER_POINTS ? (uint32_t)t->n_points : PS_TRACKER_POINTS;
}

/* ---- acquisition ------------------------------------------------------------------------------------------------ */

static void seek(ps_tracker *t, int64_t now_ns)
{
    t->phase = PS_TRACK_ACQUIRE;
    t->changes.n = 0;
    t->score = 0;
    t->next_ns = now_ns;
}

static void begin_burst(ps_tracker *t, int64_t now_ns)
{
    const int64_t length_ns = later((int64_t)BURST_NS, (int64_t)(2 * PS_PERIOD_CHANGES * t->period_ns));
    t->burst_until_ns = now_ns + length_ns;
    t->burst_again_ns = t->burst_until_ns + BURST_REST * length_ns;
}

void ps_tracker_init(ps_tracker *t, int64_t spacing_ns, int64_t idle_ns, uint64_t seed, int64_t now_ns)
{
    memset(t, 0, sizeof *t);
    t->spacing_ns = spacing_ns;
    t->idle_ns = idle_ns;
    t->random = seed;
    seek(t, now_ns);
    t->burst_until_ns = now_ns + (int64_t)BURST_NS; /* the first is free: whether anything moves is not known */
}

static int64_t seek_spacing(const ps_tracker *t, int64_t now_ns)
{
    if (now_ns >= t->burst_until_ns)
        return t->idle_ns;
    double spacing_ns = t->period_ns > 0 ? fmin(ACQUIRE_NS, t->period_ns / 20) : ACQUIRE_NS;
    return (int64_t)fmax(spacing_ns, ACQUIRE_MIN_NS);
}

static void learn(ps_tracker *t, int64_t k, int64_t middle_ns, double off_grid_ns, double off_step_ns);
static void open_window(ps_tracker *t, int64_t now_ns);

/* Six changes: locks on if they show a period. */
static bool lock_on(ps_tracker *t)
{
    int64_t k[PS_PERIOD_CHANGES], widest_ns = 0;
    t->too_fast = ps_changes_spacing_ns(&t->changes) < PS_PERIOD_MIN_NS;
    if (t->too_fast || !ps_period_find(&t->changes, &t->period_ns, k))
        return false;
    t->n_points = t->n_judged = 0;
    t->by_step = false;
    for (uint32_t i = 0; i < PS_PERIOD_CHANGES; i++) {
        learn(t, k[i], t->changes.middle_ns[i], 0, 0);
        widest_ns = later(widest_ns, t->changes.width_ns[i]);
    }
    t->early_floor_ns = t->late_floor_ns = (double)widest_ns;
    t->score = 0;
    t->misses = 0;
    t->acquisitions++;
    return true;
}

static void take_change(ps_tracker *t, int64_t lo_ns, int64_t hi_ns)
{
    if (hi_ns >= t->burst_until_ns && hi_ns >= t->burst_again_ns)
        begin_burst(t, hi_ns);
    ps_changes *changes = &t->changes;
    if (changes->n == PS_PERIOD_CHANGES) { /* those of before made no sense together */
        changes->n--;
        memmove(changes->middle_ns, changes->middle_ns + 1, changes->n * sizeof changes->middle_ns[0]);
        memmove(changes->width_ns, changes->width_ns + 1, changes->n * sizeof changes->width_ns[0]);
    }
    changes->middle_ns[changes->n] = middle(lo_ns, hi_ns);
    changes->width_ns[changes->n++] = hi_ns - lo_ns;
    if (changes->n == PS_PERIOD_CHANGES && lock_on(t)) {
        t->k = newest(t)->k + 1;
        open_window(t, hi_ns);
    } else {
        t->next_ns = hi_ns + seek_spacing(t, hi_ns);
    }
}

/* ---- prediction ------------------------------------------------------------------------------------------------- */

/* After the newest point's middle: by the line, or by the newest point itself. */
static double ahead_ns(ps_tracker *t, int64_t k, bool by_step)
{
    return (by_step ? 0 : t->intercept_ns) + t->period_ns * (double)(k - newest(t)->k);
}

static int64_t predict(ps_tracker *t, int64_t k)
{
    return newest(t)->middle_ns + (int64_t)ahead_ns(t, k, t->by_step);
}

/* Adds a point and draws the line anew. */
static void learn(ps_tracker *t, int64_t k, int64_t middle_ns, double off_grid_ns, double off_step_ns)
{
    double x[PS_TRACKER_POINTS], y[PS_TRACKER_POINTS];
    t->n_points++;
    *newest(t) = (ps_tracker_point){k, middle_ns, off_grid_ns, off_step_ns};
    const uint32_t n = kept(t);
    for (uint32_t i = 0; i < n; i++) {
        x[i] = (double)(t->point[i].k - k);
        y[i] = (double)(t->point[i].middle_ns - middle_ns);
    }
    ps_fit_line(x, y, n, &t->period_ns, &t->intercept_ns);
}

/* The largest errors of a way of predicting; both are 0 or more. */
static void largest_errors(const ps_tracker *t, bool by_step, double *early_ns, double *late_ns)
{
    *early_ns = *late_ns = 0;
    for (uint32_t i = 0; i < kept(t); i++) {
        double off_ns = by_step ? t->point[i].off_step_ns : t->point[i].off_grid_ns;
        *early_ns = fmax(*early_ns, -off_ns);
        *late_ns = fmax(*late_ns, off_ns);
    }
}

static void choose_way(ps_tracker *t)
{
    double early_ns, late_ns;
    largest_errors(t, false, &early_ns, &late_ns);
    const double grid_ns = fmax(early_ns, late_ns);
    largest_errors(t, true, &early_ns, &late_ns);
    const double step_ns = fmax(early_ns, late_ns);
    if (t->n_judged >= CHOICE_POINTS)
        t->by_step = step_ns < (t->by_step ? 1.1 : 0.8) * grid_ns;
}

/* ---- windows ------------------------------------------------------------------------------------------------------ */

static void set_width(ps_tracker *t)
{
    double early_ns, late_ns;
    largest_errors(t, t->by_step, &early_ns, &late_ns);
    const double guard_ns = (double)t->spacing_ns / 2;
    const double young_ns = t->n_judged < YOUNG_POINTS ? fmin(YOUNG_SHARE * t->period_ns, YOUNG_MAX_NS) : 0;
    const double growth_ns = fmin(GROWTH_NS * (double)t->misses, GROWTH_MAX_NS);
    const double most_ns = REACH_SHARE * t->period_ns;
    t->lead_ns = fmin(fmax(fmax(MARGIN * early_ns + guard_ns, t->early_floor_ns), young_ns) + growth_ns, most_ns);
    t->tail_ns = fmin(fmax(fmax(MARGIN * late_ns + guard_ns, t->late_floor_ns), young_ns) + growth_ns, most_ns);
}

/* Plans the window of update k, or of the first after it whose window is not over. */
static void open_window(ps_tracker *t, int64_t now_ns)
{
    set_width(t);
    const double over = ((double)(now_ns - predict(t, t->k)) - t->tail_ns) / t->period_ns;
    if (over > 0)
        t->k += (int64_t)ceil(over);
    t->expected_ns = predict(t, t->k);
    t->open_ns = t->expected_ns - (int64_t)(t->lead_ns + uniform(t) * (double)t->spacing_ns);
    t->close_ns = t->expected_ns + (int64_t)t->tail_ns;
    t->opened = false;
    const int64_t anchor_ns = t->open_ns - (int64_t)ANCHOR_NS;
    if (t->misses && t->misses % SCAN_MISSES == 0) {
        t->phase = PS_TRACK_SCAN;
        t->next_ns = now_ns + (int64_t)ACQUIRE_NS;
    } else if (anchor_ns > now_ns) {
        t->phase = PS_TRACK_ANCHOR;
        t->next_ns = anchor_ns;
    } else {
        t->phase = PS_TRACK_WINDOW;
        t->next_ns = later(t->open_ns, now_ns + t->spacing_ns);
    }
}

static void miss(ps_tracker *t, int64_t now_ns)
{
    const int64_t check_ns = t->expected_ns + (int64_t)(CHECK_SHARE * t->period_ns);
    t->misses++;
    t->k++;
    if (check_ns > now_ns + t->spacing_ns / 2) {
        t->phase = PS_TRACK_CHECK;
        t->next_ns = check_ns;
    } else {
        open_window(t, now_ns);
    }
}

/* The poll that was wanted has been made and saw nothing new. */
static void go_on(ps_tracker *t, int64_t now_ns)
{
    switch (t->phase) {
    case PS_TRACK_ACQUIRE:
        t->next_ns = now_ns + seek_spacing(t, now_ns);
        break;
    case PS_TRACK_SCAN:
        if (now_ns + (int64_t)ACQUIRE_NS < t->open_ns) {
            t->next_ns = now_ns + (int64_t)ACQUIRE_NS;
            break;
        } /* fall through */
    case PS_TRACK_ANCHOR:
        t->phase = PS_TRACK_WINDOW;
        t->next_ns = later(t->open_ns, now_ns + t->spacing_ns / 4);
        break;
    case PS_TRACK_WINDOW:
        t->opened = true;
        if (now_ns >= t->close_ns)
            miss(t, now_ns);
        else
            t->next_ns = now_ns + t->spacing_ns;
        break;
    case PS_TRACK_CHECK:
        open_window(t, now_ns);
        break;
    }
}

/* ---- changes ------------------------------------------------------------------------------------------------------ */

/* Outside its window: that was too narrow on this side. */
static void widen(ps_tracker *t)
{
    if (t->phase == PS_TRACK_WINDOW && !t->opened)
        t->early_floor_ns = WIDEN * t->lead_ns + (double)t->spacing_ns;
    else if (t->phase == PS_TRACK_CHECK)
        t->late_floor_ns = WIDEN * t->tail_ns + (double)t->spacing_ns;
}

static void accept(ps_tracker *t, int64_t k, int64_t middle_ns)
{
    const double after_ns = (double)(middle_ns - newest(t)->middle_ns);
    const double off_grid_ns = after_ns - ahead_ns(t, k, false), off_step_ns = after_ns - ahead_ns(t, k, true);
    t->n_judged++;
    learn(t, k, middle_ns, off_grid_ns, off_step_ns);
    choose_way(t);
    t->score *= GOOD_SCORE;
    t->early_floor_ns *= FORGET;
    t->late_floor_ns *= FORGET;
}

/* After a long time without changes the phase has drifted away: begins anew from this one, with the period of before. */
static void accept_phase(ps_tracker *t, int64_t k, int64_t middle_ns)
{
    const double period_ns = t->period_ns;
    t->n_points = t->n_judged = 0;
    t->by_step = false;
    learn(t, k, middle_ns, 0, 0);
    t->period_ns = period_ns;
}

static void follow_change(ps_tracker *t, int64_t lo_ns, int64_t hi_ns)
{
    const int64_t middle_ns = middle(lo_ns, hi_ns);
    const double width_ns = (double)(hi_ns - lo_ns);
    const bool narrow = width_ns <= 4 * (double)t->spacing_ns + 1.5 * MS;
    const int64_t k = t->k + llround((double)(middle_ns - predict(t, t->k)) / t->period_ns);
    const double off_ns = (double)(middle_ns - predict(t, k));
    const double reach_ns = (off_ns < 0 ? t->lead_ns : t->tail_ns) + width_ns / 2 + 2 * (double)t->spacing_ns;
    widen(t);
    if (narrow && fabs(off_ns) <= reach_ns && k > newest(t)->k)
        accept(t, k, middle_ns);
    else if (narrow && t->phase == PS_TRACK_SCAN)
        accept_phase(t, k, middle_ns);
    else
        t->score += 1;
    t->misses = 0;
    if (t->score > LOST_SCORE) {
        seek(t, hi_ns);
        take_change(t, lo_ns, hi_ns);
        return;
    }
    t->k = k > newest(t)->k ? k + 1 : newest(t)->k + 1;
    open_window(t, hi_ns);
}

void ps_tracker_offer(ps_tracker *t, int64_t t0_ns, int64_t t1_ns, int64_t raw, bool good)
{
    const bool changed = good && t->known && raw != t->raw;
    const int64_t before_ns = t->seen_ns;
    if (good) {
        t->known = true;
        t->raw = raw;
        t->seen_ns = t0_ns;
    }
    if (!changed) {
        if (t0_ns >= t->next_ns - t->spacing_ns / 4) /* another's poll that comes a little early will do */
            go_on(t, t0_ns);
        return;
    }
    t->updates++;
    if (t->phase == PS_TRACK_ACQUIRE)
        take_change(t, before_ns, t1_ns);
    else
        follow_change(t, before_ns, t1_ns);
}

uint64_t ps_tracker_passed_over(const ps_tracker *t, int64_t now_ns)
{
    const int64_t end_ns = t->phase == PS_TRACK_WINDOW && now_ns > t->close_ns ? t->close_ns : now_ns;
    const bool grid = t->phase == PS_TRACK_WINDOW || t->phase == PS_TRACK_ACQUIRE || t->phase == PS_TRACK_SCAN;
    if (!grid || end_ns <= t->next_ns)
        return 0;
    const int64_t spacing_ns = t->phase == PS_TRACK_WINDOW    ? t->spacing_ns
                               : t->phase == PS_TRACK_ACQUIRE ? seek_spacing(t, t->next_ns)
                                                              : (int64_t)ACQUIRE_NS;
    return (uint64_t)((end_ns - t->next_ns) / spacing_ns);
}
