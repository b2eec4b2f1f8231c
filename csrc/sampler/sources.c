/* SPDX-License-Identifier: Apache-2.0
 *
 * See sources.h.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sampler/sources.h"

enum { GPUS_MAX = 64, SCRIPT_CHANNELS_MAX = 64, CHIPS_MAX = 64 };

const char *const sampler_rapl_routes[PS_RAPL_ROUTES] = {
    [PS_RAPL_PERF] = "perf", [PS_RAPL_POWERCAP] = "powercap", [PS_RAPL_MSR] = "msr"};

void sampler_report(const char *what, const ps_error *error, const char *remedy)
{
    fprintf(stderr, "powersample-sampler: %s: %s: %s (%s", what, error->call, error->text,
            ps_status_name(error->status));
    if (error->vendor)
        fprintf(stderr, ", code %d", error->vendor);
    fprintf(stderr, ").%s%s\n", remedy ? " " : "", remedy ? remedy : "");
}

static int add_source(const ps_lane_options *lane, ps_sampler *sampler, ps_source *source)
{
    ps_error error = {0};
    if (ps_sampler_add(sampler, source, lane, NULL, &error) == PS_OK)
        return EXIT_DONE;
    sampler_report("lane", &error, NULL);
    ps_source_free(source);
    return EXIT_FAILED;
}

/* ---- scripted ---------------------------------------------------------------------------------------------- */

static int add_scripted(const char *word, const sampler_options *options, ps_sampler *sampler)
{
    unsigned channels = 1;
    unsigned long period = 100;
    int length = 0;
    const char *rest = word + strlen("scripted");
    if (*rest && !((sscanf(rest, ":%2u%n", &channels, &length) == 1 && rest[length] == '\0') ||
                   (sscanf(rest, ":%2u@%9lu%n", &channels, &period, &length) == 2 && rest[length] == '\0')))
        channels = 0;
    if (channels < 1 || channels > SCRIPT_CHANNELS_MAX || period < 1) {
        fprintf(stderr, "powersample-sampler: --sources %s: give scripted:CHANNELS@PERIOD, 1 to %d channels.\n", word,
                SCRIPT_CHANNELS_MAX);
        return EXIT_USAGE;
    }
    ps_script script = {
        .channels = channels, .kind = PS_KIND_POWER, .repeat_passes = 2 * period, .scale = 1e-3, .max_hz = 1000};
    ps_script_step steps[2 * SCRIPT_CHANNELS_MAX];
    for (uint32_t i = 0; i < channels; i++) {
        steps[2 * i] = (ps_script_step){.channel = i, .raw = 100000};
        steps[2 * i + 1] = (ps_script_step){.channel = i, .pass = period, .raw = 200000};
    }
    ps_source *source;
    ps_error error = {0};
    if (ps_source_scripted_new("scripted", &script, steps, 2 * channels, &source, &error) != PS_OK) {
        sampler_report(word, &error, NULL);
        return EXIT_FAILED;
    }
    return add_source(&options->lane, sampler, source);
}

/* ---- NVML -------------------------------------------------------------------------------------------------- */

static bool names_gpu(const char *word, const ps_nvml_device *device)
{
    char index[16];
    snprintf(index, sizeof index, "%u", device->index);
    return strcmp(word, index) == 0 || strcmp(word, device->uuid) == 0;
}

/* Marks the GPUs that the comma list names; all when there is none. */
static int select_gpus(const char *list, ps_nvml *nvml, uint32_t count, bool wanted[GPUS_MAX])
{
    for (uint32_t i = 0; i < count; i++)
        wanted[i] = list == NULL;
    if (!list)
        return EXIT_DONE;
    char *words = strdup(list), *rest = words;
    int code = words ? EXIT_DONE : EXIT_FAILED;
    for (const char *word; code == EXIT_DONE && (word = strsep(&rest, ",")) != NULL;) {
        bool found = false;
        for (uint32_t i = 0; i < count && !found; i++) {
            ps_nvml_device device;
            if (ps_nvml_describe(nvml, i, &device, NULL) == PS_OK && names_gpu(word, &device))
                wanted[i] = found = true;
        }
        if (!found) {
            fprintf(stderr, "powersample-sampler: --gpus %s: no such GPU among %u. See nvidia-smi -L.\n", word, count);
            code = EXIT_NOTHING;
        }
    }
    free(words);
    return code;
}

