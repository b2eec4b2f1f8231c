/* SPDX-License-Identifier: Apache-2.0
 *
 * See sysfs.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sources/sysfs.h"

enum { NUMBER_BYTES = 32 };

static int read_file(char *out, size_t size, const char *format, va_list arguments)
{
    char path[PATH_MAX];
    int length = vsnprintf(path, sizeof path, format, arguments);
    if (length < 0 || length >= (int)sizeof path)
        return ENAMETOOLONG;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno;
    ssize_t got;
    do
        got = read(fd, out, size - 1);
    while (got < 0 && errno == EINTR);
    int failure = got < 0 ? errno : 0;
    close(fd);
    if (failure)
        return failure;
    while (got > 0 && strchr(" \t\n", out[got - 1]))
        got--;
    out[got] = '\0';
    return 0;
}

int sysfs_file(char out[SYSFS_TEXT], const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int failure = read_file(out, SYSFS_TEXT, format, arguments);
    va_end(arguments);
    return failure;
}

int sysfs_list(char out[SYSFS_LIST], const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int failure = read_file(out, SYSFS_LIST, format, arguments);
    va_end(arguments);
    return failure;
}

bool sysfs_number(const char *text, int base, uint64_t *out)
{
    if (base == 16) {
        if (strncmp(text, "0x", 2) != 0)
            return false;
        text += 2;
    }
    if (!strchr("0123456789abcdefABCDEF", text[0]) || !text[0]) /* strtoull takes signs and blanks */
        return false;
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, base);
    if (errno || *end)
        return false;
    *out = value;
    return true;
}

void sysfs_words(char *out, size_t size, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(out, size, format, arguments);
    va_end(arguments);
}

/* A minus, digits, then nothing but white space. Not strtoll: this is the hot call, and a locale is none of its
 * business. */
static uint16_t parse(const char *text, size_t length, int64_t *out)
{
    const bool negative = text[0] == '-';
    size_t i = negative;
    const size_t first = i;
    uint64_t value = 0;
    for (; i < length && text[i] >= '0' && text[i] <= '9'; i++) {
        if (value > (INT64_MAX - 9) / 10)
            return EBADMSG;
        value = value * 10 + (uint64_t)(text[i] - '0');
    }
    if (i == first)
        return EBADMSG;
    for (; i < length; i++)
        if (text[i] != '\n' && text[i] != ' ')
            return EBADMSG;
    *out = negative ? -(int64_t)value : (int64_t)value;
    return 0;
}

uint16_t sysfs_value(int fd, int64_t *out)
{
    *out = 0;
    char text[NUMBER_BYTES];
    ssize_t got;
    do
        got = pread(fd, text, sizeof text, 0);
    while (got < 0 && errno == EINTR);
    return got < 0 ? (uint16_t)errno : got == 0 ? ENODATA : parse(text, (size_t)got, out);
}
