/* SPDX-License-Identifier: Apache-2.0
 *
 * See stress_plan.h.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sampler/stress_plan.h"

enum { STEPS_MAX = 1 << 19, CPUS_MAX = PS_LOAD_THREADS, LINE = 256 };

static const int64_t least_span_ns = 1000 * 1000;

/* "0.5" at the start of a text, ended by one of `ends` or the text's end; NULL when it is none, else what follows. */
static const char *take_number(const char *text, const char *ends, double low, double high, double *out)
{
    char *end;
    errno = 0;
    const double value = strtod(text, &end);
    if (end == text || errno || !(value >= low && value <= high) || (*end && !strchr(ends, *end)))
        return NULL;
    *out = value;
    return *end ? end + 1 : end;
}

/* "0.5" or "50%"; a whole number from 2 on can only be a percent. */
static const char *take_level(const char *text, const char *ends, double *out)
{
    const char *percent = text + strcspn(text, "%,"), *next;
    if (*percent == '%') {
        if ((percent[1] && !strchr(ends, percent[1])) || !take_number(text, "%", 0, 100, out))
            return NULL;
        *out /= 100;
        return percent[1] ? percent + 2 : percent + 1;
    }
    next = take_number(text, ends, 0, 100, out);
    if (!next || (*out > 1 && (*out < 2 || *out != floor(*out))))
        return NULL;
    *out /= *out > 1 ? 100 : 1;
    return next;
}

/* "primes:0.5" */
static bool take_kernel(const stress_wish *wish, int32_t *kernel, double *level)
{
    const size_t length = strcspn(wish->kernel, ":");
    *level = 1;
    for (int32_t one = PS_LOAD_PRIMES; ps_load_kernel_name(one); one++)
        if (strlen(ps_load_kernel_name(one)) == length && strncmp(wish->kernel, ps_load_kernel_name(one), length) == 0) {
            *kernel = one;
            return !wish->kernel[length] || take_level(wish->kernel + length + 1, "", level);
        }
    return false;
}

/* "0,0.25,1": writes them if there is room for them; 0 when they are no levels. */
static uint32_t take_levels(const char *text, double *out)
{
    uint32_t count = 0;
    const size_t length = strlen(text);
    if (!length || text[length - 1] == ',')
        return 0;
    for (double level; *text; count++) {
        text = take_level(text, ",", &level);
        if (!text || count == STEPS_MAX)
            return 0;
        if (out)
            out[count] = level;
    }
    return count;
}

static bool has_cpu(const int32_t *cpus, uint32_t count, int32_t cpu)
{
    for (uint32_t i = 0; i < count; i++)
        if (cpus[i] == cpu)
            return true;
    return false;
}

/* "0-3,8", each once and so no more than CPUS_MAX of them; 0 when it is no such list. */
static uint32_t take_cpus(const char *text, int32_t *out)
{
    uint32_t count = 0;
    while (*text) {
        double first, last;
        const size_t length = strcspn(text, ",");
        const char *dash = memchr(text, '-', length), *next = take_number(text, ",-", 0, CPUS_MAX - 1, &first);
        if (next && dash)
            next = take_number(next, ",", first, CPUS_MAX - 1, &last);
        else
            last = first;
        if (!next || first != floor(first) || last != floor(last) || (text[length] && !text[length + 1]))
            return 0;
        for (int32_t cpu = (int32_t)first; cpu <= (int32_t)last; cpu++) {
            if (has_cpu(out, count, cpu))
                return 0;
            out[count++] = cpu;
        }
        text = next;
    }
    return count;
}

static bool take_square(const char *pattern, double *period_s)
{
    return strncmp(pattern, "square:", 7) == 0 && take_number(pattern + 7, "", 2e-3, 86400, period_s);
}

