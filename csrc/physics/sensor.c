/* SPDX-License-Identifier: Apache-2.0
 *
 * Sensors as pure functions of the truth and an instant: delay, first-order lag, boxcar, gain and offset,
 * noise, quantisation, hold until the next publication. Nothing is stored between readers; what is random is a
 * hash of the channel's seed and the publication's number, so every process sees the same values in any order.
 *
 * Lag, tau y' = x - y. Over a constant stretch y moves towards it by exp(-d/tau); whole cycles of a wave have a
 * fixed point. And since x - y = tau y', the mean of y over a window follows from the exact integral of x and y
 * at the window's two ends: mean = (E(t) - E(t-W) - tau (y(t) - y(t-W))) / W. No quadrature anywhere.
 */
#include <math.h>
#include <stdbool.h>

#include "physics/lag.h"
#include "physics/truth.h"
#include "powersample.h"

/* The pass that finds y starts so many tau back, where a 700 W step has 3e-5 mW left to say. */
enum { LAG_HISTORY = 24 };

static const int64_t LONGEST_NS = INT64_C(1000000000000000); /* of any setting: 11 days, far from overflow */

enum stream { STREAM_JITTER = 1, STREAM_SKIP = 2, STREAM_RADIUS = 3, STREAM_ANGLE = 4 };

