/* SPDX-License-Identifier: Apache-2.0
 *
 * Questions to a truth: energies, powers and the instants at which power changes. Each answers from one view, so that
 * what is published meanwhile cannot split it.
 */
#include <stdbool.h>

#include "physics/truth.h"
#include "powersample.h"

static int span(const ps_truth *truth, int64_t a_ns, int64_t b_ns, ps_i128 *energy)
{
    if (!truth || b_ns < a_ns)
        return PS_E_INVALID;
    ps_view view = ps_truth_view(truth);
    if (a_ns < view.segment[0].t0_ns)
        return PS_E_INVALID;
    *energy = ps_view_energy(&view, b_ns) - ps_view_energy(&view, a_ns);
    return PS_OK;
}

int ps_truth_energy_pj(const ps_truth *truth, int64_t a_ns, int64_t b_ns, int64_t *pj)
{
    ps_i128 energy;
    int status = span(truth, a_ns, b_ns, &energy);
    if (status != PS_OK)
        return status;
    if (!pj || energy > INT64_MAX)
        return PS_E_INVALID;
    *pj = (int64_t)energy;
    return PS_OK;
}

int ps_truth_joules(const ps_truth *truth, int64_t a_ns, int64_t b_ns, double *joules)
{
    ps_i128 energy;
    int status = span(truth, a_ns, b_ns, &energy);
    if (status != PS_OK)
        return status;
    if (!joules)
        return PS_E_INVALID;
    *joules = (double)energy / 1e12;
    return PS_OK;
}

int ps_truth_power_mw(const ps_truth *truth, const int64_t *t_ns, uint64_t n, int32_t *p_mw)
{
    if (!truth || (n && (!t_ns || !p_mw)))
        return PS_E_INVALID;
    ps_view view = ps_truth_view(truth);
    for (uint64_t i = 0; i < n; i++)
        p_mw[i] = ps_view_power(&view, t_ns[i]);
    return PS_OK;
}

/* The first edge of a wave after t_ns. */
static int64_t wave_edge(const ps_segment *s, int64_t t_ns)
{
    int64_t dt = t_ns - s->t0_ns;
    int64_t r = dt % s->period_ns;
    return t_ns - r + (r < s->on_ns ? s->on_ns : s->period_ns);
}

int64_t ps_view_stretch(const ps_view *view, uint64_t *i, int64_t t_ns, int32_t *p_mw)
{
    while (*i + 1 < view->n && view->segment[*i + 1].t0_ns <= t_ns)
        ++*i;
    const ps_segment *s = &view->segment[*i];
    int64_t end = *i + 1 < view->n ? view->segment[*i + 1].t0_ns : INT64_MAX;
    *p_mw = s->p1_mw;
    if (s->period_ns == 0)
        return end;
    if ((t_ns - s->t0_ns) % s->period_ns >= s->on_ns)
        *p_mw = s->p2_mw;
    int64_t edge = wave_edge(s, t_ns);
    return edge < end ? edge : end;
}

int ps_truth_edges(const ps_truth *truth, int64_t a_ns, int64_t b_ns, int64_t *t_ns, uint64_t capacity,
                   uint64_t *count)
{
    if (!truth || b_ns < a_ns || !count || (capacity && !t_ns))
        return PS_E_INVALID;
    ps_view view = ps_truth_view(truth);
    uint64_t n = 0;
    for (uint64_t i = ps_view_find(&view, a_ns); i < view.n && n < capacity; i++) {
        const ps_segment *s = &view.segment[i];
        if (s->t0_ns > b_ns)
            break;
        int64_t at = a_ns;
        if (s->t0_ns > a_ns) {
            at = s->t0_ns;
            if (i > 0) /* the first segment's power holds before it as well */
                t_ns[n++] = at;
        }
        if (s->period_ns == 0)
            continue;
        bool followed = i + 1 < view.n;
        for (at = wave_edge(s, at); at <= b_ns && n < capacity; at = wave_edge(s, at)) {
            if (followed && at >= view.segment[i + 1].t0_ns)
                break;
            t_ns[n++] = at;
        }
    }
    *count = n;
    return PS_OK;
}

int ps_truth_counter_nj(const ps_truth *truth, int64_t from_ns, const int64_t *t_ns, uint64_t n, int64_t *nj)
{
    if (!truth || (n && (!t_ns || !nj)))
        return PS_E_INVALID;
    for (uint64_t i = 0; i < n; i++) {
        ps_i128 energy;
        int status = span(truth, from_ns, t_ns[i], &energy);
        if (status != PS_OK)
            return status;
        if (energy / 1000 > INT64_MAX)
            return PS_E_INVALID;
        nj[i] = (int64_t)(energy / 1000);
    }
    return PS_OK;
}

int ps_truth_counts(const ps_truth *const *truths, uint32_t n, int64_t a_ns, int64_t b_ns, uint64_t num, uint64_t den,
                    int64_t *counts)
{
    if (!truths || !counts || den == 0 || num > INT64_MAX || den > INT64_MAX)
        return PS_E_INVALID;
    ps_i128 sum = 0;
    for (uint32_t i = 0; i < n; i++) {
        ps_i128 energy;
        int status = span(truths[i], a_ns, b_ns, &energy);
        if (status != PS_OK)
            return status;
        sum += energy;
    }
    ps_i128 units;
    if (__builtin_mul_overflow(sum, (ps_i128)num, &units) || units / (ps_i128)den > INT64_MAX)
        return PS_E_INVALID;
    *counts = (int64_t)(units / (ps_i128)den);
    return PS_OK;
}
