/* SPDX-License-Identifier: Apache-2.0
 *
 * See listing.h.
 */
#include <stdio.h>
#include <stdlib.h>

#include "core/json.h"
#include "sampler/listing.h"

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

static void add_refusals(ps_text *text, const ps_rapl_opening *opening)
{
    const char *separator = "";
    ps_text_add(text, "\"refused\":[");
    for (int i = 0; i < PS_RAPL_ROUTES; i++) {
        const ps_error *error = &opening->refused[i];
        if (error->status == PS_OK)
            continue;
        ps_text_add(text, "%s{\"route\":\"%s\",\"status\":%d,\"errno\":%d,\"call\":", separator, sampler_rapl_routes[i],
                    error->status, error->vendor);
        ps_json_string(text, error->call);
        ps_text_add(text, ",\"text\":");
        ps_json_string(text, error->text);
        ps_text_add(text, "}");
        separator = ",";
    }
    ps_text_add(text, "]");
}

static void add_packages(ps_text *text, const sampler_found *found)
{
    ps_text_add(text, "\"packages\":[");
    for (uint32_t i = 0; i < found->n_packages; i++) {
        const ps_rapl_opening *opening = &found->packages[i].opening;
        ps_text_add(text, "%s{\"number\":%u,\"route\":", i ? "," : "", found->packages[i].number);
        if (found->packages[i].opened)
            ps_json_string(text, sampler_rapl_routes[opening->route]);
        else
            ps_text_add(text, "null");
        ps_text_add(text, ",\"cpu\":%d,\"moved\":%s,", opening->cpu, opening->moved ? "true" : "false");
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
    add_packages(&text, found);
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
