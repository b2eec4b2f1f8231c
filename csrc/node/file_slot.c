/* SPDX-License-Identifier: Apache-2.0
 *
 * See file_slot.h. A text is one pwrite of constant width at offset 0: ftruncate would show readers an empty file, a new
 * file renamed into place would never reach those who keep the old one open, and a text stored through a mapping tears.
 * A word is one aligned store through a shared mapping.
 */
#include "node/file_slot.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "powersample.h"

bool file_slot_valid(const ps_file *file, uint32_t n_truths)
{
    uint64_t known = n_truths < 64 ? (UINT64_C(1) << n_truths) - 1 : UINT64_MAX;
    bool text = file->kind == PS_FILE_COUNTER || file->kind == PS_FILE_GAUGE;
    bool fixed = file->kind != PS_FILE_GAUGE && file->counts_num == 0;
    if (!memchr(file->path, '\0', sizeof file->path) || !file->path[0] || (file->truths & ~known) ||
        (!file->truths && !fixed) || (text && (file->width < 2 || file->width > PS_FILE_TEXT)))
        return false;
    switch (file->kind) {
    case PS_FILE_GAUGE:
        return file->sensor.kind == PS_SENSOR_GAUGE && file->sensor.quantum > 0 && file->gauge_num > 0 &&
               file->gauge_num <= UINT32_MAX && file->gauge_den > 0;
    case PS_FILE_COUNTER:
        return file->counts_den > 0 && file->unit_nj > 0 && file->modulus > 0 && file->modulus <= INT64_C(1) << 32 &&
               file->start_counts < file->modulus;
    case PS_FILE_REGISTER:
        return file->counts_den > 0 && file->offset >= 0 && file->offset % 8 == 0 &&
               (file->modulus == 0 || file->start_counts < file->modulus);
    default:
        return false;
    }
}

/* ---- making and letting go ---------------------------------------------------------------------- */

static int map_word(file_slot *slot, int fd)
{
    int64_t page = sysconf(_SC_PAGESIZE);
    int64_t begin = slot->is.offset / page * page;
    int error;
    do
        error = posix_fallocate(fd, (off_t)begin, (off_t)page); /* a page without memory behind it is SIGBUS */
    while (error == EINTR);
    if (error)
        return error;
    slot->map = mmap(NULL, (size_t)page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)begin);
    if (slot->map == MAP_FAILED) {
        slot->map = NULL;
        return errno;
    }
    slot->word = (uint64_t *)(void *)((char *)slot->map + (slot->is.offset - begin));
    return 0;
}

int file_slot_make(file_slot *slot, const file_slot *first, int64_t grid_ns)
{
    int error = 0;
    slot->shown = false;
    slot->fd = -1;
    if (!first) {
        slot->fd = open(slot->is.path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (slot->fd < 0)
            return errno;
        if (fchmod(slot->fd, slot->is.mode) != 0)
            error = errno;
    }
    if (!error && slot->is.kind == PS_FILE_REGISTER)
        error = map_word(slot, first ? first->fd : slot->fd);
    if (!error)
        error = file_slot_show(slot, grid_ns);
    if (error)
        file_slot_drop(slot, true);
    return error;
}

void file_slot_drop(file_slot *slot, bool remove)
{
    if (slot->map)
        munmap(slot->map, (size_t)sysconf(_SC_PAGESIZE));
    slot->map = NULL;
    slot->word = NULL;
    if (slot->fd < 0)
        return;
    if (remove) {
        (void)!ftruncate(slot->fd, 0);
        unlink(slot->is.path);
    }
    close(slot->fd);
    slot->fd = -1;
}

/* ---- showing ---------------------------------------------------------------------- */

int file_slot_text(file_slot *slot, const char *text)
{
    char line[PS_FILE_TEXT];
    size_t length = strlen(text);
    if (length > slot->is.width)
        return ERANGE;
    memset(line, '\n', sizeof line);
    memcpy(line, text, length);
    ssize_t wrote = pwrite(slot->fd, line, slot->is.width, 0);
    return wrote < 0 ? errno : wrote == (ssize_t)slot->is.width ? 0 : EIO;
}

static int show_number(file_slot *slot, uint64_t value)
{
    char text[PS_FILE_TEXT];
    snprintf(text, sizeof text, "%" PRIu64, value);
    return strlen(text) < slot->is.width ? file_slot_text(slot, text) : ERANGE;
}

static int show_counter(file_slot *slot, int64_t grid_ns)
{
    const ps_file *is = &slot->is;
    int64_t gained = 0;
    if (is->counts_num && grid_ns > is->start_ns &&
        ps_truth_counts(slot->truth, slot->n_truths, is->start_ns, grid_ns, is->counts_num, is->counts_den, &gained) !=
            PS_OK)
        return EOVERFLOW;
    uint64_t counts = is->start_counts + (uint64_t)gained;
    if (is->modulus)
        counts %= is->modulus;
    if (is->kind == PS_FILE_COUNTER)
        return show_number(slot, counts * is->unit_nj / 1000);
    /* relaxed: partner is whoever reads the file. A word says all there is to say; whole is all it must be, and a plain
     * store could be split. */
    __atomic_store_n(slot->word, counts, __ATOMIC_RELAXED);
    return 0;
}

/* The sum of what one sensor would say of each truth; offset and noise come in once. */
static int show_gauge(file_slot *slot, int64_t now_ns)
{
    ps_sensor sensor = slot->is.sensor;
    sensor.quantum = 1;
    int64_t sum_mw = 0, k = 0;
    for (uint32_t i = 0; i < slot->n_truths; i++) {
        int64_t mw, its;
        if (ps_sensor_read(&sensor, slot->truth[i], now_ns, &slot->memo[i], &mw, &its, NULL) != PS_OK)
            return EINVAL;
        k = its;
        sum_mw += mw;
        sensor.offset_mw = sensor.noise_mw = 0;
    }
    if (slot->shown && k == slot->gauge_k)
        return 0;
    int64_t quantum = slot->is.sensor.quantum;
    uint64_t mw = (uint64_t)((sum_mw + quantum / 2) / quantum * quantum);
    int error = show_number(slot, (mw * slot->is.gauge_num + slot->is.gauge_den / 2) / slot->is.gauge_den);
    slot->gauge_k = k;
    slot->shown = error == 0;
    return error;
}

int file_slot_show(file_slot *slot, int64_t grid_ns)
{
    return slot->is.kind == PS_FILE_GAUGE ? show_gauge(slot, grid_ns) : show_counter(slot, grid_ns);
}