const char *stress_plan_check(const sampler_options *options, const char **option)
{
    const stress_wish *wish = &options->stress;
    int32_t kernel, cpus[CPUS_MAX];
    double level, period_s;
    *option = "stress";
    if (!take_kernel(wish, &kernel, &level))
        return "give primes, fma, stream, mix or idle; with :LEVEL, 0 to 1 or 0% to 100%";
    if (wish->has_duty && strchr(wish->kernel, ':'))
        return "give the level once, here or as --duty";
    *option = "levels";
    if (wish->levels && take_levels(wish->levels, NULL) == 0)
        return "give levels from 0 to 1, or 0% to 100%, separated by commas";
    if (wish->levels && wish->pattern)
        return "leave --pattern out, or --levels";
    *option = "pattern";
    const bool file = wish->pattern && strncmp(wish->pattern, "file:", 5) == 0 && wish->pattern[5];
    if (wish->pattern && !file && !take_square(wish->pattern, &period_s))
        return "give square:PERIOD_S or file:CSV (on_s,off_s); `powersample stress --pattern random --edges` makes others";
    *option = "cpus";
    if (wish->cpus && wish->threads)
        return "leave --threads out, or --cpus";
    if (wish->cpus && take_cpus(wish->cpus, cpus) == 0)
        return "give CPUs as 0-3,8, each once";
    *option = "stress";
    if (!file && !options->duration_ns)
        return "say how long, by --duration";
    return options->list ? "leave --list out" : NULL;
}

static int complain(const char *option, const char *value, const char *why)
{
    fprintf(stderr, "powersample-sampler: --%s %s: %s\n", option, value, why);
    return EXIT_FAILED;
}

static int no_memory(void)
{
    fprintf(stderr, "powersample-sampler: --stress: out of memory\n");
    return EXIT_FAILED;
}

/* Adds a step; none shorter than a millisecond, and none that begins before the last one ended. */
static bool add_step(stress_plan *plan, int64_t on_ns, int64_t off_ns)
{
    if (on_ns < 0 || off_ns - on_ns < least_span_ns || plan->steps == STEPS_MAX ||
        (plan->steps && on_ns < plan->edge_ns[2 * plan->steps - 1]))
        return false;
    plan->edge_ns[2 * plan->steps] = on_ns;
    plan->edge_ns[2 * plan->steps + 1] = off_ns;
    plan->levels[plan->steps++] = 1;
    return true;
}

/* A CSV with the header on_s,off_s; cut where the duration ends. */
static int read_pattern(const char *path, int64_t duration_ns, stress_plan *plan)
{
    FILE *file = fopen(path, "re");
    if (!file) {
        fprintf(stderr, "powersample-sampler: --pattern file:%s: open: %s (code %d). Give a file that is readable.\n", path,
                strerror(errno), errno);
        return EXIT_FAILED;
    }
    char line[LINE];
    int code = EXIT_DONE;
    unsigned number = 1;
    bool ended = false;
    if (!fgets(line, sizeof line, file) || strncmp(line, "on_s,off_s", 10) != 0 || !strchr("\r\n", line[10]))
        code = complain("pattern", path, "line 1: the header must be on_s,off_s");
    while (code == EXIT_DONE && fgets(line, sizeof line, file)) {
        double on_s, off_s;
        number++;
        line[strcspn(line, "\r\n")] = '\0';
        if (!line[0])
            continue;
        const char *rest = take_number(line, ",", 0, 1e9, &on_s);
        if (!rest || !take_number(rest, "", 0, 1e9, &off_s)) {
            fprintf(stderr, "powersample-sampler: --pattern file:%s: line %u: two numbers of seconds, on and off\n", path,
                    number);
            code = EXIT_FAILED;
            break;
        }
        int64_t on_ns = llround(on_s * 1e9), off_ns = llround(off_s * 1e9);
        if (duration_ns && off_ns > duration_ns)
            off_ns = duration_ns;
        ended |= duration_ns && off_ns - on_ns < least_span_ns && off_ns == duration_ns;
        if (!ended && !add_step(plan, on_ns, off_ns)) {
            fprintf(stderr,
                    "powersample-sampler: --pattern file:%s: line %u: a burst takes a millisecond or more, and begins where "
                    "the one before has ended; %d at most\n",
                    path, number, STEPS_MAX);
            code = EXIT_FAILED;
        }
    }
    fclose(file);
    if (code == EXIT_DONE && plan->steps == 0)
        code = complain("pattern", path, "it holds no burst");
    return code;
}