static int add_nvml(const sampler_options *options, ps_sampler *sampler, ps_nvml **nvml)
{
    ps_error error = {0};
    uint32_t count = 0;
    int status = *nvml ? PS_OK : ps_nvml_open(options->library, nvml, &error);
    if (status == PS_OK)
        status = ps_nvml_count(*nvml, &count, &error);
    if (status != PS_OK) {
        sampler_report("nvml", &error, "Check that nvidia-smi works here, or give --nvml-lib.");
        return EXIT_NOTHING;
    }
    if (count == 0) {
        fprintf(stderr, "powersample-sampler: nvml: the driver shows no GPU. Check nvidia-smi -L and the container's "
                        "devices.\n");
        return EXIT_NOTHING;
    }
    if (count > GPUS_MAX)
        count = GPUS_MAX;
    bool wanted[GPUS_MAX];
    int code = select_gpus(options->gpus, *nvml, count, wanted);
    if (code != EXIT_DONE)
        return code;

    code = EXIT_NOTHING;
    for (uint32_t i = 0; i < count; i++) {
        ps_source *source;
        if (!wanted[i])
            continue;
        if (ps_nvml_source_new(*nvml, i, &source, &error) != PS_OK) {
            char what[16];
            snprintf(what, sizeof what, "gpu%u", i);
            sampler_report(what, &error, "It is left out.");
            continue;
        }
        if (add_source(&options->lane, sampler, source) != EXIT_DONE)
            return EXIT_FAILED;
        code = EXIT_DONE;
    }
    return code;
}

/* ---- RAPL -------------------------------------------------------------------------------------------------- */

uint32_t sampler_refused_domains(const ps_rapl_opening *opening, int route, int domain)
{
    const ps_error *one = &opening->refused[domain][route];
    if (one->status == PS_OK)
        return 0;
    uint32_t same = 0;
    for (int other = 0; other < PS_RAPL_DOMAINS; other++)
        if (opening->refused[other][route].status != PS_OK &&
            strcmp(opening->refused[other][route].text, one->text) == 0)
            same |= 1u << other;
    bool is_first = (same & ((1u << domain) - 1)) == 0;
    return is_first ? same : 0;
}

static void report_refusals(uint32_t package, const ps_rapl_opening *opening)
{
    for (int route = 0; route < PS_RAPL_ROUTES; route++)
        for (int domain = 0; domain < PS_RAPL_DOMAINS; domain++) {
            char what[40];
            snprintf(what, sizeof what, "rapl package-%u by %s", package, sampler_rapl_routes[route]);
            if (sampler_refused_domains(opening, route, domain))
                sampler_report(what, &opening->refused[domain][route], NULL);
        }
}

static int add_package(const sampler_options *options, ps_sampler *sampler, uint32_t package, sampler_found *found)
{
    ps_source *source;
    ps_rapl_opening *opening = &found->packages[found->n_packages].opening;
    int status = ps_rapl_open(options->sysfs, options->devfs, package, &source, opening, NULL);
    found->packages[found->n_packages].number = package;
    found->n_packages++;
    if (status != PS_OK) {
        report_refusals(package, opening);
        return EXIT_NOTHING;
    }
    ps_lane_options lane = options->lane;
    if (lane.cpu < 0)
        lane.cpu = opening->cpu; /* from another package a read interrupts this one, at many times the cost */
    return add_source(&lane, sampler, source);
}

static bool is_simulated(ps_nvml *nvml)
{
    char driver[96], library[96];
    int32_t simulated = 0;
    return nvml && ps_nvml_versions(nvml, driver, sizeof driver, library, sizeof library, &simulated, NULL) == PS_OK &&
           simulated;
}

static int add_rapl(const sampler_options *options, ps_sampler *sampler, ps_nvml *nvml, sampler_found *found)
{
    if (!options->sysfs && is_simulated(nvml))
        return EXIT_DONE; /* this machine's own CPUs are no part of a simulated node */
    uint32_t packages[SAMPLER_PACKAGES_MAX], count = 0;
    ps_error error = {0};
    if (ps_rapl_packages(options->sysfs, options->devfs, packages, SAMPLER_PACKAGES_MAX, &count, &error) != PS_OK) {
        sampler_report("rapl", &error, "Virtual machines and containers mostly have none.");
        return EXIT_NOTHING;
    }
    int code = EXIT_NOTHING;
    for (uint32_t i = 0; i < count && i < SAMPLER_PACKAGES_MAX; i++) {
        int added = add_package(options, sampler, packages[i], found);
        if (added == EXIT_FAILED)
            return EXIT_FAILED;
        if (added == EXIT_DONE)
            code = EXIT_DONE;
    }
    return code;
}

