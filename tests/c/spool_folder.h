/* SPDX-License-Identifier: Apache-2.0
 *
 * A spool in a folder of its own, and what lies in it.
 */
#ifndef PS_TEST_SPOOL_FOLDER_H
#define PS_TEST_SPOOL_FOLDER_H

#include <dirent.h>
#include <unistd.h>

#include "script.h"

static char directory[64];

static inline void make_directory(void)
{
    snprintf(directory, sizeof directory, "/tmp/test-spool-XXXXXX");
    REQUIRE(mkdtemp(directory) != NULL);
}

static inline void remove_directory(void)
{
    DIR *listing = opendir(directory);
    for (const struct dirent *entry; listing && (entry = readdir(listing));)
        unlinkat(dirfd(listing), entry->d_name, 0);
    if (listing)
        closedir(listing);
    rmdir(directory);
}

/* Reads a whole file; NULL when there is none. The caller frees. */
static inline char *read_file(const char *name, size_t *size)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *file = fopen(path, "rb");
    if (!file)
        return NULL;
    char *bytes = malloc(1 << 24);
    REQUIRE(bytes != NULL);
    *size = fread(bytes, 1, (1 << 24) - 1, file);
    bytes[*size] = '\0';
    fclose(file);
    return bytes;
}

static inline ps_spool *start_spool(ps_sampler *sampler, const ps_spool_options *options)
{
    ps_spool *spool;
    ps_error error = {0};
    if (ps_spool_new(directory, sampler, options, &spool, &error) != PS_OK || ps_spool_start(spool, &error) != PS_OK) {
        fprintf(stderr, "%s: %s\n", error.call, error.text);
        exit(1);
    }
    return spool;
}

#endif
