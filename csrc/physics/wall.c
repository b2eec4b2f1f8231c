/* SPDX-License-Identifier: Apache-2.0
 *
 * Wall power as a function of the truths. All but the lags is constant from one change to the next, so the energy before the
 * supply's lag is an exact integer, and the lag takes tau times its own change from it: as w' tau = s - w, the integral of w is
 * that of s less tau (w(b) - w(a)). No quadrature anywhere.
 *
 * The fans look at the parts' power on a grid and hold their speed between: time falls into cells, and the state at a
 * cell's start (energy, w, z) says all of the past that matters. Cells are always walked from their start through the same
 * changes in the same order: so answers are the same bits whoever asks, in any order.
 */
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

#include "core/clock.h"
#include "physics/lag.h"
#include "physics/truth.h"
#include "powersample.h"

enum { STRIDE = 32 }; /* cells between remembered states: memory of 50 bytes in 3 s, 32 cells to walk at most */

static const int64_t SHORTEST_STEP_NS = 1000; /* between points of a counter */

typedef struct state {
    int64_t cell;
    ps_i128 energy; /* before the supply's lag, since the start, pJ */
    double w, z;    /* mW */
} state;

struct ps_wall {
    ps_wall_model is;
    double fan_gain; /* what z gains on x in a cell */
    int64_t start_ns;
    uint32_t n;
    const ps_truth *truth[PS_WALL_TRUTHS];
    state last;   /* of the cell asked about last */
    state *saved; /* of every STRIDE-th cell from the first on */
    uint64_t n_saved, room;
};

/* On the way through a cell: at `t`, with all powers until `end`. */
typedef struct walk {
    const ps_wall *wall;
    ps_view view[PS_WALL_TRUTHS];
    uint64_t segment[PS_WALL_TRUTHS];
    int64_t until[PS_WALL_TRUTHS];
    int32_t p[PS_WALL_TRUTHS];
    state at;         /* energy and w at t, z of the cell */
    int64_t t, end, cell_end;
    int64_t fans, parts, supply;
    ps_i128 parts_pj; /* of the cell, up to t */
} walk;

static int64_t cell_start(const ps_wall *wall, int64_t cell)
{
    return wall->start_ns + cell * wall->is.grid_ns;
}

/* ---- the model ---------------------------------------------------------------------- */

static bool within(double x, double low, double high)
{
    return isfinite(x) && x >= low && x <= high;
}

static bool valid(const ps_wall_model *m)
{
    bool supply = within(m->loss_fixed_mw, 0, 1e12) && within(m->loss_ratio, 0, 1) && within(m->loss_per_mw, 0, 1e-6);
    bool fans = within(m->fan_max_mw, 0, 1e12) && within(m->fan_min_speed, 0, 1) && within(m->fan_low_mw, -1e12, 1e12) &&
                within(m->fan_high_mw, -1e12, 1e12) && m->fan_low_mw < m->fan_high_mw;
    bool times = m->tau_ns >= 0 && m->tau_ns <= INT64_C(10000000000) && m->fan_tau_ns >= 0 &&
                 m->fan_tau_ns <= INT64_C(3600000000000) && m->grid_ns >= 1000 && m->grid_ns <= 1000000000;
    return supply && fans && times;
}

static int64_t fans(const ps_wall_model *m, double z)
{
    double share = fmin(1.0, fmax(0.0, (z - m->fan_low_mw) / (m->fan_high_mw - m->fan_low_mw)));
    double speed = m->fan_min_speed + (1.0 - m->fan_min_speed) * share;
    return (int64_t)rint(m->fan_max_mw * (speed * speed * speed));
}

static int64_t supply(const ps_wall_model *m, int64_t d_mw)
{
    double d = (double)d_mw;
    return d_mw + (int64_t)rint(m->loss_fixed_mw + m->loss_ratio * d + m->loss_per_mw * d * d);
}

static double lagged(const ps_wall_model *m, double w, int64_t supply_mw, int64_t d_ns)
{
    return m->tau_ns ? ps_lag_towards(w, (double)supply_mw, d_ns, (double)m->tau_ns) : (double)supply_mw;
}

/* ---- walking ---------------------------------------------------------------------- */

/* Finds the powers at w->t and until when all of them hold. */
static void look(walk *w)
{
    w->parts = 0;
    w->end = w->cell_end;
    for (uint32_t i = 0; i < w->wall->n; i++) {
        if (w->until[i] <= w->t)
            w->until[i] = ps_view_stretch(&w->view[i], &w->segment[i], w->t, &w->p[i]);
        w->parts += w->p[i];
        if (w->until[i] < w->end)
            w->end = w->until[i];
    }
    w->supply = supply(&w->wall->is, w->parts + w->fans);
}

