/* SPDX-License-Identifier: Apache-2.0
 *
 * See listing.h.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "sampler/listing.h"
#include "sources/rapl_decode.h"

/* The caller frees. */
static ps_channel *all_channels(const ps_sampler *sampler, uint32_t *count)
{
    (void)ps_sampler_channels(sampler, NULL, 0, count);
    ps_channel *channels = calloc(*count ? *count : 1, sizeof *channels);
    if (!channels || ps_sampler_channels(sampler, channels, *count, count) != PS_OK)
        *count = 0;
    return channels;
}

void list_channels(const ps_sampler *sampler)
{
    uint32_t count = 0;
    ps_channel *channels = all_channels(sampler, &count);
    printf("channel\tunit\tdomain\tsensor\tdevice\n");
    for (uint32_t i = 0; i < count; i++)
        printf("%s\t%s\t%s\t%s\t%s\n", channels[i].name, channels[i].unit, channels[i].domain, channels[i].sensor,
               channels[i].device);
    free(channels);
}

static void add_domains(ps_text *text, uint32_t domains)
{
    const char *separator = "";
    ps_text_add(text, "[");
    for (int domain = 0; domain < PS_RAPL_DOMAINS; domain++)
        if (domains & 1u << domain) {
            ps_text_add(text, "%s\"%s\"", separator, rapl_domain_name(domain));
            separator = ",";
        }
    ps_text_add(text, "]");
}

static void add_refusals(ps_text *text, const ps_rapl_opening *opening)
{
    const char *separator = "";
    ps_text_add(text, "\"refused\":[");
    for (int i = 0; i < PS_RAPL_ROUTES * PS_RAPL_DOMAINS; i++) {
        const int route = i / PS_RAPL_DOMAINS, domain = i % PS_RAPL_DOMAINS;
        const ps_error *error = &opening->refused[domain][route];
        uint32_t domains = sampler_refused_domains(opening, route, domain);
        if (!domains)
            continue;
        ps_text_add(text, "%s{\"route\":\"%s\",\"domains\":", separator, sampler_rapl_routes[route]);
        add_domains(text, domains);
        ps_text_add(text, ",\"status\":%d,\"errno\":%d,\"call\":", error->status, error->vendor);
        ps_json_string(text, error->call);
        ps_text_add(text, ",\"text\":");
        ps_json_string(text, error->text);
        ps_text_add(text, "}");
        separator = ",";
    }
    ps_text_add(text, "]");
}

/* "perf", or "perf+msr" where the domains differ; null when none is read. And each domain's. */
static void add_routes(ps_text *text, const ps_rapl_opening *opening)
{
    uint32_t told = 0;
    ps_text_add(text, "\"route\":");
    for (int domain = 0; domain < PS_RAPL_DOMAINS; domain++) {
        int route = opening->route[domain];
        if (route < 0 || (told & 1u << route))
            continue;
        ps_text_add(text, "%s%s", told ? "+" : "\"", sampler_rapl_routes[route]);
        told |= 1u << route;
    }
    ps_text_add(text, "%s,\"routes\":{", told ? "\"" : "null");
    const char *separator = "";
    for (int domain = 0; domain < PS_RAPL_DOMAINS; domain++)
        if (opening->route[domain] >= 0) {
            ps_text_add(text, "%s\"%s\":\"%s\"", separator, rapl_domain_name(domain),
                        sampler_rapl_routes[opening->route[domain]]);
            separator = ",";
        }
    ps_text_add(text, "},");
}

static int32_t lane_of(const ps_sampler *sampler, uint32_t package)
{
    char name[sizeof ((ps_lane_stats *)NULL)->name];
    snprintf(name, sizeof name, "rapl:package-%u", package);
    for (uint32_t lane = 0; lane < ps_sampler_lanes(sampler); lane++) {
        ps_lane_stats stats;
        if (ps_sampler_stats(sampler, lane, &stats) == PS_OK && strcmp(stats.name, name) == 0)
            return (int32_t)lane;
    }
    return -1;
}

static void add_still(ps_text *text, const ps_channel *channels, uint32_t count, int32_t lane, uint64_t moved)
{
    const char *separator = "";
    ps_text_add(text, "\"still\":[");
    for (uint32_t i = 0, own = 0; i < count; i++) {
        if ((int32_t)channels[i].lane != lane || (moved >> own++ & 1))
            continue;
        ps_text_add(text, "%s", separator);
        ps_json_string(text, channels[i].name);
        separator = ",";
    }
    ps_text_add(text, "],");
}

static void add_packages(ps_text *text, const ps_sampler *sampler, const ps_channel *channels, uint32_t count,
                         const sampler_found *found)
{
    ps_text_add(text, "\"packages\":[");
    for (uint32_t i = 0; i < found->n_packages; i++) {
        const ps_rapl_opening *opening = &found->packages[i].opening;
        const int32_t lane = lane_of(sampler, found->packages[i].number);
        ps_text_add(text, "%s{\"number\":%u,\"lane\":%d,", i ? "," : "", found->packages[i].number, lane);
        add_routes(text, opening);
        ps_text_add(text, "\"cpu\":%d,\"moved\":%s,", opening->cpu, opening->moved ? "true" : "false");
        add_still(text, channels, count, lane, opening->moved);
        ps_text_add(text, "\"min_hz\":%.9g,", opening->min_hz);
        add_refusals(text, opening);
        ps_text_add(text, "}");
    }
    ps_text_add(text, "]");
}

void list_as_json(const ps_sampler *sampler, const sampler_found *found, const sampler_privilege *privilege)
{
    uint32_t count = 0;
    ps_channel *channels = all_channels(sampler, &count);
    char names[PRIVILEGE_NAMES];
    privilege_names(privilege->got, names);
    ps_text text = {0};
    ps_text_add(&text, "{\"schema_version\":1,\"version\":\"%s\",\"capabilities\":\"%s\",", ps_version(), names);
    add_packages(&text, sampler, channels, count, found);
    ps_text_add(&text, ",\"channels\":[");
    for (uint32_t i = 0; i < count; i++) {
        ps_text_add(&text, i ? "," : "");
        ps_json_channel(&text, &channels[i]);
    }
    ps_text_add(&text, "]}");
    if (!text.failed)
        puts(text.data);
    ps_text_free(&text);
    free(channels);
}
