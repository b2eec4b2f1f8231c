/* SPDX-License-Identifier: Apache-2.0
 *
 * Short ways to nvml sources, on the stand-in and on the fakes.
 */
#ifndef PS_TEST_NVML_HELPERS_H
#define PS_TEST_NVML_HELPERS_H

#include <dlfcn.h>

#include "core/source.h"
#include "fakes/fake_nvml.h"
#include "node.h"

static inline ps_nvml *open_library(const char *library)
{
    ps_nvml *nvml = NULL;
    ps_error error = {0};
    if (ps_nvml_open(library, &nvml, &error) != PS_OK) {
        fprintf(stderr, "%s: %s\n", error.call, error.text);
        exit(1);
    }
    return nvml;
}

static inline ps_source *open_source(ps_nvml *nvml, uint32_t index)
{
    ps_source *source = NULL;
    ps_error error = {0};
    if (ps_nvml_source_new(nvml, index, &source, &error) != PS_OK) {
        fprintf(stderr, "%s: %s\n", error.call, error.text);
        exit(1);
    }
    return source;
}

static inline const ps_channel *find(const ps_source *source, const char *name)
{
    for (uint32_t i = 0; i < source->n_channels; i++)
        if (strcmp(source->channels[i].name, name) == 0)
            return &source->channels[i];
    return NULL;
}

static inline ps_reading read_channel(ps_source *source, const char *name, uint64_t pass)
{
    const ps_channel *channel = find(source, name);
    if (!channel) {
        fprintf(stderr, "no channel %s\n", name);
        exit(1);
    }
    ps_reading readings[PS_GROUP_MAX];
    uint32_t n = source->ops->read(source, channel->group, pass, readings) & ~PS_READ_STAMPED;
    for (uint32_t i = 0; i < n; i++)
        if (&source->channels[readings[i].channel] == channel)
            return readings[i];
    fprintf(stderr, "%s: not among its group's readings\n", name);
    exit(1);
}

/* One pass over all groups. Returns the number of readings with a status. */
static inline uint32_t read_all(ps_source *source, uint64_t pass)
{
    uint32_t failed = 0;
    ps_reading readings[PS_GROUP_MAX];
    for (uint32_t group = 0; group < source->n_groups; group++) {
        uint32_t n = source->ops->read(source, group, pass, readings) & ~PS_READ_STAMPED;
        for (uint32_t i = 0; i < n; i++)
            failed += readings[i].status != 0;
    }
    return failed;
}

static inline void fake_path(char *out, size_t size, const char *name)
{
    const char *folder = getenv("PS_TEST_FAKES");
    if (!folder)
        SKIP("PS_TEST_FAKES names no folder");
    snprintf(out, size, "%s/%s.so", folder, name);
}

static inline fake_nvml_state *fake_state(const char *path)
{
    void *library = dlopen(path, RTLD_NOW);
    REQUIRE(library);
    fake_nvml_state *state = dlsym(library, "fake_nvml");
    REQUIRE(state);
    *state = (fake_nvml_state){.value_type = NV_TYPE_U32};
    return state; /* stays loaded: the tests look into it after everything else has let go */
}

#endif
