/* SPDX-License-Identifier: Apache-2.0
 *
 * A folder made for a test that stands for /sys.
 */
#ifndef PS_TEST_TREE_H
#define PS_TEST_TREE_H

#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <unistd.h>

#include "harness.h"

static char root[64];

static void put(const char *text, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Writes a file below the root, with the folders above it. */
static void put(const char *text, const char *format, ...)
{
    char path[PATH_MAX];
    int length = snprintf(path, sizeof path, "%s/", root);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(path + length, sizeof path - (size_t)length, format, arguments);
    va_end(arguments);
    for (char *slash = strchr(path + length, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        (void)mkdir(path, 0755);
        *slash = '/';
    }
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    REQUIRE(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    close(fd);
}

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *walk)
{
    (void)status, (void)type, (void)walk;
    return remove(path);
}

static void begin(void)
{
    snprintf(root, sizeof root, "/tmp/powersample-tree-XXXXXX");
    REQUIRE(mkdtemp(root));
    REQUIRE(chmod(root, 0755) == 0);
}

static void end(void)
{
    nftw(root, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

#endif