static void enter_cell(walk *w)
{
    w->cell_end = cell_start(w->wall, w->at.cell + 1);
    w->fans = fans(&w->wall->is, w->at.z);
    w->parts_pj = 0;
    look(w);
}

/* Views are taken anew for every question: what the last one saw as endless may have been followed. */
static void begin(walk *w, const ps_wall *wall, const state *from)
{
    w->wall = wall;
    w->at = *from;
    w->t = cell_start(wall, from->cell);
    for (uint32_t i = 0; i < wall->n; i++) {
        w->view[i] = ps_truth_view(wall->truth[i]);
        w->segment[i] = ps_view_find(&w->view[i], w->t);
        w->until[i] = INT64_MIN;
    }
    enter_cell(w);
}

/* Goes on to w->end. */
static void advance(walk *w)
{
    const ps_wall_model *is = &w->wall->is;
    int64_t d = w->end - w->t;
    w->at.energy += (ps_i128)w->supply * d;
    w->at.w = lagged(is, w->at.w, w->supply, d);
    w->parts_pj += (ps_i128)w->parts * d;
    w->t = w->end;
    if (w->t < w->cell_end) {
        look(w);
        return;
    }
    w->at.z += w->wall->fan_gain * ((double)w->parts_pj / (double)is->grid_ns - w->at.z);
    w->at.cell++;
    enter_cell(w);
}

/* Wall energy at t, within [w->t, w->end], since an instant of its own that is the same for all t. */
static ps_i128 energy_at(const walk *w, int64_t t_ns)
{
    double y = lagged(&w->wall->is, w->at.w, w->supply, t_ns - w->t);
    return w->at.energy + (ps_i128)w->supply * (t_ns - w->t) - (ps_i128)rint((double)w->wall->is.tau_ns * y);
}

/* ---- remembering ---------------------------------------------------------------------- */

static int save(ps_wall *wall, const state *at)
{
    if (wall->n_saved == wall->room) {
        uint64_t room = wall->room ? 2 * wall->room : 64;
        state *saved = realloc(wall->saved, room * sizeof *saved);
        if (!saved)
            return PS_E_NOMEM;
        wall->saved = saved;
        wall->room = room;
    }
    wall->saved[wall->n_saved++] = *at;
    return PS_OK;
}

/* The nearest remembered cell that does not come after `cell`. */
static const state *nearest(const ps_wall *wall, int64_t cell)
{
    uint64_t i = (uint64_t)cell / STRIDE;
    const state *found = &wall->saved[i < wall->n_saved ? i : wall->n_saved - 1];
    return wall->last.cell <= cell && wall->last.cell > found->cell ? &wall->last : found;
}

/* Brings a walk to t_ns: w->t <= t_ns < w->end. */
static int seek(ps_wall *wall, walk *w, int64_t t_ns)
{
    if (t_ns < wall->start_ns)
        return PS_E_INVALID;
    int64_t cell = (t_ns - wall->start_ns) / wall->is.grid_ns;
    /* Before the views: what they lack begins after now. */
    int64_t settled_ns = ps_clock_monotonic_ns();
    begin(w, wall, nearest(wall, cell));
    for (;;) {
        bool entered = w->t == cell_start(wall, w->at.cell);
        if (entered && w->t <= settled_ns) {
            if (w->at.cell == (int64_t)wall->n_saved * STRIDE && save(wall, &w->at) != PS_OK)
                return PS_E_NOMEM;
            wall->last = w->at;
        }
        if (t_ns < w->end)
            return PS_OK;
        advance(w);
    }
}

static int energy(ps_wall *wall, int64_t t_ns, ps_i128 *pj)
{
    walk w;
    int status = seek(wall, &w, t_ns);
    if (status == PS_OK)
        *pj = energy_at(&w, t_ns);
    return status;
}

static int span(ps_wall *wall, int64_t a_ns, int64_t b_ns, ps_i128 *pj)
{
    ps_i128 a, b;
    if (!wall || b_ns < a_ns)
        return PS_E_INVALID;
    int status = energy(wall, a_ns, &a);
    if (status == PS_OK)
        status = energy(wall, b_ns, &b);
    if (status == PS_OK)
        *pj = b - a;
    return status;
}

/* ---- from outside ---------------------------------------------------------------------- */

