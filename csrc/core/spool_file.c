/* SPDX-License-Identifier: Apache-2.0
 *
 * See spool_file.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/spool_file.h"

enum { NAME_BYTES = 32 };

static void part_name(char name[NAME_BYTES], uint32_t number, const char *suffix)
{
    snprintf(name, NAME_BYTES, "part-%06u.%s", number, suffix);
}

/* Writes all of it, over short writes and interruptions; *done says how far it came. */
static int write_all(int fd, const void *bytes, size_t count, size_t *done)
{
    *done = 0;
    while (*done < count) {
        ssize_t n = write(fd, (const char *)bytes + *done, count - *done);
        if (n > 0)
            *done += (size_t)n;
        else if (n == 0)
            return ENOSPC; /* a regular file that takes nothing and gives no reason */
        else if (errno == EAGAIN) /* a stream whose reader is behind */
            (void)poll(&(struct pollfd){.fd = fd, .events = POLLOUT}, 1, -1);
        else if (errno != EINTR)
            return errno;
    }
    return 0;
}

int ps_stream_write(ps_part *part, const void *bytes, size_t count)
{
    size_t done;
    if (part->torn)
        return EPIPE;
    int failure = write_all(part->stream_fd, bytes, count, &done);
    part->torn = failure != 0;
    return failure;
}

static int truncate_to(int fd, uint64_t bytes)
{
    while (ftruncate(fd, (off_t)bytes) != 0)
        if (errno != EINTR)
            return errno;
    return 0;
}

/* Not every file system can sync a directory; those that refuse keep their own order. */
static int sync_directory(const ps_part *part)
{
    return fsync(part->directory_fd) == 0 || errno == EINVAL ? 0 : errno;
}

static int open_in_stream(ps_part *part, const char *header, size_t header_bytes)
{
    int failure = ps_stream_write(part, header, header_bytes);
    if (failure)
        return failure;
    part->fd = part->stream_fd;
    part->header_bytes = part->bytes = header_bytes;
    part->begin_ns = ps_clock_now_ns();
    return 0;
}

int ps_part_open(ps_part *part, const char *header, size_t header_bytes)
{
    if (part->stream_fd >= 0)
        return open_in_stream(part, header, header_bytes);
    char name[NAME_BYTES];
    part_name(name, part->number, "open");
    int fd = openat(part->directory_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0666);
    if (fd < 0)
        return errno;
    size_t done;
    int failure = write_all(fd, header, header_bytes, &done);
    if (failure) { /* a part without its header helps nobody */
        close(fd);
        unlinkat(part->directory_fd, name, 0);
        return failure;
    }
    part->fd = fd;
    part->header_bytes = part->bytes = header_bytes;
    part->begin_ns = ps_clock_now_ns();
    part->dirty = true;
    return sync_directory(part); /* a power cut must not take the name of what fdatasync keeps */
}

static int append_to_stream(ps_part *part, const void *records, size_t bytes)
{
    char line[64];
    int length = snprintf(line, sizeof line, "{\"event\":\"records\",\"bytes\":%zu}\n", bytes);
    int failure = ps_stream_write(part, line, (size_t)length);
    return failure ? failure : ps_stream_write(part, records, bytes);
}

int ps_part_append(ps_part *part, const void *records, uint32_t count, uint32_t *written)
{
    size_t done, bytes = (size_t)count * part->record_bytes;
    if (part->stream_fd >= 0) {
        int failure = append_to_stream(part, records, bytes);
        *written = failure ? 0 : count; /* of what was torn the reader may have a piece */
        part->bytes += failure ? 0 : bytes;
        return failure;
    }
    int failure = write_all(part->fd, records, bytes, &done);
    *written = (uint32_t)(done / part->record_bytes);
    part->bytes += (uint64_t)*written * part->record_bytes;
    part->dirty |= *written > 0;
    if (done % part->record_bytes)
        (void)truncate_to(part->fd, part->bytes); /* readers ignore a torn tail anyway */
    return failure;
}

int ps_part_sync(ps_part *part)
{
    if (part->fd < 0 || !part->dirty)
        return 0;
    part->dirty = false;
    return fdatasync(part->fd) == 0 ? 0 : errno;
}

int ps_part_close(ps_part *part)
{
    if (part->fd < 0)
        return 0;
    if (part->stream_fd >= 0) { /* the next header ends it */
        part->fd = -1;
        part->number++;
        return 0;
    }
    int failure = ps_part_sync(part);
    if (close(part->fd) != 0 && !failure)
        failure = errno;
    part->fd = -1;

    char before[NAME_BYTES], after[NAME_BYTES];
    part_name(before, part->number, "open");
    part_name(after, part->number, "part");
    if (renameat(part->directory_fd, before, part->directory_fd, after) != 0 && !failure)
        failure = errno;
    part->number++;
    int sync_failure = sync_directory(part);
    return failure ? failure : sync_failure;
}

int ps_line_append(int fd, const char *line, size_t length)
{
    struct stat before;
    if (fstat(fd, &before) != 0)
        return errno;
    size_t done;
    int failure = write_all(fd, line, length, &done);
    if (failure && done)
        (void)truncate_to(fd, (uint64_t)before.st_size);
    return failure;
}