/* ---- hwmon ------------------------------------------------------------------------------------------------- */

static int add_chip(const sampler_options *options, ps_sampler *sampler, const char *id)
{
    ps_source *source;
    ps_hwmon_opening opening;
    ps_error error = {0};
    if (ps_hwmon_open(options->sysfs, id, &source, &opening, &error) == PS_OK)
        return add_source(&options->lane, sampler, source);
    char what[48];
    snprintf(what, sizeof what, "hwmon %.32s", id);
    sampler_report(what, &error, "It is left out.");
    return EXIT_NOTHING;
}

static int add_hwmon(const sampler_options *options, ps_sampler *sampler, ps_nvml *nvml)
{
    if (!options->sysfs && is_simulated(nvml))
        return EXIT_DONE; /* as add_rapl */
    ps_hwmon_chip chips[CHIPS_MAX];
    uint32_t count = 0;
    ps_error error = {0};
    if (ps_hwmon_chips(options->sysfs, chips, CHIPS_MAX, &count, &error) != PS_OK) {
        sampler_report("hwmon", &error, NULL);
        return EXIT_NOTHING;
    }
    int code = EXIT_NOTHING;
    for (uint32_t i = 0; i < count && i < CHIPS_MAX; i++) {
        int added = add_chip(options, sampler, chips[i].id);
        if (added == EXIT_FAILED)
            return EXIT_FAILED;
        if (added == EXIT_DONE)
            code = EXIT_DONE;
    }
    return code;
}

static int add_word(const char *word, const sampler_options *options, ps_sampler *sampler, ps_nvml **nvml,
                    sampler_found *found)
{
    size_t stem = strcspn(word, ":");
    if (strcmp(word, "none") == 0)
        return EXIT_DONE; /* a load is all that is wanted */
    if (strcmp(word, "nvml") == 0)
        return add_nvml(options, sampler, nvml);
    if (strcmp(word, "rapl") == 0)
        return add_rapl(options, sampler, *nvml, found);
    if (strcmp(word, "hwmon") == 0)
        return add_hwmon(options, sampler, *nvml);
    if (stem == strlen("scripted") && strncmp(word, "scripted", stem) == 0)
        return add_scripted(word, options, sampler);
    fprintf(stderr, "powersample-sampler: --sources %s: unknown; there are nvml, rapl, hwmon and scripted.\n", word);
    return EXIT_USAGE;
}

/* Those that are files and events of the kernel's: here capabilities count, and no code but ours is run. */
static bool is_counter(const char *word)
{
    return strcmp(word, "rapl") == 0 || strcmp(word, "hwmon") == 0;
}

int sampler_add_sources(const sampler_options *options, sampler_stage stage, ps_sampler *sampler, ps_nvml **nvml,
                        sampler_found *found)
{
    char *words = strdup(options->sources), *rest = words;
    if (!words)
        return EXIT_FAILED;
    int code = EXIT_DONE;
    for (const char *word; (code == EXIT_DONE || code == EXIT_NOTHING) && (word = strsep(&rest, ",")) != NULL;) {
        if (stage != STAGE_ALL && is_counter(word) != (stage == STAGE_COUNTERS))
            continue;
        code = add_word(word, options, sampler, nvml, found);
        found->missing += code == EXIT_NOTHING;
    }
    free(words);
    return code == EXIT_NOTHING ? EXIT_DONE : code;
}

int sampler_check_lanes(const sampler_options *options, const ps_sampler *sampler, const sampler_found *found)
{
    if (strcmp(options->sources, "none") == 0)
        return EXIT_DONE;
    if (ps_sampler_lanes(sampler) == 0) {
        fprintf(stderr, "powersample-sampler: nothing to measure here.%s\n",
                options->stress.kernel ? " With --sources none --stress works all the same." : "");
        return EXIT_NOTHING;
    }
    if (found->missing)
        fprintf(stderr, "powersample-sampler: goes on with the other sources.\n");
    return EXIT_DONE;
}