int ps_wall_open(const ps_wall_model *model, const ps_truth *const *truths, uint32_t n_truths, ps_wall **out)
{
    if (!model || !truths || !n_truths || n_truths > PS_WALL_TRUTHS || !out || !valid(model))
        return PS_E_INVALID;
    ps_wall *wall = calloc(1, sizeof *wall);
    if (!wall)
        return PS_E_NOMEM;
    wall->is = *model;
    wall->fan_gain = model->fan_tau_ns ? -expm1(-(double)model->grid_ns / (double)model->fan_tau_ns) : 1.0;
    wall->n = n_truths;
    wall->start_ns = INT64_MIN;
    for (uint32_t i = 0; i < n_truths; i++) {
        if (!truths[i]) {
            free(wall);
            return PS_E_INVALID;
        }
        wall->truth[i] = truths[i];
        int64_t t0 = ps_truth_view(truths[i]).segment[0].t0_ns;
        wall->start_ns = t0 > wall->start_ns ? t0 : wall->start_ns;
    }
    int64_t parts = 0;
    for (uint32_t i = 0; i < n_truths; i++) {
        ps_view view = ps_truth_view(truths[i]);
        parts += ps_view_power(&view, wall->start_ns);
    }
    state first = {.z = (double)parts};
    first.w = (double)supply(model, parts + fans(model, first.z));
    wall->last = first;
    if (save(wall, &first) != PS_OK) {
        ps_wall_close(wall);
        return PS_E_NOMEM;
    }
    *out = wall;
    return PS_OK;
}

void ps_wall_close(ps_wall *wall)
{
    if (!wall)
        return;
    free(wall->saved);
    free(wall);
}

int ps_wall_energy_pj(ps_wall *wall, int64_t a_ns, int64_t b_ns, int64_t *pj)
{
    ps_i128 found;
    int status = span(wall, a_ns, b_ns, &found);
    if (status != PS_OK)
        return status;
    if (!pj || found > INT64_MAX)
        return PS_E_INVALID;
    *pj = (int64_t)found;
    return PS_OK;
}

int ps_wall_joules(ps_wall *wall, int64_t a_ns, int64_t b_ns, double *joules)
{
    ps_i128 found;
    int status = span(wall, a_ns, b_ns, &found);
    if (status != PS_OK)
        return status;
    if (!joules)
        return PS_E_INVALID;
    *joules = (double)found / 1e12;
    return PS_OK;
}

int ps_wall_state_get(ps_wall *wall, int64_t t_ns, ps_wall_state *out)
{
    walk w;
    if (!wall || !out)
        return PS_E_INVALID;
    int status = seek(wall, &w, t_ns);
    if (status != PS_OK)
        return status;
    *out = (ps_wall_state){
        .parts_mw = w.parts,
        .fans_mw = w.fans,
        .supply_mw = w.supply,
        .wall_mw = lagged(&wall->is, w.at.w, w.supply, t_ns - w.t),
    };
    return PS_OK;
}

/* From t on, how far a line may go. The energy bends by (s - w) / tau, less and less as w comes near: a line over h is
 * within bend x h^2 / 8 of it. */
static int64_t straight_ns(const walk *w, int64_t t_ns, double tolerance_pj)
{
    double tau = (double)w->wall->is.tau_ns;
    double off = fabs((double)w->supply - lagged(&w->wall->is, w->at.w, w->supply, t_ns - w->t));
    double h = sqrt(8.0 * tolerance_pj * tau / fmax(off, 1e-9));
    return h > 1e12 ? INT64_C(1000000000000) : h < (double)SHORTEST_STEP_NS ? SHORTEST_STEP_NS : (int64_t)h;
}

int ps_wall_counter_nj(ps_wall *wall, int64_t from_ns, int64_t a_ns, int64_t b_ns, int64_t tolerance_pj, int64_t *t_ns,
                       int64_t *nj, uint64_t capacity, uint64_t *count)
{
    walk w;
    ps_i128 from;
    if (!wall || b_ns < a_ns || from_ns > a_ns || tolerance_pj <= 0 || !count || (capacity && (!t_ns || !nj)))
        return PS_E_INVALID;
    int status = energy(wall, from_ns, &from);
    if (status == PS_OK)
        status = seek(wall, &w, a_ns);
    if (status != PS_OK)
        return status;
    uint64_t n = 0;
    for (int64_t t = a_ns; t < b_ns && n < capacity; n++) {
        if (t == w.end)
            advance(&w);
        int64_t end = w.end < b_ns ? w.end : b_ns;
        int64_t step = w.wall->is.tau_ns ? straight_ns(&w, t, (double)tolerance_pj) : INT64_MAX;
        t = step < end - t ? t + step : end;
        ps_i128 counted = (energy_at(&w, t) - from) / 1000;
        if (counted > INT64_MAX)
            return PS_E_INVALID;
        t_ns[n] = t;
        nj[n] = (int64_t)counted;
    }
    *count = n;
    return PS_OK;
}