static uint64_t mix(uint64_t x) /* the finaliser of splitmix64 */
{
    x ^= x >> 30;
    x *= UINT64_C(0xbf58476d1ce4e5b9);
    x ^= x >> 27;
    x *= UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static uint64_t draw(const ps_sensor *s, enum stream stream, int64_t k)
{
    return mix(mix(s->seed + (uint64_t)stream * UINT64_C(0x9e3779b97f4a7c15)) ^ (uint64_t)k);
}

static int64_t floor_div(int64_t a, int64_t b)
{
    return a / b - (a % b != 0 && a < 0);
}

static int64_t publication_ns(const ps_sensor *s, int64_t k)
{
    int64_t t = s->phase_ns + k * s->period_ns;
    if (s->jitter_ns)
        t += (int64_t)(draw(s, STREAM_JITTER, k) % (uint64_t)(2 * s->jitter_ns + 1)) - s->jitter_ns;
    return t;
}

static bool skipped(const ps_sensor *s, int64_t k)
{
    return s->skip_per_million && draw(s, STREAM_SKIP, k) % 1000000 < s->skip_per_million;
}

/* The last tick at or before now, published or not. Jitter below T/2 keeps ticks in order. */
static int64_t tick_at(const ps_sensor *s, int64_t now_ns)
{
    int64_t k = floor_div(now_ns - s->phase_ns, s->period_ns) + 1;
    while (publication_ns(s, k) > now_ns)
        k--;
    return k;
}

static bool in_range(int64_t duration_ns)
{
    return duration_ns >= 0 && duration_ns <= LONGEST_NS;
}

static int valid(const ps_sensor *s)
{
    if (!s)
        return PS_E_INVALID;
    if (s->kind == PS_SENSOR_ABSENT)
        return PS_E_UNSUPPORTED;
    bool times = s->period_ns > 0 && s->period_ns <= LONGEST_NS && in_range(s->window_ns) && in_range(s->tau_ns) &&
                 in_range(s->delay_ns) && s->jitter_ns >= 0 && s->jitter_ns < (s->period_ns + 1) / 2;
    bool values = isfinite(s->gain) && isfinite(s->offset_mw) && isfinite(s->noise_mw) && s->quantum > 0;
    bool kind = s->kind == PS_SENSOR_GAUGE || s->kind == PS_SENSOR_COUNTER ||
                (s->kind == PS_SENSOR_ATTENDED && s->window_ns > 0);
    return kind && times && values && s->skip_per_million <= 900000 ? PS_OK : PS_E_INVALID;
}

/* ---- lag ---------------------------------------------------------------------- */

/* Lagged power after the part [from, to) of a wave, both counted from its start. */
static double lag_wave(const ps_segment *s, double y, int64_t from, int64_t to, double tau)
{
    double p1 = s->p1_mw;
    double p2 = s->p2_mw;
    int64_t at = from;
    while (at < to) {
        int64_t r = at % s->period_ns;
        int64_t cycles = (to - at) / s->period_ns;
        if (r == 0 && cycles > 0) {
            double a = -expm1(-(double)s->on_ns / tau);
            double b = -expm1(-(double)(s->period_ns - s->on_ns) / tau);
            double c = -expm1(-(double)s->period_ns / tau);
            double fixed = (p2 * b + p1 * a * (1.0 - b)) / c; /* y at the cycles' starts, once settled */
            y = ps_lag_towards(y, fixed, cycles * s->period_ns, tau);
            at += cycles * s->period_ns;
            continue;
        }
        int64_t edge = at - r + (r < s->on_ns ? s->on_ns : s->period_ns);
        int64_t end = edge < to ? edge : to;
        y = ps_lag_towards(y, r < s->on_ns ? p1 : p2, end - at, tau);
        at = end;
    }
    return y;
}

/* Lagged power at `to`, given that it was y at `from`. */
static double lag_advance(const ps_view *view, double y, int64_t from, int64_t to, double tau)
{
    uint64_t i = ps_view_find(view, from);
    if (from < view->segment[0].t0_ns) {
        int64_t end = to < view->segment[0].t0_ns ? to : view->segment[0].t0_ns;
        y = ps_lag_towards(y, view->segment[0].p1_mw, end - from, tau);
        from = end;
    }
    for (; from < to; i++) {
        const ps_segment *s = &view->segment[i];
        int64_t end = i + 1 < view->n && view->segment[i + 1].t0_ns < to ? view->segment[i + 1].t0_ns : to;
        if (s->period_ns == 0)
            y = ps_lag_towards(y, s->p1_mw, end - from, tau);
        else
            y = lag_wave(s, y, from - s->t0_ns, end - s->t0_ns, tau);
        from = end;
    }
    return y;
}

/* Mean over [t - W, t] of the lagged power; W = 0: the lagged power at t. In mW. */
static double lagged_mean(const ps_sensor *s, const ps_view *view, int64_t t_ns)
{
    int64_t begin = t_ns - s->window_ns;
    double tau = (double)s->tau_ns;
    double energy = s->window_ns ? (double)(ps_view_energy(view, t_ns) - ps_view_energy(view, begin)) : 0.0;
    if (s->tau_ns == 0)
        return s->window_ns ? energy / (double)s->window_ns : ps_view_power(view, t_ns);
    int64_t start = begin - LAG_HISTORY * s->tau_ns;
    double y_begin = lag_advance(view, ps_view_power(view, start), start, begin, tau);
    if (s->window_ns == 0)
        return y_begin;
    double y_end = lag_advance(view, y_begin, begin, t_ns, tau);
    return (energy - tau * (y_end - y_begin)) / (double)s->window_ns;
}

/* ---- values ---------------------------------------------------------------------- */

static double noise(const ps_sensor *s, int64_t k)
{
    static const double two_pi = 6.283185307179586;
    static const double unit = 1.0 / 9007199254740992.0; /* 2^-53 */
    if (s->noise_mw == 0.0)
        return 0.0;
    double u = ((double)(draw(s, STREAM_RADIUS, k) >> 11) + 1.0) * unit; /* in (0, 1] */
    double v = (double)(draw(s, STREAM_ANGLE, k) >> 11) * unit;
    return s->noise_mw * sqrt(-2.0 * log(u)) * cos(two_pi * v);
}

static int64_t gauge(const ps_sensor *s, const ps_view *view, int64_t k, int64_t t_ns)
{
    double mw = s->gain * lagged_mean(s, view, t_ns - s->delay_ns) + s->offset_mw + noise(s, k);
    if (!(mw > 0.0))
        return 0;
    return (int64_t)floor(mw / (double)s->quantum + 0.5) * s->quantum;
}

static int64_t counted(const ps_sensor *s, ps_i128 pj, double factor)
{
    double mj = factor * ((double)pj / 1e9);
    return mj > 0.0 ? (int64_t)floor(mj / (double)s->quantum) * s->quantum : 0;
}

static int64_t counter(const ps_sensor *s, const ps_view *view, int64_t t_ns)
{
    if (t_ns <= s->start_ns)
        return 0;
    return counted(s, ps_view_energy(view, t_ns) - ps_view_energy(view, s->start_ns), s->gain);
}

/* What the window of tick k saw. Skipped ticks count: the sensor looked, only the result was not published. */
static ps_i128 attended_pj(const ps_sensor *s, const ps_view *view, int64_t k)
{
    int64_t t = publication_ns(s, k);
    if (t <= s->start_ns)
        return 0;
    int64_t begin = t - s->window_ns > s->start_ns ? t - s->window_ns : s->start_ns;
    return ps_view_energy(view, t) - ps_view_energy(view, begin);
}

/* With jitter the sum has no closed form: it goes on from the memo, in either direction, exactly. */
static int64_t attended(const ps_sensor *s, const ps_view *view, int64_t k, ps_sensor_memo *memo)
{
    int64_t at = tick_at(s, s->start_ns);
    ps_i128 sum = 0;
    if (memo->valid) {
        at = memo->k;
        sum = (ps_i128)memo->sum_hi * ((ps_i128)1 << 64) + (ps_i128)memo->sum_lo;
    }
    for (; at < k; at++)
        sum += attended_pj(s, view, at + 1);
    for (; at > k; at--)
        sum -= attended_pj(s, view, at);
    memo->sum_lo = (uint64_t)sum;
    memo->sum_hi = (int64_t)(sum >> 64);
    return counted(s, sum, s->gain * (double)s->period_ns / (double)s->window_ns);
}

int ps_sensor_read(const ps_sensor *sensor, const ps_truth *truth, int64_t now_ns, ps_sensor_memo *memo,
                   int64_t *value, int64_t *k, int64_t *published_ns)
{
    int status = valid(sensor);
    if (status != PS_OK)
        return status;
    if (!truth || !value)
        return PS_E_INVALID;
    int64_t newest = tick_at(sensor, now_ns);
    while (skipped(sensor, newest))
        newest--;
    ps_sensor_memo fresh = {0};
    if (!memo)
        memo = &fresh;
    if (memo->valid && memo->start_ns != sensor->start_ns)
        *memo = fresh; /* the counter began anew */
    if (!memo->valid || memo->k != newest) {
        ps_view view = ps_truth_view(truth);
        int64_t t = publication_ns(sensor, newest);
        if (sensor->kind == PS_SENSOR_GAUGE)
            memo->value = gauge(sensor, &view, newest, t);
        else if (sensor->kind == PS_SENSOR_COUNTER)
            memo->value = counter(sensor, &view, t);
        else
            memo->value = attended(sensor, &view, newest, memo);
        memo->k = newest;
        memo->published_ns = t;
        memo->start_ns = sensor->start_ns;
        memo->valid = 1;
    }
    *value = memo->value;
    if (k)
        *k = memo->k;
    if (published_ns)
        *published_ns = memo->published_ns;
    return PS_OK;
}

int ps_sensor_publications(const ps_sensor *sensor, int64_t a_ns, int64_t b_ns, int64_t *t_ns, uint64_t capacity,
                           uint64_t *count)
{
    int status = valid(sensor);
    if (status != PS_OK)
        return status;
    if (b_ns < a_ns || !count || (capacity && !t_ns))
        return PS_E_INVALID;
    uint64_t n = 0;
    int64_t last = tick_at(sensor, b_ns);
    for (int64_t k = tick_at(sensor, a_ns) + 1; k <= last && n < capacity; k++)
        if (!skipped(sensor, k))
            t_ns[n++] = publication_ns(sensor, k);
    *count = n;
    return PS_OK;
}