static int make_steps(const sampler_options *options, double level, stress_plan *plan)
{
    const stress_wish *wish = &options->stress;
    const int64_t whole_ns = options->duration_ns;
    double period_s;
    if (wish->levels) {
        const uint32_t count = take_levels(wish->levels, NULL);
        for (uint32_t i = 0; i < count; i++)
            if (!add_step(plan, whole_ns / count * i, whole_ns / count * (i + 1)))
                return complain("levels", wish->levels, "a level takes a millisecond or more: give a longer --duration");
        (void)take_levels(wish->levels, plan->levels);
        snprintf(plan->name, sizeof plan->name, "%u levels of %.3g s", count, (double)whole_ns * 1e-9 / count);
    } else if (!wish->pattern) {
        if (!add_step(plan, 0, whole_ns))
            return complain("duration", "0.001", "give a longer one");
        snprintf(plan->name, sizeof plan->name, "steady work for %.3g s", (double)whole_ns * 1e-9);
    } else if (take_square(wish->pattern, &period_s)) {
        const int64_t period_ns = llround(period_s * 1e9);
        for (int64_t at_ns = 0; at_ns + period_ns <= whole_ns; at_ns += period_ns)
            if (!add_step(plan, at_ns, at_ns + period_ns / 2))
                return complain("pattern", wish->pattern, "these are too many periods");
        if (plan->steps == 0)
            return complain("pattern", wish->pattern, "the duration holds no period of it");
        snprintf(plan->name, sizeof plan->name, "square wave of %.3g s", period_s);
    } else {
        const int code = read_pattern(wish->pattern + 5, whole_ns, plan);
        if (code != EXIT_DONE)
            return code;
        const char *slash = strrchr(wish->pattern, '/');
        snprintf(plan->name, sizeof plan->name, "the bursts of %.64s", slash ? slash + 1 : wish->pattern + 5);
    }
    for (uint32_t i = 0; i < plan->steps; i++)
        plan->levels[i] *= wish->has_duty ? wish->duty : level;
    return EXIT_DONE;
}

/* All that this process may use, the first --threads of them, one thread of each core first; or those that are named. */
static int make_cpus(const sampler_options *options, stress_plan *plan)
{
    const stress_wish *wish = &options->stress;
    int32_t *allowed = calloc(CPUS_MAX, sizeof *allowed);
    plan->cpus = calloc(CPUS_MAX, sizeof *plan->cpus);
    if (!allowed || !plan->cpus) {
        free(allowed);
        return no_memory();
    }
    int code = EXIT_DONE;
    const uint32_t all = ps_load_cpus(options->sysfs, allowed, CPUS_MAX), count = all < CPUS_MAX ? all : CPUS_MAX;
    if (wish->cpus) {
        plan->threads = take_cpus(wish->cpus, plan->cpus);
        for (uint32_t i = 0; i < plan->threads && code == EXIT_DONE; i++) {
            bool may = false;
            for (uint32_t at = 0; at < count; at++)
                may |= allowed[at] == plan->cpus[i];
            if (!may)
                code = complain("cpus", wish->cpus, "not all of them may be used by this process; see taskset -p $$");
        }
    } else if (wish->threads > (int32_t)count) {
        fprintf(stderr, "powersample-sampler: --threads %d: this process may use %u CPUs\n", wish->threads, all);
        code = EXIT_FAILED;
    } else {
        plan->threads = wish->threads ? (uint32_t)wish->threads : count;
        memcpy(plan->cpus, allowed, plan->threads * sizeof *allowed);
    }
    free(allowed);
    if (code == EXIT_DONE)
        plan->second_threads = ps_load_second_threads(options->sysfs, plan->cpus, plan->threads);
    return code;
}

int stress_plan_make(const sampler_options *options, stress_plan *out)
{
    double level = 1;
    *out = (stress_plan){0};
    if (!take_kernel(&options->stress, &out->kernel, &level))
        return EXIT_USAGE; /* stress_plan_check has been asked */
    out->edge_ns = calloc(2 * STEPS_MAX, sizeof *out->edge_ns);
    out->levels = calloc(STEPS_MAX, sizeof *out->levels);
    if (!out->edge_ns || !out->levels)
        return no_memory();
    int code = make_steps(options, level, out);
    if (code == EXIT_DONE)
        code = make_cpus(options, out);
    const size_t used = strlen(out->name);
    snprintf(out->name + used, sizeof out->name - used, out->threads > 1 ? " on %u CPUs" : " on %u CPU", out->threads);
    return code;
}

void stress_plan_free(stress_plan *plan)
{
    free(plan->edge_ns);
    free(plan->levels);
    free(plan->cpus);
}
